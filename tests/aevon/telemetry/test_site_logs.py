"""What a whole site tells: web, worker, beat and listener, by their logs and their traces."""

import contextlib
import json
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest
import redis

from aevon.embedded import Endpoints, embedded_servers
from tests.aevon.programs import make_run
from tests.aevon.telemetry.collector import Collector, Span
from tests.aevon.test_contract import PATHS
from tests.klepsydra.rows import SLUG
from tests.threads import in_threads
from tests.waiting import eventually

MARK = "Marked4Nobody"  # what is somebody's begins with it
PASSWORD = f"{MARK}-password-1"
WINDOW = {
    "type": "note",
    "title": f"{MARK} title",
    "position": {"x": 1, "y": 2},
    "size": {"width": 320, "height": 200},
    "zIndex": 1,
}
PAGE = {"X-Aevon-Page": "1"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5
OUTAGE_SECONDS = 10


class Site:
    """A site that runs, what it has said so far, and the servers that it stands on."""

    def __init__(self, told: dict[str, Any], servers: Endpoints, collector: Collector) -> None:
        self.told = told
        self.servers = servers
        self.collector = collector
        self.lines: list[str] = []
        self.secrets: set[str] = {MARK}
        self.clients = contextlib.ExitStack()
        self.anybody = self.client()

    def listen(self, output: Any) -> None:
        """Keep what is said; the beginning of a line is who says it."""
        self.lines.extend(iter(output.readline, ""))

    def records(self, since: int = 0) -> list[dict[str, Any]]:
        """The records, with `process` for who has told it."""
        found = []
        for line in self.lines[since:]:
            who, _, text = line.partition(" | ")
            if text.startswith("{"):
                found.append({"process": who.split()[-1], **json.loads(text)})
        return found

    def one(self, **facts: Any) -> dict[str, Any]:
        """The record that has these facts."""
        assert eventually(lambda: self._those(facts)), facts
        return self._those(facts)[0]

    def _those(self, facts: dict[str, Any]) -> list[dict[str, Any]]:
        return [each for each in self.records() if facts.items() <= each.items()]

    def client(self, **headers: str) -> httpx.Client:
        """Of the site's API; closed at the end."""
        client = httpx.Client(
            base_url=self.told["url"], headers=headers, timeout=20, trust_env=False
        )
        return self.clients.enter_context(client)

    def member(self) -> httpx.Client:
        """Somebody who has logged in; what they hold is a secret."""
        answer = self.anybody.post("/api/v1/auth/token/", json=self.told["demo"])
        self.secrets |= {answer.json()["access"], answer.json()["refresh"]}
        return self.client(Authorization=f"Bearer {answer.json()['access']}")

    def spans(self, **facts: Any) -> list[Span]:
        """The spans with these facts; asked for once they can have come."""
        return [
            span
            for span in list(self.collector.spans)
            if all(getattr(span, name) == value for name, value in facts.items())
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with servers of its own, which tests may kill, that tells all it can."""
    folder = tmp_path_factory.mktemp("site")
    with (
        embedded_servers(folder / "servers", durable=False) as servers,
        Collector() as collector,
        make_run(
            folder / "site",
            DATABASE_URL=servers.database_url or "",
            DRAGONFLY_URL=servers.dragonfly_url or "",
            AEVON_LOG_FORMAT="json",
            AEVON_LOG_LEVEL="DEBUG",
            AEVON_ACCESS_LOG="on",
            AEVON_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="100",
            # Longer than a client waits: a request that waits for the collector fails.
            OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="60",
            CANVAS_PERSIST_SECONDS="2",
        ) as (process, told),
    ):
        found = Site(told, servers, collector)
        listening = threading.Thread(target=found.listen, args=[process.stdout], daemon=True)
        listening.start()
        with found.clients:
            yield found
        process.terminate()
        process.wait(30)
        listening.join(10)


def test_a_request_is_told_with_its_id(site: Site) -> None:
    """The one that it came with, in the answer and in its line, which has no path and no query."""
    answer = site.member().get(
        f"/api/v1/canvas/notes/{MARK}/?token={MARK}", headers={"X-Request-ID": "mine.1_2-3"}
    )
    assert answer.headers["X-Request-ID"] == "mine.1_2-3"
    record = site.one(logger="aevon.access", requestId="mine.1_2-3")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record.pop("timestamp"))
    assert record.pop("durationMs") > 0
    assert re.fullmatch(r"[0-9a-f]{32}", record.pop("traceId"))
    assert record == {
        "process": "web",
        "level": "INFO",
        "logger": "aevon.access",
        "event": "request",
        "requestId": "mine.1_2-3",
        "userId": record["userId"],
        "method": "GET",
        "route": "api/v1/canvas/notes/<str:appId>/",
        "status": 200,
    }
    assert isinstance(record["userId"], int)


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", '"}', f"eyJ{MARK}.eyJ.x"])
def test_what_is_no_id_is_replaced(site: Site, given: str) -> None:
    """By one that nobody else has."""
    answer = site.anybody.get("/health/live", headers=[("X-Request-ID", given.encode())])
    assert str(uuid.UUID(answer.headers["X-Request-ID"])) == answer.headers["X-Request-ID"]


def test_a_task_is_told_with_its_name_and_id(site: Site) -> None:
    """Every record that is made while it runs."""
    assert site.member().patch("/api/v1/canvas/", json={"background": "aurora"}).status_code < 500
    record = site.one(logger="canvas.tasks", task="canvas.persist")
    assert record["process"] == "worker"
    assert uuid.UUID(record["taskId"])


def test_all_processes_speak_alike(site: Site) -> None:
    """Whoever wrote the code; what is no record is said to people, at the start."""
    assert site.one(process="web", logger="_granian", level="INFO")
    said = [line.partition(" | ")[2].strip() for line in site.lines if " | " in line]
    assert [
        line for line in said if re.match(r"\[|\d{4}-|Traceback|(INFO|WARN|ERROR)\b", line)
    ] == []


# --- Traces ---------------------------------------------------------------------------------


def ancestors(span: Span, spans: list[Span]) -> list[Span]:
    """Those above a span, the nearest first."""
    above = [each for each in spans if each.id == span.parent]
    return [*above, *ancestors(above[0], spans)] if above else []


def test_a_request_is_a_trace(site: Site) -> None:
    """Its span stands in the caller's trace; what it waited for stands below it."""
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    member = site.member()
    assert member.get("/api/v1/klepsydra/psyche/", headers=headers).status_code == 200
    play = {"instrument": SLUG, "stake": 1}
    answer = member.post("/api/v1/klepsydra/interactions/", json=play, headers=headers)
    assert answer.status_code == 200

    def root() -> list[Span]:
        return site.spans(trace=TRACE, kind=SERVER)

    assert eventually(lambda: len(root()) == 2)
    assert {span.parent for span in root()} == {PARENT}
    assert {span.name for span in root()} == {
        "GET api/v1/klepsydra/psyche/",
        "POST api/v1/klepsydra/interactions/",
    }
    below = site.spans(trace=TRACE, kind=CLIENT)
    systems = {span.attributes["db.system.name"] for span in below}
    assert systems == {"redis", "postgresql"}
    assert all(ancestors(span, site.spans(trace=TRACE))[-1] in root() for span in below)
    keyspaces = ",".join(span.attributes.get("aevon.cache.keyspaces", "") for span in below)
    assert {"session", "psyche"} <= set(keyspaces.split(","))
    statements = [span.attributes.get("db.query.text", "") for span in below]
    assert any("%(user_id)s" in text for text in statements)
    assert {span.service for span in below} == {"aevon"}


def test_a_task_is_a_trace_from_where_it_was_sent(site: Site) -> None:
    """Beat's message, the worker's task below it, and what that waited for."""

    def tasks() -> list[Span]:
        return site.spans(name="cache.drain_outbox", kind=CONSUMER)

    assert eventually(lambda: [span for span in tasks() if site.spans(parent=span.id)])
    done = next(span for span in tasks() if site.spans(parent=span.id))
    [sent] = site.spans(id=done.parent)
    assert (sent.name, sent.kind) == ("publish cache.drain_outbox", PRODUCER)
    assert {span.attributes["db.system.name"] for span in site.spans(parent=done.id)} >= {
        "postgresql"
    }


def test_a_collector_that_does_not_answer_costs_no_time(site: Site) -> None:
    """Requests go on while it holds a batch; what it cost is told once, if at all."""
    client = site.member()
    site.collector.hold()
    try:
        client.get("/api/v1/canvas/")
        assert site.collector.asked.wait(30)
        statuses = {client.get("/api/v1/canvas/").status_code for _ in range(50)}
        assert not site.collector.answering.is_set()
    finally:
        site.collector.answering.set()
    assert statuses == {200}


# --- Secrets --------------------------------------------------------------------------------

Call = tuple[str, str, dict[str, Any]]


def calls(site: Site) -> list[Call]:
    """Every method of every path, with what must not be told: well formed and not."""
    login = {"username": f"{MARK}-name", "password": PASSWORD}
    bodies: dict[str, Any] = {
        "/api/v1/auth/token/": login,
        "/api/v1/auth/token/refresh/": {"refresh": f"eyJ{MARK}.eyJ{MARK}.{MARK}"},
        "/api/v1/auth/browser/": login,
        "/api/v1/auth/browser/access/": {},
        "/api/v1/auth/logout/": {"refresh": f"eyJ{MARK}.eyJ{MARK}.{MARK}"},
        "/api/v1/auth/password/": {"currentPassword": PASSWORD, "newPassword": PASSWORD},
        "/api/v1/klepsydra/interactions/": {"instrument": MARK, "stake": MARK},
        "/api/v1/canvas/": {"microApps": {"w1": WINDOW}},
        "/api/v1/canvas/notes/{appId}/": {"text": f"{MARK} text"},
        "/api/v1/beep/commands/": {"text": f"open the note {MARK}"},
    }
    found = []
    for path, methods in PATHS.items():
        url = path.format(sid=MARK, appId=MARK) + f"?access_token={MARK}&password={MARK}"
        for method in sorted(methods):
            if method in ("get", "delete"):
                found.append((method, url, {}))
            else:
                found.append((method, url, {"json": bodies[path]}))
                found.append((method, url, {"json": {"microApps": MARK, "text": [MARK]}}))
                found.append((method, url, {"content": f'{{"broken": "{MARK}'.encode()}))
    return found


def drive(site: Site, member: httpx.Client) -> Counter[int]:
    """Call everything, as a member and as somebody with a forged token; the statuses."""
    statuses: Counter[int] = Counter()
    forged = {
        "Authorization": f"Bearer eyJ{MARK}.eyJ{MARK}.{MARK}",
        "Cookie": f"aevon_refresh={MARK}",
    }
    for method, url, body in calls(site):
        for headers in (PAGE, PAGE | forged):
            content = {"Content-Type": "application/json"} if "content" in body else {}
            answer = member.request(method, url, headers=headers | content, **body)
            statuses[answer.status_code] += 1
    return statuses


def send(member: httpx.Client, method: str, url: str, body: dict[str, Any]) -> int:
    """The status of one call."""
    return member.request(method, url, **body).status_code


WRITES: list[Call] = [
    ("post", "/api/v1/auth/token/", {"json": {"username": MARK, "password": PASSWORD}}),
    ("put", f"/api/v1/canvas/notes/{MARK}/", {"json": {"text": MARK}}),
    ("post", "/api/v1/beep/commands/", {"json": {"text": f"open the note {MARK}"}}),
]


@contextlib.contextmanager
def refused_notes(site: Site) -> Iterator[None]:
    """PostgreSQL refuses every note, and tells the row with it."""
    with psycopg.connect(site.servers.database_url or "", autocommit=True) as db:
        db.execute("ALTER TABLE canvas_note ADD CONSTRAINT no CHECK (false) NOT VALID")
        yield
        db.execute("ALTER TABLE canvas_note DROP CONSTRAINT no")


def test_nobody_is_told_a_secret(site: Site) -> None:
    """Not by what works, what is wrong, a bug, or an outage; neither in logs nor in traces."""
    member = site.member()
    assert {200, 400, 401} <= drive(site, member).keys()
    with refused_notes(site):
        note = f"/api/v1/canvas/notes/{MARK}/"
        assert member.put(note, json={"text": f"{MARK} text"}).status_code == 500
    refused = site.one(logger="django.request", exceptionType="django.db.utils.IntegrityError")
    assert "violates check constraint" in refused["exception"]
    assert refused["requestId"]
    with away(site.servers.postgres):
        assert set(in_threads([partial(send, member, *call) for call in WRITES])) == {503}
    assert eventually(lambda: member.get("/api/v1/canvas/").status_code == 200)
    told = "".join(site.lines) + "".join(map(repr, site.collector.spans))
    assert len(site.secrets) > 2
    assert [secret for secret in site.secrets if secret in told] == []
    assert not any(secret.encode() in raw for raw in site.collector.raw for secret in site.secrets)


# --- Outages --------------------------------------------------------------------------------


@contextlib.contextmanager
def away(server: Any) -> Iterator[None]:
    """Ended as by a power cut, and started again."""
    server.kill()
    try:
        yield
    finally:
        server.start()


def become_replica(site: Site) -> None:
    """Of a server that is not there: what takes connections, and neither writes nor BRPOP."""
    with redis.Redis.from_url(site.servers.dragonfly_url or "", protocol=2) as raw:
        raw.execute_command("REPLICAOF", "127.0.0.1", "1")


def knock(site: Site, member: httpx.Client, seconds: float) -> None:
    """Ask all the time, as users and probes do."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert member.get("/api/v1/canvas/").status_code == 200
        site.anybody.get("/health/ready")
        time.sleep(0.1)


def loud(site: Site, since: int) -> list[dict[str, Any]]:
    """What would wake somebody up."""
    told = ("WARNING", "ERROR", "CRITICAL")
    return [each for each in site.records(since) if each["level"] in told]


def test_an_outage_is_told_when_it_begins_and_when_it_ends(site: Site) -> None:
    """By each process, of what it sees itself, and not by all that fails of it: the cache, which
    is the broker as well, becomes a replica, dies, and comes back."""
    member = site.member()
    since, began = len(site.lines), time.monotonic()
    become_replica(site)
    knock(site, member, OUTAGE_SECONDS / 2)
    with away(site.servers.cache):
        knock(site, member, OUTAGE_SECONDS / 2)

    def those(words: str) -> set[str]:
        return {each["process"] for each in loud(site, since) if words in each["event"]}

    def ended() -> bool:
        site.anybody.get("/health/ready")
        return those("back") >= {"web", "worker", "beat", "listener"}

    assert eventually(ended, 60), those("back")
    assert those("The cache is away") == {"web", "worker", "beat", "listener"}
    assert those("consumer: Connection to broker lost") == {"worker"}
    assert those("Message Error: Couldn't apply scheduled task") == {"beat"}
    told = loud(site, since)
    # The web processes are two, with four dependencies each; of a slow machine's outage each
    # minute is told.
    minutes = 1 + (time.monotonic() - began) // 60
    count = Counter(each["process"] for each in told)
    assert max(count.values()) <= 14 * minutes, count
    assert [each for each in told if "\n" in each["event"] or "exception" in each] == []
    left_out = re.findall(r"(\d+) lines", " ".join(each["event"] for each in told))
    assert sum(map(int, left_out)) > 50
