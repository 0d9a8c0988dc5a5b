"""PsycheState is linearizable: tests/consistency/history.py says how.

A play without an acknowledgement is found by its key, and one that was repeated under its key is
one write, from its first beginning to its first answer.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tests.consistency import history
from tests.consistency.history import Read, Write
from tests.faults.bench.api import Operation

from .common import Circumstances, Verdict


def check(
    verdict: Verdict,
    noted: Sequence[Operation],
    circumstances: Circumstances,
    *,
    versions: Mapping[str, int],
    last: Mapping[int, int],
) -> None:
    """`versions` of plays by their keys and the `last` one of each user, as PostgreSQL has them."""
    writes = [
        write
        for plays in _by_key(noted).values()
        for write in _writes(plays, versions.get(plays[0].asked), circumstances)
    ]
    reads = [
        Read(str(each.user), each.start, each.end, each.told, each.told)
        for each in noted
        if each.kind == "psyche" and each.told is not None
    ]
    first = {str(user): Write(str(user), 0, 0, 1, 1) for user in last}
    ends = {str(user): version for user, version in last.items()}
    found = history.check(reads, writes, first=first, last=ends, grace=circumstances.graces)
    kept = {"stale": verdict.stale, "lost": verdict.lost, "duplicate": verdict.lost}
    for example in found.examples:
        kept.get(example.partition(":")[0], verdict.stale).append(f"psyche {example}")
    verdict.late["psyche"] += found.late.total()
    verdict.latest = max([verdict.latest, *found.late_seconds.values()])
    verdict.unsettled += _unsettled(reads)
    _one_content(verdict, noted)


def _by_key(noted: Sequence[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = defaultdict(list)
    for each in noted:
        if each.kind == "play":
            found[each.asked].append(each)
    return found


def _writes(
    plays: list[Operation], version: int | None, circumstances: Circumstances
) -> list[Write]:
    """What the plays of one key wrote. Told of another version than PostgreSQL has is lost."""
    user, start = str(plays[0].user), min(each.start for each in plays)
    answered = sorted((e for e in plays if e.told is not None), key=lambda each: each.end)
    if not answered:
        return [Write(user, start, None, version, version or 0)]
    first = answered[0]
    told = circumstances.told(first)
    wrong = [each for each in answered if each.told != version]
    if wrong:
        return [Write(user, start, wrong[0].end, None, 0, told)]
    return [Write(user, start, first.end, version, version or 0, told)]


def _unsettled(reads: Sequence[Read]) -> int:
    """How many are older than another that had ended before they began."""
    seen = history._Line((read.end, read.key, read.version) for read in reads)
    older = 0
    for read in reads:
        seen.advance(read.start)
        older += read.version < seen.highest.get(read.key, 0)
    return older


def _one_content(verdict: Verdict, noted: Sequence[Operation]) -> None:
    """Whoever is shown a version is shown the same of it."""
    contents: dict[tuple[int, int], Operation] = {}
    for each in noted:
        if each.kind in ("psyche", "play") and each.told is not None:
            other = contents.setdefault((each.user, each.told), each)
            if other.content != each.content:
                verdict.stale.append(f"psyche of another content: {each} and {other}")
