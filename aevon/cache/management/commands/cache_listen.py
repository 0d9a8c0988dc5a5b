"""`manage.py cache_listen`."""

import signal
import threading
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser

from aevon.cache import outbox, processes, resources
from aevon.cache.listener import listen
from aevon.cache.management.base import MaintenanceCommand, Report, add_dry_run

LOOK_SECONDS: Final = 0.2
STOP_SECONDS: Final = 1.0


class Command(MaintenanceCommand):
    help = (
        "Make the cache follow what is written to PostgreSQL past the application, with psql or "
        "by another service: an entry whose rows have changed is corrected or removed within a "
        "second. Runs until Ctrl-C or SIGTERM, through outages of both servers. Run at least one "
        "of it; two are harmless."
    )
    examples = """\
  manage.py cache_listen                      beside the web server, as a process of its own
  manage.py cache_listen --once               correct what waits now, and end
  manage.py cache_listen --once --dry-run     how many entries that would be
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--once",
            action="store_true",
            help="do not listen: correct what waits, and exit 1 if anything is left",
        )
        add_dry_run(parser, "with --once, only count what waits")

    def run(self, **options: Any) -> Report:
        if options["dry_run"] and not options["once"]:
            raise CommandError("--dry-run counts what waits now: say --once --dry-run.")
        if options["once"]:
            return _would_drain() if options["dry_run"] else _drain()
        if not options["json"]:
            self.stdout.write("Listening for changes in PostgreSQL. Ctrl-C ends it.")
            self.stdout.flush()
        processes.start("listener")
        _listen_until_told()
        return Report(data={"stopped": True}, lines=["Stopped."])


def _drain() -> Report:
    return _report(resources.repair_waiting(), outbox.depth(), dry_run=False)


def _would_drain() -> Report:
    waiting = outbox.waiting()
    known = sum(waiting.get(each.keyspace.name, 0) for each in resources.resources())
    return _report(known, sum(waiting.values()) - known, dry_run=True)


def _report(repaired: int, left: int, *, dry_run: bool) -> Report:
    done = "would be corrected" if dry_run else "corrected"
    return Report(
        data={"dryRun": dry_run, "repaired": repaired, "left": left},
        lines=[f"{repaired:,} entries {done}, {left:,} left."],
        trouble=f"{left:,} entries could not be corrected yet." if left else "",
    )


def _listen_until_told() -> None:
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: told.append(number))
    stop = threading.Event()
    # A thread that can be left behind: a frozen server must not keep the process from ending.
    thread = threading.Thread(target=listen, args=[stop], daemon=True)
    thread.start()
    while thread.is_alive() and not told:
        # Now and then, because a signal does not always wake who is about to wait.
        thread.join(LOOK_SECONDS)
    if not told:
        raise CommandError("The listener has ended by itself, which is a bug: see above.")
    stop.set()
    thread.join(STOP_SECONDS)
