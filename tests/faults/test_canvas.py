"""What was drawn and acknowledged reaches PostgreSQL: without PostgreSQL for a while, with flushers
that are killed, with too many of them, and beside poison (faults 17, 19-21, 27)."""

import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import StringIO
from typing import Any, Final

import psycopg
import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.test import Client
from rest_framework.test import APIClient

from aevon.cache import CANVAS
from aevon.cache.codec import encode
from aevon.cache.connection import store
from aevon.cache.flush import Flushed
from aevon.cache.metrics import FLUSHED, FLUSHES
from aevon.embedded import CacheServer, PostgresServer
from canvas import services
from canvas.models import Canvas
from canvas.projection import CANVAS_BUFFER
from canvas.tasks import persist as persist_task
from tests import servers
from tests.cache.conftest import counted
from tests.canvas.helpers import held, patch, window
from tests.faults import drawings
from tests.faults.drawings import (
    Drawings,
    Written,
    evict,
    flush_by_hand,
    flushers,
    let_time_pass,
    lifetimes_ms,
    not_clean,
    sql,
    waits_seconds,
)
from tests.faults.witness import busy, forget_connections
from tests.klepsydra.rows import SLUG
from tests.threads import in_another_thread, in_thread
from tests.waiting import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("server")]

written = pytest.fixture(drawings.written)


# --- PostgreSQL away ---------------------------------------------------------------------------

PERIOD_SECONDS: Final = 1
CANVAS_URL: Final = "/api/v1/canvas/"


class Browser:
    """A user's, whose requests are served by threads that keep no connection."""

    def __init__(self, client: APIClient) -> None:
        self._client = client

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The response, whatever it is."""
        return in_another_thread(getattr(self._client, method), path, body, format="json")


def change_by_http(browsers: dict[int, Browser]) -> drawings.Change:
    """A change that must be acknowledged."""

    def change(user_id: int, patch: dict[str, Any]) -> int:
        answer = browsers[user_id].ask("patch", CANVAS_URL, patch)
        assert answer.status_code == 200, answer.content
        assert answer["Cache-Status"] == "Aevon; hit"
        return int(answer.json()["revision"])

    return change


def tick() -> None:
    """The flush of a period, as the worker runs it: an outage is not the task's failure."""
    persist_task()
    connection.close()
    time.sleep(PERIOD_SECONDS)


def test_postgresql_away_for_several_periods(
    postgresql: PostgresServer, make_players: Any, browser: Any, settings: Any
) -> None:
    """Cached reads and changes of canvases go on, what needs PostgreSQL is a 503; each period's
    flush fails and says so; the first one afterwards brings everything (fault 17)."""
    settings.CANVAS_PERSIST_SECONDS = PERIOD_SECONDS
    players = make_players(8)
    browsers = {user_id: Browser(browser(user_id)) for user_id in players}
    drawn = Drawings(change_by_http(browsers))
    for user_id in players[:6]:
        drawn.draw(user_id)
    services.persist_now()
    for user_id in players[:4]:
        drawn.draw(user_id)
    psyche = browsers[players[0]].ask("get", "/api/v1/klepsydra/psyche/").json()
    before = services.unsaved().unsaved
    users = itertools.cycle(players[2:6])  # nothing but its mark keeps what two have drawn
    forget_connections()
    postgresql.kill()
    with (
        counted(FLUSHES, "canvas", "failed") as failed,
        busy(lambda: drawn.draw(next(users)), tick),
    ):
        assert eventually(lambda: failed() >= 3)
        assert browsers[players[0]].ask("get", "/api/v1/klepsydra/psyche/").json() == psyche
        for answer in needing_postgresql(browsers, players):
            assert answer.status_code == 503
            assert int(answer["Retry-After"]) >= 1
    assert (before, services.unsaved().unsaved) == (4, 6)
    last = services.last_flush()
    assert last is not None
    assert (last.failed, last.counts["persisted"]) == (1, 0)
    for user_id in players[:6]:
        shown = browsers[user_id].ask("get", CANVAS_URL).json()
        assert shown["revision"] == drawn.revisions[user_id] > shown["persistedRevision"] == 1
    assert drawn.acknowledged > 20
    postgresql.start()
    persist_task()
    assert drawn.lost() == {}
    assert not_clean(players) == []
    assert (
        browsers[players[0]].ask("get", CANVAS_URL).json()["persistedRevision"]
        == (drawn.revisions[players[0]])
    )


