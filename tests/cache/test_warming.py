"""A warm-up that is stopped, slowed down, raced and killed."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from aevon.cache import PSYCHE, EntryResource, ListResource, codec, fences, resources, write_behind
from aevon.cache.connection import ScriptCall, Store, store
from aevon.cache.keyspace import InvalidKey
from aevon.cache.maintenance import (
    Place,
    Restarted,
    audit,
    place,
    warm_up,
    warming,
)
from benchmarks import crowd as crowds
from klepsydra.models import PsycheState
from tests.cache import entry_states, ledgers
from tests.cache.ledgers import (
    ALL,
    LINE_RESOURCE,
    NOTE_RESOURCE,
    SHEET_RESOURCE,
    SHEETS,
    add_lines,
    add_notes,
    query,
)
from tests.servers import ROOT, database_url
from tests.threads import in_thread
from tests.waiting import eventually


def keys() -> set[str]:
    """Every key on the server."""
    return set(store().scan("*"))


# Leases by the script are asked for where the plain command was refused.
STEPS = {"SET": "leased", "lease_list": "leased", "fill": "filled", "fill_list": "filled"}


def commands(calls: Any) -> Counter[str]:
    """What a round trip carries, by the names of commands and scripts, or by what they do."""
    names = (c.script.name if isinstance(c, ScriptCall) else c[0] for c in calls)
    return Counter(STEPS.get(name, name) for name in names)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """What each round trip carries from now on."""
    exchange, carried = Store._exchange, []

    def noted(self: Store, calls: Any, *how: Any, **options: Any) -> Any:
        carried.append(commands(calls))
        return exchange(self, calls, *how, **options)

    monkeypatch.setattr(Store, "_exchange", noted)
    return carried


# --- what it makes of an entry -----------------------------------------------------------------


@pytest.fixture
def patient(settings: Any) -> None:
    """Leases and fences outlast the slowest machine."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "LEASE_SECONDS": 600}


@pytest.fixture
def oddities(tables: None, patient: None) -> None:
    """Notes of users 1 … 9, and under their keys whatever may stand there."""
    add_notes(*range(1, 10))
    entry_states.put("psyche:1", {"userId": 1, "text": "newer", "version": 9})
    entry_states.put("psyche:2", {"_lease": "somebody"}, "PX", 300_000)
    entry_states.put(
        "psyche:3", {"_fence": {"m": (time.time() + 240) * 1000}, "_floor": 1}, "PX", 300_000
    )
    entry_states.put("psyche:4", b"{")
    store().command("SADD", "psyche:5", "a")
    earlier = codec.encode({"userId": 6, "text": "old", "version": 1})
    store().command("SET", "psyche:6", codec.stamped(earlier, "another"))
    entry_states.put("psyche:20", {"_gone": 3})


@pytest.mark.django_db
def test_what_becomes_of_each_entry(oddities: None) -> None:
    """A state stays; others at work are left to it; everything else is replaced. A dry run says
    the same beforehand."""
    users = [*range(1, 10), 20, 21]
    expected = dict.fromkeys(range(1, 10), "loaded") | {1: "there", 2: "busy", 3: "busy"}
    before = {key: store().command("TYPE", key) for key in keys()}
    assert NOTE_RESOURCE.would_warm(users) == expected
    assert {key: store().command("TYPE", key) for key in keys()} == before
    assert NOTE_RESOURCE.warm(users) == expected
    assert entry_states.got("psyche:1")["text"] == "newer"
    assert [entry_states.got(f"psyche:{n}")["text"] for n in range(4, 10)] == ["a"] * 6


@pytest.mark.django_db
def test_what_becomes_of_each_list(tables: None, patient: None) -> None:
    """Likewise; a list whose newest element was deleted is not cached, which is no failure."""
    for user_id in range(1, 5):
        add_lines(user_id, 2)
    LINE_RESOURCE.warm([1])
    store().command("RPUSH", "convo_history:2", '{"_lease":"x"}')
    store().command("PEXPIRE", "convo_history:2", 300_000)
    store().command("RPUSH", "convo_history:3", "rubbish")
    expected = {1: "there", 2: "busy", 3: "loaded", 4: "loaded"}
    assert LINE_RESOURCE.would_warm(range(1, 6)) == expected
    assert LINE_RESOURCE.warm(range(1, 6)) == expected
    assert store().command("LLEN", "convo_history:3") == 2


