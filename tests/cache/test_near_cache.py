"""The near cache on a real server: what is kept, when it goes, and how late it may be."""

import os
import random
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aevon.cache import Gone, cache_aside, codec, conf, fences, near_cache
from aevon.cache.connection import Tracking, reset, store, tracking
from aevon.cache.metrics import LOADS, NEAR_EVENTS
from aevon.cache.stats import hit_rate
from tests.cache.conftest import back, counted
from tests.cache.doors import bulk, certificate, door, stub
from tests.cache.entry_states import life, note, put
from tests.cache.ledgers import NOTES, Note
from tests.threads import in_threads
from tests.waiting import eventually

KEY = "psyche:7"


@pytest.fixture
def near(settings: Any, clean: None) -> Tracking:
    """`psyche` is near, three entries of it; the connection stands."""
    return switched_on(settings)


def switched_on(settings: Any, **others: Any) -> Tracking:
    """The near cache with these settings, and its connection."""
    values = {"NEAR_CACHE": {"psyche": 3}, **others}
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, **values}
    found = store().tracking
    assert found is not None
    assert eventually(lambda: stands(found))
    return found


def stands(near: Tracking) -> bool:
    """Whether its connection does; asks for it where not."""
    near.ask("psyche", 1, "psyche:1", lambda raw, life: tracking.Answer(raw, None))
    return near._connection is not None


@pytest.fixture
def other(settings: Any) -> Iterator["redis.Redis[Any]"]:
    """A client beside the store, as another process is."""
    with redis.Redis.from_url(settings.AEVON_CACHE["URL"], protocol=2) as client:
        yield client


def tell(other: Any, value: dict[str, Any], *, user_id: int = 7, **options: Any) -> None:
    """Somebody else writes the user's state, of the present life of the server."""
    text = codec.stamped(codec.encode(value), life().incarnation)
    other.set(f"psyche:{user_id}", text, **options)


def bring(*user_ids: int, text: str = "a", version: int = 1) -> None:
    """These users' states are near."""
    for user_id in user_ids:
        put(f"psyche:{user_id}", note(user_id, text, version))
        assert eventually(partial(is_near, user_id))


def is_near(user_id: int = 7) -> bool:
    """Whether it is, now that it has been asked for."""
    near_cache.get(NOTES, user_id)
    return held(user_id) is not None


def held(user_id: int = 7) -> Any:
    """What would be given away now."""
    found = store().tracking
    return found and found.held("psyche", user_id)


def version(user_id: int = 7) -> int:
    """Of what a load gives."""
    found: Any = near_cache.get(NOTES, user_id)
    return int(found.version)


def gets(other: Any) -> int:
    """How often the server has been asked for a value."""
    return int(other.info("commandstats").get("cmdstat_get", {}).get("calls", 0))


def tracked(other: Any) -> list[str]:
    """The ids of the connections that are told of changes."""
    return [each["id"] for each in other.client_list() if "t" in each["flags"]]


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """No invalidation has come through yet."""
    monkeypatch.setattr(Tracking, "_told", lambda self, keys: None)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is made anew at once."""
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.01)


# --- off, and on -------------------------------------------------------------------------------


def test_off(clean: None, other: Any) -> None:
    """Nothing of it is there: no object, no connection, no thread; each load asks the server."""
    put(KEY, note(7))
    before = gets(other)
    for _ in range(3):
        assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="a", version=1)
    assert store().tracking is None
    assert (tracked(other), gets(other) - before) == ([], 3)
    assert "near-cache" not in {
        thread.name for thread in threading.enumerate() if thread.is_alive()
    }


def test_keyspace_that_is_not_named(settings: Any, clean: None, other: Any) -> None:
    """As if off."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "NEAR_CACHE": {"session": 3}}
    put(KEY, note(7))
    for _ in range(3):
        assert version() == 1
    near_cache.forget(NOTES, [7])
    assert tracked(other) == []


@pytest.mark.django_db
def test_hit(near: Tracking, other: Any, django_assert_num_queries: Any) -> None:
    """Nothing is asked, of the server or of PostgreSQL; it counts as a load of its own kind."""
    bring(7)
    before = gets(other)
    with django_assert_num_queries(0), counted(LOADS, "psyche", "near") as more:
        for _ in range(5):
            assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="a", version=1)
    assert (gets(other) - before, more()) == (0, 5)