def needing_postgresql(browsers: dict[int, Browser], players: Sequence[int]) -> Iterator[Any]:
    """The answers to an interaction, to the first look at and change of a canvas that is not in
    the cache, and to a logout, before which the canvas has to be persisted."""
    play = {"instrument": SLUG, "stake": 1}
    yield browsers[players[0]].ask("post", "/api/v1/klepsydra/interactions/", play)
    yield browsers[players[6]].ask("get", CANVAS_URL)
    yield browsers[players[6]].ask("patch", CANVAS_URL, {"microApps": {"a": window()}})
    yield browsers[players[1]].ask("post", "/api/v1/auth/logout/", {})


def ask() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_postgresql_that_comes_back_is_used_at_once(postgresql: PostgresServer) -> None:
    """The pool's pauses between its tries must not grow with the time that it was away."""
    in_another_thread(ask)
    connections.close_all()
    postgresql.stop()
    away_until = time.monotonic() + 8
    while time.monotonic() < away_until:
        with suppress(OperationalError):
            in_another_thread(ask)
    postgresql.start()
    back = time.monotonic()
    in_another_thread(ask)
    assert time.monotonic() - back < 2


# --- flushers that are killed ------------------------------------------------------------------

KILLS: Final = 100


@pytest.fixture
def kill(server: CacheServer) -> Iterator[Callable[[], str]]:
    """`kill()`: what a flusher was doing when it was killed."""
    with flushers(server) as kill:
        yield kill


def test_flusher_that_is_killed_a_hundred_times(
    kill: Any, make_players: Any, written: Written
) -> None:
    """While everybody draws, and what is saved is evicted; the next flush completes what each left,
    and nothing goes back (fault 19)."""
    players = make_players(40)
    drawn = Drawings()
    killed: Counter[str] = Counter()
    evicted: Counter[bool] = Counter()

    def draw(app_id: str) -> None:
        drawn.draw(random.choice(players), app_id)
        time.sleep(0.005)

    def make_room() -> None:
        user_id = random.choice(players)
        assert not told_too_much(user_id)
        evicted[evict(user_id)] += 1
        time.sleep(0.005)

    with busy(lambda: draw("a"), lambda: draw("b"), make_room):
        for _ in range(KILLS):
            killed[kill()] += 1
    services.persist_now()
    assert drawn.lost() == {}
    assert not_clean(players) == []
    assert written.not_rising() == {}
    assert min(killed["persists"] + killed["saves"], killed["settles"] + killed["clears"]) > 0
    assert evicted[True] > 0
    assert drawn.acknowledged > KILLS


def told_too_much(user_id: int) -> bool:
    """Whether the document says that more of it is in PostgreSQL than is."""
    said = (held(user_id) or {}).get("_persistedRevision", 0)
    row = Canvas.objects.filter(user_id=user_id).first()
    return bool(said > (row.revision if row else 0))


# --- too many flushers -------------------------------------------------------------------------


SLOWLY: Final = """
CREATE FUNCTION write_slowly() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
CREATE TRIGGER slowly BEFORE UPDATE ON canvas_canvas
FOR EACH ROW EXECUTE FUNCTION write_slowly();
"""


def timed_flush() -> tuple[float, float]:
    """When it began and ended."""
    began = time.monotonic()
    persist_task()
    return began, time.monotonic()


