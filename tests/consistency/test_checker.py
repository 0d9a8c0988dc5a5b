"""The checker of histories accepts what is promised, and nothing else."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.consistency.history import SECOND, Read, Verdict, Write, check, merged

FIRST = {"p:1": Write("p:1", 0, 0, 1, 0), "p:2": Write("p:2", 0, 0, 1, 0)}


def read(start: float, end: float, version: int, **other: Any) -> Read:
    """A read of the first key; its content is the version less one."""
    values = {"key": "p:1", "content": version - 1, **other}
    return Read(start=int(start * SECOND), end=int(end * SECOND), version=version, **values)


def write(start: float, end: float | None, version: int | None, **other: Any) -> Write:
    """A write of the first key."""
    values = {"key": "p:1", "content": (version or 0) - 1, **other}
    ended = None if end is None else int(end * SECOND)
    return Write(start=int(start * SECOND), end=ended, version=version, **values)


def checked(reads: Sequence[Read], writes: Sequence[Write], last: int | None = None) -> Verdict:
    """The verdict, PostgreSQL having every version that the writes say it has."""
    versions = [each.version for each in writes if each.version and each.key == "p:1"]
    return check(
        merged(reads), writes, first=FIRST, last={"p:1": last or max(versions, default=1), "p:2": 1}
    )


def counts(verdict: Verdict) -> dict[str, int]:
    """What is wrong."""
    kinds = ("stale", "from_the_future", "wrong_content", "lost", "duplicate")
    return {kind: found for kind in kinds if (found := getattr(verdict, kind))}


def test_what_is_promised() -> None:
    """Old until the acknowledgement, new from the beginning of the write, on each key by itself."""
    reads = [read(1, 2, 1), read(2.1, 2.9, 2), read(2.5, 3.5, 1), read(3.5, 4, 2)]
    other = [read(4, 5, 1, key="p:2")]
    verdict = check(merged(reads, other), [write(2, 3, 2)], first=FIRST, last={"p:1": 2, "p:2": 1})
    assert (verdict.violations, verdict.reads, verdict.late.total()) == (0, 5, 0)


def test_an_older_state_after_an_acknowledgement() -> None:
    """Is stale, however short the time."""
    assert counts(checked([read(3.000001, 4, 1)], [write(2, 3, 2)])) == {"stale": 1}


def test_a_stale_read_among_writes_that_were_acknowledged_in_another_order() -> None:
    """The highest version counts, not the last."""
    writes = [write(1, 5, 2), write(2, 3, 3)]
    assert counts(checked([read(4, 4.1, 3), read(6, 7, 2)], writes)) == {"stale": 1}


def test_no_state_where_there_is_one() -> None:
    """Is stale, and nobody wrote it."""
    assert counts(checked([read(1, 2, 0)], [])) == {"stale": 1, "from_the_future": 1}


def test_a_state_before_its_write_began() -> None:
    """Comes from the future."""
    assert counts(checked([read(1, 1.9, 2)], [write(2, 3, 2)])) == {"from_the_future": 1}


def test_a_state_that_nobody_committed() -> None:
    """Comes from a rollback."""
    assert counts(checked([read(1, 2, 7)], [write(0, None, None)])) == {"from_the_future": 1}


def test_another_content_than_was_committed() -> None:
    """The version alone does not make a state right: a rollback uses the next one up as well."""
    found = checked([read(4, 5, 2, content=9)], [write(2, 3, 2)])
    assert counts(found) == {"wrong_content": 1}


def test_an_acknowledged_write_that_is_not_there() -> None:
    """Is lost."""
    assert counts(checked([], [write(1, 2, None)])) == {"lost": 1}


def test_two_writes_with_one_version() -> None:
    """One of them took the other's place; and the versions are fewer than the writes."""
    found = checked([], [write(1, 2, 2), write(1, 2, 2)])
    assert counts(found) == {"duplicate": 1, "lost": 1}


@pytest.mark.parametrize("last", [2, 4])
def test_versions_that_do_not_add_up(last: int) -> None:
    """A version was lost, or somebody unknown wrote."""
    assert counts(checked([], [write(1, 2, 2), write(2, 3, 3)], last)) == {"lost": 1}


def test_a_write_whose_writer_died() -> None:
    """May be seen or not: nobody was told of it."""
    writes = [write(1, None, 2)]
    verdict = checked([read(1, 2, 2), read(5, 6, 1), read(7, 8, 2)], writes)
    assert (verdict.violations, verdict.unacknowledged) == (0, 1)


@pytest.mark.parametrize(("told", "seconds"), [("away", 2), ("outside", 1)])
def test_a_write_that_the_cache_was_not_told_of(told: Any, seconds: float) -> None:
    """Is late for a while, which is counted; then it is stale."""
    writes = [write(1, 2, 2, told=told)]
    verdict = checked([read(2.5, 2.6, 1), read(1.9 + seconds, 5, 1)], writes)
    assert (verdict.violations, verdict.late[told]) == (0, 2)
    assert verdict.late_seconds[told] == pytest.approx(seconds - 0.1)
    assert counts(checked([read(2.1 + seconds, 6, 1)], writes)) == {"stale": 1}


def test_what_is_wrong_is_shown() -> None:
    """With both sides, a few times."""
    verdict = checked([read(3 + i, 4 + i, 1) for i in range(20)], [write(1, 2, 2)])
    assert (verdict.stale, len(verdict.examples)) == (20, 5)
    assert "version=1" in verdict.examples[0]
    assert "version=2" in verdict.examples[0]
