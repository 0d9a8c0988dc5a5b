"""deploy/gateway/readers: both decide alike, and as Aevon does."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from aevon.cache import codec, entries
from aevon.cache.connection import Life
from auth_sessions.documents import SessionDocument
from auth_sessions.models import SovereigntyClass
from auth_sessions.projection import SESSIONS
from auth_sessions.selectors import admits
from tests.servers import ROOT

from .conftest import SIGNING_KEY, Gateway
from .hands import FLUSH, Hands
from .readers import FOLDER, session_reader

NODE = shutil.which("node")
GIVEN = json.loads((FOLDER / "vectors.json").read_text())
VECTORS = GIVEN["vectors"]
INCARNATION, NOW = GIVEN["incarnation"], GIVEN["now"]
LIFE = Life(INCARNATION, sticky=False)
DOCUMENT = SessionDocument(
    user_id=7,
    username="ada",
    status="active",
    sovereignty_class="SOVEREIGN",
    permissions=["canvas.change_canvas", "canvas.view_canvas"],
    sessions={
        "0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c": NOW + 600,
        "7b6f1d8e-3c55-4b0e-9a57-1f2e3d4c5b6a": NOW - 5,
    },
    version=41,
    expires_at=NOW + 600,
)
IDENTITY = {
    "verdict": "verdict",
    "user_id": "userId",
    "sid": "sid",
    "sovereignty_class": "sovereigntyClass",
    "permissions": "permissions",
}


def raw_of(vector: dict[str, Any]) -> bytes | None:
    if "rawHex" in vector:
        return bytes.fromhex(vector["rawHex"])
    return None if vector["raw"] is None else vector["raw"].encode()


def requirement(wanted: dict[str, Any]) -> Any:
    least, names = wanted.get("class", "INITIATE"), wanted.get("permissions", ())
    return session_reader.Requirement(least, names)


def decided(vector: dict[str, Any]) -> Any:
    require = requirement(vector.get("require", {}))
    return session_reader.decide(vector["claims"], raw_of(vector), INCARNATION, NOW, require)


def test_the_vectors_are_what_aevon_writes() -> None:
    """To the byte; and there is one at least for every verdict."""
    assert raw_of(VECTORS[0]) == codec.stamped(codec.encode(DOCUMENT), INCARNATION)
    assert {vector["verdict"] for vector in VECTORS} == {"allow", "refuse", "forbid", "ask"}
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS) > 80


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_reader_in_python_decides_as_the_vector_says(vector: dict[str, Any]) -> None:
    """And names who it is, and what a service is told."""
    decision = decided(vector)
    assert decision.verdict == vector["verdict"]
    if "identity" in vector:
        members = {IDENTITY[name]: value for name, value in asdict(decision).items() if value}
        members = {"permissions": []} | members
        assert json.loads(json.dumps(members)) == {"verdict": "allow"} | vector["identity"]
        assert decision.headers() == vector["headers"]
    if vector["verdict"] != "allow":
        assert decision.headers() == {}


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_reader_in_javascript_decides_as_the_vectors_say() -> None:
    """All of them in one run."""
    command = [str(NODE), "tests/gateway/run_vectors.mjs", str(FOLDER / "vectors.json")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    verdicts = {v["name"]: each["verdict"] for v, each in zip(VECTORS, found, strict=True)}
    assert verdicts == {vector["name"]: vector["verdict"] for vector in VECTORS}
    for vector, each in zip(VECTORS, found, strict=True):
        if "identity" in vector:
            assert each["identity"] == vector["identity"]
            assert each["headers"] == vector["headers"]


def aevons_verdict(raw: bytes | None, claims: dict[str, Any], now: float, wanted: Any) -> str:
    """What Aevon's own code makes of the value, as far as it goes by it."""
    held = entries.understand(SESSIONS, int(claims["sub"]), raw, LIFE)
    if not isinstance(held, SessionDocument):
        return "ask"
    if not admits(held, claims["sid"]):
        return "refuse"
    enough = SovereigntyClass(held.sovereignty_class).reaches(wanted.sovereignty_class)
    return "allow" if enough and set(wanted.permissions) <= set(held.permissions) else "forbid"


SIDS = ("0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c", "7b6f1d8e-3c55-4b0e-9a57-1f2e3d4c5b6a")
CLASSES = st.sampled_from(SovereigntyClass.values)
NAMES = st.lists(st.sampled_from(["canvas.view_canvas", "beep.ä", "a,b.c"]), unique=True)
DOCUMENTS = st.builds(
    SessionDocument,
    user_id=st.sampled_from([7, 8]),
    username=st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    status=st.sampled_from(["active", "active", "disabled"]),
    sovereignty_class=CLASSES,
    permissions=NAMES,
    sessions=st.dictionaries(st.sampled_from(SIDS), st.sampled_from([1, 4_000_000_000])),
    version=st.integers(1, codec.VERSION_MAX),
    expires_at=st.integers(0, 4_000_000_000),
)


