"""`manage.py cache_warmup`."""

import shlex
from dataclasses import asdict
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser

from aevon.cache import maintenance
from aevon.cache.connection import CacheUnavailable
from aevon.cache.maintenance import Place, Progress, Restarted, Warmed, place
from aevon.cache.management.base import (
    MaintenanceCommand,
    Report,
    add_dry_run,
    add_service,
    add_users,
    columns,
    positive,
    users_of,
)
from aevon.cache.user_ranges import UserRanges

RESTARTED: Final = (
    "The cache was restarted meanwhile, and has forgotten what it was given before, or nobody "
    "believes it any more."
)

DEFAULTS: Final = {"service": "all", "users": None, "batch": maintenance.BATCH, "rate": None}


class Command(MaintenanceCommand):
    help = (
        "Load PostgreSQL's rows into the cache, so that the first readers after a restart or a "
        "flush find it warm. Entries that are there stay as they are; nothing newer is ever "
        "overwritten. May be stopped at any time, and run again: what is cached by then is passed "
        "over quickly, and --after, which is told at the end of a run that was stopped, leaves "
        "out even that."
    )
    examples = """\
  manage.py cache_warmup                                 everything, for everybody
  manage.py cache_warmup --dry-run                       how much there is to load
  manage.py cache_warmup --service psyche --users 1,2,5-9
  manage.py cache_warmup --rate 2000                     gently, beside a busy site
  manage.py cache_warmup --after psyche:500000           go on where a run was stopped
  manage.py cache_warmup --batch 2000 --json             bigger steps; a report for machines
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_service(parser)
        add_users(parser)
        parser.add_argument(
            "--after",
            metavar="KEY",
            help="go on after this user of this service, such as psyche:500000: users come in the "
            "order of their ids, and services in that of --service all",
        )
        parser.add_argument(
            "--batch",
            type=positive,
            default=maintenance.BATCH,
            metavar="N",
            help=f"users per step (default: {maintenance.BATCH})",
        )
        parser.add_argument(
            "--rate",
            type=positive,
            metavar="N",
            help="load at most N users per second (default: as fast as it goes)",
        )
        add_dry_run(parser, "only count what would be loaded")

    def run(self, **options: Any) -> Report:
        users, after, dry_run = users_of(options), _after(options), options["dry_run"]
        with self.progress("counting" if dry_run else "warming", options) as progress:
            self._warm_up(users, after, progress, options)
        return self.report(options)

    def report(self, options: dict[str, Any]) -> Report:
        dry_run = options["dry_run"]
        failed = sum(each.failed for each in self.done)
        return Report(
            data={"dryRun": dry_run, **_data(self.done)},
            lines=columns(_table(self.done, dry_run=dry_run)),
            trouble=f"{failed:,} rows could not be cached. Is the cache full?" if failed else "",
        )

    def _warm_up(
        self,
        users: UserRanges | None,
        after: Place | None,
        progress: Progress,
        options: dict[str, Any],
    ) -> None:
        try:
            maintenance.warm_up(
                maintenance.chosen(options["service"]),
                users,
                after=after,
                batch=options["batch"],
                rate=options["rate"],
                dry_run=options["dry_run"],
                progress=progress,
                done=self.done,
            )
        except Restarted as error:
            raise CommandError(RESTARTED) from error

    def so_far(self, options: dict[str, Any], cause: BaseException | None) -> dict[str, Any]:
        begun = [each for each in self.done if each.last]
        if not begun:
            return {}
        if isinstance(cause, CacheUnavailable | Restarted):
            # What was loaded may be gone: everything is looked at again.
            return {"goOn": _command(options, None)}
        after = Place(begun[-1].service, begun[-1].last)
        return {"after": str(after), "goOn": _command(options, after)}


def _after(options: dict[str, Any]) -> Place | None:
    if options["after"] is None:
        return None
    after = place(options["after"])
    if options["service"] not in ("all", after.service):
        raise CommandError(
            f"--after {after} is not a place of --service {options['service']}: nothing to go on."
        )
    return after


def _command(options: dict[str, Any], after: Place | None) -> str:
    """The command line that goes on after a place, or begins again."""
    values = {**{name: options[name] for name in DEFAULTS}, "after": after}
    given = [f"--{n}={v}" for n, v in values.items() if v is not None and v != DEFAULTS.get(n)]
    flags = [f"--{name.replace('_', '-')}" for name in ("dry_run", "json") if options[name]]
    return shlex.join(["manage.py", "cache_warmup", *flags, *given])


def _data(done: list[Warmed]) -> dict[str, Any]:
    counts = ("users", "cached", "loaded", "busy", "failed")
    total = {name: sum(getattr(each, name) for each in done) for name in counts}
    services = [{"service": each.service, **_counts(each)} for each in done]
    return {**total, "services": services}


def _counts(each: Warmed) -> dict[str, int]:
    counts = asdict(each)
    return {name: counts[name] for name in ("users", "cached", "loaded", "busy", "failed")}


def _table(done: list[Warmed], *, dry_run: bool) -> list[tuple[object, ...]]:
    if dry_run:
        header = ("", "users with rows", "cached then", "would be loaded", "busy", "failed")
    else:
        header = ("", "users with rows", "cached now", "loaded by this run", "busy", "failed")
    return [header, *((each.service, *_counts(each).values()) for each in done)]
