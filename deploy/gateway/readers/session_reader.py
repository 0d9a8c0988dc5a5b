"""A gateway's own look at `session:{userId}`: who calls, without asking Aevon (docs/gateway.md).

Knows nothing of Aevon's code. `decide` is the algorithm and pure; `SessionReader` verifies the
token with PyJWT, reads with redis-py (`pip install pyjwt[crypto] redis`), and hands over. On "ask"
the gateway asks `validate/`, which reads PostgreSQL and fills the key: the reader itself writes
nothing, and remembers nothing.

`session_reader.mjs` is the same in JavaScript; `vectors.json` holds what both must decide.
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import jwt
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

CLASSES = ("INITIATE", "SOVEREIGN", "ARCHITECT")
# RFC 8259, 6: what every language holds exactly.
WHOLE_MAX = 2**53 - 1
# How long a connection believes that its server is the same, and still a primary.
LEARN_SECONDS = 1.0

Verdict = Literal["allow", "refuse", "forbid", "ask"]


@dataclass(frozen=True)
class Requirement:
    """What a route wants besides a live session: at least this class, and all these permissions."""

    sovereignty_class: str = "INITIATE"
    permissions: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.sovereignty_class not in CLASSES or not all(self.permissions):
            raise ValueError(f"This requirement makes no sense: {self}")


@dataclass(frozen=True)
class Decision:
    """`allow`: 2xx, with who it is. `refuse`: 401. `forbid`: 403. `ask`: `validate/` decides."""

    verdict: Verdict
    user_id: int = 0
    sid: str = ""
    sovereignty_class: str = ""
    permissions: tuple[str, ...] = ()

    def headers(self) -> dict[str, str]:
        """What the service is told, as `validate/` writes it: nothing unless allowed."""
        if self.verdict != "allow":
            return {}
        return {
            "X-User-Id": str(self.user_id),
            "X-Session-Id": self.sid,
            "X-Sovereignty-Class": self.sovereignty_class,
            "X-Permissions": ",".join(quote(name, safe=".") for name in sorted(self.permissions)),
        }


ANYBODY = Requirement()
ASK, REFUSE, FORBID = Decision("ask"), Decision("refuse"), Decision("forbid")


def decide(
    claims: Mapping[str, Any],
    raw: bytes | None,
    incarnation: str,
    now: float,
    require: Requirement = ANYBODY,
) -> Decision:
    """What the value of `session:{claims["sub"]}` says of the bearer of a verified token.

    `incarnation` is that of the server which `raw` comes from; `now` is in Unix seconds.
    """
    user_id, sid = claims.get("sub"), claims.get("sid")
    if claims.get("typ") != "access" or not _later(claims.get("exp"), now):
        return REFUSE
    if not isinstance(user_id, str) or not _is_id(user_id) or not isinstance(sid, str):
        return REFUSE
    document = _document(raw, incarnation)
    if document is None or document["userId"] != int(user_id):
        return ASK
    if document["status"] != "active" or not _later(document["sessions"].get(sid), now):
        return REFUSE
    if not _meets(document, require):
        return FORBID
    names = tuple(document["permissions"])
    return Decision("allow", document["userId"], sid, document["sovereigntyClass"], names)


def _document(raw: bytes | None, incarnation: str) -> dict[str, Any] | None:
    """The state in `raw`; None for a fence, a lease, a tombstone, another life's, or damage.

    The stamp is compared as bytes at the end: a value that somebody rewrote is not believed.
    """
    if raw is None or not raw.endswith(f',"_incarnation":"{incarnation}"}}'.encode()):
        return None
    try:
        document = json.loads(raw.decode(), parse_constant=_no_json)
    except (ValueError, RecursionError):
        return None
    return document if _is_state(document) else None


def _is_state(document: Any) -> bool:
    """Whether it has the members of a session document, each of its type."""
    return (
        isinstance(document, dict)
        and all(_is_whole(document.get(name)) for name in ("userId", "version", "expiresAt"))
        and document["version"] >= 1
        and isinstance(document.get("username"), str)
        and document.get("status") in ("active", "disabled")
        and document.get("sovereigntyClass") in CLASSES
        and isinstance(document.get("permissions"), list)
        and all(_is_text(name) for name in document["permissions"])
        and isinstance(document.get("sessions"), dict)
        and all(_is_whole(expiry) for expiry in document["sessions"].values())
    )


def _meets(document: Mapping[str, Any], require: Requirement) -> bool:
    held = CLASSES.index(document["sovereigntyClass"])
    enough = held >= CLASSES.index(require.sovereignty_class)
    return enough and set(require.permissions) <= set(document["permissions"])


def _later(moment: Any, now: float) -> bool:
    return isinstance(moment, int | float) and not isinstance(moment, bool) and moment > now


def _is_id(text: str) -> bool:
    return bool(re.fullmatch(r"[1-9][0-9]{0,15}", text, re.ASCII)) and int(text) <= WHOLE_MAX


def _is_whole(number: Any) -> bool:
    return (
        isinstance(number, int | float)
        and not isinstance(number, bool)
        and abs(number) <= WHOLE_MAX
        and number == int(number)
    )


def _is_text(value: Any) -> bool:
    """Text that UTF-8 can hold: no half of a surrogate pair."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _no_json(constant: str) -> Any:
    raise ValueError(constant)


