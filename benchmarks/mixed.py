"""P10: a thousand users over HTTP, with the cache layer and without."""

import os
import statistics
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import wrk
from benchmarks.layouts import layout
from benchmarks.measure import Figure, Options, Result, Spread, Target, exactly, in_turns, ratio
from benchmarks.served import environment, our_site
from benchmarks.site import counted, site

USERS = 1000
CONNECTIONS = 16
# Two minutes of each site, in turns.
ROUNDS = 4
SECONDS = 30
KINDS = ("validate", "canvas PATCH", "psyche", "interaction", "BEEP")
WITH, WITHOUT = "cache layer on", "cache layer off"
NOWHERE = "redis://127.0.0.1:1/0"
ALL = "all"
NOTES = [
    (
        f"{USERS:,} users with a session each, {CONNECTIONS} connections that always wait for an "
        "answer: 60 % validate, 20 % PATCH of a canvas of 1.5 KB, 10 % psyche, 5 % interactions, "
        "5 % commands to BEEP; two minutes of each site, in turns. The site is granian with two "
        "workers, a Celery worker and the listener, with the settings of production. wrk, the site "
        "and both servers share this machine's cores. Statements are those of all programs of the "
        "site, and of the flush that saves the canvases afterwards."
    ),
    (
        "The cache layer is off where `DRAGONFLY_URL` leads nowhere: the same programs, and every "
        "breaker is open. It is not a project that never had the layer: triggers still note each "
        "change, and a canvas that is changed past the cache is a transaction and a journal's row."
    ),
]


def figures(options: Options) -> Iterator[Result]:
    """P10."""
    if not wrk.is_there():
        print(f"P10 is left out: {wrk.WHY_NOT}.")
        return
    with site() as folder:
        yield from _figures(options, folder)


def _figures(options: Options, folder: Path) -> Iterator[Figure]:
    from canvas import services

    loads: dict[str, Load] = {}
    seconds = options.scaled(SECONDS, short=2)
    with ExitStack() as stack:
        for name, cache in {WITH: os.environ["DRAGONFLY_URL"], WITHOUT: NOWHERE}.items():
            own = folder / name.replace(" ", "-")
            own.mkdir()
            tokens = own / "tokens"
            tokens.write_text("\n".join(people(name, options.scaled(USERS, short=20))))
            # Without the cache, too, there is a broker.
            broker = {"DRAGONFLY_URL": cache, "CELERY_BROKER_URL": os.environ["DRAGONFLY_URL"]}
            url = stack.enter_context(our_site(**environment(own), **broker))
            loads[name] = Load(url, tokens, seconds)
        rates = in_turns(
            {name: load.run for name, load in loads.items()},
            rounds=min(ROUNDS, options.rounds),
        )
    flushed = counted(services.persist_now).statements
    for load in loads.values():
        del load.rounds[0]
    ours, off = loads[WITH], loads[WITHOUT]
    beep = Spread.of([1000 * time for time in ours.quantiles("BEEP", 95)])
    targets = [
        Target("p95 of a command to BEEP, in ms", beep, at_most=750),
        Target("answers that were no 2xx", exactly(ours.refused.total()), at_most=0),
        Target("requests/s, of those without the cache layer", ratio(rates[WITH], rates[WITHOUT])),
        Target("statements per request", exactly(ours.statements_a_request(more=flushed))),
        Target("statements per request, cache layer off", exactly(off.statements_a_request())),
    ]
    wrong = [f"No 2xx, {name}: {load.refused}." for name, load in loads.items() if load.refused]
    yield Figure("P10", "A mixed load over HTTP", "requests/s", rates, targets, [*NOTES, *wrong])
    for percent in (50, 99):
        times = {
            f"{kind}, {name}": load.quantiles(kind, percent)
            for kind in (ALL, *KINDS)
            for name, load in loads.items()
        }
        title = f"A request of the mixed load, p{percent}"
        ours = [name for name in times if name.endswith(WITH)]
        yield Figure(f"P10-p{percent}", title, "s", times, ours=ours)


def people(name: str, count: int) -> list[str]:
    """Access tokens of so many new users, who have a canvas each."""
    from auth_sessions import services as sessions
    from auth_sessions.models import User
    from canvas import services as canvas

    users = [User(username=f"{name}{n}", password="!") for n in range(count)]
    for user in User.objects.bulk_create(users):
        canvas.change(user.pk, {"replace": layout(user.pk)})
    canvas.persist_now()
    return [sessions.open_session(user)[1].access for user in users]


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one: seconds of every request by kind, what was refused, and how many statements
    PostgreSQL was sent."""

    taken: dict[str, list[float]]
    refused: Counter[str]
    statements: int


@dataclass(frozen=True, slots=True)
class Load:
    """The load of one site, by the users whose tokens are in a file."""

    url: str
    tokens: Path
    seconds: int
    rounds: list[Round] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many there were."""
        return sum(len(times) for each in self.rounds for times in each.taken.values())

    @property
    def refused(self) -> Counter[str]:
        """What was no 2xx, or never came, by kind and status."""
        return sum((each.refused for each in self.rounds), Counter())

    def statements_a_request(self, more: int = 0) -> float:
        """With so many more that came of the load."""
        return (sum(each.statements for each in self.rounds) + more) / self.requests

    def quantiles(self, kind: str, percent: int) -> list[float]:
        """So many of a hundred requests of a kind, or of all, took no longer: in each round."""
        return [_quantile(each.taken, kind, percent) for each in self.rounds]

    def run(self) -> float:
        """One round; requests/s."""
        before = self._statements()
        threads = [f"-t{CONNECTIONS}", f"-c{CONNECTIONS}", f"-d{self.seconds}s", "--timeout=10s"]
        said = wrk.run([*threads, f"-s{wrk.LUA / 'mixed.lua'}", self.url, "--", str(self.tokens)])
        taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
        refused: Counter[str] = Counter()
        took = 0.0
        for what, *values in (line.split("\t") for line in said.splitlines() if "\t" in line):
            match what:
                case "taken":
                    taken[values[0]].append(float(values[1]))
                case "refused":
                    refused[values[0]] += int(values[1])
                case "errors" if values != ["0"]:
                    refused["no answer"] += int(values[0])
                case "took":
                    took = float(values[0])
        self.rounds.append(Round(taken, refused, self._statements() - before))
        return sum(map(len, taken.values())) / took

    def _statements(self) -> int:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        counts = [line for line in lines if line.startswith("aevon_postgresql_query_seconds_count")]
        return int(sum(float(line.rpartition(" ")[2]) for line in counts))


def _quantile(taken: dict[str, list[float]], kind: str, percent: int) -> float:
    times = [time for each in taken.values() for time in each] if kind == ALL else taken[kind]
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]