@pytest.mark.django_db
def test_a_writer_who_overtakes_the_warm_up_is_not_overwritten(tables: None) -> None:
    """It has read the row before the commit, and comes to put it in after the acknowledgement."""
    add_notes(1, 2, text="old")

    def commit() -> None:
        marks = fences.fence(ledgers.NOTES, [1])
        fences.install(ledgers.NOTES, {1: entry_states.write(1, "new", 2)}, marks)

    overtaken = EntryResource(entry_states.between(ledgers.NOTES, commit))
    assert overtaken.warm([1, 2]) == {1: "busy", 2: "loaded"}
    assert entry_states.got("psyche:1") == entry_states.note(1, "new", 2)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("warmed", "look"),
    [(NOTE_RESOURCE, {"MGET": 1}), (LINE_RESOURCE, {"LRANGE": 20})],
    ids=["entries", "lists"],
)
def test_what_a_step_costs(
    tables: None, sent: list[Any], django_assert_num_queries: Any, warmed: Any, look: dict[str, int]
) -> None:
    """A plain command and a script for each user, in three round trips with one statement; what is
    cached by then, one round trip and no statement."""
    users = range(1, 21)
    add_notes(*users)
    for user_id in users:
        add_lines(user_id, 2)
    with django_assert_num_queries(1):
        assert set(warmed.warm(users).values()) == {"loaded"}
    assert sent == [look, {"leased": 20}, {"filled": 20}]
    sent.clear()
    with django_assert_num_queries(0):
        assert set(warmed.warm(users).values()) == {"there"}
    assert sent == [look]


@pytest.mark.django_db
def test_only_who_is_refused_a_plain_lease_is_asked_about_again(
    oddities: None, sent: list[Any]
) -> None:
    """A key of another type looks empty until it is written to."""
    NOTE_RESOURCE.warm([4, 5, 7, 8, 9])
    expected = [{"MGET": 1}, {"leased": 4}, {"lease": 2}, {"lease": 1}, {"filled": 5}]
    assert sent == expected


@pytest.mark.django_db
def test_full_cache_takes_nothing(tables: None, full: None) -> None:
    """What is refused as a plain command is no lease."""
    add_notes(1, 2)
    assert NOTE_RESOURCE.warm([1, 2]) == {1: "failed", 2: "failed"}


@pytest.mark.django_db
def test_inside_a_transaction_nothing_is_put_in(tables: None) -> None:
    """What it reads may yet be rolled back."""
    add_notes(1)
    add_lines(1, 1)
    with transaction.atomic():
        assert [each.warm([1]) for each in (NOTE_RESOURCE, LINE_RESOURCE)] == [{1: "busy"}] * 2
    assert keys() == set()


@pytest.mark.django_db
@pytest.mark.usefixtures("tables", "patient")
@pytest.mark.parametrize("warmed", [NOTE_RESOURCE, LINE_RESOURCE], ids=["entries", "lists"])
@pytest.mark.parametrize(("after", "stays"), [("leased", 0), ("filled", 2)])
def test_who_is_stopped_leaves_nobody_busy(
    monkeypatch: pytest.MonkeyPatch, warmed: Any, after: str, stays: int
) -> None:
    """Leases are given back, so that who goes on from there finds nobody at work; what has been put
    in stays."""
    add_notes(1, 2)
    for user_id in (1, 2):
        add_lines(user_id, 2)
    exchange = Store._exchange

    def stopped(self: Store, calls: Any, *how: Any, **options: Any) -> Any:
        answer = exchange(self, calls, *how, **options)
        if after in commands(calls):
            monkeypatch.undo()
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(Store, "_exchange", stopped)
    with pytest.raises(KeyboardInterrupt):
        warmed.warm([1, 2])
    assert len(keys()) == stays
    assert warmed.warm([1, 2]) == dict.fromkeys((1, 2), "there" if stays else "loaded")