def test_entry_that_nobody_asks_for(near: Tracking, other: Any) -> None:
    """Stays as fresh as it was, because the server is asked whether it is there."""
    bring(7)
    before, old = gets(other), time.monotonic() + 2 * tracking.FRESH_SECONDS
    assert eventually(lambda: time.monotonic() > old)
    assert eventually(held)
    assert gets(other) == before


def test_miss(near: Tracking, other: Any) -> None:
    """One GET, which brings the entry near."""
    put(KEY, note(7))
    before = gets(other)
    with counted(LOADS, "psyche", "hit") as more, counted(NEAR_EVENTS, "psyche", "kept") as kept:
        assert version() == version() == 1
    assert (gets(other) - before, more(), kept()) == (1, 1, 1)


def test_hit_rate() -> None:
    """What is near is a hit."""
    assert hit_rate({"hit": 1, "near": 2, "miss": 1, "away": 5}) == 0.75


def test_several(near: Tracking, other: Any) -> None:
    """Those that are near are not asked for; the order is that of the question."""
    bring(7)
    put("psyche:8", note(8))
    for _ in range(2):
        found = cache_aside.load_many(NOTES, [8, 7])
        assert [each.user_id for each in found.values()] == [8, 7]
    with counted(LOADS, "psyche", "near") as more:
        near_cache.get_many(NOTES, [7])
    assert more() == 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        b'{"_lease":"a"}',
        b'{"_fence":{"a":1},"_floor":1}',
        b"{",
        b'{"userId":7,"text":"a","version":1,"_incarnation":"5f1c5f1c5f1c"}',
        b'{"userId":8,"text":"a","version":1}',
    ],
)
def test_what_is_not_kept(near: Tracking, value: bytes | None) -> None:
    """Whatever is no state of this life, and of this user."""
    if value is not None:
        put(KEY, value)
    near_cache.get(NOTES, 7)
    assert not any(near._kept.values())


def test_tombstone(near: Tracking, other: Any) -> None:
    """That there is no row is near as well, and goes as a state does."""
    put(KEY, {"_gone": 3})
    assert eventually(is_near)
    assert near_cache.get(NOTES, 7) == Gone(3)
    assert cache_aside.load(NOTES, 7) is None
    tell(other, note(7, version=4))
    assert eventually(lambda: held() is None)
    assert version() == 4


def test_key_of_another_type(near: Tracking, other: Any) -> None:
    """It is asked for over the pool, which knows what that means."""
    other.rpush(KEY, "a")
    assert near_cache.get(NOTES, 7) == near_cache.entries.FOREIGN_TYPE


def test_as_many_as_the_setting_says(near: Tracking) -> None:
    """Who was used longest ago goes."""
    bring(1, 2, 3)
    assert version(1) == 1
    with counted(NEAR_EVENTS, "psyche", "evicted") as more:
        bring(4)
    assert [held(user_id) is not None for user_id in (1, 2, 3, 4)] == [True, False, True, True]
    assert more() == 1


# --- it goes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda other: tell(other, note(7, "b", 2)),
        lambda other: other.delete(KEY),
        lambda other: other.rename(KEY, "elsewhere"),
        lambda other: other.pexpire(KEY, 1),
        lambda other: other.flushdb(),
        lambda other: other.flushall(),
        lambda other: other.eval("redis.call('SET', KEYS[1], 'a')", 1, KEY),
    ],
    ids=["SET", "DEL", "RENAME", "PEXPIRE", "FLUSHDB", "FLUSHALL", "script"],
)
def test_change_by_somebody_else(near: Tracking, other: Any, change: Any) -> None:
    """By whatever command: the server tells of it."""
    bring(7)
    change(other)
    assert eventually(lambda: held() is None)


def test_key_that_expires(near: Tracking, other: Any) -> None:
    """The server tells, although nobody asks for the key."""
    tell(other, note(7), px=1000)
    assert eventually(is_near)
    assert eventually(lambda: not near._kept["psyche"])
    assert not other.exists(KEY)


def test_key_that_is_evicted(near: Tracking, other: Any) -> None:
    """The server tells."""
    bring(7)
    try:
        other.config_set("maxmemory-policy", "allkeys-random")
        other.config_set("maxmemory", 1)
        assert eventually(lambda: not near._kept["psyche"])
    finally:
        other.config_set("maxmemory", 0)
        other.config_set("maxmemory-policy", "noeviction")


