"""The maintenance commands: options, output, exit codes, as a person and as a program see them."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.db import DatabaseError, OperationalError, connection

from aevon.cache import (
    CacheError,
    cache_aside,
    flush,
    maintenance,
    outbox,
    resources,
    write_behind,
)
from aevon.cache.connection import store
from aevon.cache.keyspace import PSYCHE
from aevon.cache.maintenance import Audited
from aevon.cache.management import base
from aevon.cache.management.base import columns, plain_errors
from aevon.cache.management.commands import cache_audit
from tests.cache import ledgers
from tests.cache.entry_states import life, put
from tests.cache.ledgers import POISON, SHEETS, add_lines, add_notes
from tests.servers import ROOT, database_url

COMMANDS = (
    *("cache_warmup", "cache_flush", "cache_audit", "cache_inspect", "cache_stats"),
    "cache_listen",
)
BAD_USERS = ("*", "1 2", "1\n", "{x}", "../", "9" * 10_240, "0", "-1", "5-2")

Run = Callable[..., str]
pytestmark = pytest.mark.django_db


@pytest.fixture
def services(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own rows stand behind the keys."""
    registry = {resource.keyspace.name: resource for resource in ledgers.ALL}
    monkeypatch.setattr(resources, "_registry", registry)


@pytest.fixture
def run(services: None) -> Run:
    """`run("cache_audit", "--sample", "3")`: what the command prints."""

    def call(*arguments: str) -> str:
        out = io.StringIO()
        try:
            call_command(*arguments, stdout=out)
        except CommandError as error:
            error.printed = out.getvalue()  # type: ignore[attr-defined]
            raise
        return out.getvalue()

    return call


def unsaved(user_id: int, text: str = "unsaved") -> None:
    """A document that PostgreSQL does not have yet."""
    write_behind.update(
        SHEETS, user_id, lambda s: ledgers.Sheet(user_id=user_id, text=text, revision=s.revision)
    )


def put_stale_psyche() -> None:
    """A cached value that differs from its row."""
    add_notes(1)
    put("psyche:1", {"userId": 1, "text": "by hand", "version": 1})


# --- what each prints --------------------------------------------------------------------------


def test_warmup_prints_a_line_per_service(run: Run) -> None:
    """With counts, and how long it took."""
    add_notes(1, 2, 3)
    lines = run("cache_warmup").splitlines()
    assert lines[1].split() == ["psyche", "3", "3", "3", "0", "0"]
    assert lines[-1].startswith("Took ")


def test_warmup_loads_only_what_it_is_told_to(run: Run) -> None:
    """Service, users and batch."""
    add_notes(1, 2, 3)
    add_lines(1, 1)
    report = json.loads(
        run("cache_warmup", "--service", "psyche", "--users", "2-9", "--batch", "1", "--json")
    )
    assert report["services"] == [
        {"service": "psyche", "users": 2, "cached": 2, "loaded": 2, "busy": 0, "failed": 0}
    ]
    assert set(store().scan("*")) == {"psyche:2", "psyche:3"}