@pytest.fixture
def slow_postgresql() -> Iterator[None]:
    """It takes its time for every row that is written."""
    sql(SLOWLY)
    yield
    sql("DROP TRIGGER slowly ON canvas_canvas; DROP FUNCTION write_slowly()")


def test_two_beats_whose_flushes_take_longer_than_the_period(
    make_players: Any, written: Written, slow_postgresql: None
) -> None:
    """While more is drawn, and somebody holds one of the rows: each revision is written once at the
    most, and none of the flushes fails (fault 20)."""
    players = make_players(30)
    drawn = Drawings()
    for user_id in players:
        drawn.draw(user_id)
    services.persist_now()
    rows = Canvas.objects.filter(user_id__in=players).exclude(user_id=players[15])
    with ThreadPoolExecutor(8) as workers, psycopg.connect(servers.database_url()) as other:
        other.execute("SELECT FROM canvas_canvas WHERE user_id = %s FOR UPDATE", [players[15]])
        with busy(lambda: drawn.draw(random.choice(players))):
            flushes = []
            for _ in range(12):
                flushes += [workers.submit(in_thread(timed_flush)) for _beat in range(2)]
                time.sleep(0.2)
            assert rows.filter(revision__gt=1).exists()
            other.rollback()
            times = sorted(each.result() for each in flushes)
    services.persist_now()
    assert sum(ended > began for (_, ended), (began, _) in itertools.pairwise(times)) > 12
    assert drawn.lost() == {}
    assert not_clean(players) == []
    assert written.not_rising() == {}


# --- changes during a flush --------------------------------------------------------------------

SCHEDULES: Final = 10_000
MOMENTS: Final = ("read", "save", "settle", "clear")


