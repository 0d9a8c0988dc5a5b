"""What can be done to a user's keys: what it says is what it did, and it is noted."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from aevon.cache import CANVAS, PSYCHE, SESSION, fences, maintenance, outbox, resources
from aevon.cache.connection import store
from aevon.cache.models import Outbox
from auth_sessions import services
from auth_sessions.models import Session, User
from canvas.models import Canvas
from klepsydra.models import PsycheState
from tests.cache.entry_states import got, put
from tests.canvas.helpers import patch, poison, window
from tests.operations.conftest import settle
from tests.servers import without_cache

pytestmark = pytest.mark.django_db
THERE = "Was cached already, in sync; left as it is."
PSYCHES = PsycheState.cached.projection


def do(client: Client, user_id: int, service: str, name: str) -> list[str]:
    """Say yes; what came of it, as it stands on the page that follows."""
    address = reverse("reflex_arc:deed", args=[user_id, service, name])
    page = client.post(address, follow=True)
    assert page.status_code == 200
    told = [str(message) for message in page.context["messages"]]
    notes = LogEntry.objects.order_by("-pk")[: len(told)]
    noted = [f"{note.object_repr}: {note.change_message}" for note in reversed(notes)]
    assert told == noted
    assert all(text in page.content.decode() for text in (note.object_repr for note in notes))
    return [text.split(": ", 1)[1] for text in told]


def verdict(service: str, user_id: int) -> str:
    """On one key."""
    return maintenance.judge(resources.resource(service), [user_id])[user_id]


def test_warming_says_what_it_loaded(operator: Client, member: User) -> None:
    """And leaves alone what is there, however often it is done."""
    key = PSYCHE.key(member.pk)
    store().command("DEL", key)
    assert do(operator, member.pk, "psyche", "warm") == ["Loaded from PostgreSQL."]
    assert verdict("psyche", member.pk) == "in sync"
    assert do(operator, member.pk, "psyche", "warm") == [
        "Was cached already, in sync; left as it is."
    ]
    assert do(operator, 999_999, "psyche", "warm") == ["Nothing to cache: PostgreSQL has nothing."]


def test_what_a_writer_is_at_is_neither_loaded_nor_gone(operator: Client, member: User) -> None:
    """A fence is no entry: nothing else is said of it."""
    fences.fence(PSYCHES, [member.pk])
    told = do(operator, member.pk, "psyche", "warm")
    assert told == ["Not cached: a writer is at it, or the cache has no memory."]
    told = do(operator, member.pk, "psyche", "flush")
    assert told == ["Removed; a writer's fence stays until it is done, or it was filled anew."]


def test_warming_does_not_call_a_stale_entry_right(operator: Client, member: User) -> None:
    """It is left, and told."""
    put(PSYCHE.key(member.pk), {**got(PSYCHE.key(member.pk)), "lossStreak": 77})
    told = do(operator, member.pk, "psyche", "warm")
    assert told == ["Was cached already, stale; left as it is."]


def test_all_four_keys_at_once_are_four_notes(operator: Client, member: User) -> None:
    """Each with its key and its own result."""
    store().command("DEL", PSYCHE.key(member.pk))
    told = do(operator, member.pk, "all", "warm")
    assert sorted(told) == ["Loaded from PostgreSQL."] + [THERE] * 3
    assert do(operator, member.pk, "all", "flush") == ["Removed; nothing was unsaved any more."] * 4
    assert do(operator, member.pk, "all", "flush") == ["There was no key; nothing removed."] * 4
    who = {(note.user_id, note.object_id) for note in LogEntry.objects.all()}
    assert who == {(operator.person.pk, str(member.pk))}  # type: ignore[attr-defined]


def test_flushing_persists_first(operator: Client, member: User) -> None:
    """What was unsaved is in PostgreSQL afterwards."""
    patch(member.pk, b=window())
    assert verdict("canvas", member.pk) == "unsaved"
    told = do(operator, member.pk, "canvas", "flush")
    assert told == ["Removed; nothing was unsaved any more."]
    assert set(Canvas.objects.get(user=member).layout["microApps"]) == {"a", "b"}
    assert store().command("EXISTS", CANVAS.key(member.pk)) == 0


def test_what_postgresql_does_not_take_stays(operator: Client, member: User) -> None:
    """Flushed and persisted in vain; the page says that it is unsaved."""
    patch(member.pk, b=window())
    poison(member.pk)
    told = do(operator, member.pk, "canvas", "persist")
    assert told == ["PostgreSQL does not take it: it stays unsaved, the log says why."]
    told = do(operator, member.pk, "canvas", "flush")
    assert told == ["Kept, unsaved: PostgreSQL does not take it now."]
    assert set(got(CANVAS.key(member.pk))["layout"]["microApps"]) == {"a", "b"}


def test_persisting_now(operator: Client, member: User) -> None:
    """The key stays, in sync; the second time there is nothing to do."""
    patch(member.pk, b=window())
    assert do(operator, member.pk, "canvas", "persist") == ["Persisted."]
    assert verdict("canvas", member.pk) == "in sync"
    told = do(operator, member.pk, "canvas", "persist")
    assert told == ["Nothing to persist: PostgreSQL has it already."]


def test_persisting_what_waits_for_a_change_past_the_cache(
    operator: Client, member: User, cache_away: Any
) -> None:
    """It is not called saved."""
    patch(member.pk, b=window())
    with cache_away():
        patch(member.pk, c=window())
    (told,) = do(operator, member.pk, "canvas", "persist")
    assert "stays unsaved for now: changes made past the cache come first" in told
    do(operator, member.pk, "canvas", "repair")
    assert verdict("canvas", member.pk) == "in sync"


@pytest.mark.parametrize("waits", [False, True])
def test_repairing_what_is_stale(operator: Client, member: User, waits: bool) -> None:
    """With the outbox knowing of it or not; afterwards this key does not wait, and others do."""
    Outbox.objects.all().delete()
    state = got(PSYCHE.key(member.pk))
    put(PSYCHE.key(member.pk), {**state, "lossStreak": 77})
    outbox.add(PSYCHE, [999_999, member.pk] if waits else [999_999])
    also = " and waited in the outbox" if waits else ""
    assert do(operator, member.pk, "psyche", "repair") == [f"Was stale{also}, is missing now."]
    assert list(Outbox.objects.values_list("user_id", flat=True)) == [999_999]
    assert do(operator, member.pk, "psyche", "repair") == ["Nothing to repair: missing."]


def test_repairing_leaves_alone_what_is_right(operator: Client, member: User) -> None:
    """The key is not even touched; other users' rows in the outbox wait on."""
    Outbox.objects.all().delete()
    outbox.add(PSYCHE, [999_999])
    told = do(operator, member.pk, "all", "repair")
    assert told == ["Nothing to repair: in sync."] * 4
    assert store().command("EXISTS", PSYCHE.key(member.pk)) == 1
    assert Outbox.objects.count() == 1


