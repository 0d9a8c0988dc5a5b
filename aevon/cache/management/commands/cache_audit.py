"""`manage.py cache_audit`."""

from typing import Any, Final, get_args

from django.core.management.base import CommandParser

from aevon.cache import maintenance
from aevon.cache.maintenance import Audited, consistency
from aevon.cache.management.base import (
    MaintenanceCommand,
    Report,
    add_dry_run,
    columns,
    positive,
)
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
  manage.py cache_audit --repair --dry-run     how much of it that would mend
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
        add_dry_run(parser, "with --repair, only count what it would mend")

    def run(self, **options: Any) -> Report:
        with self.progress("comparing", options) as progress:
            maintenance.audit(
                maintenance.chosen("all"),
                sample=options["sample"],
                repair=options["repair"],
                dry_run=options["dry_run"],
                progress=progress,
                done=self.done,
            )
        return self.report(options)

    def report(self, options: dict[str, Any]) -> Report:
        return Report(
            data={"dryRun": options["dry_run"], **_data(self.done)},
            lines=_lines(self.done, dry_run=options["dry_run"]),
            trouble=_trouble(self.done, options),
        )


def _trouble(done: list[Audited], options: dict[str, Any]) -> str:
    wrong, left = sum(each.wrong for each in done), _left(done)
    count = wrong if options["dry_run"] else left
    if not count:
        return ""
    if not options["repair"]:
        advice = "--repair mends them."
    elif options["dry_run"]:
        advice = f"--repair would mend {wrong - left:,}."
    else:
        advice = "Try again, and look at one with `manage.py cache_inspect`."
    keys = ", ".join(key for each in done for key in _keys(each))
    such_as = f", such as {keys}" if keys else ""
    return f"{count:,} entries are stale or corrupt{such_as}. {advice}"


def _keys(audited: Audited) -> list[str]:
    """A few of the keys that are wrong still."""
    return [f"{audited.service}:{user_id}" for user_id in audited.examples]


def _left(done: list[Audited]) -> int:
    return sum(each.wrong - each.repaired for each in done)


def _data(done: list[Audited]) -> dict[str, Any]:
    services = [
        {"service": each.service, **_members([each]), "examples": _keys(each)} for each in done
    ]
    return {**_members(done), "left": _left(done), "services": services}


def _members(done: list[Audited]) -> dict[str, Any]:
    """The counts of some services together."""
    counts = {("inSync" if v == "in sync" else v): _sum(done, v) for v in VERDICTS}
    repaired = sum(each.repaired for each in done)
    return {**counts, "repaired": repaired, "consistency": consistency(done)}


def _sum(done: list[Audited], verdict: Verdict) -> int:
    return sum(each.counts[verdict] for each in done)


def _lines(done: list[Audited], *, dry_run: bool) -> list[str]:
    repaired = "would be repaired" if dry_run else "repaired"
    header = ("", *VERDICTS, repaired, "consistency")
    named = [*((each.service, [each]) for each in done), ("together", done)]
    return columns([header, *(_row(name, some) for name, some in named)])


def _row(name: str, done: list[Audited]) -> tuple[object, ...]:
    repaired = sum(each.repaired for each in done)
    return (name, *(_sum(done, verdict) for verdict in VERDICTS), repaired, _percent(done))


def _percent(done: list[Audited]) -> str:
    """Rounded down: 100 % means that nothing is wrong."""
    return f"{int(consistency(done) * 1_000_000) / 10_000:.4f} %"
