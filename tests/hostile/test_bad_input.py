"""Each row of table B, over HTTP: what is sent, what is answered, and that nothing has changed."""

import json
import pickle
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from django.conf import settings

from aevon.cache.connection import store
from aevon.cache.keyspace import CANVAS, CONVO_HISTORY, PSYCHE, SESSION
from aevon.embedded import CacheServer
from auth_sessions import keys
from auth_sessions.models import User
from beep.models import COMMAND_MAX
from canvas import services as canvas
from tests.faults.bench.production import Production
from tests.faults.bench.report import tried
from tests.faults.bench.visitors import Person, ask
from tests.servers import ROOT

from .endpoints import BODIES, PAGE, PROTECTED
from .remains import Monitor, touching, unchanged
from .wire import HOST, Answer, Wire, head

LIMIT: Final[int] = settings.AEVON_MAX_BODY_BYTES
NESTED: Final = {
    "nested-too-deeply": [
        b'{"text":' * 2000 + b"1" + b"}" * 2000,
        b'{"text":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ]
}
NUMBERS: Final = {
    "not-a-number": [b'{"text": NaN}', b'{"text": [-Infinity]}'],
    "number-out-of-range": [b'{"text": 1e999}', b'{"text": ' + b"9" * 5000 + b"}"],
}
CHARACTERS: Final = {
    "nul-character": [rb'{"text": "x\u0000"}', rb'{"microApps": {"\u0000": null}}'],
    "lone-surrogate": [rb'{"text": "\ud800"}', rb'{"\udfff": 1}'],
}
FORMS: Final = {
    "invalid-utf8": [b'{"text": "\xff"}', b'{"text": "\xc0\x80"}'],
    "byte-order-mark": [b'\xef\xbb\xbf{"text": "help"}'],
    "invalid-json": [b'{"text": "help"} x', b'{"text": "help"}{}', b'{"text": "help"}\0'],
    "not-an-object": [b'[{"text": "help"}]', b"null", b'"help"'],
    "duplicate-member": [b'{"text": "help", "text": "help"}'],
    "empty-body": [b" \r\n"],
}


def bearer(person: Person) -> dict[str, str]:
    """Of each request that is not about tokens; the page's own header, too."""
    return {**person.headers, **PAGE}


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        ("JSON nested 2,000 deep", NESTED),
        ("NaN, Infinity, `1e999`, an integer of 5,000 digits", NUMBERS),
        ("`\\u0000`, half a surrogate pair", CHARACTERS),
        ("bad UTF-8, BOM, trailing bytes, no object, duplicate member", FORMS),
    ],
)
def test_a_body_that_is_no_strict_json(
    row: str,
    refused: dict[str, list[bytes]],
    wire: Wire,
    site: Production,
    people: list[Person],
) -> None:
    """A 400 that says why, from every endpoint, and nothing has changed."""
    with unchanged(site, people):
        for slug, bodies in refused.items():
            for body in bodies:
                for method, path in BODIES:
                    answer = wire.ask(method, path, body, bearer(people[0]))
                    assert answer.is_problem(400, slug)
    tried(row, wire.sent)


def test_a_body_over_the_limit(wire: Wire, site: Production, people: list[Person]) -> None:
    """413, by its length, in chunks, and for who waits to continue; on any path of the API."""
    body = b'{"text": "' + b"x" * LIMIT + b'"}'
    chunked = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    chunks = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    waits = {"Expect": "100-continue", "Content-Length": str(len(body))}
    with unchanged(site, people):
        for method, path in [*BODIES, ("GET", "/api/v1/canvas/"), ("POST", "/api/v1/nowhere/")]:
            assert wire.ask(method, path, body, bearer(people[0])).is_problem(413)
            lines = head(method, path, HOST | bearer(people[0]) | waits)
            assert wire.send(lines).is_problem(413, "body-too-large")
        for method, path in BODIES:
            answer = wire.ask(method, path, chunks, bearer(people[0]) | chunked)
            assert answer.is_problem(413, "body-too-large")
            assert answer.json["limit"] == LIMIT
    tried("a body over 256 KiB", wire.sent)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "*/*"},
        {"Content-Type": None},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "br"},
    ],
    ids=str,
)
def test_a_body_of_another_type(
    headers: dict[str, str], wire: Wire, site: Production, people: list[Person]
) -> None:
    """415, of a compressed one too."""
    with unchanged(site, people):
        for (method, path), body in BODIES.items():
            answer = wire.ask(method, path, body, bearer(people[0]) | headers)
            assert answer.is_problem(415)
    TYPES.append(wire.sent)
    tried("another content type, or a compressed body", sum(TYPES))