def test_document_that_ends(near: Tracking) -> None:
    """Whether or not the server has told of it."""
    ends = time.time() + 0.5
    ending = replace(NOTES, expires_at=lambda note: ends)
    put(KEY, note(7))
    near_cache.get(ending, 7)
    assert near._kept["psyche"]
    assert eventually(lambda: time.time() > ends)
    assert held() is None
    assert near._kept["psyche"]


def test_lifetime_of_the_keyspace(near: Tracking, settings: Any) -> None:
    """Nothing is near for longer."""
    bring(7)
    (_, until), *_ = near._kept["psyche"].values()
    assert until - time.monotonic() <= conf.current().psyche_ttl_seconds


def test_connection_that_is_killed(near: Tracking, other: Any) -> None:
    """All that is near goes with it; it is made anew."""
    bring(7)
    (number,) = tracked(other)
    with counted(NEAR_EVENTS, "psyche", "emptied") as more:
        other.client_kill_filter(_id=number)
        assert eventually(lambda: not near._kept["psyche"])
    assert more() == 1
    assert eventually(is_near)
    assert number not in tracked(other)


def test_connection_that_breaks_under_a_question(near: Tracking) -> None:
    """It is not made anew by who sends: what is near would stay, and nobody would tell of it."""
    bring(7)
    with near._lock:
        near._connection.disconnect()
        with pytest.raises(redis.ConnectionError, match="once"):
            near._send(tracking._Question(), "ROLE")
    assert eventually(lambda: not near._kept["psyche"])


def test_what_changed_while_there_was_no_connection(near: Tracking, other: Any) -> None:
    """Nobody tells of it, and nobody has to."""
    bring(7)
    other.client_kill_filter(_id=tracked(other)[0])
    tell(other, note(7, "b", 2))
    assert eventually(lambda: held() is None)
    assert version() == 2


@pytest.mark.django_db
def test_server_that_is_restarted(server: Any, settings: Any, clean: None) -> None:
    """What another life of the server has said is not believed."""
    near = switched_on(settings)
    bring(7)
    before = life()
    server.kill()
    assert eventually(lambda: not near._kept["psyche"])
    server.start()
    back()
    assert eventually(lambda: stands(near))
    bring(7, text="b", version=2)
    assert near._connection.life == life() != before


def test_server_that_is_frozen(server: Any, settings: Any, clean: None) -> None:
    """Nothing is given away beyond the bound; then all is dropped."""
    near = switched_on(settings)
    bring(7)
    server.pause()
    paused_at = last = time.monotonic()
    while held() is not None:
        last = time.monotonic()
    assert last < paused_at + tracking.FRESH_SECONDS
    assert eventually(lambda: not near._kept["psyche"])
    assert near._connection is None
    server.resume()
    assert eventually(is_near)


def test_answer_to_an_old_question(near: Tracking) -> None:
    """What has changed since it was asked may be on its way still."""
    bring(7)
    old = tracking._Question(sent_at=time.monotonic() - tracking.FRESH_SECONDS)
    with near._lock:
        near._answered(old, [b"master", 0, []], life())
        assert held() is None
    assert eventually(held)


def test_network_that_swallows(settings: Any, clean: None, other: Any) -> None:
    """Likewise, though no connection is broken."""
    parts = urlsplit(settings.AEVON_CACHE["URL"])
    with door(parts.port or 0) as opened:
        address = f"redis://:{parts.password}@127.0.0.1:{opened.port}/0"
        near = switched_on(settings, URL=address)
        bring(7)
        newer = codec.stamped(codec.encode(note(7, "b", 2)), life().incarnation)
        opened.swallow = True
        other.set(KEY, newer)
        assert eventually(lambda: not near._kept["psyche"])
        reset()


def test_server_that_becomes_a_replica(server: Any, settings: Any, clean: None, other: Any) -> None:
    """It would tell of nothing that it has not been told itself."""
    near = switched_on(settings)
    bring(7)
    other.execute_command("REPLICAOF", "127.0.0.1", 1)
    try:
        assert eventually(lambda: not near._kept["psyche"])
        assert near._connection is None
    finally:
        other.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.django_db
