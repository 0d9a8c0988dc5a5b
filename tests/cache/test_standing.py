"""What stands under a key, in words; and whom an operator means."""

import io
import json
import re
import time
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from aevon.cache import fences, history, leases, maintenance, processes, resources
from aevon.cache.connection import store
from aevon.cache.entries import EMPTY
from aevon.cache.inspection import NoSuchUser, user_of
from aevon.cache.keyspace import CANVAS, CONVO_HISTORY, PSYCHE
from aevon.cache.metrics import LOADS
from aevon.cache.shown import masked
from aevon.cache.standing import Standing, standing
from aevon.cache.stats import Day
from auth_sessions.models import User
from canvas import services
from klepsydra.models import PsycheState
from klepsydra.services import begin
from tests.cache import entry_states
from tests.canvas.helpers import patch, poison, window

pytestmark = pytest.mark.django_db

PSYCHES = PsycheState.cached.projection


def inspected(user: object, *options: str) -> str:
    """What `cache_inspect` prints."""
    out = io.StringIO()
    call_command("cache_inspect", str(user), *options, stdout=out)
    return out.getvalue()


def entry(user: User, name: str) -> dict[str, Any]:
    """One entry of the report for machines."""
    report = json.loads(inspected(user.pk, "--json"))
    return next(each for each in report["entries"] if each["key"].startswith(name + ":"))


def test_writers_in_flight_are_counted_and_not_shown(user: User) -> None:
    """Who has a mark's token may write in its holder's place."""
    marks = [fences.fence(PSYCHES, [user.pk])[user.pk] for _ in range(2)]
    found = entry(user, "psyche")
    assert (found["holds"]["kind"], found["holds"]["writers"]) == ("fence", 2)
    assert 0 < found["holds"]["secondsLeft"] <= 5
    text = inspected(user.pk)
    assert re.search(r"holds       a fence: 2 writers are in flight, for \d\.\d s more", text)
    assert [mark.token for mark in marks if mark.token in text + json.dumps(found)] == []
    fences.abandon(PSYCHES, user.pk, marks[0])
    assert "1 writer is in flight" in inspected(user.pk)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"_fence": {"secret": 1.0}, "_floor": 1}, "fence"),
        ({"_lease": "secret"}, "lease"),
        ({"_gone": 3}, "tombstone"),
        ({"userId": 1, "version": 3}, "state"),
        ({"userId": 1, "_incarnation": "another"}, "outlived"),
        (b"[1]", "unreadable"),
        (b"{", "unreadable"),
    ],
)
def test_what_stands_under_a_key(value: Any, kind: str) -> None:
    """A state, or what is there in its place."""
    entry_states.put("psyche:1", value)
    held = resources.held(PSYCHE, 1)
    assert standing(held).kind == kind
    assert "secret" not in str(masked(held.value))


def test_a_state_that_somebody_wrote_with_blanks_is_corrupt(user: User) -> None:
    """With this life's stamp, but not as it is written here: no reader of ours believes it, but one
    elsewhere that reads JSON would."""
    begin([user.pk])
    store().command("DEL", PSYCHE.key(user.pk))  # the fence of a test that never commits
    PsycheState.cached.get(user.pk)
    raw = store().command("GET", PSYCHE.key(user.pk))
    store().command("SET", PSYCHE.key(user.pk), json.dumps(json.loads(raw)))
    found = entry(user, "psyche")
    assert (found["verdict"], found["holds"]["kind"]) == ("corrupt", "outlived")
    maintenance.audit([resources.resource("psyche")], repair=True)
    assert not store().command("EXISTS", PSYCHE.key(user.pk))


def test_what_stands_in_place_of_a_list() -> None:
    """A lease is its only element."""
    assert standing(resources.held(CONVO_HISTORY, 1)).kind == "nothing"
    store().command("RPUSH", "convo_history:1", '{"_lease":"secret"}')
    held = resources.held(CONVO_HISTORY, 1)
    assert (standing(held).kind, masked(held.value)) == ("lease", [{"_lease": "(masked)"}])
    store().command("RPUSH", "convo_history:1", '{"seq":1}')
    assert standing(resources.held(CONVO_HISTORY, 1)).kind == "state"
    store().command("SADD", "canvas:1", "a")
    assert standing(resources.held(CANVAS, 1)).kind == "unreadable"


def test_a_fence_of_the_dead_is_called_so() -> None:
    """It ends by itself. So is one whose marks are hours ahead: no writer sets such."""
    hours_ahead = {"_fence": {"a": (time.time() + 7200) * 1000}, "_floor": 1}
    entry_states.put("psyche:1", hours_ahead)
    assert standing(resources.held(PSYCHE, 1)) == Standing("fence", 0, None, 1)
    assert "dead" in str(Standing("fence", 0, None))
    assert "1 writer is in flight, for 0.0 s" in str(Standing("fence", 1, time.time() - 9))