TYPES: list[int] = []


def test_a_member_that_is_not_the_clients(
    wire: Wire, site: Production, people: list[Person]
) -> None:
    """A 400 that names each of them."""
    extra = {"isStaff": True, "userId": people[1].user_id, "version": 9}
    with unchanged(site, people):
        for (method, path), body in BODIES.items():
            answer = wire.ask(method, path, {**body, **extra}, bearer(people[0]))
            assert answer.is_problem(400, "validation-error")
            assert answer.fields() >= extra.keys(), path
    tried("`isStaff`, `userId`, `version`", wire.sent)


def test_another_users_session(
    wire: Wire, site: Production, server: CacheServer, people: list[Person]
) -> None:
    """404, and no key of theirs is touched; nor by what is no session's id at all."""
    person, other = people
    ids = [other.sid, other.sid.upper(), "..", "%2e%2e", f"..%2f{other.sid}", f"{other.sid}%0a"]
    ids += ["1", "*", "%00", "%ff", "%D9%A3", "x" * 10_000]
    with unchanged(site, people), closing(Monitor(server)) as monitor:
        for each in ids:
            answer = wire.ask("DELETE", f"/api/v1/auth/sessions/{each}/", None, bearer(person))
            assert answer.is_problem(404, "not-found")
        assert touching(monitor.since(), other) == []
    assert ask(site, other, "validate")[0].status == 204
    tried("another user's session id, or none, in the path", wire.sent)


