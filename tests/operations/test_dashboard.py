"""The state of the cache in one line, and what it is made of."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from aevon.cache import PSYCHE, history, outbox
from aevon.cache.connection import store
from aevon.cache.keyspace import HISTORY, PROCESSES
from aevon.cache.models import Outbox
from aevon.cache.outbox import Backlog
from aevon.cache.processes import ROLES, SILENT_SECONDS, Reporter
from aevon.cache.stats import Server
from aevon.operations import records, troubles
from aevon.operations.figures import quarters
from aevon.operations.readings import Readings, take
from auth_sessions.models import User
from tests.aevon.telemetry.prometheus import RULES
from tests.canvas.helpers import patch, window
from tests.operations.conftest import Browser
from tests.servers import ROOT, database_url, without_cache

FLUSHED = (
    "began", "ended", "failed", "persisted", "unchanged", "lost", "refused", "postponed", "left",
)  # fmt: skip


@pytest.fixture
def at_work() -> None:
    """One process of each role that has just reported, and nothing that waits."""
    Outbox.objects.all().delete()
    for role in ROLES:
        reporter = Reporter(role)
        reporter.worked_at = time.time()
        reporter.report()


def page(client: Client) -> str:
    """As the browser gets it."""
    response = client.get(reverse("reflex_arc:dashboard"))
    assert response.status_code == 200
    return response.content.decode()


def line(text: str) -> str:
    """What stands at the top."""
    [found] = re.findall(r'id="arc-words">(.*?)</span>', text, re.DOTALL)
    return str(found)


def told() -> list[str]:
    """Everything that is wrong."""
    return [trouble.text for trouble in troubles.troubles(take())]


@pytest.mark.django_db
def test_all_is_well_in_one_line(operator: Client, at_work: None) -> None:
    """With the server, what waits, the processes, the charts and their numbers below."""
    text = page(operator)
    assert line(text) == "All is well."
    for words in ("Redis", "a stand-in for it", "Clients connected", "no limit", "Unsaved canvas"):
        assert words in text
    assert all(f"{role} " in text for role in ROLES)
    assert text.count('<svg class="arc-chart"') == 10 == text.count("<details")
    state = operator.get(reverse("reflex_arc:state")).content.decode()
    assert state.count('<svg class="arc-chart"') == 10
    assert "<html" not in state


@pytest.mark.django_db
def test_a_page_costs_few_round_trips(
    operator: Client, at_work: None, trips: Any, django_assert_max_num_queries: Any
) -> None:
    """A day of history is one of them; PostgreSQL is asked two things of the state."""
    with trips() as seen, django_assert_max_num_queries(17):
        page(operator)
    assert seen.count <= 6
    with trips() as seen, django_assert_max_num_queries(12):
        operator.get(reverse("reflex_arc:state"))
    assert seen.count <= 6


@pytest.mark.django_db
def test_with_the_cache_away_it_says_so_and_shows_the_rest(
    operator: Client, member: User, settings: Any
) -> None:
    """PostgreSQL's part, and what was done last."""
    entry = records.begin(operator_id=operator.person.pk, user_id=member.pk, what="Warm psyche:1")  # type: ignore[attr-defined]
    records.finish(entry, "Loaded from PostgreSQL.")
    settings.AEVON_CACHE = without_cache()
    text = page(operator)
    assert line(text).startswith("The cache cannot be reached. Requests are served from PostgreSQL")
    assert "Warm psyche:1" in text
    assert "<dt>Outbox</dt>" in text
    assert "does not answer in time" not in text


@pytest.mark.django_db(transaction=True)
def test_with_postgresql_slow_it_says_so_and_shows_the_rest(
    browser_of: Browser, at_work: None
) -> None:
    """Of a table that somebody holds the page waits a moment, not for ever."""
    client = browser_of("view_reflexarc")
    began = time.monotonic()
    with psycopg.connect(database_url()) as other:
        other.execute("LOCK TABLE cache_outbox, django_admin_log IN ACCESS EXCLUSIVE MODE")
        text = page(client)
    # Two waits of 1.5 s; whoever looks does not wait for half a minute.
    assert time.monotonic() - began < 20
    assert "PostgreSQL did not answer in time" in text
    assert text.count("PostgreSQL does not answer in time") == 2
    assert "Clients connected" in text
    assert "not answer in time" not in page(client)