@dataclass(frozen=True)
class Key:
    """What verifies the tokens of one `kid`, and the one algorithm that it may be used with."""

    material: Any
    algorithm: str


def keys_of_jwks(document: Mapping[str, Any]) -> dict[str, Key]:
    """The keys of `/.well-known/jwks.json`, by `kid`."""
    keys = (jwt.PyJWK(entry) for entry in document["keys"])
    return {str(key.key_id): Key(key.key, key.algorithm_name) for key in keys}


class SessionReader:
    """Decides by one GET. Thread-safe.

    `keys`, by `kid`: of the JWKS, or the shared secret with "HS256". `url` is Dragonfly's, with a
    user who may GET and INFO. Where Dragonfly does not answer in time the verdict is "ask".
    """

    def __init__(
        self, url: str, keys: Mapping[str, Key], *, issuer: str = "aevon", audience: str = "aevon"
    ) -> None:
        self._keys, self._issuer, self._audience = keys, issuer, audience
        self._pool = redis.BlockingConnectionPool.from_url(
            url,
            socket_connect_timeout=0.2,
            socket_timeout=0.3,
            timeout=0.3,
            # "ask" is better than another attempt.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            redis_connect_func=_greet,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._pool.disconnect()

    def check(self, token: str, require: Requirement = ANYBODY) -> Decision:
        """What to do with a request that carries this bearer token."""
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                return ASK  # signed with a key that is new: validate/ knows
            claims = self._verified(token, key)
        except (jwt.InvalidTokenError, UnicodeError):
            return REFUSE
        try:
            raw, incarnation = self._read(f"session:{claims['sub']}")
        except redis.RedisError:
            return ASK
        return decide(claims, raw, incarnation, time.time(), require)

    def _verified(self, token: str, key: Key) -> dict[str, Any]:
        """Its claims. PyJWT compares signature, `alg`, `exp`, `iss` and `aud`."""
        claims = jwt.decode(
            token,
            key.material,
            algorithms=[key.algorithm],
            issuer=self._issuer,
            audience=self._audience,
            # The signer's clock may be ahead (`iat`). `decide` looks at `exp` again, without it.
            leeway=60,
            options={"require": ["exp", "iss", "aud", "sub", "sid", "typ"]},
        )
        if not _is_id(claims["sub"]):
            raise jwt.InvalidTokenError("sub")
        return claims

    def _read(self, key: str) -> tuple[bytes | None, str]:
        """The value, and the incarnation of the server that it comes from."""
        connection: Any = self._pool.get_connection()
        try:
            if time.monotonic() - connection.learned_at > LEARN_SECONDS:
                _learn(connection)
            connection.send_command("GET", key)
            return connection.read_response(disable_decoding=True), connection.incarnation
        except BaseException:
            # A reply may be under way that the next caller must not take for theirs.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)


def _greet(connection: Any) -> None:
    connection.on_connect()
    _learn(connection)


def _learn(connection: Any) -> None:
    """Which life of the server this connection leads to. A restart breaks every connection, so what
    comes over one is of one life. A replica may be behind, and is not read."""
    facts: dict[str, str] = {}
    for section in ("server", "replication"):
        connection.send_command("INFO", section)
        told = connection.read_response(disable_decoding=True).decode()
        facts.update(re.findall(r"^(\w+):([^\r\n]*)", told, re.MULTILINE))
    if facts.get("role", "master") != "master":
        raise redis.ReadOnlyError("The server is a replica.")
    name = facts.get("run_id") or facts.get("master_replid")  # Dragonfly has the second alone
    if not name:
        raise redis.ConnectionError("INFO does not tell the server's life.")
    connection.incarnation = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:12]
    connection.learned_at = time.monotonic()