def test_warmup_fails_when_rows_could_not_be_cached(run: Run) -> None:
    """A full cache."""
    add_notes(1)
    store().command("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(CommandError, match="1 rows could not be cached"):
            run("cache_warmup")
    finally:
        store().command("CONFIG", "SET", "maxmemory", 0)


def test_flush_reports_what_it_removed(run: Run) -> None:
    """And with --dry-run what it would remove, touching nothing."""
    add_notes(1, 2)
    run("cache_warmup")
    counted = json.loads(run("cache_flush", "--dry-run", "--json"))
    assert (counted["dryRun"], counted["services"][0]["removed"]) == (True, 2)
    assert "would be removed" in run("cache_flush", "--dry-run")
    assert "removed" in run("cache_flush", "--service", "psyche")
    assert list(store().scan("*")) == []


def test_flush_fails_when_an_unsaved_canvas_had_to_stay(run: Run) -> None:
    """Told to discard it, it goes."""
    unsaved(4, POISON)
    with pytest.raises(CommandError, match="1 canvases could not be persisted and stay"):
        run("cache_flush")
    run("cache_flush", "--discard-unsaved")
    assert list(store().scan("*")) == []


def test_audit_of_a_sound_cache_succeeds(run: Run) -> None:
    """Consistency 1."""
    add_notes(1, 2)
    run("cache_warmup")
    report = json.loads(run("cache_audit", "--json"))
    assert (report["consistency"], report["left"]) == (1.0, 0)
    assert report["services"][0]["inSync"] == 2
    assert report["inSync"] == 2
    assert run("cache_audit").splitlines()[-2].split()[-2:] == ["100.0000", "%"]


def test_audit_fails_while_anything_is_stale(run: Run) -> None:
    """The report is printed all the same; --repair mends it."""
    put_stale_psyche()
    with pytest.raises(CommandError, match="1 entries are stale or corrupt") as failure:
        run("cache_audit", "--json")
    report = json.loads(failure.value.printed)  # type: ignore[attr-defined]
    assert (report["consistency"], report["stale"], report["left"]) == (0.0, 1, 1)
    assert json.loads(run("cache_audit", "--repair", "--json"))["services"][0]["repaired"] == 1
    assert json.loads(run("cache_audit", "--json"))["left"] == 0


def test_audit_never_rounds_up_to_fully_consistent(run: Run) -> None:
    """100 % means that nothing is wrong."""
    audited = Audited("psyche", Counter({"in sync": 99_999_999, "stale": 1}))
    assert cache_audit._percent([audited]) == "99.9999 %"


def test_audit_of_a_sample_is_limited(run: Run) -> None:
    """--sample 2."""
    add_notes(*range(1, 10))
    report = json.loads(run("cache_audit", "--sample", "2", "--json"))
    assert report["services"][0]["missing"] == 2


def test_inspect_shows_both_sides(run: Run) -> None:
    """Key, type, lifetime, verdict, cached value and row."""
    put_stale_psyche()
    unsaved(1)
    outbox.add(PSYCHE, [1])
    psyche, canvas, history = json.loads(run("cache_inspect", "1", "--json"))["entries"]
    assert psyche["cached"].pop("_incarnation") == life().incarnation
    assert psyche["cached"] == {"userId": 1, "text": "by hand", "version": 1}
    assert psyche["postgresql"] == {"userId": 1, "text": "a", "version": 1}
    assert (psyche["verdict"], psyche["waitingInOutbox"]) == ("stale", True)
    assert (canvas["verdict"], canvas["ttlSeconds"], canvas["postgresql"]) == (
        "unsaved",
        None,
        None,
    )
    assert (history["verdict"], history["type"]) == ("absent", "none")


def test_inspect_is_readable(run: Run) -> None:
    """Lifetimes and JSON for people."""
    add_notes(1)
    run("cache_warmup")
    unsaved(1)
    assert "psyche:1  (in sync)" in run("cache_inspect", "1")
    outbox.add(PSYCHE, [1])
    assert "psyche:1  (in sync; the outbox" in run("cache_inspect", "1")
    outbox.drain({"psyche": ledgers.NOTE_RESOURCE.observe})
    run("cache_warmup")
    text = run("cache_inspect", "1")
    assert "psyche:1  (in sync)" in text
    assert re.search(r"lifetime    2[1-3] h \d+ min left", text)
    assert "without end" in text
    assert "no key" in text
    assert '"text": "unsaved"' in text


def test_inspect_shows_whatever_is_under_a_key(run: Run) -> None:
    """Bytes that are no JSON, and a type that nobody expects."""
    store().command("SET", "psyche:1", b"\xff\xfe")
    store().command("SADD", "canvas:1", "a")
    psyche, canvas, _ = json.loads(run("cache_inspect", "1", "--json"))["entries"]
    assert (psyche["verdict"], psyche["cached"]) == ("corrupt", "not JSON: 2 bytes")
    assert (canvas["verdict"], canvas["type"]) == ("corrupt", "set")


def test_stats_tells_what_matters(run: Run) -> None:
    """Server, memory, unsaved documents and their age, outbox, breaker."""
    unsaved(1)
    outbox.add(PSYCHE, [1, 2])
    stats = json.loads(run("cache_stats", "--keys", "--json"))
    assert stats["server"]["software"] in ("Redis", "Dragonfly")
    assert stats["server"]["memoryUsed"] > 0
    assert stats["unsaved"]["canvas"]["documents"] == 1
    assert 0 <= stats["unsaved"]["canvas"]["oldestSeconds"] < 60
    assert (stats["outbox"], stats["breaker"], stats["entries"]["canvas"]) == (2, "closed", 1)


def test_stats_is_readable(run: Run) -> None:
    """One line per fact."""
    unsaved(1)
    text = run("cache_stats", "--keys")
    for word in ("server ", "memory ", "no limit", "hit rate ", "canvas: 1, the oldest for 0 s"):
        assert word in text
    assert "last flush  canvas: none yet" in text
    assert "closed (this process)" in text


def test_stats_tells_of_the_last_flush(run: Run) -> None:
    """Whichever process ran it; and of what PostgreSQL does not take."""
    unsaved(1)
    unsaved(2, POISON)
    flush.flush(SHEETS)
    told = json.loads(run("cache_stats", "--json"))["unsaved"]["canvas"]
    assert (told["documents"], told["refused"]) == (1, 1)
    assert (told["lastFlush"]["refused"], told["lastFlush"]["failed"]) == (1, 0)
    text = run("cache_stats")
    assert "1 refused by PostgreSQL" in text
    assert "s ago, 1 persisted, 1 refused in 0." in text
    assert "last day    canvas: 1 flushes, 1 persisted, 0 failed" in text
    # More than are kept, at ten seconds from each to the next: a day is not on record any more.
    [raw] = store().command("LRANGE", RECENT, 0, 0)
    began = [time.time() - 10 * n for n in range(1, flush.KEPT + 1)]
    every = [json.dumps({**json.loads(raw), "began": repr(at)}) for at in began]
    store().pipeline([("DEL", RECENT), ("RPUSH", RECENT, *every)])
    day = json.loads(run("cache_stats", "--json"))["day"]
    assert day["flushes"] == {"canvas": flush.KEPT}
    assert day["flushesSince"] == {"canvas": pytest.approx(began[-1])}
    assert re.search(r"canvas: 300 flushes in 5\d min( \d+ s)?, as recorded, ", run("cache_stats"))


RECENT = "canvas:flush:recent"


def test_stats_reads_the_counters_that_processes_share(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A command serves nobody itself: it reads PROMETHEUS_MULTIPROC_DIR."""
    count = (
        "from aevon.cache.metrics import LOADS\n"
        "LOADS.labels('psyche', 'hit').inc(3); LOADS.labels('psyche', 'miss').inc(1)\n"
        "LOADS.labels('psyche', 'away').inc(9)"
    )
    shared = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", count], env=shared, cwd=ROOT, check=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    loads = json.loads(run("cache_stats", "--json"))["loads"]
    assert loads == {"psyche": {"hit": 3, "miss": 1, "away": 9, "hitRate": 0.75}}
    assert "psyche: 75.0% hits (9 away, 3 hit, 1 miss)" in run("cache_stats")


def test_stats_without_shared_counters_says_where_to_look(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No made-up hit rate."""
    monkeypatch.setattr("aevon.cache.stats.loads", dict)
    assert json.loads(run("cache_stats", "--json"))["loads"] is None
    assert "see /metrics" in run("cache_stats")


# --- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("users", BAD_USERS)
@pytest.mark.parametrize("command", ["cache_warmup", "cache_flush"])
def test_users_that_are_no_ids_are_refused_and_nothing_is_touched(
    run: Run, command: str, users: str
) -> None:
    """faults.md, table B."""
    put_stale_psyche()
    before = store().info()["total_commands_processed"]
    with pytest.raises(CommandError, match=r"user|users|range"):
        run(command, f"--users={users}")
    assert store().info()["total_commands_processed"] == before + 1  # the INFO itself


@pytest.mark.parametrize("user", BAD_USERS)
def test_inspect_refuses_a_user_that_is_no_id(run: Run, user: str) -> None:
    """faults.md, table B."""
    with pytest.raises(CommandError, match="Not a user id") as refusal:
        run("cache_inspect", "--", user)
    assert len(str(refusal.value)) < 100


@pytest.mark.parametrize(
    "arguments",
    [
        ("cache_warmup", "--batch", "0"),
        ("cache_warmup", "--batch", "1e3"),
        ("cache_audit", "--sample", "-3"),
        ("cache_audit", "--sample", "1000001"),
        ("cache_flush", "--service", "django"),
    ],
)
def test_an_option_out_of_range_is_refused(run: Run, arguments: tuple[str, ...]) -> None:
    """By name."""
    with pytest.raises(CommandError, match=arguments[1]):
        run(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [("cache_warmup",), ("cache_flush",), ("cache_audit",), ("cache_inspect", "1")],
)
def test_a_cache_that_is_away_is_said_in_one_sentence(
    run: Run, away: None, arguments: tuple[str, ...]
) -> None:
    """And what to do about it; with --json as JSON."""
    add_notes(1)
    with pytest.raises(CommandError, match=r"The cache cannot be reached: .*\n.*DRAGONFLY_URL"):
        run(*arguments)
    with pytest.raises(CommandError) as failure:
        run(*arguments, "--json")
    assert "cannot be reached" in json.loads(failure.value.printed)["error"]  # type: ignore[attr-defined]


def test_stats_of_a_cache_that_is_away_tells_the_rest(run: Run, away: None) -> None:
    """The outbox is in PostgreSQL."""
    outbox.add(PSYCHE, [1])
    with pytest.raises(CommandError, match=r"The cache cannot be reached\.") as failure:
        run("cache_stats", "--json")
    stats = json.loads(failure.value.printed)  # type: ignore[attr-defined]
    assert (stats["server"], stats["unsaved"], stats["outbox"]) == (None, None, 1)
    with pytest.raises(CommandError) as failure:
        run("cache_stats")
    assert "server      not reachable" in failure.value.printed  # type: ignore[attr-defined]


def test_stats_without_postgresql_tells_the_rest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is still described."""

    def refuse() -> None:
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(connection, "cursor", refuse)
    with pytest.raises(CommandError, match=r"^PostgreSQL cannot be reached\.") as failure:
        run("cache_stats", "--json")
    assert json.loads(failure.value.printed)["server"]["memoryUsed"] > 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OperationalError("no route\nto host"), "PostgreSQL cannot be reached: no route\n"),
        (DatabaseError('relation "x" does not exist'), "migrate"),
        (CacheError("ERR wrong"), "The cache refused a call: ERR wrong"),
        (OperationalError(), "PostgreSQL cannot be reached: OperationalError"),
    ],
)
def test_an_error_becomes_a_sentence(error: Exception, sentence: str) -> None:
    """The first line of the reason, and advice."""
    with pytest.raises(CommandError) as failure, plain_errors():
        raise error
    assert sentence in str(failure.value)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_explains_every_option(command: str) -> None:
    """A newcomer finds out without the source."""
    parser = load_command_class("aevon.cache", command).create_parser("manage.py", command)
    text = parser.format_help()
    assert "examples:\n  manage.py " + command in text
    assert all(action.help for action in parser._actions if action.dest != "help")


# --- progress ----------------------------------------------------------------------------------


def test_plain_lines_tell_the_progress_where_there_is_no_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, with rate and time left; beside JSON, and with --verbosity 0, there are none."""
    monkeypatch.setattr(base, "PLAIN_LINE_SECONDS", 0)
    add_notes(*range(1, 6))
    run("cache_warmup", "--batch", "2")
    line = r"^warming psyche: 4 of 5 \(80 %\), [\d,]+/s, 0 s left$"
    assert re.search(line, capsys.readouterr().err, re.MULTILINE)
    run("cache_flush", "--service", "psyche")
    assert re.search(
        r"^flushing psyche: 5 so far, [\d,]+/s$", capsys.readouterr().err, re.MULTILINE
    )
    json.loads(run("cache_warmup", "--batch", "2", "--json"))
    run("cache_flush", "--verbosity", "0")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr, so that stdout stays what it is."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    add_notes(*range(1, 6))
    json.loads(run("cache_warmup", "--service", "psyche", "--json"))
    assert "warming psyche" in screen.getvalue()
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.getvalue())
    assert re.search(r"5/5 +([\d,]+/s)? +0:00:\d\d left 0:00:\d\d", plain)
    run("cache_flush", "--service", "psyche")
    assert "flushing psyche" in screen.getvalue()


def test_columns_are_aligned() -> None:
    """The first to the left, the others to the right, thousands apart."""
    assert columns([("", "a"), ("psyche", 1000)]) == ["            a", "psyche  1,000"]


def test_text_that_the_terminal_cannot_show_is_escaped(run: Run) -> None:
    """An ASCII terminal is no reason to stop."""
    add_notes(1, text="ΛΞVON")
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    call_command("cache_inspect", "1", stdout=out)
    out.flush()
    assert rb"\u039b" in raw.getvalue()


# --- as a process of its own -------------------------------------------------------------------


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python manage.py …` against the test's servers."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.django_db(transaction=True)
def test_a_process_prints_one_json_object_and_exits_0() -> None:
    """Nothing else on stdout."""
    done = manage("cache_audit", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["consistency"] == 1.0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "arguments",
    [("cache_inspect", "*"), ("cache_warmup", "--batch", "x")],
)
def test_a_process_with_bad_input_exits_1_without_a_traceback(arguments: tuple[str, ...]) -> None:
    """argparse's own errors, too."""
    done = manage(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert done.stderr


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "environment",
    [{"DRAGONFLY_URL": "redis://127.0.0.1:1/0"}, {"DATABASE_URL": "postgres://a@127.0.0.1:1/a"}],
)
def test_a_process_without_a_server_exits_1_without_a_traceback(
    environment: dict[str, str],
) -> None:
    """Names what cannot be reached."""
    done = manage("cache_audit", **environment)
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.django_db(transaction=True)
def test_ctrl_c_ends_a_process_with_one_line() -> None:
    """Exit code 130, nothing half done."""
    script = (
        "import sys, time\n"
        "from aevon.cache import maintenance\n"
        "maintenance.chosen = lambda _: print('ready', flush=True) or time.sleep(60)\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(['manage.py', 'cache_warmup'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", f"import django; django.setup()\n{script}"],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines() == ["Stopped. What was done so far is complete and consistent."]


@pytest.mark.django_db(transaction=True)
def test_sigterm_that_comes_when_the_work_is_over_takes_no_report_away() -> None:
    """It is told whole, and the exit code is that of the work."""
    script = (
        "import os, signal\n"
        "from aevon.cache.management.base import MaintenanceCommand\n"
        "show = MaintenanceCommand._show\n"
        "def killed(*told):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    show(*told)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "MaintenanceCommand._show = killed\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(['manage.py', 'cache_warmup', '--json'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{script}"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["users"] == 0


@pytest.mark.parametrize("as_json", [True, False])
def test_a_flush_that_is_stopped_tells_what_it_removed(
    services: None, monkeypatch: pytest.MonkeyPatch, capsys: Any, as_json: bool
) -> None:
    """In the table or the object in which a whole one does."""
    add_notes(1)
    cache_aside.load(ledgers.NOTES, 1)
    put("canvas:1", {"userId": 1, "text": "a", "revision": 1})
    remove = maintenance.emptying.remove

    def stopped(resource: Any, *arguments: Any, **options: Any) -> Any:
        if resource.keyspace.name == "canvas":
            raise KeyboardInterrupt
        return remove(resource, *arguments, **options)

    monkeypatch.setattr(maintenance.emptying, "remove", stopped)
    with pytest.raises(SystemExit, match="130"):
        call_command("cache_flush", json=as_json)
    printed = capsys.readouterr()
    if as_json:
        report = json.loads(printed.out)
        assert (report["error"][:7], report["removed"]) == ("Stopped", 1)
    else:
        assert re.search(r"^psyche +1 +0$", printed.out, re.MULTILINE)


@pytest.mark.django_db(transaction=True)
def test_a_reader_that_has_gone_ends_a_process_without_a_word() -> None:
    """`manage.py cache_stats | head -1`: exit code 1, no traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        done = subprocess.run(
            [sys.executable, "manage.py", "cache_stats"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database_url()},
            stdout=nobody,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (1, b"")
