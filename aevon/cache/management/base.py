"""What the maintenance commands share: JSON, progress, plain errors, exit codes."""

import contextlib
import json
import os
import signal
import sys
import textwrap
import threading
import time
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)
from django.db import DatabaseError, InterfaceError, OperationalError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from aevon.cache.connection import CacheError, CacheUnavailable
from aevon.cache.keyspace import REGISTRY, InvalidKey
from aevon.cache.maintenance import Progress, Unwatched
from aevon.cache.shown import duration
from aevon.cache.user_ranges import UserRanges, parse_users

INTERRUPTED: Final = 130
TERMINATED: Final = 143
PLAIN_LINE_SECONDS: Final = 5.0
HELP_WIDTH: Final = 78
STOPPED: Final = "Stopped. What was done so far is complete and consistent."
HOW_TO_START: Final = "Start `make run` in another terminal, or set {}."


@dataclass(frozen=True, slots=True)
class Report:
    """What a command found: `data` for machines, `lines` for people. `trouble` is the sentence
    that goes with exit code 1; empty when all is well."""

    data: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    trouble: str = ""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is how a container or a supervisor ends a command."""


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Leaves the examples' lines as they are written."""


class MaintenanceCommand(BaseCommand):
    """A command that works through users and reports at the end.

    Subclasses set `help` and `examples` and write `run(**options)`. Exit code 0, or 1 with a
    sentence on stderr; 130 after Ctrl-C, 143 after SIGTERM. stdout carries the report, which with
    `--json` is one JSON object; progress goes to stderr, and `--verbosity 0` leaves it out.
    """

    examples = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.done: list[Any] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(
            prog_name,
            subcommand,
            formatter_class=_HelpFormatter,
            epilog=f"examples:\n{self.examples}" if self.examples else None,
            **kwargs,
        )
        parser.description = textwrap.fill(self.help, HELP_WIDTH)
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object instead of text"
        )

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except SystemExit as end:
            # argparse ends with 2; these commands know 0 and 1.
            sys.exit(1 if end.code == 2 else end.code)
        except BrokenPipeError:
            # Whoever read this (`| head`) has gone; the flush at exit must not fail once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    def handle(self, *_: Any, **options: Any) -> None:
        started = time.monotonic()
        self.done.clear()
        with _sigterm() as is_over:
            try:
                with plain_errors():
                    report = self.run(**options)
                is_over()
            except CommandError as error:
                is_over()
                raise self._failed(str(error), options, error.__cause__) from error
            except KeyboardInterrupt as end:
                is_over()
                self.stderr.write(str(self._failed(STOPPED, options, end)))
                sys.exit(TERMINATED if isinstance(end, Terminated) else INTERRUPTED)
            self._show(report, time.monotonic() - started, options)

    def _failed(
        self, sentence: str, options: dict[str, Any], cause: BaseException | None
    ) -> CommandError:
        """What to say, in JSON at once; with the command that goes on, where there is one."""
        so_far = self.so_far(options, cause)
        report = self.report(options) if self.done else Report({})
        if options["json"]:
            self.stdout.write(json.dumps({"error": sentence, **report.data, **so_far}))
        else:
            self._print(report.lines)
        go_on = so_far.get("goOn")
        return CommandError(f"{sentence}\nTo go on from here: {go_on}" if go_on else sentence)

    def so_far(
        self,
        options: dict[str, Any],  # noqa: ARG002
        cause: BaseException | None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """What else a run that was stopped, or has failed of that `cause`, has to tell machines;
        `goOn` is the command that goes on from there."""
        return {}

    def run(self, **options: Any) -> Report:
        """Do the work, and report. What may be stopped in the middle adds to `done` as it goes,
        of which `report` tells."""
        raise NotImplementedError

    def report(self, options: dict[str, Any]) -> Report:
        """What has been done, all of it or so far."""
        raise NotImplementedError

    def _show(self, report: Report, seconds: float, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({**report.data, "seconds": round(seconds, 3)}))
        else:
            self._print([*report.lines, f"Took {seconds:.1f} s."])
        if report.trouble:
            raise CommandError(report.trouble)

    def _print(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.stdout.write(self._printable(line))

    def _printable(self, text: str) -> str:
        """The text with `\\u…` for what the terminal's encoding does not have."""
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    @contextlib.contextmanager
    def progress(self, what: str, options: dict[str, Any]) -> Iterator[Progress]:
        """On stderr: a bar on a terminal; elsewhere a line now and then, and none beside JSON."""
        if options["verbosity"] == 0:
            yield Unwatched()
        elif sys.stderr.isatty():
            with RichProgress(*_COLUMNS, console=Console(stderr=True)) as bar:
                yield _Bar(bar, what)
        else:
            yield Unwatched() if options["json"] else _Lines(self.stderr.write, what)


class _RateColumn(ProgressColumn):
    """Users per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


_COLUMNS: Final = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    _RateColumn(),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)


class _Bar:
    """A progress bar per keyspace."""

    def __init__(self, bar: RichProgress, what: str) -> None:
        self._bar = bar
        self._what = what

    def start(self, service: str, count: Callable[[], int] | None) -> None:
        total = count() if count is not None else None
        self._task = self._bar.add_task(f"{self._what} {service}", total=total)

    def advance(self, users: int) -> None:
        self._bar.advance(self._task, users)


class _Lines:
    """A line now and then."""

    def __init__(self, write: Callable[[str], object], what: str) -> None:
        self._write = write
        self._what = what
        self._written_at = time.monotonic()

    def start(self, service: str, count: Callable[[], int] | None) -> None:
        self._service, self._done, self._began = service, 0, time.monotonic()
        # Counted when somebody is to see it: most runs end before.
        self._count, self._total = count, 0

    def advance(self, users: int) -> None:
        self._done += users
        now = time.monotonic()
        if now - self._written_at >= PLAIN_LINE_SECONDS:
            self._written_at = now
            if self._count is not None and not self._total:
                self._total = self._count()
            self._write(f"{self._what} {self._service}: {self._told(now - self._began)}")

    def _told(self, seconds: float) -> str:
        """`1,000 of 4,000 (25 %), 500/s, 6 s left`."""
        rate = self._done / max(seconds, 0.001)
        if self._total < self._done:
            return f"{self._done:,} so far, {rate:,.0f}/s"
        share = f"{self._done:,} of {self._total:,} ({100 * self._done // self._total} %)"
        return f"{share}, {rate:,.0f}/s, {duration((self._total - self._done) / rate)} left"


@contextlib.contextmanager
def _sigterm() -> Iterator[Callable[[], object]]:
    """SIGTERM ends the block as Ctrl-C does, but not once the work is over, which the block tells
    by a call: a report that is cut off in the middle, or never written, is none."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)
    finally:
        try:
            sys.stdout.flush()
        finally:
            signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what a person can do something about into one sentence (`CommandError`)."""
    try:
        yield
    except InvalidKey as error:
        raise CommandError(str(error)) from error
    except CacheUnavailable as error:
        _fail("The cache cannot be reached", error, HOW_TO_START.format("DRAGONFLY_URL"))
    except CacheError as error:
        _fail("The cache refused a call", error, "Nothing else was touched.")
    except (OperationalError, InterfaceError) as error:
        _fail("PostgreSQL cannot be reached", error, HOW_TO_START.format("DATABASE_URL"))
    except DatabaseError as error:
        _fail("PostgreSQL refused", error, "Has `manage.py migrate` been run?")


def _fail(what: str, error: Exception, advice: str) -> NoReturn:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise CommandError(f"{what}: {reason}\n{advice}") from error


def add_service(parser: CommandParser) -> None:
    """`--service`."""
    parser.add_argument(
        "--service",
        choices=[*REGISTRY, "all"],
        default="all",
        help="which keys, by the first part of their name (default: all)",
    )


def add_dry_run(parser: CommandParser, what: str) -> None:
    """`--dry-run`."""
    parser.add_argument(
        "--dry-run", action="store_true", help=f"change nothing: {what}, as far as one can see"
    )


def add_users(parser: CommandParser) -> None:
    """`--users`."""
    parser.add_argument(
        "--users",
        metavar="1,2,5-9",
        help="only these users: ids and ranges, comma-separated, no spaces (default: everybody)",
    )


def users_of(options: dict[str, Any]) -> UserRanges | None:
    """The users that `--users` names; None for everybody. Raises `InvalidKey`."""
    return None if options["users"] is None else parse_users(options["users"])


def positive(text: str) -> int:
    """An argparse type: a whole number of 1 … 1,000,000."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 7 else 0
    if not 1 <= number <= 1_000_000:
        raise ValueError
    return number


positive.__name__ = "whole number from 1 to 1,000,000"


def columns(rows: Sequence[Sequence[object]]) -> list[str]:
    """Rows as lines: the first column flush left, the others right; whole numbers with commas."""
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [_line(row, widths) for row in texts]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)])