@given(
    document=DOCUMENTS,
    life=st.sampled_from([INCARNATION, INCARNATION, "00c0ffee00aa"]),
    sovereignty_class=CLASSES,
    permissions=NAMES.filter(lambda names: len(names) < 2),
    damage=st.none() | st.tuples(st.integers(0, 400), st.sampled_from([b"\x00", b"0", b'"', b"9"])),
)
@settings(max_examples=50)
def test_the_reader_decides_as_aevon_does(
    document: SessionDocument,
    life: str,
    sovereignty_class: str,
    permissions: list[str],
    damage: tuple[int, bytes] | None,
) -> None:
    """Over documents as Aevon writes them, some of them with a byte changed."""
    raw = codec.stamped(codec.encode(document), life)
    if damage is not None:
        at, byte = damage
        raw = raw[:at] + byte + raw[at + 1 :]
    claims = {"sub": "7", "sid": SIDS[0], "typ": "access", "exp": 4_000_000_000}
    wanted, now = session_reader.Requirement(sovereignty_class, permissions), time.time()
    decision = session_reader.decide(claims, raw, INCARNATION, now, wanted)
    assert decision.verdict == aevons_verdict(raw, claims, now, wanted)


# JavaScript cannot tell 7.0 from 7; Aevon writes the second alone, and takes the first for damage.
LENIENT = ("whole numbers with a point", "an expiry with a point")


def test_whom_the_vectors_let_in_aevon_knows() -> None:
    """A reader may ask where Aevon knows, but believes no value that Aevon would not."""
    known = [v for v in VECTORS if v["verdict"] in ("allow", "forbid") and v["name"] not in LENIENT]
    assert len(known) > 10
    for vector in known:
        held = entries.understand(SESSIONS, 7, raw_of(vector), LIFE)
        assert isinstance(held, SessionDocument), vector["name"]
        assert held.status == "active", vector["name"]
        assert held.sessions[vector["claims"]["sid"]] > NOW, vector["name"]


@pytest.mark.parametrize("wanted", [{"class": "EMPEROR"}, {"class": ""}, {"permissions": [""]}])
def test_a_requirement_without_sense_is_refused_at_once(wanted: dict[str, Any]) -> None:
    """Not at a request, and never taken for none."""
    with pytest.raises(ValueError, match="no sense"):
        requirement(wanted)


NOWHERE = "redis://127.0.0.1:1/0"
JWKS = "/.well-known/jwks.json"
ACL_USER = "ACL SETUSER gateway on >{password} ~session:* +get +info"


def test_the_document_gives_the_reader_what_it_needs() -> None:
    """The user that the tests below read with, and no more."""
    assert ACL_USER.format(password="…") in (ROOT / "docs" / "gateway.md").read_text()


@pytest.fixture
def session(nginx: Gateway, site: dict[str, Any]) -> Iterator[tuple[httpx.Client, str, int]]:
    """A client, the access token of a session of the demo user, and who that is."""
    with nginx.client() as client:
        token = client.post("/api/v1/auth/token/", json=site["demo"]).json()["access"]
        claims = jwt.decode(token, options={"verify_signature": False})
        client.headers["Authorization"] = f"Bearer {token}"
        yield client, token, int(claims["sub"])


@pytest.fixture
def reader(site: dict[str, Any], session: tuple[httpx.Client, str, int]) -> Iterator[Any]:
    """With the site's public keys, as a user of its cache who may do what docs/gateway.md says."""
    keys = session_reader.keys_of_jwks(session[0].get(JWKS).json())
    with redis.Redis.from_url(site["dragonflyUrl"]) as cache:
        user = ACL_USER.format(password="p").split()
        cache.execute_command(*user)
    own = f"redis://gateway:p@{urlsplit(site['dragonflyUrl']).netloc.rpartition('@')[2]}/0"
    made = session_reader.SessionReader(own, keys)
    yield made
    made.close()


def commands_of(url: str, act: Callable[[], object]) -> list[str]:
    """What the server is sent on session keys while `act()` goes on, and by whom."""
    with redis.Redis.from_url(url) as client, client.monitor() as monitor:
        act()
        client.echo("that was it")
        heard = []
        while "that was it" not in (command := monitor.next_command()["command"]):
            heard.append(command)
    return [command for command in heard if "session:" in command or command.startswith("INFO")]


