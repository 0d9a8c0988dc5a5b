"""`manage.py cache_warmup`."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from aevon.cache import maintenance
from aevon.cache.maintenance import Warmed
from aevon.cache.management.base import (
    MaintenanceCommand,
    Report,
    add_service,
    add_users,
    columns,
    positive,
    users_of,
)


class Command(MaintenanceCommand):
    help = (
        "Load PostgreSQL's rows into the cache, so that the first readers after a restart or a "
        "flush find it warm. Entries that are there stay as they are; nothing newer is ever "
        "overwritten. May be stopped and run again at any time."
    )
    examples = """\
  manage.py cache_warmup                                 everything, for everybody
  manage.py cache_warmup --service psyche                only psyche:{userId}
  manage.py cache_warmup --service psyche --users 1,2,5-9
  manage.py cache_warmup --batch 2000 --json             bigger steps; a report for machines
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_service(parser)
        add_users(parser)
        parser.add_argument(
            "--batch",
            type=positive,
            default=maintenance.BATCH,
            metavar="N",
            help=f"users per step (default: {maintenance.BATCH})",
        )

    def run(self, **options: Any) -> Report:
        users = users_of(options)
        with self.progress("warming", as_json=options["json"]) as progress:
            done = maintenance.warm_up(
                maintenance.chosen(options["service"]),
                users,
                batch=options["batch"],
                progress=progress,
            )
        failed = sum(each.failed for each in done)
        return Report(
            data={
                "cached": sum(each.cached for each in done),
                "loaded": sum(each.loaded for each in done),
                "failed": failed,
                "services": [asdict(each) for each in done],
            },
            lines=columns(_table(done)),
            trouble=f"{failed:,} rows could not be cached. Is the cache full?" if failed else "",
        )


def _table(done: list[Warmed]) -> list[tuple[object, ...]]:
    header = ("", "users with rows", "cached now", "loaded by this run", "failed")
    return [header, *((e.service, e.users, e.cached, e.loaded, e.failed) for e in done)]
