"""`manage.py cache_audit`."""

from typing import Any, Final, get_args

from django.core.management.base import CommandParser

from aevon.cache import maintenance
from aevon.cache.maintenance import Audited, consistency
from aevon.cache.management.base import MaintenanceCommand, Report, columns, positive
from aevon.cache.resources import Verdict

VERDICTS: Final = tuple(verdict for verdict in get_args(Verdict) if verdict != "absent")


class Command(MaintenanceCommand):
    help = (
        "Compare the cache with PostgreSQL, key by key. In sync: equal. Unsaved: a canvas newer "
        "than its row, waiting for the next flush. Missing: not cached, which is harmless. "
        "Stale: different. Corrupt: unreadable. The consistency is the share of the cached "
        "entries that are in sync or unsaved. Exit code 1 while anything is stale or corrupt."
    )
    examples = """\
  manage.py cache_audit                        every user of every service
  manage.py cache_audit --sample 1000          a thousand users per service, drawn at random
  manage.py cache_audit --repair               make what is wrong follow PostgreSQL
  manage.py cache_audit --json                 for a monitoring system
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--sample", type=positive, metavar="N", help="only N users per service, at random"
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="remove or rewrite stale and corrupt entries; exit code 0 if that mends them all",
        )

    def run(self, **options: Any) -> Report:
        with self.progress("comparing", options) as progress:
            done = maintenance.audit(
                maintenance.chosen("all"),
                sample=options["sample"],
                repair=options["repair"],
                progress=progress,
            )
        left = sum(each.wrong - each.repaired for each in done)
        return Report(data=_data(done, left), lines=_lines(done), trouble=_trouble(left))


def _trouble(left: int) -> str:
    return f"{left:,} entries are stale or corrupt. --repair mends them." if left else ""


def _data(done: list[Audited], left: int) -> dict[str, Any]:
    services = [{"service": each.service, **_members([each])} for each in done]
    return {**_members(done), "left": left, "services": services}


def _members(done: list[Audited]) -> dict[str, Any]:
    """The counts of some services together."""
    counts = {("inSync" if v == "in sync" else v): _sum(done, v) for v in VERDICTS}
    repaired = sum(each.repaired for each in done)
    return {**counts, "repaired": repaired, "consistency": consistency(done)}


def _sum(done: list[Audited], verdict: Verdict) -> int:
    return sum(each.counts[verdict] for each in done)


def _lines(done: list[Audited]) -> list[str]:
    header = ("", *VERDICTS, "repaired", "consistency")
    named = [*((each.service, [each]) for each in done), ("together", done)]
    return columns([header, *(_row(name, some) for name, some in named)])


def _row(name: str, done: list[Audited]) -> tuple[object, ...]:
    repaired = sum(each.repaired for each in done)
    return (name, *(_sum(done, verdict) for verdict in VERDICTS), repaired, _percent(done))


def _percent(done: list[Audited]) -> str:
    """Rounded down: 100 % means that nothing is wrong."""
    return f"{int(consistency(done) * 1_000_000) / 10_000:.4f} %"