def test_ending_all_sessions(operator: Client, member: User) -> None:
    """They are counted; once more finds none, and does no harm."""
    services.open_session(member)
    told = do(operator, member.pk, "session", "end-sessions")
    assert told == ["Sessions ended: 2. Their next request is refused."]
    reasons = set(Session.objects.filter(user=member).values_list("end_reason", flat=True))
    assert reasons == {Session.EndReason.ADMIN}
    told = do(operator, member.pk, "session", "end-sessions")
    assert told == ["No session was live; what the user had open in the admin has ended."]


def test_who_ends_their_own_sessions_is_told_before(operator: Client, member: User) -> None:
    """They are logged out of the admin, and it is noted all the same."""
    own = operator.person.pk  # type: ignore[attr-defined]
    address = reverse("reflex_arc:deed", args=[own, "session", "end-sessions"])
    assert "This is you" in operator.get(address).content.decode()
    other = reverse("reflex_arc:deed", args=[member.pk, "session", "end-sessions"])
    assert "This is you" not in operator.get(other).content.decode()
    assert "/admin/login/" in operator.post(address, follow=True).redirect_chain[-1][0]
    [note] = LogEntry.objects.all()
    assert note.change_message.startswith("No session was live")


@pytest.mark.parametrize("name", ["warm", "flush", "repair", "persist"])
def test_with_the_cache_away_it_says_so(
    operator: Client, member: User, settings: Any, name: str
) -> None:
    """Nothing is claimed that was not done; the attempt is noted."""
    settings.AEVON_CACHE = without_cache()
    [told] = do(operator, member.pk, "canvas", name)
    assert told.startswith("Not done, the cache is away or too busy: ")


def test_sessions_end_with_the_cache_away(operator: Client, member: User, settings: Any) -> None:
    """PostgreSQL decides; the outbox tells the cache later."""
    Outbox.objects.all().delete()
    settings.AEVON_CACHE = without_cache()
    told = do(operator, member.pk, "session", "end-sessions")
    assert told == ["Sessions ended: 1. Their next request is refused."]
    assert Outbox.objects.filter(keyspace=SESSION.name, user_id=member.pk).exists()


def test_a_deed_that_is_cut_short_has_been_noted(
    operator: Client, member: User, monkeypatch: Any
) -> None:
    """Whatever ends it."""
    monkeypatch.setattr("aevon.cache.maintenance.judge", lambda *_: 1 / 0)
    operator.raise_request_exception = False
    address = reverse("reflex_arc:deed", args=[member.pk, "psyche", "warm"])
    assert operator.post(address).status_code == 500
    [note] = LogEntry.objects.all()
    assert note.object_repr == f"Warm {PSYCHE.key(member.pk)}"
    assert note.change_message == "Begun; it has not been noted how it ended."


def test_the_question_names_every_key(operator: Client, member: User) -> None:
    """Before anything is done."""
    settle()
    page = operator.get(reverse("reflex_arc:deed", args=[member.pk, "all", "flush"]))
    text = page.content.decode()
    for resource in resources.resources():
        assert resource.keyspace.key(member.pk) in text
    assert "csrfmiddlewaretoken" in text
