"""The admin: every page of every model, with the cache in every state."""

import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db.models import Model
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from aevon.cache import PSYCHE, SESSION, maintenance, outbox, resources, write_behind
from aevon.cache.admin import CachedStateAdmin, panel
from aevon.cache.codec import stamped
from aevon.cache.connection import store
from aevon.cache.models import Outbox
from aevon.cache.shown import pretty
from auth_sessions import services
from auth_sessions.models import Session, SessionAnchor, User
from canvas.models import AwayEdit
from tests.cache import ledgers
from tests.cache.entry_states import life, put
from tests.cache.ledgers import POISON, SHEET_RESOURCE, SHEETS, add_notes
from tests.cache.test_house import APP
from tests.servers import without_cache

pytestmark = pytest.mark.django_db
OURS = ("cache", "auth_sessions", "klepsydra", "canvas", "beep")
STALE = (
    '{"userId":ID,"username":"x","status":"active","sovereigntyClass":"INITIATE",'
    '"permissions":[],"sessions":{},"version":1,"expiresAt":1}'
)
MODELS = [m for m in admin.site._registry if m._meta.app_label in OURS]


@pytest.fixture
def staff(make_user: Any) -> Client:
    """A superuser's browser."""
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def member(make_user: Any) -> User:
    """A user with a live session, whose key is warm."""
    user: User = make_user()
    services.open_session(user)
    store().command("SET", f"session:{user.pk}", "{")  # replaced by the load below
    resources.resource("session").warm([user.pk])
    return user