@pytest.mark.django_db
@pytest.mark.usefixtures("tables", "patient")
def test_postgresql_that_fails_leaves_nobody_busy() -> None:
    """Nor where another type stood in the key, which takes a second lease."""

    def fails(_: object) -> Any:
        raise OperationalError("PostgreSQL is shutting down")

    add_notes(1)
    add_lines(1, 2)
    store().command("SADD", "psyche:1", "a")
    failing = EntryResource(replace(ledgers.NOTES, read=fails))
    failing_lists = ListResource(replace(ledgers.LINES, recent=fails))
    for each in (failing, failing_lists):
        with pytest.raises(OperationalError):
            each.warm([1])
    assert keys() == set()


@pytest.mark.django_db
def test_unsaved_changes_of_an_earlier_life_of_the_server_survive_a_warm_up(tables: None) -> None:
    """They exist nowhere else (G6); where the row is as new, the row counts."""
    query("INSERT INTO test_sheet VALUES (1, 'row', 3), (2, 'row', 5)")
    for user_id in (1, 2):
        sheet = ledgers.Sheet(user_id=user_id, text="earlier", revision=4, dirty_since=time.time())
        raw = codec.stamped(codec.encode(sheet), "another")
        store().command("SET", f"canvas:{user_id}", raw)
    assert SHEET_RESOURCE.would_warm([1, 2]) == {1: "loaded", 2: "loaded"}
    assert SHEET_RESOURCE.warm([1, 2]) == {1: "loaded", 2: "loaded"}
    texts = [write_behind.load(SHEETS, user_id).text for user_id in (1, 2)]
    assert texts == ["earlier", "row"]
    assert SHEETS.index.marks_of([1, 2]) == {1: 4}


# --- places ------------------------------------------------------------------------------------


def test_a_place_is_written_as_a_key() -> None:
    """And read back."""
    assert place("canvas:12") == Place("canvas", 12)
    assert str(Place("canvas", 12)) == "canvas:12"