@pytest.mark.django_db
def test_what_waits_too_long_is_wrong(member: User, at_work: None, settings: Any) -> None:
    """The outbox; the unsaved canvases, with the oldest's age."""
    Outbox.objects.all().delete()
    outbox.add(PSYCHE, [member.pk])
    patch(member.pk, b=window())
    assert told() == []
    Outbox.objects.update(added_at="2026-01-01T00:00:00Z")
    shard = member.pk % 8
    long_ago = time.time() - 2 * settings.CANVAS_PERSIST_SECONDS - 60
    store().command("ZADD", f"canvas:since:{shard}", long_ago, member.pk)
    unsaved, waiting = told()
    assert unsaved.startswith("1 documents of canvas are unsaved, the oldest for 11 min")
    assert waiting.startswith("1 entries wait in the outbox, the first for")


@pytest.mark.django_db
def test_a_process_that_is_silent_or_trusts_nobody_is_seen(operator: Client, at_work: None) -> None:
    """By name; a role of which nobody is left, in words."""
    key = PROCESSES.key("seen")
    held = store().command("HGETALL", key)
    for field, raw in held.items():
        report = json.loads(raw)
        if report["role"] == "worker":
            report["seenAt"] -= 120
        if report["role"] == "web":
            report["breaker"] = "open"
        store().command("HSET", key, field, json.dumps(report))
    silent, distrust = told()
    assert silent == "No worker has been heard of: nothing is persisted, audited or repaired by it."
    assert re.match(r"web \d+@.* does not trust the cache: its breaker is open.", distrust)
    text = page(operator)
    assert line(text).startswith("2 things are wrong. No worker")
    assert "<strong>silent</strong>" in text