@pytest.fixture
def everything(member: User, client_for: Any) -> User:
    """A user with a row of every model, all of it cached and in sync."""
    client = client_for(member)
    # In a test's transaction nothing is committed, so nothing is published.
    maintenance.flush(maintenance.chosen("session"))
    play = {"instrument": "spinforge", "stake": 1}
    answers = [
        client.put("/api/v1/canvas/notes/a/", {"text": "a note"}),
        client.post("/api/v1/klepsydra/interactions/", play),
        client.patch("/api/v1/canvas/", {"microApps": {"a": APP}}),
        client.post("/api/v1/beep/commands/", {"text": "help"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200]
    maintenance.flush(maintenance.chosen("all"))
    store().command("FLUSHDB")  # nor does a fence end with its writer's commit
    maintenance.warm_up(maintenance.chosen("all"))
    return member


@pytest.fixture
def away(settings: Any, member: User) -> None:
    """No cache server answers from now on."""
    settings.AEVON_CACHE = without_cache()


def url(model: type[Model], page: str, *args: Any) -> str:
    """An admin page's address."""
    label = f"{model._meta.app_label}_{model._meta.model_name}"
    return reverse(f"admin:{label}_{page}", args=args)


def act(client: Client, model: type[Model], action: str, *rows: Model) -> str:
    """Run an action on rows; the page that follows."""
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    page: HttpResponse = client.post(url(model, "changelist"), data, follow=True)
    assert page.status_code == 200
    return page.content.decode()


def text_of(client: Client, model: type[Model], page: str, *args: Any) -> str:
    """The text of a page that must be there."""
    response = client.get(url(model, page, *args))
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_the_list_of_every_model_opens(staff: Client, model: type[Model]) -> None:
    """Empty or not, and with a search."""
    text_of(staff, model, "changelist")
    assert staff.get(url(model, "changelist"), {"q": "1"}).status_code == 200


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_the_form_of_a_new_row_opens_or_is_refused(staff: Client, model: type[Model]) -> None:
    """Never a server error."""
    assert staff.get(url(model, "add")).status_code in (200, 403)


CACHED = [m for m in MODELS if isinstance(admin.site._registry[m], CachedStateAdmin)]


def put_in_state(state: str, user: User, settings: Any) -> None:
    """All four keys of a user in a state that the admin tells apart."""
    for each in maintenance.chosen("all"):
        key = each.keyspace.key(user.pk)
        if state == "corrupt":
            store().command("SET", key, "{")
        elif state == "missing":
            store().command("DEL", key)
    if state == "cache away":
        settings.AEVON_CACHE = without_cache()


@pytest.mark.parametrize("state", ["in sync", "corrupt", "missing", "cache away"])
@pytest.mark.parametrize("model", CACHED, ids=lambda model: model._meta.label)
def test_the_pages_of_every_cached_model_tell_the_state(
    staff: Client, everything: User, settings: Any, model: type[Model], state: str
) -> None:
    """List and form, for a user with a row of each model."""
    put_in_state(state, everything, settings)
    assert state in verdicts(text_of(staff, model, "changelist"))
    row = model._default_manager.filter(**owner(model, everything)).first()
    assert row is not None
    assert f"<strong>{state}</strong>" in text_of(staff, model, "change", row.pk)


def owner(model: type[Model], user: User) -> dict[str, Any]:
    """How to find a user's row."""
    field = admin.site._registry[model].cache_user_field  # type: ignore[attr-defined]
    return {field: user.pk}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_the_form_of_every_model_opens_for_a_row(
    staff: Client, everything: User, model: type[Model]
) -> None:
    """Those with nothing cached beside them too."""
    AwayEdit.objects.create(user=everything, change={"patch": {}})
    outbox.add(PSYCHE, [everything.pk])
    row = model._default_manager.first()
    assert row is not None
    text_of(staff, model, "change", row.pk)
    text_of(staff, model, "history", row.pk)


def test_every_model_is_in_the_admin() -> None:
    """Issue 2, item 7."""
    models = [model for model in apps.get_models() if model._meta.app_label in OURS]
    assert [model for model in models if not admin.site.is_registered(model)] == []


def test_the_list_shows_each_rows_verdict(staff: Client, member: User) -> None:
    """In sync here; nothing cached and nothing to cache there."""
    page = text_of(staff, User, "changelist")
    assert verdicts(page) == {"in sync", "absent"}


def verdicts(page: str) -> set[str]:
    """What stands in the column "Cache"."""
    cells = re.findall(r'data-label="Cache">(.*?)</td>', page, re.DOTALL)
    return {re.sub(r"<[^>]+>", "", cell).strip() for cell in cells}


def test_the_list_takes_no_more_queries_for_more_rows(
    staff: Client, make_user: Any, django_assert_max_num_queries: Any
) -> None:
    """One query and two round trips for the whole page."""
    for _ in range(30):
        make_user()
    before = store().info()["total_commands_processed"]
    with django_assert_max_num_queries(12):
        text_of(staff, User, "changelist")
    assert store().info()["total_commands_processed"] - before < 50  # MGET, and TYPE per miss


@pytest.mark.parametrize("model", [User, SessionAnchor])
def test_the_form_shows_the_cached_state_beside_the_row(
    staff: Client, member: User, model: type[Model]
) -> None:
    """Key, verdict, lifetime, both values."""
    page = text_of(staff, model, "change", member.pk)
    assert f"session:{member.pk}" in page
    assert "<strong>in sync</strong>" in page
    assert "left" in page
    assert page.count("&quot;userId&quot;") == 2


def test_the_form_of_a_session_shows_its_users_state(staff: Client, member: User) -> None:
    """The row's key is not the user's id."""
    session = Session.objects.get(user=member)
    assert f"session:{member.pk}" in text_of(staff, Session, "change", session.pk)
    assert verdicts(text_of(staff, Session, "changelist")) == {"in sync"}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (None, "missing"),
        ("{", "corrupt"),
        (STALE, "stale"),
    ],
)
def test_the_pages_tell_other_states(
    staff: Client, member: User, value: str | None, verdict: str
) -> None:
    """In the list and in the form."""
    key = f"session:{member.pk}"
    store().command("DEL", key)
    if value is not None:
        raw = value.replace("ID", str(member.pk)).encode()
        put(key, stamped(raw, life().incarnation) if value == STALE else raw)
    assert verdict in verdicts(text_of(staff, SessionAnchor, "changelist"))
    assert f"<strong>{verdict}</strong>" in text_of(staff, SessionAnchor, "change", member.pk)


def test_the_pages_work_while_the_cache_is_away(staff: Client, member: User, away: None) -> None:
    """They say so, and show what PostgreSQL has."""
    assert verdicts(text_of(staff, SessionAnchor, "changelist")) == {"cache away"}
    page = text_of(staff, SessionAnchor, "change", member.pk)
    assert "<strong>cache away</strong>" in page
    assert page.count("&quot;userId&quot;") == 1


def test_what_the_cache_holds_is_escaped(staff: Client, member: User) -> None:
    """A value written by hand is no HTML."""
    store().command("SET", f"session:{member.pk}", '{"a":"<script>alert(1)</script>"}')
    page = text_of(staff, SessionAnchor, "change", member.pk)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_form_of_a_new_user_has_no_panel(staff: Client) -> None:
    """There is nothing to compare yet."""
    assert 'id="cached-state"' not in text_of(staff, User, "add")


def test_warming_loads_the_selected_users(staff: Client, member: User) -> None:
    """The action of the list."""
    store().command("DEL", f"session:{member.pk}")
    page = act(staff, SessionAnchor, "warm_the_cache", member.session_anchor)
    assert "Cached: 1 of 1 users." in page
    assert noted() == [(str(member.pk), "Warm the cache.")]
    assert store().command("EXISTS", f"session:{member.pk}") == 1