@pytest.mark.parametrize(
    "text",
    ["", "12", "psyche", "psyche:", "psyche:01", "psyche:-1", "psyche:1\n", "django:1", "a" * 99],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    """With an example."""
    with pytest.raises(InvalidKey, match="psyche:500000"):
        place(text)


@pytest.mark.django_db
def test_a_warm_up_goes_on_after_a_place(tables: None) -> None:
    """The services before it are done; those after it are done from the beginning."""
    add_notes(1, 2)
    add_lines(1, 1)
    query("INSERT INTO test_sheet VALUES (1, 'a', 1), (2, 'a', 1), (3, 'a', 1)")
    warmed = warm_up(ALL, after=Place("canvas", 2))
    assert keys() == {"canvas:3", "convo_history:1"}
    assert [(each.service, each.loaded) for each in warmed] == [("canvas", 1), ("convo_history", 1)]


@pytest.mark.django_db
def test_what_is_done_is_known_when_it_is_stopped(
    tables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the last whole batch; going on from there leaves out nobody."""
    add_notes(*range(1, 11))
    warm, done, calls = NOTE_RESOURCE.warm, [], []

    def stopped(self: Any, user_ids: list[int]) -> Any:
        calls.append(user_ids)
        if len(calls) == 3:
            raise OperationalError("PostgreSQL is shutting down")
        return warm(user_ids)

    monkeypatch.setattr(type(NOTE_RESOURCE), "warm", stopped)
    with pytest.raises(OperationalError):
        warm_up([NOTE_RESOURCE], batch=3, done=done)
    [warmed] = done
    assert (warmed.loaded, warmed.last) == (6, 6)
    monkeypatch.setattr(type(NOTE_RESOURCE), "warm", lambda _, user_ids: warm(user_ids))
    warm_up([NOTE_RESOURCE], after=Place("psyche", warmed.last))
    assert len(keys()) == 10


@pytest.mark.django_db
def test_a_restart_of_the_server_on_the_way_is_no_success(
    tables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was loaded before it is gone."""
    lives = iter(["before", "after"])
    monkeypatch.setattr(warming, "_life", lambda: next(lives))
    with pytest.raises(Restarted):
        warm_up([NOTE_RESOURCE])


@pytest.mark.django_db
def test_a_rate_limits_what_is_loaded(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small steps; what is cached already costs no time."""
    slept: list[float] = []
    monkeypatch.setattr(warming.time, "sleep", slept.append)
    monkeypatch.setattr(warming.time, "monotonic", lambda: 100.0 + sum(slept))
    add_notes(*range(1, 41))
    warm_up([NOTE_RESOURCE], rate=20)
    assert len(slept) == 8
    assert sum(slept) == pytest.approx(40 / 20)
    slept.clear()
    warm_up([NOTE_RESOURCE], rate=20)
    assert sum(slept) == 0


# --- steps at once ------------------------------------------------------------------------------


class Stopping:
    """Ends the warm-up, as Ctrl-C does, once it is told of so many users."""

    def __init__(self, users: int) -> None:
        self.left = users

    def start(self, service: str, count: Any) -> None:
        pass

    def advance(self, users: int) -> None:
        self.left -= users
        if self.left <= 0:
            raise KeyboardInterrupt


def connections_in_use() -> int:
    """How many of this process's threads hold a connection to PostgreSQL."""
    stats: dict[str, int] = connection.pool.get_stats()
    return stats["pool_size"] - stats["pool_available"]


@pytest.mark.django_db(transaction=True)
def test_steps_are_worked_at_once_and_told_in_order(tables: None) -> None:
    """Each in a thread that leaves no connection behind; the next begins before one has ended."""
    add_notes(*range(1, 31))
    before = connections_in_use()
    barrier, lasts = threading.Barrier(2, timeout=30), []

    class Meeting(type(NOTE_RESOURCE)):  # type: ignore[misc]
        def warm(self, user_ids: Any) -> Any:
            barrier.wait()
            return super().warm(user_ids)

    class Lasts(Stopping):
        def advance(self, users: int) -> None:
            lasts.append(done[0].last)

    done: list[Any] = []
    warm_up([Meeting(ledgers.NOTES)], batch=5, progress=Lasts(0), done=done)
    assert lasts == [5, 10, 15, 20, 25, 30]
    assert (done[0].loaded, len(keys())) == (30, 30)
    assert eventually(lambda: connections_in_use() <= before)


@pytest.mark.django_db(transaction=True)
def test_one_connection_is_enough(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that finds the users: no other step could have any."""
    add_notes(*range(1, 21))
    pool = connection.settings_dict["OPTIONS"]["pool"]
    monkeypatch.setitem(pool, "max_size", 1)
    began: list[str] = []
    monkeypatch.setattr(warming, "ThreadPoolExecutor", lambda *_: began.append("threads"))
    (done,) = warm_up([NOTE_RESOURCE], batch=5)
    assert (done.loaded, began) == (20, [])


@pytest.mark.django_db(transaction=True)
def test_who_is_stopped_finishes_the_steps_that_are_under_way(tables: None) -> None:
    """And begins no other: nobody is left with a lease."""
    add_notes(*range(1, 101))
    done: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        warm_up([NOTE_RESOURCE], batch=5, progress=Stopping(20), done=done)
    assert (done[0].last, done[0].loaded) == (20, 20)
    held = [entry_states.got(key) for key in keys()]
    assert 20 <= len(held) <= 20 + 5 * (warming.AT_ONCE + 1)
    assert all("text" in each for each in held)


@pytest.mark.django_db(transaction=True)
def test_a_pace_is_kept_by_one_step_at_a_time(
    tables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As is a transaction, whose rows nobody else sees."""
    monkeypatch.setattr(warming, "ThreadPoolExecutor", None)
    add_notes(1, 2, 3)
    assert warm_up([NOTE_RESOURCE], rate=1_000)[0].loaded == 3
    with transaction.atomic():
        add_notes(4)
        assert warm_up([NOTE_RESOURCE])[0].busy == 1


# --- beside writers, as processes of their own -------------------------------------------------

# `make bench` warms a million.
USERS = 1_500


@pytest.fixture
def crowd() -> list[int]:
    """Users with PsycheStates, none of them cached."""
    crowds.grow(USERS)
    return sorted(resources.resource("psyche").user_ids())


def start(*arguments: str) -> "subprocess.Popen[str]":
    """`manage.py cache_warmup`."""
    return subprocess.Popen(
        [sys.executable, "manage.py", "cache_warmup", "--json", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, dict[str, Any], str]:
    """Exit code, report and what it said on stderr."""
    printed, said = process.communicate(timeout=120)
    assert printed, (process.returncode, said)
    return process.returncode, json.loads(printed), said


class Writer(threading.Thread):
    """Writes states of these users, and looks at the cache after each acknowledgement; evicts, too,
    so that the warm-up has something to put in beside it."""

    def __init__(self, user_ids: list[int], seed: int) -> None:
        super().__init__()
        self.user_ids = user_ids
        self.random = random.Random(seed)
        self.stop = threading.Event()
        self.acknowledged: dict[int, int] = {}
        self.older: list[int] = []

    def run(self) -> None:
        in_thread(self._write)()

    def _write(self) -> None:
        while not self.stop.is_set():
            user_id, another = self.random.choices(self.user_ids, k=2)
            state = PsycheState.objects.get(pk=user_id)
            state.loss_streak += 1
            state.save()
            state.refresh_from_db(fields=["version"])
            self.acknowledged[user_id] = state.version
            self.look(user_id)
            self.look(another)
            store().command("DEL", PSYCHE.key(another))

    def look(self, user_id: int) -> None:
        """Note a cached state that is older than what was acknowledged."""
        held = entry_states.got(f"psyche:{user_id}") or {}
        version = self.acknowledged.get(user_id, 0)
        if held.get("version", version) < version:
            self.older.append(user_id)


def _cached(user_ids: list[int]) -> int:
    return int(store().command("EXISTS", *map(PSYCHE.key, user_ids)))


@pytest.mark.django_db(transaction=True)
def test_a_warm_up_is_stopped_and_goes_on_beside_writers(crowd: list[int]) -> None:
    """It says how to go on; in the end everybody whom nobody evicts is cached, and no acknowledged
    write is older in the cache, neither meanwhile nor afterwards."""
    written, left_alone = crowd[::2], crowd[1::2]
    writers = [Writer(written, seed) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    try:
        process = start("--batch=50", "--rate=750")
        assert eventually(lambda: _cached(left_alone) > len(left_alone) // 8)
        process.terminate()
        code, stopped, said = ended(process)
        *_, line = said.splitlines()
        assert (code, stopped["goOn"]) == (143, line.partition(": ")[2])
        assert 0 < stopped["users"] < USERS
        _, _, *arguments = stopped["goOn"].split()
        _, resumed, _ = ended(start(*arguments))
    finally:
        for writer in writers:
            writer.stop.set()
            writer.join()
    assert stopped["users"] + resumed["users"] == USERS
    for writer in writers:
        for user_id in writer.acknowledged:
            writer.look(user_id)
        assert writer.acknowledged
        assert writer.older == []
    [audited] = audit([resources.resource("psyche")])
    assert audited.wrong == 0
    assert _cached(left_alone) == len(left_alone)


@pytest.mark.django_db(transaction=True)
def test_a_cache_that_goes_away_on_the_way_has_everything_looked_at_again(
    crowd: list[int], server: Any
) -> None:
    """It may come back empty: the command that is told begins again."""
    process = start("--batch=50", "--rate=750")
    assert eventually(lambda: store().command("DBSIZE") > 200)
    server.stop()
    code, report, said = ended(process)
    assert code == 1
    assert "cannot be reached" in report["error"]
    assert "--after" not in report["goOn"]
    assert report["goOn"] in said
    server.start()
    assert ended(start("--service=psyche"))[1]["loaded"] == USERS
