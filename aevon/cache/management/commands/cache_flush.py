"""`manage.py cache_flush`."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from aevon.cache import maintenance
from aevon.cache.management.base import (
    MaintenanceCommand,
    Report,
    add_dry_run,
    add_service,
    add_users,
    columns,
    users_of,
)


class Command(MaintenanceCommand):
    help = (
        "Remove the project's own keys from the cache: psyche:, session:, convo_history: and "
        "canvas:{userId}, and nothing else that the server holds. Readers find everything again "
        "in PostgreSQL. Unsaved canvases are persisted first; one that PostgreSQL does not take "
        "stays, and the command then ends with exit code 1."
    )
    examples = """\
  manage.py cache_flush --dry-run                        how many keys there are to remove
  manage.py cache_flush                                  all of them
  manage.py cache_flush --service session --users 7      one user's session key
  manage.py cache_flush --service canvas --discard-unsaved
                            after a restore of PostgreSQL: what is unsaved is lost
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_service(parser)
        add_users(parser)
        add_dry_run(parser, "only count what would be removed")
        parser.add_argument(
            "--discard-unsaved",
            action="store_true",
            help="throw away canvas changes that are not in PostgreSQL yet",
        )

    def run(self, **options: Any) -> Report:
        users = users_of(options)
        with self.progress("flushing", options) as progress:
            maintenance.flush(
                maintenance.chosen(options["service"]),
                users,
                dry_run=options["dry_run"],
                discard_unsaved=options["discard_unsaved"],
                progress=progress,
                done=self.done,
            )
        return self.report(options)

    def report(self, options: dict[str, Any]) -> Report:
        done, dry_run = self.done, options["dry_run"]
        removed, kept = sum(each.removed for each in done), sum(each.kept for each in done)
        header = ("", "would be removed" if dry_run else "removed", "kept, unsaved")
        return Report(
            data={
                "dryRun": dry_run,
                "removed": removed,
                "kept": kept,
                "services": [asdict(each) for each in done],
            },
            lines=columns([header, *((e.service, e.removed, e.kept) for e in done)]),
            trouble=_trouble(kept, dry_run=dry_run),
        )


def _trouble(kept: int, *, dry_run: bool) -> str:
    if not kept:
        return ""
    could = (
        "are refused by PostgreSQL and would stay" if dry_run else "could not be persisted and stay"
    )
    return f"{kept:,} canvases {could}."