def test_flushing_removes_the_selected_users_only(staff: Client, member: User) -> None:
    """The other user's key stays."""
    store().command("SET", "session:999999", "{}")
    services.open_session(member)
    rows = list(Session.objects.filter(user=member))
    page = act(staff, Session, "flush_from_the_cache", *rows)
    assert "Flushed: 1 users; 0 unsaved and kept." in page
    assert sorted(noted()) == sorted((str(row.pk), "Flush from the cache.") for row in rows)
    assert "Flush from the cache." in text_of(staff, Session, "history", rows[1].pk)
    assert store().command("EXISTS", f"session:{member.pk}") == 0
    assert store().command("EXISTS", "session:999999") == 1


def noted() -> list[tuple[Any, ...]]:
    """Rows and what was done to their entries, as the admin's log has it."""
    return list(LogEntry.objects.order_by("pk").values_list("object_id", "change_message"))


@pytest.mark.parametrize("action", ["warm_the_cache", "flush_from_the_cache"])
def test_an_action_tells_that_the_cache_is_away(
    staff: Client, member: User, away: None, action: str
) -> None:
    """Nothing is claimed that was not done; that it was asked for is noted."""
    assert "The cache is away" in act(staff, SessionAnchor, action, member.session_anchor)
    assert len(noted()) == 1


def test_a_viewer_may_not_act_without_permission(make_user: Any, member: User) -> None:
    """A member of staff without permissions sees neither list nor action."""
    client = Client()
    client.force_login(make_user(is_staff=True))
    assert client.get(url(SessionAnchor, "changelist")).status_code == 403
    data = {"action": "flush_from_the_cache", "_selected_action": [member.pk]}
    assert client.post(url(SessionAnchor, "changelist"), data).status_code == 403
    assert store().command("EXISTS", f"session:{member.pk}") == 1


def test_repairing_from_the_outbox_now(staff: Client, member: User) -> None:
    """The selected entry is repaired, the other waits."""
    Outbox.objects.all().delete()  # what the users' own beginning noted
    outbox.add(SESSION, [member.pk, 999_999])
    row = Outbox.objects.get(user_id=member.pk)
    assert "Repaired: 1 entries." in act(staff, Outbox, "repair_now", row)
    assert list(Outbox.objects.values_list("user_id", flat=True)) == [999_999]
    assert noted() == [(str(row.pk), "Repair now.")]
    assert store().command("EXISTS", f"session:{member.pk}") == 0


def test_repairing_while_the_cache_is_away_leaves_the_outbox(
    staff: Client, member: User, away: None
) -> None:
    """It waits on."""
    Outbox.objects.all().delete()
    outbox.add(SESSION, [member.pk])
    assert "The cache is away" in act(staff, Outbox, "repair_now", Outbox.objects.get())
    assert Outbox.objects.count() == 1


def test_the_panel_of_an_unsaved_document() -> None:
    """Without end, newer than its row."""
    ledgers.create_tables()
    write_behind.update(
        SHEETS, 4, lambda s: ledgers.Sheet(user_id=4, text=POISON, revision=s.revision)
    )
    shown = panel(SHEET_RESOURCE, 4)
    assert (shown["verdict"], shown["lifetime"], shown["ledger"]) == (
        "unsaved",
        "without end",
        "nothing",
    )


def test_the_panel_tells_that_an_entry_waits_in_the_outbox() -> None:
    """It may be older than its row."""
    ledgers.create_tables()
    add_notes(1)
    outbox.add(PSYCHE, [1])
    assert panel(ledgers.NOTE_RESOURCE, 1)["waiting"]
    assert not panel(ledgers.NOTE_RESOURCE, 2)["waiting"]


def test_json_for_people_keeps_its_letters() -> None:
    """And what is not there is called nothing."""
    assert pretty({"a": "Λ"}) == '{\n  "a": "Λ"\n}'
    assert pretty(None) == "nothing"


@pytest.fixture
def onlooker(make_user: Any) -> Client:
    """The browser of somebody who may look at everything and change nothing."""
    looker: User = make_user(is_staff=True)
    looker.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(looker)
    return client


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_who_may_only_look_is_offered_no_action(onlooker: Client, model: type[Model]) -> None:
    """Neither Django's own nor ours."""
    page = onlooker.get(url(model, "changelist"))
    assert page.status_code == 200
    assert not page.context["cl"].model_admin.get_actions(page.wsgi_request)


def test_who_may_only_look_ends_no_session_and_flushes_nothing(
    onlooker: Client, member: User
) -> None:
    """Also with a request that no page offered."""
    act(onlooker, Session, "end_selected", Session.objects.get(user=member))
    act(onlooker, User, "flush_from_the_cache", member)
    assert not noted()
    assert Session.objects.get(user=member).ended_at is None
    assert store().command("EXISTS", f"session:{member.pk}") == 1