def test_breaker_that_opens(near: Tracking, other: Any) -> None:
    """The cache is away, the near one too; it is back with it."""
    bring(7)
    before = gets(other)
    store().breaker.failed()
    assert not near._kept["psyche"]
    with counted(LOADS, "psyche", "away") as more:
        assert near_cache.get(NOTES, 7) is None
    assert (more(), gets(other) - before) == (1, 0)
    back()
    assert eventually(is_near)


@pytest.mark.django_db
def test_what_came_near_while_the_breaker_is_open(near: Tracking) -> None:
    """Is not given away before it is closed."""
    bring(7)
    kept = near._kept
    store().breaker.failed()
    near._kept = kept
    assert held() is None


def test_settings_that_change(near: Tracking, settings: Any, other: Any) -> None:
    """The connection goes with the store."""
    bring(7)
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "NEAR_CACHE": {}}
    assert store().tracking is None
    assert not near._kept["psyche"]
    assert eventually(lambda: tracked(other) == [])


# --- one's own writes --------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.usefixtures("tables", "deaf")
@pytest.mark.parametrize(
    "write",
    [
        lambda: fences.fence(NOTES, [7]),
        lambda: fences.fence_and_get(NOTES, 7),
        lambda: fences.install(NOTES, {7: Note(user_id=7, text="b", version=2)}, {}),
        lambda: fences.install(NOTES, {7: Gone(2)}, {}),
        lambda: fences.drop(NOTES, [7]),
    ],
    ids=["fence", "fence_and_get", "install", "gone", "drop"],
)
def test_write_of_ones_own(near: Tracking, write: Any) -> None:
    """Is seen at once, however late the server tells of it."""
    bring(7)
    write()
    assert near_cache.get(NOTES, 7) != Note(user_id=7, text="a", version=1)


