"""A user's keys beside their rows, whatever is in them."""

import json
import time
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from aevon.cache import CANVAS, CONVO_HISTORY, PSYCHE, SESSION, fences, outbox
from aevon.cache.connection import store
from aevon.cache.models import Outbox
from aevon.operations import xray
from aevon.operations.xray import Key
from auth_sessions import services
from auth_sessions.models import Session, User
from auth_sessions.projection import SESSIONS
from tests.cache.entry_states import got, put
from tests.canvas.helpers import patch, window
from tests.operations.conftest import settle
from tests.servers import without_cache

pytestmark = pytest.mark.django_db
SCRIPT = "<script>alert(1)</script></pre></code></td>"


def keys(user: User) -> dict[str, Key]:
    """The X-ray by keyspace."""
    return {key.service: key for key in xray.take(user.pk).keys}


def page(client: Client, user_id: int) -> str:
    """As the browser gets it."""
    response = client.get(reverse("reflex_arc:user", args=[user_id]))
    assert response.status_code == 200
    return response.content.decode()


def test_all_four_keys_beside_their_rows(operator: Client, member: User) -> None:
    """In sync, each member of both sides in one row; with type, lifetime and sessions."""
    found = keys(member)
    assert set(found) == {"session", "psyche", "canvas", "convo_history"}
    assert {key.verdict for key in found.values()} == {"in sync"}
    assert {key.type for key in found.values()} == {"string", "list"}
    assert all((key.ttl_seconds or 0) > 0 for key in found.values())
    members = [member for key in found.values() for member in key.members]
    assert {each.kind for each in members} == {"same", "own"}
    assert xray.take(member.pk).summary == "Cache and PostgreSQL agree."
    text = page(operator, member.pk)
    assert all(f"<code>{key.name}</code>" in text for key in found.values())
    assert 'data-seconds="' in text
    sid = str(Session.objects.get(user=member).sid)
    assert f"<code>{sid}</code>" in text


def test_differences_are_named_member_by_member(operator: Client, member: User) -> None:
    """And not only coloured."""
    state = got(PSYCHE.key(member.pk)) | {"lossStreak": 77, "mood": "odd"}
    del state["phase"]
    put(PSYCHE.key(member.pk), state)
    psyche = keys(member)["psyche"]
    assert (psyche.verdict, psyche.different, psyche.tone) == ("corrupt", 3, "bad")
    kinds = {each.path: each.kind for each in psyche.members if each.differs}
    assert kinds == {"lossStreak": "changed", "mood": "cache only", "phase": "postgresql only"}
    text = page(operator, member.pk)
    for words in (
        "≠ differs",
        "+ only in Dragonfly",
        "− only in PostgreSQL",
        "Differences: <strong>3",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("keyspace", "value"),
    [
        (PSYCHE, json.dumps({SCRIPT: SCRIPT}).encode()),
        (CANVAS, json.dumps({"a": "\u202e\u0000\x1b[31m"}).encode()),
        (CANVAS, b'{"a": "\\ud800", "\\udfff": NaN}'),
        (SESSION, b"[" * 50_000),
        (SESSION, b"[" * 400 + b"]" * 400),
        (PSYCHE, b"\xff\xfe\x00"),
        (CANVAS, b""),
        (CONVO_HISTORY, b'"' + b"x" * 200_000 + b'"'),
        (PSYCHE, b"9" * 5_000),
    ],
    ids=[
        "script", "control", "half a letter", "endless", "deep", "bytes", "empty", "long",
        "number",
    ],
)  # fmt: skip
def test_whatever_is_in_a_key_is_text(
    operator: Client, member: User, keyspace: Any, value: bytes
) -> None:
    """Never markup, never a server error, nothing unseen; a long text is cut."""
    store().command("DEL", keyspace.key(member.pk))
    store().command("SET", keyspace.key(member.pk), value)
    text = page(operator, member.pk)
    assert "<script>alert" not in text
    assert not {"\u202e", "\x00", "\x1b"} & set(text)
    assert len(text) < 300_000
    assert "corrupt" in text
    if keyspace is PSYCHE and b"script" in value:
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;/pre&gt;" in text
    if len(value) == 200_002:
        assert "… (200,002 characters in all)" in text


def test_a_hash_or_a_set_is_named_and_not_read(operator: Client, member: User) -> None:
    """A key of somebody else's type."""
    for keyspace, command in ((PSYCHE, ("HSET", "a", "b")), (CANVAS, ("SADD", "a"))):
        key = keyspace.key(member.pk)
        store().command("DEL", key)
        store().command(command[0], key, *command[1:])
    found = keys(member)
    assert (found["psyche"].type, found["psyche"].verdict) == ("hash", "corrupt")
    assert (found["canvas"].type, found["canvas"].verdict) == ("set", "corrupt")
    page(operator, member.pk)


def test_a_name_from_another_script_turns_nothing_round(operator: Client, make_user: Any) -> None:
    """Of a user, whose name is their own to choose."""
    name = "\u202eeval<script>"
    user = make_user(username=name)
    text = page(operator, user.pk)
    assert "\\u202eeval&lt;script&gt;" in text
    assert name not in text


