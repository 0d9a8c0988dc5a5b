"""`manage.py canvas_persist`."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from aevon.cache.management.base import MaintenanceCommand, Report, add_dry_run, columns
from canvas import services

# What is postponed is so in flushes that have to end in time.
SHOWN = ("persisted", "unchanged", "lost", "refused", "left")


class Command(MaintenanceCommand):
    help = (
        "Write every canvas that changed since the last flush from the cache into PostgreSQL, "
        "now, as the scheduled task does. Harmless at any time, beside the scheduled one too, "
        "and may be stopped at any moment. Exit code 1 if a canvas could not be saved."
    )
    examples = """\
  manage.py canvas_persist            before maintenance of the cache server
  manage.py canvas_persist --dry-run  how many canvases there are to save
  manage.py canvas_persist --json     a report for machines
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_dry_run(parser, "only count what would be saved")

    def run(self, **options: Any) -> Report:
        dry_run = options["dry_run"]
        persist = services.would_persist if dry_run else services.persist_now
        with self.progress("counting" if dry_run else "persisting", options) as progress:
            progress.start("canvas", lambda: services.unsaved().unsaved)
            flushed = persist(progress=progress.advance)
        counts = asdict(flushed)
        lines = columns([(name, counts[name]) for name in SHOWN])
        return Report(
            data={"dryRun": dry_run, **counts},
            lines=["Nothing was changed. A flush would find:", *lines] if dry_run else lines,
            trouble=_trouble(flushed, dry_run=dry_run),
        )


def _trouble(flushed: services.Flushed, *, dry_run: bool) -> str:
    """What a person has to look after."""
    found = []
    if flushed.lost:
        found.append(f"{flushed.lost:,} unsaved canvases are gone from the cache.")
    if flushed.refused:
        found.append(f"{flushed.refused:,} canvases are refused by PostgreSQL and stay unsaved.")
    if flushed.left and not dry_run:  # which looks once, and a flush tries for a moment
        found.append(
            f"{flushed.left:,} canvases stay unsaved: somebody holds or keeps changing their rows,"
            " or changes made past the cache come first (cache_listen --once)."
        )
    return " ".join(found)