@pytest.mark.django_db
@pytest.mark.usefixtures("tables", "deaf")
def test_write_of_ones_own_while_the_cache_is_away(
    near: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be told, and is known here all the same."""
    bring(7)
    kept = near._kept
    store().breaker.failed()
    near._kept = kept
    fences.install(NOTES, {7: Note(user_id=7, text="b", version=2)}, {})
    assert not kept["psyche"]


def test_write_of_ones_own_while_a_get_is_on_its_way(
    server: Any, settings: Any, clean: None
) -> None:
    """What it brings is not kept: it may be of before the write."""
    near = switched_on(settings, READ_TIMEOUT_SECONDS=2)
    put(KEY, note(7))
    server.pause()
    reader = threading.Thread(target=near_cache.get, args=(NOTES, 7))
    reader.start()
    assert eventually(lambda: near._questions)
    near_cache.forget(NOTES, [7])
    server.resume()
    reader.join()
    assert not near._kept["psyche"]


@pytest.mark.parametrize("keys", [[KEY.encode()], None], ids=["of the key", "of all"])
def test_change_that_is_told_before_the_reply(
    server: Any, settings: Any, clean: None, keys: list[bytes] | None
) -> None:
    """By a server that does not keep to the order: the reply is not kept."""
    near = switched_on(settings, READ_TIMEOUT_SECONDS=2)
    put(KEY, note(7))
    server.pause()
    reader = threading.Thread(target=near_cache.get, args=(NOTES, 7))
    reader.start()
    assert eventually(lambda: near._questions)
    with near._lock:
        near._told(keys)
    server.resume()
    reader.join()
    assert not near._kept["psyche"]


# --- order -------------------------------------------------------------------------------------


def test_change_while_a_reply_is_being_kept(near: Tracking, other: Any) -> None:
    """The server told of it after the reply: so it is heard after it."""
    reached, go_on = threading.Event(), threading.Event()

    def slowly(_: Note) -> float:
        reached.set()
        go_on.wait(10)
        return time.time() + 1000

    put(KEY, note(7))
    reader = threading.Thread(target=near_cache.get, args=(replace(NOTES, expires_at=slowly), 7))
    reader.start()
    assert reached.wait(10)
    tell(other, note(7, "b", 2))
    go_on.set()
    reader.join()
    assert eventually(lambda: version() == 2)
    assert not near._questions


@pytest.mark.usefixtures("deaf")
def test_what_is_read_past_it(near: Tracking, other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who has seen the newer state there is given the older one near."""
    bring(7)
    tell(other, note(7, "b", 2))
    with monkeypatch.context() as late:
        late.setattr(Tracking, "held", lambda *_: None)
        late.setattr(Tracking, "ask", lambda *_: tracking.ASIDE)
        assert version() == 2
    assert version() == 2


@pytest.mark.usefixtures("deaf")
def test_several_that_are_read_past_it(
    near: Tracking, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise."""
    bring(7)
    tell(other, note(7, "b", 2))
    with monkeypatch.context() as late:
        late.setattr(Tracking, "held", lambda *_: None)
        near_cache.get_many(NOTES, [7])
    assert version() == 2


def test_history(near: Tracking, other: Any) -> None:
    """Whatever is written by others at the same time: nobody sees an older state after a newer one,
    and in the end everybody sees the last."""
    end = time.monotonic() + 2
    users = (1, 2, 3)
    last: dict[int, int] = {}
    stamp = life().incarnation

    def write(user_id: int, client: Any) -> None:
        number = 0
        while time.monotonic() < end:
            number += 1
            text = codec.stamped(codec.encode(note(user_id, "a", number)), stamp)
            client.set(f"psyche:{user_id}", text)
            time.sleep(random.choice((0, 0, 0.001, 0.003)))
        last[user_id] = number

    def read() -> tuple[int, int]:
        seen, backwards, near_hits = dict.fromkeys(users, 0), 0, 0
        while time.monotonic() < end:
            user_id = random.choice(users)
            near_hits += held(user_id) is not None
            found: Any = near_cache.get(NOTES, user_id)
            if isinstance(found, Note):
                backwards += found.version < seen[user_id]
                seen[user_id] = found.version
        return backwards, near_hits

    clients = [redis.Redis.from_url(conf.current().url, protocol=2) for _ in users]
    writers = [partial(write, user, client) for user, client in zip(users, clients, strict=True)]
    results = in_threads([*writers, read, read, read])
    for client in clients:
        client.close()
    backwards = [result[0] for result in results if result]
    assert backwards == [0, 0, 0]
    assert sum(result[1] for result in results if result) > 0
    assert eventually(lambda: {user: version(user) for user in users} == last)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("load"), st.integers(1, 4)),
        st.tuples(st.just("write"), st.integers(1, 4)),
        st.tuples(st.just("own write"), st.integers(1, 4)),
        st.tuples(st.just("delete"), st.integers(1, 4)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("kill"), st.just(0)),
    ),
    min_size=1,
    max_size=25,
)


@hypothesis_settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_any_order_of_events(
    near: Tracking, other: Any, soon: None, steps: list[tuple[str, int]]
) -> None:
    """No load gives an older version than one before it gave, none gives one that was never
    written, and once all is still each gives what the server holds."""
    other.flushdb()
    assert eventually(lambda: stands(near))
    written: dict[int, int] = dict.fromkeys(range(1, 5), 0)
    seen = dict(written)
    for number, (step, user_id) in enumerate(steps, start=1):
        if step == "load":
            found: Any = near_cache.get(NOTES, user_id)
            if isinstance(found, Note):
                assert seen[user_id] <= found.version <= number
                seen[user_id] = found.version
        elif step in ("write", "own write"):
            tell(other, note(user_id, step, number), user_id=user_id)
            written[user_id] = number
            if step == "own write":
                near_cache.forget(NOTES, [user_id])
                assert version(user_id) == number
                seen[user_id] = number
        elif step == "delete":
            other.delete(f"psyche:{user_id}")
            written[user_id] = 0
        elif step == "flush":
            other.flushdb()
            written = dict.fromkeys(written, 0)
        else:
            for each in tracked(other):
                other.client_kill_filter(_id=each)

    def settled() -> bool:
        found = {user_id: near_cache.get(NOTES, user_id) for user_id in written}
        return {u: each.version if isinstance(each, Note) else 0 for u, each in found.items()} == (
            written
        )

    assert eventually(settled)
    assert all(len(values) <= 3 for values in near._kept.values())


# --- connections -------------------------------------------------------------------------------


def test_one_connection_for_all(near: Tracking, other: Any) -> None:
    """However many ask at once, and each is given what they asked for."""
    for user_id in range(1, 41):
        put(f"psyche:{user_id}", note(user_id, str(user_id)))
    calls = [partial(near_cache.get, NOTES, user_id) for user_id in range(1, 41)] * 5
    found: list[Any] = in_threads(calls, workers=16)
    assert [each.text for each in found] == [str(n) for n in range(1, 41)] * 5
    assert len(tracked(other)) == 1


def test_tls(settings: Any, clean: None, tmp_path: Path) -> None:
    """As with the pool."""
    cert, key = certificate(tmp_path)
    parts = urlsplit(settings.AEVON_CACHE["URL"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with door(parts.port or 0, context) as opened:
        address = f"rediss://:{parts.password}@localhost:{opened.port}/0?ssl_ca_certs={cert}"
        switched_on(settings, URL=address, CONNECT_TIMEOUT_SECONDS=5)
        bring(7)
        in_threads([partial(near_cache.get, NOTES, n) for n in range(1, 200)])
        assert eventually(is_near)
        reset()


def test_database_in_the_address(settings: Any, clean: None) -> None:
    """As with the pool."""
    address = settings.AEVON_CACHE["URL"].removesuffix("/0") + "/3"
    switched_on(settings, URL=address)
    bring(7)
    store().command("FLUSHDB")


def test_user_who_may_not_be_told(
    settings: Any, clean: None, other: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything goes the ordinary way, and the log says once why."""
    parts = urlsplit(settings.AEVON_CACHE["URL"])
    other.acl_setuser(
        "carl", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-client"]
    )
    address = f"redis://carl:secret@127.0.0.1:{parts.port}/0"
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "URL": address, "NEAR_CACHE": {"psyche": 3}}
    put(KEY, note(7))
    assert version() == 1
    near = store().tracking
    assert near is not None
    assert eventually(lambda: near._retry_at > time.monotonic() + 1)
    near._retry_at = 0
    assert version() == 1
    assert eventually(lambda: near._thread is None)
    told = [each for each in caplog.records if "CLIENT TRACKING" in each.getMessage()]
    assert len(told) == 1
    reset()
    other.acl_deluser("carl")


def test_server_without_resp3(settings: Any, clean: None, caplog: pytest.LogCaptureFixture) -> None:
    """Likewise."""
    info = bulk("redis_version:5.0\r\nrun_id:abc\r\nrole:master\r\n")
    text = codec.stamped(codec.encode(note(7)), "a9993e364706")
    with stub({"INFO": info, "GET": bulk(text.decode()), "ROLE": b"*1\r\n$6\r\nmaster\r\n"}) as old:
        url = {"URL": old.url, "NEAR_CACHE": {"psyche": 3}}
        settings.AEVON_CACHE = {**settings.AEVON_CACHE, **url}
        assert version() == 1
        assert eventually(lambda: "CLIENT TRACKING" in caplog.text)
        assert version() == 1
        reset()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_child(near: Tracking, other: Any) -> None:
    """Has a connection of its own, and the parent keeps what it had."""
    bring(7)
    child = os.fork()
    if child == 0:
        own = store().tracking
        fresh = own is not near and held() is None and eventually(is_near)
        os._exit(0 if fresh and len(tracked(other)) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert held() is not None
    assert eventually(lambda: len(tracked(other)) == 1)
    tell(other, note(7, "b", 2))
    assert eventually(lambda: version() == 2)


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [["psyche"], {"psyche": 0}, {"psyche": 1.5}, {"psyche": True}, 7])
def test_setting_that_makes_no_sense(settings: Any, value: Any) -> None:
    """The refusal names it."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "NEAR_CACHE": value}
    with pytest.raises(ImproperlyConfigured, match="NEAR_CACHE"):
        conf.current()


@pytest.mark.parametrize("name", ["canvas", "convo_history", "nothing"])
def test_keyspace_that_cannot_be_near(settings: Any, name: str) -> None:
    """E009: what is written behind, a list, a slip."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "NEAR_CACHE": {name: 5, "psyche": 5}}
    found = [each for each in run_checks() if each.id == "aevon_cache.E009"]
    assert [name in each.msg for each in found] == [True]


def test_keyspaces_that_can_be_near(settings: Any) -> None:
    """Nothing is said."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "NEAR_CACHE": {"psyche": 5, "session": 5}}
    assert [each for each in run_checks() if each.id == "aevon_cache.E009"] == []