@pytest.fixture
def slot() -> Callable[..., None]:
    """`slot(2, loads__psyche__hit=7)`: into the history, two slots before that in which the test
    began, which may be over by now; `__` stands for the colon."""
    newest = int(time.time() // history.SLOT_SECONDS)

    def put(ago: int, **members: Any) -> None:
        for name, value in members.items():
            store().command("HSET", HISTORY.key(newest - ago), name.replace("__", ":"), value)

    return put


@pytest.mark.django_db
def test_the_day_is_drawn(operator: Client, at_work: None, slot: Callable[..., None]) -> None:
    """Rates per keyspace, and what the audit found, in numbers behind each chart."""
    slot(12, loads__psyche__hit=75, loads__psyche__miss=25)
    assert 'id="refused-text">psyche: nothing known' in page(operator)
    slot(12, refused_fills__psyche__fenced=3, refused_fills__psyche__full=9)
    slot(12, gauge__unsaved=1_234, gauge__oldest_unsaved_seconds=120, gauge__memory=3 * 2**20)
    text = page(operator)
    assert '<td class="number">75</td>' in text
    assert '<td class="number">1,234</td>' in text
    assert "psyche: 3 last" in text
    assert told() == []
    slot(2, **{"audited:psyche:stale": 2, "audited:psyche:in sync": 98})
    assert told() == [
        "The audit found 2 wrong entries of psyche in the last hour, of 100 that it looked at."
    ]
    text = page(operator)
    assert "98.00% right of 100" in text
    assert '<td class="number">98</td>' in text


@pytest.mark.django_db
def test_the_flushes_are_listed_and_drawn(operator: Client, at_work: None) -> None:
    """The last one's failure is wrong."""
    began = time.time() - 30
    record = dict.fromkeys(("unchanged", "lost", "refused", "postponed", "left"), 0)
    flushed = {"began": repr(began), "ended": repr(began + 1.5), "persisted": 42, "failed": 0}
    store().command("LPUSH", "canvas:flush:recent", json.dumps(record | flushed))
    assert told() == []
    assert '<td class="number">1.50</td><td class="number">42</td>' in page(operator)
    worse = record | flushed | {"failed": 1, "lost": 2}
    store().command("LPUSH", "canvas:flush:recent", json.dumps(worse))
    lost, ended = told()
    assert lost == "The last flush found 2 unsaved documents gone from the cache."
    assert ended == "The last flush was ended by an outage."


@pytest.mark.django_db
def test_what_somebody_else_has_put_into_the_cache_is_text(
    operator: Client, at_work: None, slot: Callable[..., None]
) -> None:
    """Names of series, processes and notes."""
    script = "<script>alert(1)</script>"
    slot(1, **{f"loads:psyche:{script}": 5, f"gauge:{script}": 1})
    huge, odd = "9" * 400, {"loads:psyche": 1, "audited:psyche:stale:x": 1, "gauge:memory": "inf"}
    slot(
        1, **odd, **{"gauge:outbox": "nan", "loads:psyche:hit": huge, "audited:canvas:stale": huge}
    )
    store().command("LPUSH", "canvas:flush:recent", json.dumps(dict.fromkeys(FLUSHED, "inf")))
    store().command("LPUSH", "canvas:flush:recent", json.dumps(dict.fromkeys(FLUSHED, int(huge))))
    store().command("ZADD", "canvas:since:1", "-inf", 1)
    store().command("ZADD", "canvas:dirty:1", 1, 1)
    key = PROCESSES.key("seen")
    [(field, raw), *_] = store().command("HGETALL", key).items()
    store().command(
        "HSET", key, field, json.dumps({**json.loads(raw), "host": script, "breaker": script})
    )
    records.begin(operator_id=operator.person.pk, user_id=1, what=script)  # type: ignore[attr-defined]
    LogEntry.objects.update(change_message=script)
    text = page(operator)
    assert script not in text
    assert "&lt;script&gt;alert(1)" in text


def test_three_slots_are_one_point_that_stays_where_it_was() -> None:
    """Counts are added up; of a gauge the highest counts; a gap stays one."""
    slots = [
        history.Slot(at=900.0 + 300 * n, counts={("loads", "a", "hit"): n}, gauges=gauges)
        for n, gauges in enumerate([{}, {"unsaved": 5.0}, {"unsaved": 3.0}, {}])
    ]
    first, second = quarters(slots)
    assert (first.at, second.at) == (900.0, 1800.0)
    assert first.counted("loads") == {("a", "hit"): 3}
    assert (first.gauges, second.gauges) == ({"unsaved": 5.0}, {})


def test_every_trouble_names_a_section_that_the_runbook_has() -> None:
    """Whoever is woken by it looks there."""
    runbook = (ROOT / troubles.RUNBOOK).read_text()
    text = (ROOT / "aevon/operations/troubles.py").read_text()
    named = set(re.findall(r'Trouble\([^)]*?"([^"]+)"\)', text, re.DOTALL))
    assert len(named) >= 8
    for section in (*named, *troubles.SECTIONS.values()):
        assert re.search(rf"^###? {section}$", runbook, re.MULTILINE), section


def test_the_dashboard_and_the_alerts_mean_the_same() -> None:
    """By the same numbers, which stand in the pages for people, too."""
    told = {rule["alert"]: rule["expr"] for rule in RULES}
    assert told["OutboxNotDrained"].endswith(f" > {troubles.OUTBOX_SECONDS}")
    assert told["CacheMemoryHigh"].endswith(f" > {troubles.MEMORY_SHARE}")
    text = (ROOT / "docs" / "admin.md").read_text()
    assert f"| the first for more than {troubles.OUTBOX_SECONDS} s |" in text
    assert f"| over {troubles.MEMORY_SHARE:.0%} of `maxmemory` |".replace("%", " %") in text
    assert f"| none has reported for {SILENT_SECONDS:.0f} s;" in text


def readings(**server: Any) -> Readings:
    """Made up: all is well, but for what is said of the server."""
    facts = {
        "software": "Dragonfly", "version": "1.34.0", "uptime_seconds": 60, "memory_used": 1,
        "memory_peak": 1, "memory_limit": 0, "clients": 1, "role": "master", "keys": 1,
        "hits": 1, "misses": 1,
    }  # fmt: skip
    return Readings(at=0, server=Server(**{**facts, **server}), outbox=Backlog(0, 0))


def test_a_server_that_takes_no_writes_is_wrong() -> None:
    """Nearly full of what it may use, or somebody's replica."""
    assert troubles.troubles(readings(memory_used=2**40)) == []
    [full] = troubles.troubles(readings(memory_used=950 * 2**20, memory_limit=2**30))
    assert full.text.startswith("The cache's memory is nearly full: 950.0 MiB of 1.0 GiB.")
    [replica] = troubles.troubles(readings(role="slave"))
    assert (replica.text, replica.weight) == ("The server is a slave: it takes no writes.", "bad")