def test_no_token_and_no_digest_is_shown(operator: Client, member: User) -> None:
    """Those of the session, and of whoever is at the key."""
    _, pair = services.open_session(member)
    session = Session.objects.filter(user=member).first()
    assert session is not None
    lease, put_there = "1e" * 8, f'{{"refresh": "{pair.refresh}", "text": "{pair.access}"}}'
    store().command("SET", PSYCHE.key(member.pk), f'{{"_lease":"{lease}"}}')
    store().command("SET", CANVAS.key(member.pk), put_there)
    store().command("DEL", CONVO_HISTORY.key(member.pk))
    store().command("LPUSH", CONVO_HISTORY.key(member.pk), f'{{"_lease":"{lease}"}}')
    marks = fences.fence(SESSIONS, [member.pk])
    text = page(operator, member.pk)
    for secret in (pair.refresh, pair.access, session.refresh_digest, member.password, lease):
        assert secret not in text
    assert marks[member.pk].token not in text
    assert "A fence: 1 writer is in flight, " in text
    assert text.count("A lease: a reader is about to fill it.") == 2


def test_what_the_layer_has_noted_is_explained(member: User, make_user: Any) -> None:
    """A tombstone, an unsaved change, another life of the server."""
    ghost = make_user()
    put(PSYCHE.key(ghost.pk), {"_gone": 8})
    assert keys(ghost)["psyche"].notes == ["A tombstone: PostgreSQL had no row, as of version 8."]
    patch(member.pk, b=window())
    canvas = keys(member)["canvas"]
    assert (canvas.verdict, canvas.lifetime) == ("unsaved", "without end")
    assert canvas.notes[0].startswith("Unsaved: revision 2, for ")
    raw = store().command("GET", PSYCHE.key(member.pk))
    store().command("SET", PSYCHE.key(member.pk), raw[:-14] + b'000000000000"}')
    assert "nobody believes" in keys(member)["psyche"].notes[0]


@pytest.mark.parametrize("moment", ["1e300", "-1e300", "true", '"x"', "null", "1e11"])
def test_a_time_that_is_none_is_no_trouble(operator: Client, member: User, moment: str) -> None:
    """Somebody else may have written it."""
    value = f'{{"_dirtySince": {moment}, "_fence": {{"a": {moment}}}, "_floor": {moment}}}'
    store().command("SET", CANVAS.key(member.pk), value)
    page(operator, member.pk)


def test_what_waits_in_the_outbox_is_said(operator: Client, member: User) -> None:
    """Of this key alone."""
    Outbox.objects.all().delete()
    outbox.add(PSYCHE, [member.pk])
    assert [key.service for key in keys(member).values() if key.waiting] == ["psyche"]
    assert page(operator, member.pk).count("waits for repair") == 1


def test_with_the_cache_away_it_shows_what_postgresql_has(
    operator: Client, member: User, settings: Any
) -> None:
    """And says so, without calling it a difference; what looks like a secret is masked here too."""
    jwt = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    patch(member.pk, b=window(title=f"my {jwt}"))
    settle()
    settings.AEVON_CACHE = without_cache()
    text = page(operator, member.pk)
    assert "The cache cannot be reached" in text
    assert text.count("cache away</span>") == 4
    assert "lossStreak" in text
    assert "my (masked)" in text
    assert jwt not in text
    assert "only in PostgreSQL" not in text
    assert "not compared" in text


def test_a_user_who_is_gone_may_still_have_keys(operator: Client) -> None:
    """They are shown."""
    put(PSYCHE.key(987_654), {"userId": 987_654, "version": 1})
    text = page(operator, 987_654)
    assert "User 987654 is not in PostgreSQL" in text
    assert "psyche:987654" in text


def test_it_is_found_by_name_and_by_id(operator: Client, make_user: Any) -> None:
    """By the number, as in `cache_inspect`; else by the exact name. Of a name that is nobody's
    those that look like it are named."""
    named = make_user(username="pandora")
    make_user(username="424242")

    def found(q: str) -> str:
        return str(operator.get(reverse("reflex_arc:find"), {"q": q})["Location"])

    assert found(" pandora ").endswith(f"/users/{named.pk}/")
    assert found("424242").endswith("/users/424242/")
    told = operator.get(reverse("reflex_arc:find"), {"q": "pandorra"}, follow=True)
    assert "Did you mean pandora?" in told.content.decode()
    for nobody in ("", "nobody", "0", "x" * 500, "\u202e"):
        assert found(nobody).endswith("/reflex-arc/")


def test_it_costs_few_round_trips_and_queries(
    operator: Client, member: User, trips: Any, django_assert_max_num_queries: Any
) -> None:
    """Seven questions for each key at the most."""
    with trips() as seen, django_assert_max_num_queries(30):
        page(operator, member.pk)
    assert seen.count <= 4 * 7


def test_lifetimes_are_of_now(member: User) -> None:
    """What the script counts down from."""
    store().command("PEXPIRE", PSYCHE.key(member.pk), 90_500)
    before = time.monotonic()
    key = keys(member)["psyche"]
    assert key.ttl_seconds is not None
    assert 90.5 - (time.monotonic() - before) - 1 <= key.ttl_seconds <= 90.5
    assert key.lifetime.startswith("1 min ")
