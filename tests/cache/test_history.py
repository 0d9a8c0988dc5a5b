"""The last day of the cache, and the processes that there are."""

import os
import threading
import time
from typing import Any

import pytest

from aevon.cache import history, processes, stats
from aevon.cache.connection import CacheUnavailable, store
from aevon.cache.history import SLOTS, Counted, slots
from aevon.cache.metrics import AUDITED, LOADS
from aevon.cache.processes import Process, Reporter
from aevon.cache.shared_metrics import host
from tests.servers import without_cache
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

NOW = 1_764_360_299.0
SEEN = "cache:processes:seen"


@pytest.fixture
def clock(monkeypatch: Any) -> Any:
    """The time that the history goes by: `clock(seconds)` sets it."""
    at = [NOW]
    monkeypatch.setattr(history.time, "time", lambda: at[0])
    return lambda seconds: at.__setitem__(0, seconds)


def counted(name: str, *labels: str) -> list[int]:
    """A series as it stands in the last slots, without those where it is missing."""
    return [slot.counts[name, *labels] for slot in slots() if (name, *labels) in slot.counts]


def test_what_several_processes_count_is_added_up(clock: Any) -> None:
    """Each adds what is new since its last report, in the slot in which it reports."""
    LOADS.labels("psyche", "hit").inc(100)
    first, second = Counted(), Counted()
    for reporter, hits in ((first, 3), (second, 4), (first, 5)):
        LOADS.labels("psyche", "hit").inc(hits)
        calls, now = reporter.calls()
        store().pipeline(calls)
        reporter.told(now)
    # The second saw the first's three as well: here they share a counter.
    assert counted("loads", "psyche", "hit") == [3 + 7 + 9]
    clock(NOW + 1)
    AUDITED.labels("psyche", "in sync").inc(2)
    calls, _ = first.calls()
    store().pipeline(calls)
    assert counted("audited", "psyche", "in sync") == [2]
    assert [bool(slot.counts) for slot in slots()][-3:] == [False, True, True]
    assert slots()[-2].counted("loads") == {("psyche", "hit"): 19}


def test_what_was_not_told_is_told_later() -> None:
    """Nothing is forgotten because the cache was away."""
    reporter = Counted()
    LOADS.labels("canvas", "miss").inc(2)
    reporter.calls()
    LOADS.labels("canvas", "miss").inc(3)
    calls, now = reporter.calls()
    store().pipeline(calls)
    reporter.told(now)
    assert reporter.calls()[0] == []
    assert counted("loads", "canvas", "miss") == [5]


def test_what_a_report_could_not_tell_is_told_by_the_next(settings: Any) -> None:
    """A report that failed has told nothing."""
    reporter = Reporter("web")
    LOADS.labels("canvas", "hit").inc(7)
    there = settings.AEVON_CACHE
    settings.AEVON_CACHE = without_cache()
    with pytest.raises(CacheUnavailable):
        reporter.report()
    settings.AEVON_CACHE = there
    reporter.report()
    assert counted("loads", "canvas", "hit") == [7]


def test_a_day_has_its_slots_in_order(clock: Any) -> None:
    """Also those in which nothing was noted; a gauge is as last noted; nothing older is read."""
    history.note({"unsaved": 1})
    history.note({"unsaved": 2, "memory": 0.5})
    clock(NOW + 2 * 300)
    history.note({"unsaved": 3})
    found = slots()
    assert [slot.at for slot in found] == [found[0].at + 300 * n for n in range(SLOTS)]
    assert found[-1].at <= NOW + 600 < found[-1].at + 300
    assert [slot.gauges for slot in found[-3:]] == [
        {"unsaved": 2, "memory": 0.5}, {}, {"unsaved": 3},
    ]  # fmt: skip
    clock(NOW + 86_400)
    assert [slot.gauges for slot in slots() if slot.gauges] == [{"unsaved": 3}]


def test_a_day_is_read_in_one_round_trip(monkeypatch: Any) -> None:
    """Two hundred and eighty-eight answers, one exchange."""
    calls = []
    exchange = store()._exchange
    monkeypatch.setattr(store(), "_exchange", lambda *a, **o: calls.append(a) or exchange(*a, **o))
    slots()
    assert len(calls) == 1


def test_a_full_day_has_a_bounded_size(clock: Any) -> None:
    """Every series of every keyspace in every slot: 1.2 MiB, and gone after 25 hours."""
    series = {
        *((name, space, result) for name, results in RESULTS.items() for space in SPACES
          for result in results),
        *(("failures", kind) for kind in KINDS),
    }  # fmt: skip
    for number in range(SLOTS):
        key = f"cache:history:{int(NOW // 300) - number}"
        store().pipeline([("HINCRBY", key, ":".join(each), 123_456) for each in series])
        clock(NOW - number * 300)
        history.note(dict.fromkeys(stats.gauges(), 123_456_789.25))
        assert 89_000 < store().command("TTL", key) <= 90_000
    sizes = [store().command("MEMORY", "USAGE", key) for key in store().scan("cache:history:*")]
    assert len(sizes) == SLOTS
    assert 1_000_000 < sum(sizes) < 1.25 * 2**20


SPACES = ("psyche", "canvas", "session", "convo_history")
KINDS = ("connection", "timeout", "not-now", "pool-exhausted", "breaker-open")
RESULTS = {
    "loads": ("hit", "miss", "corrupt", "away"),
    "publishes": (
        "stored", "current", "newer", "waiting", "empty", "removed", "full", "dropped", "away",
        "rebuilt",
    ),
    "flushed": ("persisted", "unchanged", "lost", "refused", "postponed", "left"),
    "refused_fills": ("lease-gone", "fenced", "full"),
    "audited": ("in sync", "unsaved", "missing", "absent", "stale", "corrupt"),
}  # fmt: skip