def test_changes_between_the_steps_of_a_flush(
    make_players: Any, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was drawn after the documents were read stays unsaved, and marked with its revision;
    another flush in between changes nothing of that (fault 21)."""
    players = make_players(250)
    drawn = Drawings()

    def draw() -> None:
        for user_id in players:
            drawn.draw(user_id)

    def draw_and_flush_and_draw() -> None:
        draw()
        services.persist_now()
        draw()

    draw()
    acts = (draw, draw, draw, draw_and_flush_and_draw)
    # While the rows are held no other flush gets in.
    moments = [each for each in itertools.product(acts, MOMENTS) if each != (acts[-1], "save")]
    schedules = itertools.cycle(moments)
    for act, before in itertools.islice(schedules, SCHEDULES // len(players)):
        flush_by_hand(players, before, act, monkeypatch)
        if before == "read":
            assert drawn.lost() == {}
            draw()
        assert CANVAS_BUFFER.index.marks_of(players) == drawn.revisions
        assert set(lifetimes_ms(players).values()) == {-1}
        assert drawn.forgotten() == {}
    services.persist_now()
    assert drawn.lost() == {}
    assert not_clean(players) == []
    assert written.not_rising() == {}


# --- poison ------------------------------------------------------------------------------------

MANY: Final = 500
WORD: Final = "poison"
CHECK: Final = f"""
ALTER TABLE canvas_canvas
ADD CONSTRAINT test_poison CHECK (layout::text NOT LIKE '%{WORD}%')
"""
TRIGGER: Final = f"""
CREATE FUNCTION test_poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.layout::text LIKE '%{WORD}%' THEN
        RAISE EXCEPTION 'Not here.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER test_poison BEFORE INSERT OR UPDATE ON canvas_canvas
FOR EACH ROW EXECUTE FUNCTION test_poison()
"""
UNDO: Final = """
ALTER TABLE canvas_canvas DROP CONSTRAINT IF EXISTS test_poison;
DROP TRIGGER IF EXISTS test_poison ON canvas_canvas;
DROP FUNCTION IF EXISTS test_poison
"""


def a_nul(user_id: int) -> None:
    """A title that jsonb cannot hold, past all checks."""
    document = services.live(user_id)
    document.layout["microApps"]["a"]["title"] = "\0"
    store().command("SET", CANVAS.key(user_id), encode(document))


def a_check(user_id: int) -> None:
    """A constraint that somebody has added."""
    sql(CHECK)
    patch(user_id, a={"title": WORD})


def a_trigger(user_id: int) -> None:
    """A trigger that somebody has added."""
    sql(TRIGGER)
    patch(user_id, a={"title": WORD})


@pytest.fixture
def healthy_table(transactional_db: None) -> Iterator[None]:
    """Whatever refuses rows is removed at the end."""
    yield
    sql(UNDO)


@pytest.fixture
def no_autovacuum() -> Iterator[None]:
    """Its transactions would be counted."""
    with psycopg.connect(servers.database_url(), autocommit=True) as psql:
        psql.execute("ALTER SYSTEM SET autovacuum = off")
        psql.execute("SELECT pg_reload_conf()")
        yield
        psql.execute("ALTER SYSTEM RESET autovacuum")
        psql.execute("SELECT pg_reload_conf()")


def transactions() -> int:
    """How many have written something, since the cluster was made."""
    return int(sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")[0][0])


def told_about(caplog: pytest.LogCaptureFixture, user_id: int) -> int:
    """How often the log says whose document was refused."""
    return caplog.text.count(f"PostgreSQL refuses the document of user {user_id}\n")


@pytest.mark.usefixtures("healthy_table", "no_autovacuum")
@pytest.mark.parametrize("poison", [a_nul, a_check, a_trigger])
def test_canvas_that_postgresql_refuses(
    make_players: Any,
    poison: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
    django_assert_num_queries: Any,
) -> None:
    """The other 499 are persisted by the same flush, in few transactions; the bad one is set aside,
    tried again later, and at once when it has changed; until it heals (fault 27)."""
    players = make_players(MANY)
    bad, others = players[333], [*players[:333], *players[334:]]
    for user_id in players:
        patch(user_id, a=window())
    poison(bad)
    before = transactions()
    with counted(FLUSHED, "canvas", "refused") as refused:
        assert services.persist_in_time() == Flushed(persisted=MANY - 1, refused=1)
        assert refused() == 1
    assert transactions() - before <= 2 * math.log2(MANY) + 3
    assert Canvas.objects.filter(user_id__in=others, revision=1).count() == MANY - 1
    assert not_clean(players) == [bad]
    assert told_about(caplog, bad) == 1
    assert reported() == (1, True)

    assert 55 < waits_seconds(bad) <= 60
    with django_assert_num_queries(0):
        assert services.persist_in_time() == Flushed(postponed=1)
    let_time_pass(bad, seconds=61)
    assert services.persist_in_time() == Flushed(refused=1)
    let_time_pass(bad, seconds=1000)
    assert services.persist_in_time() == Flushed(refused=1)
    assert 1000 < waits_seconds(bad) < 1100
    for user_id in others:
        patch(user_id, b=window())
    before = transactions()
    assert services.persist_in_time() == Flushed(persisted=MANY - 1, postponed=1)
    assert transactions() - before <= 2
    patch(bad, b=window())
    assert services.persist_in_time() == Flushed(refused=1)
    assert services.persist_in_time() == Flushed(postponed=1)
    assert (told_about(caplog, bad), reported()) == (4, (1, True))

    patch(bad, a={"title": "Notes"})
    assert services.persist_in_time() == Flushed(persisted=1)
    assert not_clean(players) == []
    assert reported() == (0, False)


def reported() -> tuple[float, bool]:
    """How many refused canvases `/metrics` tells of; whether `cache_stats` tells of any."""
    out = StringIO()
    call_command("cache_stats", stdout=out)
    metrics = Client().get("/metrics").content.decode()
    (line,) = [each for each in metrics.splitlines() if each.startswith("aevon_canvas_refused ")]
    return float(line.split()[1]), "refused by PostgreSQL" in out.getvalue()
