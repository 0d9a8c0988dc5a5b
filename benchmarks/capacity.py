"""What so many users need: docs/capacity.md, from the measured figures and from assumptions.

`python -m benchmarks.capacity` makes the page anew of docs/benchmarks/results.json. Everything that
is assumed is in `Assumed`; everything else was measured.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from aevon.cache.flush import BATCH as FLUSH_BATCH
from benchmarks import gateway, report, saves

PAGE: Final = "capacity.md"
TEMPLATE: Final = Path(__file__).with_name("capacity.md")
SIZES: Final = (1_000_000, 100_000_000, 1_000_000_000)
# Where each assumption is doubled.
TRIED: Final = 100_000_000
GB: Final = 10**9


def assumed(value: float, unit: str, why: str) -> Any:
    """An assumption, with its reason."""
    return field(default=value, metadata={"unit": unit, "why": why})


@dataclass(frozen=True, slots=True)
class Assumed:
    """What was not measured."""

    day_share: float = assumed(
        0.30,
        "of the users",
        "come within a day: so long do documents stay (`AEVON_PSYCHE_TTL_SECONDS` and its like)",
    )
    online_share: float = assumed(
        0.05,
        "of the users",
        "are there at once in the busiest hour; a session's document ends with it",
    )
    validates: float = assumed(
        6, "a minute and user online", "one request in ten seconds, each validated by the gateway"
    )
    loads: float = assumed(2, "a minute and user online", "PsycheStates that are looked at")
    patches: float = assumed(2, "a minute and user online", "windows that are moved or written in")
    plays: float = assumed(1, "a minute and user online", "interactions")
    commands: float = assumed(0.5, "a minute and user online", "said to BEEP")
    refreshes: float = assumed(
        1 / 15,
        "a minute and user online",
        "an access token lasts 15 minutes (`JWT_ACCESS_SECONDS`)",
    )
    flush_seconds: float = assumed(300, "s", "between two flushes (`CANVAS_PERSIST_SECONDS`)")
    peak: float = assumed(2, "times", "what the busiest minute is above the mean of its hour")
    node_gb: float = assumed(64, "GB", "memory of a Dragonfly node")
    node_memory_share: float = assumed(
        0.5, "of it", "may be filled: `maxmemory` is twice what is expected (docs/deployment.md)"
    )
    node_trips: float = assumed(
        500_000,
        "round trips/s",
        "of a node: its makers tell of 1.37 million GETs and SETs a second on 8 threads of a "
        "c7gn.16xlarge (dragonflydb.io/blog/2024-new-year-new-number); ours are scripts and pairs",
    )
    node_gbit: float = assumed(
        10, "Gbit/s", "network of a node, as cloud machines of that size have"
    )
    node_load: float = assumed(
        0.5, "of both", "may be used, so that a node can do the work of another that fails"
    )
    replicas: float = assumed(
        1, "for each node", "takes over when it fails, without what it had not been told by then"
    )
    frame_bytes: float = assumed(
        90, "bytes a packet", "Ethernet with its gap 38, IPv4 20, TCP with time stamps 32"
    )
    packets: float = assumed(
        3, "a round trip", "question, answer, and every now and then a bare ACK"
    )
    primary_commits: float = assumed(
        5_000,
        "commits/s",
        "of a PostgreSQL primary with `synchronous_commit`: fsync decides. Ask yours with pgbench",
    )
    primary_log_mb: float = assumed(
        50, "MB/s", "of its log, which disk, archive and replicas take all day"
    )
    primary_gb: float = assumed(2_000, "GB", "of rows, which a backup and a restore take in hours")
    primary_reads: float = assumed(50_000, "statements/s", "by primary key, out of memory")
    worker_share: float = assumed(
        0.5, "of its period", "a flush may take, so that one that failed can be made up for"
    )
    web_share: float = assumed(0.6, "of a worker's rate", "before requests begin to queue")


@dataclass(frozen=True, slots=True)
class Measured:
    """What was, by the names of benchmarks/weights.py. Bytes; rows/s of a flush by one worker, and
    when and where that was measured if not with the rest; requests/s of one web worker (None where
    wrk was not there)."""

    memory: Mapping[str, float]
    rows: Mapping[str, float]
    traffic: Mapping[str, float]
    trips: Mapping[str, float]
    statements: Mapping[str, float]
    log: Mapping[str, float]
    flush_rate: float
    web_rate: float | None
    flush_measured: str

    @classmethod
    def of(cls, results: report.Results) -> "Measured":
        """Of a run; raises `KeyError` where a figure was not measured."""
        every = {
            figure.id: {n: statistics.median(values) for n, values in figure.sides.items()}
            for figure in results.figures
        }
        weights = {name: every[name] for name in ("memory", "rows", "traffic", "trips")}
        return cls(
            **weights,
            statements=every["statements"],
            log=every["log"],
            flush_rate=every["P6"][saves.ALONE],
            web_rate=every.get("P3", {}).get(gateway.NEW),
            flush_measured=next(each.measured for each in results.figures if each.id == "P6"),
        )


@dataclass(frozen=True, slots=True)
class Needs:
    """Of so many users, at their peak. Each need is a number of units, and no whole one: how many
    nodes, primaries, workers it takes is the next whole number."""

    users: int
    memory: float  # bytes in Dragonfly, once
    trips: float  # round trips a second
    bits: float  # a second, both ways
    flush_rows: float  # a second
    commits: float  # a second
    commits_without: float  # had each change of a canvas its own
    reads_without: float  # statements a second, were they not answered by the cache
    log: float  # bytes a second
    rows: float  # bytes in PostgreSQL
    units: dict[str, float]  # by resource, of what one of it can

    @property
    def nodes(self) -> int:
        """Dragonfly nodes without their replicas."""
        return max(map(whole, (self.units[name] for name in NODE)))

    @property
    def primaries(self) -> int:
        """PostgreSQL primaries."""
        return max(map(whole, (self.units[name] for name in PRIMARY)))


MEMORY, TRIPS, NETWORK = "a node's memory", "a node's round trips", "a node's network"
COMMITS, LOG, DISK = "a primary's commits", "a primary's log", "a primary's disk"
FLUSH, WEB = "a flush worker", "a web worker for validate/"
NODE: Final = (MEMORY, TRIPS, NETWORK)
PRIMARY: Final = (COMMITS, LOG, DISK)


def whole(units: float) -> int:
    """How many it takes; one at least. A hair above a whole number is arithmetic, not a need."""
    return max(1, math.ceil(units - 1e-9))


def needs(users: int, measured: Measured, given: Assumed) -> Needs:
    """What so many users need."""
    online = users * given.online_share
    a_second = online * given.peak / 60
    rates = {
        "validate a session": given.validates * a_second,
        "load a PsycheState": given.loads * a_second,
        "change a canvas": given.patches * a_second,
        "play once": given.plays * a_second,
        "a command to BEEP": given.commands * a_second,
    }
    unsaved = online * changed_share(given.patches * given.peak, given.flush_seconds)
    rates["flush a canvas"] = flush_rows = unsaved / given.flush_seconds
    memory = measured.memory
    daily = memory["psyche"] + memory["canvas"] + memory["history"]
    held = users * given.day_share * daily + online * memory["session"]
    held += unsaved * memory["canvas, unsaved: its marks"]
    trips = sum(rate * measured.trips[name] for name, rate in rates.items())
    sent = sum(rate * measured.traffic[name] for name, rate in rates.items())
    bits = 8 * (sent + trips * given.packets * given.frame_bytes)
    refreshes = given.refreshes * a_second
    recorded = sum(
        rates[name] * measured.statements[name] for name in ("play once", "a command to BEEP")
    )
    commits = recorded + refreshes + flush_rows / FLUSH_BATCH
    log = sum(rate * measured.log[name] for name, rate in rates.items())
    rows = users * sum(measured.rows.values())
    units = {
        MEMORY: held / (given.node_gb * GB * given.node_memory_share),
        TRIPS: trips / (given.node_trips * given.node_load),
        NETWORK: bits / (given.node_gbit * GB * given.node_load),
        COMMITS: commits / given.primary_commits,
        LOG: log / (given.primary_log_mb * 10**6),
        DISK: rows / (given.primary_gb * GB),
        FLUSH: flush_rows / (measured.flush_rate * given.worker_share),
    }
    if measured.web_rate is not None:
        units[WEB] = rates["validate a session"] / (measured.web_rate * given.web_share)
    return Needs(
        users=users,
        memory=held,
        trips=trips,
        bits=bits,
        flush_rows=flush_rows,
        commits=commits,
        commits_without=recorded + refreshes + rates["change a canvas"],
        reads_without=rates["validate a session"] + rates["load a PsycheState"],
        log=log,
        rows=rows,
        units=units,
    )


def changed_share(a_minute: float, seconds: float) -> float:
    """Which share of those who change something that often has, within so long, at least once:
    changes come independently of each other."""
    return 1 - math.exp(-a_minute * seconds / 60)


def make(docs: Path = report.DOCS) -> None:
    """The page, from the raw numbers."""
    (docs / PAGE).write_text(page(report.read(docs)))


def page(results: report.Results) -> str:
    """`capacity.md`."""
    measured, given = Measured.of(results), Assumed()
    sizes = [needs(users, measured, given) for users in SIZES]
    return TEMPLATE.read_text().format(
        needs="".join(_needs(sizes, given)),
        enough="".join(_enough(sizes[0])),
        first="".join(_first(sizes)),
        sensitivity="".join(_sensitivity(measured, given)),
        assumptions="".join(_assumptions(given)),
        measured="".join(_measured(measured)),
        date=results.machine["date"],
    )


def _needs(sizes: Sequence[Needs], given: Assumed) -> Iterator[str]:
    def row(name: str, *cells: str) -> str:
        return f"| {name} | {' | '.join(cells)} |\n"

    yield row("", *(f"{short(each.users)} users" for each in sizes))
    yield f"|---|{'---:|' * len(sizes)}\n"
    yield row("cached, once", *(size(each.memory) for each in sizes))
    yield row("round trips to Dragonfly", *(f"{short(each.trips)}/s" for each in sizes))
    yield row("network of Dragonfly", *(f"{each.bits / GB:,.3g} Gbit/s" for each in sizes))
    copies = 1 + int(given.replicas)
    nodes = (f"{each.nodes:,} × {copies} = {each.nodes * copies:,}" for each in sizes)
    yield row("**Dragonfly nodes**, with their replicas", *nodes)
    yield row(
        "PostgreSQL commits **with** the cache", *(f"{short(each.commits)}/s" for each in sizes)
    )
    yield row(
        "canvases saved, in batches of a thousand",
        *(f"{short(each.flush_rows)}/s" for each in sizes),
    )
    without = (f"{short(each.commits_without)}/s" for each in sizes)
    yield row("PostgreSQL commits **without** it", *without)
    yield row("and reads", *(f"{short(each.reads_without)}/s" for each in sizes))
    yield row("PostgreSQL's log", *(f"{short(each.log / 10**6)} MB/s" for each in sizes))
    yield row("rows", *(size(each.rows) for each in sizes))
    yield row("**PostgreSQL primaries**", *(f"{each.primaries:,}" for each in sizes))
    primaries = (
        f"{whole(each.commits_without / given.primary_commits):,}, and "
        f"{whole(each.reads_without / given.primary_reads):,} that are read"
        for each in sizes
    )
    yield row("without the cache, by commits alone", *primaries)
    yield row("**flush workers** (Celery)", *(f"{whole(e.units[FLUSH]):,}" for e in sizes))
    if WEB in sizes[0].units:
        yield row("web workers for `validate/`", *(f"{whole(e.units[WEB]):,}" for e in sizes))


def _enough(one: Needs) -> Iterator[str]:
    yield "| one of it | is enough for |\n|---|---:|\n"
    for name, units in sorted(one.units.items(), key=lambda each: -each[1]):
        yield f"| {name} | {short(one.users / units)} users |\n"


def _first(sizes: Sequence[Needs]) -> Iterator[str]:
    for each in sizes:
        worst = sorted(each.units.items(), key=lambda need: -need[1])[:3]
        told = ", ".join(f"{name} ({short(units)} × one)" for name, units in worst)
        yield f"- **{short(each.users)} users**: {told}.\n"


def _sensitivity(measured: Measured, given: Assumed) -> Iterator[str]:
    def told(each: Needs) -> tuple[float, ...]:
        nodes = max(each.units[name] for name in NODE)
        primaries = max(each.units[name] for name in PRIMARY)
        return each.memory, nodes, primaries, each.units[FLUSH]

    before = told(needs(TRIED, measured, given))
    yield "| doubled | memory | nodes | primaries | flush workers |\n|---|---:|---:|---:|---:|\n"
    found = []
    for each in fields(given):
        doubled = replace(given, **{each.name: 2 * getattr(given, each.name)})
        after = told(needs(TRIED, measured, doubled))
        ratios = [a / b for a, b in zip(after, before, strict=True)]
        found.append((max(abs(math.log2(r)) for r in ratios), each.name, ratios))
    for most, name, ratios in sorted(found, key=lambda each: -each[0]):
        if most > 0.005:
            cells = ("" if abs(r - 1) < 0.005 else f"{r:.2f} ×" for r in ratios)
            yield f"| `{name}` | {' | '.join(cells)} |\n"


def _assumptions(given: Assumed) -> Iterator[str]:
    yield "| | | | why |\n|---|---:|---|---|\n"
    for each in fields(given):
        value, told = getattr(given, each.name), each.metadata
        shown = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
        yield f"| `{each.name}` | {shown} | {told['unit']} | {told['why']} |\n"


def _measured(measured: Measured) -> Iterator[str]:
    yield "| | |\n|---|---:|\n"
    entries = {name: value for name, value in measured.memory.items() if "value" not in name}
    yield from (f"| memory: {name} | {value:,.0f} bytes |\n" for name, value in entries.items())
    yield f"| rows of a user in PostgreSQL | {sum(measured.rows.values()):,.0f} bytes |\n"
    for name, value in measured.traffic.items():
        trips, log = measured.trips[name], measured.log[name]
        yield (
            f"| {name} | {trips:.3g} round trips, {value:,.0f} bytes, "
            f"{measured.statements[name]:.3g} statements, {log:,.0f} bytes of log |\n"
        )
    where = f" ({measured.flush_measured})" if measured.flush_measured else ""
    yield f"| a flush worker{where} | {measured.flush_rate:,.0f} rows/s |\n"
    if measured.web_rate is not None:
        yield f"| a web worker, `validate/` | {measured.web_rate:,.0f} requests/s |\n"


def short(value: float) -> str:
    """Of three digits: 1.5 million."""
    for factor, name in ((GB, "billion"), (10**6, "million")):
        if value >= factor:
            return f"{value / factor:,.3g} {name}" if value < 1000 * factor else f"{value:,.2g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size(value: float) -> str:
    """Bytes, of three digits."""
    return f"{value / GB:,.3g} GB" if value < 1000 * GB else f"{value / GB / 1000:,.3g} TB"


if __name__ == "__main__":
    make()