@pytest.mark.parametrize(
    "rubbish",
    [
        ("SET", "x"),
        ("HSET", "gauge", "1"),
        ("HSET", "loads:psyche:hit", "x"),
        ("HSET", b"\xff", ""),
    ],
    ids=range(4),
)
def test_a_slot_that_somebody_replaced_tells_nothing(clock: Any, rubbish: Any) -> None:
    """And hides no other."""
    history.note({"unsaved": 1})
    clock(NOW + 300)
    name, *values = rubbish
    store().command(name, history.HISTORY.key(int(NOW + 300) // 300), *values)
    found = slots()
    assert (found[-1].counts, found[-1].gauges, found[-2].gauges) == ({}, {}, {"unsaved": 1})


def test_gauges_tell_how_it_is() -> None:
    """Of the server, the unsaved and the outbox."""
    told = stats.gauges()
    assert told["memory"] > 100_000
    assert told["clients"] >= 1
    assert (told["unsaved"], told["outbox"], told["refused"]) == (0, 0, 0)


def test_a_process_reports_itself_and_what_it_counted() -> None:
    """In one round trip; then it is on the list."""
    reporter = Reporter("web")
    LOADS.labels("session", "hit").inc(7)
    reporter.report()
    [found] = processes.processes()
    assert (found.role, found.pid, found.breaker) == ("web", os.getpid(), "closed")
    assert (found.failures, found.worked_at) == (store().breaker.failures, None)
    assert time.time() - 60 < found.started_at <= found.seen_at <= time.time()
    assert counted("loads", "session", "hit")[-1] >= 7
    assert 0 < store().command("TTL", SEEN) <= 600


def test_a_process_tells_what_its_breaker_is() -> None:
    """Nothing while it cannot tell; what it counted until then is told with the next report."""
    reporter = Reporter("worker")
    reporter.worked_at = 17.5
    LOADS.labels("convo_history", "corrupt").inc(3)
    store().breaker.failed()
    with pytest.raises(CacheUnavailable):
        reporter.report()
    assert eventually(store().breaker.allows)
    assert processes.processes() == []
    reporter.report()
    assert [(each.failures, each.worked_at) for each in processes.processes()] == [(1, 17.5)]
    assert counted("loads", "convo_history", "corrupt") == [3]


def test_one_that_ends_takes_its_name_off() -> None:
    """Not another's; and what it counted last is not lost."""
    other = report(role="beat", pid=1)
    reporter = Reporter("listener")
    reporter.report()
    assert [each.name for each in processes.processes()] == [
        other,
        f"listener {os.getpid()}@{host()}",
    ]
    LOADS.labels("session", "miss").inc(3)
    reporter.end()
    assert [each.name for each in processes.processes()] == [other]
    assert counted("loads", "session", "miss")[-1] >= 3


class Slow(Reporter):
    """One whose thread takes its time with the report that is under way when it ends."""

    def report(self) -> None:
        if threading.current_thread() is self._thread:
            self._stop.wait(30)
            time.sleep(0.2)
        super().report()


def test_one_that_ends_while_it_reports_leaves_no_name() -> None:
    """The report under way would put it back."""
    reporter = Slow("web")
    reporter.start()
    thread = reporter._thread
    assert thread is not None
    reporter.end()
    thread.join()
    assert processes.processes() == []


def test_a_forked_child_does_not_pass_for_its_parent(monkeypatch: Any) -> None:
    """It has nobody who reports until it starts one, and takes no name off when it ends."""
    monkeypatch.setattr(processes, "_reporter", Reporter("web"))
    child = os.fork()
    if child == 0:
        os._exit(0 if processes._reporter is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert processes._reporter is not None


def report(*, role: Any = "web", pid: int = 7, ago: float = 0) -> str:
    """A report of a process that is not here; its name."""
    at = time.time() - ago
    process = Process(
        role=role, host="h", pid=pid, started_at=at, seen_at=at, worked_at=None,
        breaker="closed", failures=0,
    )  # fmt: skip
    store().command("HSET", SEEN, process.name, processes.codec.encode(process))
    return process.name


def test_silent_processes_are_forgotten_after_a_while() -> None:
    """And so is what somebody else put among them."""
    old, recent = report(pid=1, ago=700), report(pid=2, ago=500)
    store().command("HSET", SEEN, "x", "y", "lease", '{"_lease": "x"}')
    assert [each.name for each in processes.processes()] == [recent]
    assert old not in [name.decode() for name in store().command("HKEYS", SEEN)]
    assert store().command("HLEN", SEEN) == 1


def test_a_list_that_somebody_filled_is_cut(monkeypatch: Any) -> None:
    """Who hears it shows it; and no name is longer than a host's."""
    monkeypatch.setattr(processes, "MOST", 3)
    names = [report(pid=pid, ago=pid) for pid in range(5, 0, -1)]
    long = '{"role":"web","host":"%s","pid":1,"startedAt":1,"seenAt":9e9,"breaker":"closed"}'
    store().command("HSET", SEEN, "long", long % ("x" * 65))
    assert [each.name for each in processes.processes()] == sorted(names)[:3]


def test_a_list_that_somebody_replaced_is_made_anew() -> None:
    """By the next report."""
    store().command("SET", SEEN, "x")
    assert processes.processes() == []
    name = report()
    assert [each.name for each in processes.processes()] == [name]