def test_a_lease_of_a_reader_is_called_so(user: User) -> None:
    """And not shown."""
    held = leases.lease(PSYCHES, {user.pk: EMPTY})[user.pk]
    text = inspected(user.pk)
    assert "holds       a lease: a reader is about to fill it" in text
    assert json.loads(held.text)["_lease"] not in text


def test_what_is_unsaved_and_what_the_outbox_says(user: User) -> None:
    """Revision, age, refusal; version, age."""
    patch(user.pk, a=window())
    poison(user.pk)
    services.persist_now([user.pk])
    canvas = entry(user, "canvas")
    assert canvas["unsaved"]["revision"] == 1
    assert canvas["unsaved"]["refused"]
    assert 0 <= canvas["unsaved"]["seconds"] < 600
    session = entry(user, "session")
    assert session["outbox"]["version"] >= 1
    assert session["unsaved"] is None
    text = inspected(user.pk)
    assert re.search(r"unsaved     revision 1, for [\w ]+, refused by PostgreSQL", text)
    assert re.search(r"outbox      version \d+, for \d+ ", text)


def test_a_user_is_named_by_id_or_by_name(user: User) -> None:
    """A number is always an id; of one that is nobody's it says so."""
    assert json.loads(inspected(user.username, "--json"))["userId"] == user.pk
    assert inspected(user.pk).startswith(f"user {user.pk}  {user.username}\n")
    assert json.loads(inspected(user.pk, "--json"))["username"] == user.username
    nobody = user.pk + 1_000
    assert inspected(nobody).startswith(f"user {nobody}  does not exist\n")
    User.objects.create(username=str(nobody))
    begin([user.pk])
    store().command("DEL", PSYCHE.key(user.pk))  # the fence of a test that never commits
    PsycheState.cached.get(user.pk)
    assert "PostgreSQL  the same" in inspected(user.pk)
    assert user_of(str(nobody)) == nobody


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    """And of one that is not, nothing."""
    User.objects.bulk_create(User(username=name) for name in ("isolde", "isidor", "tristan"))
    for name in ("isolda", "islode"):
        with pytest.raises(CommandError, match=rf"name: '{name}'\. Did you mean isolde\?"):
            inspected(name)
    for name in ("kurwenal", "iso\0lde", "\n"):
        with pytest.raises(NoSuchUser) as refusal:
            user_of(name)
        assert "Did you mean" not in str(refusal.value)


# --- cache_stats -------------------------------------------------------------------------------


def stats(*options: str) -> str:
    """What `cache_stats` prints."""
    out = io.StringIO()
    call_command("cache_stats", *options, stdout=out)
    return out.getvalue()


def test_stats_of_a_site_with_processes_and_a_history(user: User) -> None:
    """What all of them counted in the last 24 hours, and how each sees the cache."""
    reporter = processes.Reporter("worker")
    LOADS.labels("psyche", "hit").inc(3)
    LOADS.labels("psyche", "miss").inc()
    reporter.report()
    patch(user.pk, a=window())
    services.persist_now()
    report = json.loads(stats("--json"))
    assert report["server"]["clients"] > 0
    [process] = report["processes"]
    assert (process["role"], process["breaker"], process["failures"]) == ("worker", "closed", 0)
    assert report["day"]["loads"]["psyche"]["hitRate"] == 0.75
    assert report["day"]["flushes"] == {"canvas": 1}
    text = stats()
    assert re.search(r"clients     \d+ connections", text)
    assert re.search(
        r"process     worker \d+@\S+: breaker closed, up \d+ s, heard of \d+ s ago", text
    )
    assert "last day    psyche: 4 loads, 75.0% hits" in text
    assert "last day    canvas: 1 flushes, 1 persisted, 0 failed" in text


def test_the_consistency_of_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the cached entries that were audited; nothing audited, no figure; never rounded up."""
    counts = {
        ("audited", "psyche", "in sync"): 999_999_999,
        ("audited", "psyche", "missing"): 50,
        ("audited", "psyche", "stale"): 1,
        ("audited", "canvas", "absent"): 4,
    }
    slot = history.Slot(at=time.time(), counts=counts)
    monkeypatch.setattr(history, "slots", lambda: [slot])
    assert "last day    psyche: 99.9999% of the audited entries in sync" in stats()
    day = json.loads(stats("--json"))["day"]["consistency"]
    assert (day["psyche"], day["canvas"]) == (pytest.approx(1 - 1e-9), None)
    assert Day({}, {}, {}).consistency("psyche") is None