def test_a_live_session_is_read_by_one_get(
    session: tuple[httpx.Client, str, int], reader: Any, site: dict[str, Any]
) -> None:
    """And the answer is `validate/`'s own. Once it was asked, and filled, after a DEL, too."""
    client, token, user_id = session
    decision = reader.check(token)
    validated = client.get("/orders/").json()["headers"]
    told = {name: value for name, value in decision.headers().items() if value}
    assert told == {name: validated[name] for name in told}
    assert decision.user_id == user_id
    heard = commands_of(site["dragonflyUrl"], lambda: reader.check(token))
    assert [each for each in heard if not each.startswith("INFO")] == [f"GET session:{user_id}"]
    beyond = session_reader.Requirement("SOVEREIGN")
    assert reader.check(token, beyond).verdict == "forbid"
    with redis.Redis.from_url(site["dragonflyUrl"]) as cache:
        cache.delete(f"session:{user_id}")
    assert reader.check(token).verdict == "ask"
    assert client.get("/orders/").status_code == 200
    assert reader.check(token).verdict == "allow"


def test_an_ended_session_is_never_read_as_live(
    session: tuple[httpx.Client, str, int], reader: Any, hands: Hands
) -> None:
    """Logged out: refused, or asked where the key is gone; also after a flush."""
    client, token, _ = session
    assert reader.check(token).verdict == "allow"
    assert client.post("/api/v1/auth/logout/", json={}).status_code == 204
    assert reader.check(token).verdict in ("refuse", "ask")
    hands.do(FLUSH)
    assert reader.check(token).verdict == "ask"
    assert client.get("/orders/").status_code == 401
    assert reader.check(token).verdict in ("refuse", "ask")


def test_a_token_that_is_not_aevon_s_is_refused(
    session: tuple[httpx.Client, str, int], reader: Any
) -> None:
    """Altered, of another key, of no algorithm or another; of an unknown key it is asked."""
    client, token, _ = session
    head, body, signature = token.split(".")
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    public = base64.urlsafe_b64decode(client.get(JWKS).json()["keys"][0]["x"] + "=")

    def signed(
        key: Any = SIGNING_KEY, algorithm: str = "EdDSA", kid: Any = "", **changes: Any
    ) -> str:
        payload = {name: value for name, value in (claims | changes).items() if value is not None}
        headers = {} if kid is None else {"kid": kid or header["kid"]}
        return jwt.encode(payload, key, algorithm=algorithm, headers=headers)

    forged = [
        f"{head}.{body}.{signature[::-1]}",
        f"{head}.{body}.",
        "x.y.z",
        "",
        "ä",
        signed(None, "none"),
        signed(public, "HS256"),
        signed(Ed25519PrivateKey.generate()),
        signed(typ="refresh"),
        signed(exp=1),
        signed(exp=int(time.time())),
        signed(exp=None),
        signed(iss="somebody"),
        signed(aud="somebody"),
        signed(sub="7 "),
        signed(sid=None),
    ]
    assert {each: reader.check(each).verdict for each in forged} == dict.fromkeys(forged, "refuse")
    assert reader.check(signed()).verdict == "allow"
    assert reader.check(signed(iat=int(time.time()) + 40)).verdict == "allow"
    assert (
        reader.check(signed(kid="new")).verdict == reader.check(signed(kid=None)).verdict == "ask"
    )


def test_a_cache_that_is_away_is_no_answer(session: tuple[httpx.Client, str, int]) -> None:
    """`validate/` has PostgreSQL."""
    keys = session_reader.keys_of_jwks(session[0].get(JWKS).json())
    reader = session_reader.SessionReader(NOWHERE, keys)
    assert reader.check(session[1]).verdict == "ask"
    reader.close()


def test_a_shared_secret_is_a_key_too() -> None:
    """Where Aevon signs with one: by its `kid`, or "" for tokens without."""
    secret = "a-secret-that-is-shared-with-the-gateway"
    claims = {"sub": "7", "sid": SIDS[0], "typ": "access", "exp": 4_000_000_000}
    token = jwt.encode(claims | {"iss": "aevon", "aud": "aevon"}, secret, algorithm="HS256")
    keys = {"": session_reader.Key(secret, "HS256")}
    reader = session_reader.SessionReader(NOWHERE, keys)
    assert reader.check(token).verdict == "ask"
    assert reader.check(token[:-4] + "AAAA").verdict == "refuse"
    reader.close()