def test_a_bad_user_id_in_a_command(
    site: Production, server: CacheServer, people: list[Person]
) -> None:
    """Exit code 1, one line that says so, and nothing is touched."""
    ids = ["*", "1 2", "1\n", "{x}", "../", "9" * 10_240]
    # Every command with every id, in one process: tests/cache/test_commands.py.
    asked = [["cache_inspect", each] for each in ids[:2]]
    asked += [["cache_warmup", f"--users={each}"] for each in ids[2:4]]
    asked += [["cache_flush", f"--users={each}"] for each in ids[4:]]

    def run(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=site.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    with (
        unchanged(site, people),
        closing(Monitor(server)) as monitor,
        ThreadPoolExecutor(3) as threads,
    ):
        for done in threads.map(run, asked):
            line = done.stderr.strip()
            assert (done.returncode, done.stdout) == (1, ""), done
            assert line.startswith("CommandError: "), done
            assert line.isprintable(), done
            assert len(line) < 200, done
        sent = monitor.since()
        assert [touching(sent, person) for person in people] == [[], []]
    tried("user id `*`, `1 2`, `1\\n`, `{x}`, `../`, 10 kB, in a command", len(asked))


def forged(token: str) -> dict[str, str]:
    """Tokens that are not to be trusted, by what is wrong with them."""
    said = jwt.decode(token, options={"verify_signature": False})
    header, payload, signature = token.split(".")
    key: Any = keys.ring().signing

    def signed(with_key: Any = key.signing, algorithm: str = key.algorithm, **changes: Any) -> str:
        headers = {"kid": key.kid}
        return jwt.encode({**said, **changes}, with_key, algorithm, headers)

    assert jwt.decode(signed(), options={"verify_signature": False}) == said
    return {
        "no token": "",
        "half a token": f"{header}.{payload}",
        "expired": signed(exp=int(time.time()) - 1),
        "wrongly signed": signed(with_key=b"y" * 64),
        "another's signature": f"{header}.{payload}.{signature[::-1]}",
        "alg: none": jwt.encode(said, None, "none"),
        "alg: none, signed": jwt.encode(said, None, "none") + signature,
        "foreign iss": signed(iss="somebody"),
        "foreign aud": signed(aud="another"),
        "no number": signed(sub="admin"),
        "a number with a sign": signed(sub="+" + said["sub"]),
        "no text": signed(sub=int(said["sub"])),
        "unicode digits": signed(sub="٣"),
        "for all": signed(sub="*"),
        "ends in ten million years": signed(exp=10**13),
        "ends at infinity": signed(exp=float("1e300")),
        "from the future": signed(iat=int(time.time()) + 3600),
        "another session": signed(sid="0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c"),
        "path for a session": signed(sid="../"),
    }


def test_a_token_that_is_not_good(wire: Wire, site: Production, people: list[Person]) -> None:
    """401 with `WWW-Authenticate`, from every endpoint, whatever is wrong with it."""
    person = people[0]
    tokens = {f"Bearer {each}" for each in forged(person.access).values()}
    headers = {*tokens, f"Bearer {person.refresh}", "Basic YTpi", f"Token {person.access}", "\xff"}
    with unchanged(site, people):
        for method, path in PROTECTED:
            for header in [*sorted(headers), None]:
                body = BODIES.get((method, path))
                answer = wire.ask(method, path, body, {"Authorization": header})
                assert answer.is_problem(401), (method, path, header)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    tried("no, expired, wrongly signed, foreign or another kind of token", wire.sent)


def test_a_token_with_another_subject(site: Production, wire: Wire, people: list[Person]) -> None:
    """Signed with the site's own key it would be good for its own user: the check of the checks."""
    said = jwt.decode(people[0].access, options={"verify_signature": False})
    key: Any = keys.ring().signing
    same = jwt.encode(said, key.signing, key.algorithm, {"kid": key.kid})
    headers = {"Authorization": f"Bearer {same}"}
    assert wire.ask("GET", "/api/v1/auth/validate/", None, headers).status == 204


def test_a_state_that_is_not_the_current(
    wire: Wire, site: Production, people: list[Person]
) -> None:
    """412 with the current revision, in `ETag` too; of a malformed condition 400."""
    person = people[0]
    note = ("PUT", "/api/v1/canvas/notes/note/")
    ask(site, person, "patch", "patch")
    body = BODIES["PUT", "/api/v1/canvas/"]
    assert wire.ask("PATCH", "/api/v1/canvas/", body, bearer(person)).status == 200
    assert wire.ask(*note, {"text": "first"}, bearer(person)).status == 200
    now = {"/api/v1/canvas/": ("revision", 3), note[1]: ("version", 1)}
    with unchanged(site, people):
        for method, path in [("PUT", "/api/v1/canvas/"), ("PATCH", "/api/v1/canvas/"), note]:
            member, number = now[path]
            for stale in (f'"{number - 1}"', f'"{number + 1}"', f'W/"{number}"', '"x", "y"', '""'):
                headers = bearer(person) | {"If-Match": stale}
                answer = wire.ask(method, path, BODIES[method, path], headers)
                assert answer.is_problem(412, "precondition-failed"), stale
                assert (answer.json[member], answer.headers["ETag"]) == (number, f'"{number}"')
            for malformed in (str(number), '"', "\xff", '"1",,"2"', "'1'"):
                headers = bearer(person) | {"If-Match": malformed}
                answer = wire.ask(method, path, BODIES[method, path], headers)
                assert answer.is_problem(400, "malformed-precondition"), malformed
    tried("a stale or malformed `If-Match`", wire.sent)


def test_a_turn_too_many_or_too_long(wire: Wire, site: Production, people: list[Person]) -> None:
    """The list keeps the last five; 413 of a megabyte, 400 of a character too many."""
    person, path = people[0], "/api/v1/beep/commands/"
    for number in range(6):
        assert wire.ask("POST", path, {"text": f"status {number}"}, bearer(person)).status == 200
    shown = wire.ask("GET", "/api/v1/beep/history/", None, bearer(person)).json["turns"]
    assert [turn["command"] for turn in shown] == [f"status {number}" for number in range(1, 6)]
    assert store().command("LLEN", CONVO_HISTORY.key(person.user_id)) == 5
    with unchanged(site, people):
        assert wire.ask("POST", path, {"text": "x" * 1_000_000}, bearer(person)).is_problem(413)
        for text in ("x" * (COMMAND_MAX + 1), "", " \n\t", 7, None, ["help"], {"text": "help"}):
            answer = wire.ask("POST", path, {"text": text}, bearer(person))
            assert answer.is_problem(400, "validation-error")
            assert answer.fields() == {"text"}
    tried("a sixth turn, a turn of 1 MB, of none and of another type", wire.sent)


def test_parallel_callers_over_a_rate_limit(
    wire: Wire, make_user: Callable[..., User], site: Production, people: list[Person]
) -> None:
    """429 with `Retry-After`; of 16 callers at once exactly as many attempts are let in as may."""
    users = [make_user(password="right-and-long-enough-1") for _ in range(3)]
    limit = settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME
    with unchanged(site, people):
        for user in users:
            body = {"username": user.username, "password": "wrong"}
            attempt = partial(wire.ask, "POST", "/api/v1/auth/token/", body)
            with ThreadPoolExecutor(16) as threads:
                answers = list(threads.map(lambda _, attempt=attempt: attempt(), range(48)))
            statuses = Counter(answer.status for answer in answers)
            assert statuses == {401: limit, 429: 48 - limit}
            assert all(_tells_when(answer) for answer in answers if answer.status == 429)
    tried("16 parallel callers over a rate limit", 48 * len(users))


def _tells_when(answer: Answer) -> bool:
    assert answer.is_problem(429, "too-many-attempts")
    return 1 <= int(answer.headers["Retry-After"]) <= 60


class Burglar:
    """What pickle would run: it makes a file."""

    def __init__(self, trace: Path) -> None:
        self._trace = str(trace)

    def __reduce__(self) -> Any:
        return (open, (self._trace, "w"))


PLANTED: Final = [
    b"\xff\x00\xfe",
    b"{",
    b"[]",
    b"null",
    b"7",
    b'{"version": "x"}',
    b'{"userId": "1", "version": 1}',
    b'{"userId": 1e400}',
    b"[" * 100_000,
    # Fences that no writer has left, and that have no end.
    b'{"_fence":5,"_floor":"x"}',
    b'{"_fence":["x"],"_floor":1}',
    b'{"_fence":{},"_floor":1}',
    b'{"_fence":{"x":1},"_floor":1}',
    b'{"_fence":{"x":1000000000000000000},"_floor":1}',
]
SHOWN: Final = {
    "psyche": (PSYCHE, "/api/v1/klepsydra/psyche/", 200),
    "canvas": (CANVAS, "/api/v1/canvas/", 200),
    "session": (SESSION, "/api/v1/auth/validate/", 204),
    "convo_history": (CONVO_HISTORY, "/api/v1/beep/history/", 200),
}


def _plant(key: str, value: bytes | None, *, as_list: bool) -> None:
    store().command("DEL", key)
    if value is None:  # of another type
        store().command("HSET", key, "a", "b")
    elif as_list:
        store().command("RPUSH", key, value)
    else:
        store().command("SET", key, value)


def _older(key: str, value: bytes) -> bytes:
    """As a format before had it, without a member that there is now."""
    members = json.loads(value)
    members.pop(sorted(name for name in members if name[0] != "_" and name != "userId")[0])
    return json.dumps(members).encode()


def _told(answer: Answer) -> Any:
    whose = [answer.headers[f"X-{name}"] for name in ("User-Id", "Session-Id", "Permissions")]
    return whose, answer.body and answer.json


@pytest.mark.parametrize("name", SHOWN)
def test_a_cached_value_that_cannot_be_read(
    name: str, wire: Wire, site: Production, people: list[Person], tmp_path: Path
) -> None:
    """Served from PostgreSQL, replaced, counted; nothing in it is run, and nobody sees a 500."""
    space, path, status = SHOWN[name]
    person, key = people[0], SHOWN[name][0].key(people[0].user_id)
    ask(site, person, "play", "patch", "command")
    canvas.persist_now()
    right = wire.ask("GET", path, None, bearer(person))
    assert right.status == status
    as_list = space is CONVO_HISTORY
    good = store().command("LINDEX", key, 0) if as_list else store().command("GET", key)
    trace = tmp_path / "unpickled"
    values = [*PLANTED, pickle.dumps(Burglar(trace)), _older(key, good), None]
    for number, value in enumerate(values, 1):
        _plant(key, value, as_list=as_list)
        answer = wire.ask("GET", path, None, bearer(person))
        assert answer.status == status, (value and value[:60], answer)
        assert _told(answer) == _told(right), (value and value[:60], answer)
        counted = site.metric("aevon_cache_loads_total", keyspace=name, result="corrupt")
        assert counted - COUNTED[name] == number, value and value[:60]
        kind = store().command("TYPE", key)
        assert kind in ({b"list"} if as_list else {b"string"}), (value and value[:60], kind)
    assert not trace.exists()
    COUNTED[name] += len(values)
    UNREADABLE.append(len(values))
    tried("a cached value corrupt, of another type, or of an older format", sum(UNREADABLE))


COUNTED: Final = dict.fromkeys(SHOWN, 0)
UNREADABLE: Final[list[int]] = []
