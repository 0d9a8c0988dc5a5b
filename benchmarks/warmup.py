"""P7: how fast PostgreSQL's rows come into the cache, and how much memory that takes."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.measure import Figure, Options, Result, Target, exactly, in_turns, ratio, seconds
from benchmarks.site import site

ROUND: Final = 100_000
ALL: Final = 1_000_000
FEW: Final = 1_000
STEP: Final = 1_000
MIB: Final = 2**20

OURS = "cache_warmup, nothing cached"
AGAIN = "cache_warmup, all cached"
CURSOR = "server-side cursor of Django, nothing cached"
SETS = "redis-py, SET in pipelines of 1,000, nothing read"
ON_WARMUP = (
    "The rounds are of {round:,} users: of a million each would take minutes. What they give is a "
    "rate, and the curves by users show what becomes of it with their number: a tenth less at a "
    "million. The cursor gives every column of the rows that the warm-up reads, as Django's "
    "`iterator()` does, and makes no document of them; the SETs have their bytes ready. Ours "
    "looks first what is cached, leaves a lease for each user, reads the rows, makes the "
    "documents and puts each in if its lease is still there: never over something newer. Two of "
    "its steps are under way at a time, in threads; cursor and SETs are one each."
)
ON_MEMORY = (
    "`manage.py cache_warmup` in a process of its own took {few:.0f} MiB at its peak for "
    "{few_users:,} users, and {all:.0f} MiB for {users:,}, at {rate:,.0f} users a second."
)


class Ended(NamedTuple):
    """How a command ended. `peak`: its largest resident memory, in bytes."""

    report: dict[str, Any]
    peak: int


def figures(options: Options) -> Iterator[Result]:
    """P7."""
    with site():
        yield _figure(options)


def _figure(options: Options) -> Figure:
    from aevon.cache import codec, maintenance, resources
    from benchmarks import bare, crowd
    from klepsydra.models import PsycheState

    client, psyche = bare.client(), resources.resource("psyche")
    crowd.grow(options.scaled(FEW, short=50))
    few = command("cache_warmup")
    count = options.scaled(ROUND, short=200)
    user_ids = crowd.grow(count)
    documents = [
        (psyche.keyspace.key(user_id), codec.encode(document))
        for step in maintenance.batches(user_ids, STEP)
        for user_id, document in PsycheState.cached.projection.documents(step).items()
    ]

    def warm_up() -> float:
        client.flushdb()  # not behind our back
        taken = seconds(lambda: maintenance.warm_up([psyche]))
        assert client.dbsize() == count
        return count / taken

    def again() -> float:
        maintenance.warm_up([psyche])
        return count / seconds(lambda: maintenance.warm_up([psyche]))

    def cursor() -> float:
        rows = PsycheState.objects.values_list(*PsycheState.cached.document.__struct_fields__)
        return count / seconds(lambda: sum(1 for _ in rows.iterator(chunk_size=STEP)))

    def sets() -> float:
        client.flushdb()  # not behind our back
        return count / seconds(pipelined)

    def pipelined() -> None:
        for first in range(0, count, STEP):
            pipeline = client.pipeline(transaction=False)
            for key, text in documents[first : first + STEP]:
                pipeline.set(key, text, px=86_400_000)
            pipeline.execute()

    sides = {OURS: warm_up, CURSOR: cursor, SETS: sets, AGAIN: again}
    taken = in_turns(sides, rounds=options.rounds)
    slower = min((CURSOR, SETS), key=lambda name: sorted(taken[name])[len(taken[name]) // 2])
    client.flushdb()
    users = len(crowd.grow(options.scaled(ALL, short=400)))
    full = command("cache_warmup")
    targets = [
        Target(
            f"users/s, of the {slower}, the slower", ratio(taken[OURS], taken[slower]), at_least=0.6
        ),
        Target(
            f"MiB more for {users:,} users than for a few",
            exactly((full.peak - few.peak) / MIB),
            at_most=100,
        ),
    ]
    on_memory = ON_MEMORY.format(
        few=few.peak / MIB,
        few_users=few.report["users"],
        all=full.peak / MIB,
        users=users,
        rate=users / full.report["seconds"],
    )
    notes = [ON_WARMUP.format(round=count), on_memory]
    return Figure("P7", "Warm up the cache", "users/s", taken, targets, notes, [AGAIN])


def command(*arguments: str) -> Ended:
    """A command of the project as a process of its own, to its end, and what the kernel knew of its
    memory last: not `ru_maxrss`, which counts what the parent had when it forked."""
    line = [sys.executable, "manage.py", *arguments, "--json"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _peak(process.pid))
        time.sleep(0.02)
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    assert process.returncode == 0, report
    return Ended(report, peak)


def _peak(pid: int) -> int:
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        told = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(told[0]) * 1024 if told else 0
    return 0
