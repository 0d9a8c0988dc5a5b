"""Every endpoint for every kind of caller: only the right one passes, and no key of another user is
touched. The endpoints are those of the URL configuration: one that is new must be put in here."""

import contextlib
import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.backends.db import SessionStore
from django.urls import get_resolver

from aevon import env
from aevon.embedded import CacheServer
from aevon.health import PROBES
from aevon.telemetry import routes
from auth_sessions import services as sessions
from auth_sessions.models import User
from beep import services as beep
from canvas import notes
from canvas import services as canvas
from klepsydra import services as klepsydra
from tests.faults.bench.api import window
from tests.faults.bench.production import FORWARDED, Production
from tests.klepsydra.rows import SLUG

from .remains import Monitor

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
PASSWORD: Final = "correct-horse-7"
TREASURE: Final = "treasure"
# Such a number is somebody's id wherever it is seen.
_ids = itertools.count(7_000_000_001)
_ID: Final = re.compile(r"(?<![\w.-])70000\d{5}(?![\w.-])")


# --- Who calls -----------------------------------------------------------------------------------


@dataclass
class Caller:
    """Somebody with what they hold: tokens, the page's cookie, the admin's cookie."""

    name: str
    user: User | None = None
    access: str = ""
    refresh: str = "x"
    page: str = ""
    admin: str = ""

    @property
    def username(self) -> str:
        """A name to log in with."""
        return self.user.username if self.user else "nobody"

    def headers(self, site: Production) -> dict[str, str]:
        """All of it at once, as from the site's own page."""
        csrf = "a" * 32
        cookies = {
            "__Secure-aevon_refresh": self.page,
            "__Host-sessionid": self.admin,
            "__Host-csrftoken": csrf,
        }
        held = {"Authorization": f"Bearer {self.access}"} if self.access else {}
        return {
            **FORWARDED,
            **held,
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items() if value),
            "Origin": site.url.replace("http:", "https:"),
            "X-CSRFToken": csrf,
            "X-Aevon-Page": "1",
        }


_HASH: list[str] = []


def _user(**fields: Any) -> User:
    number = next(_ids)
    if not _HASH:
        _HASH.append(make_password(PASSWORD))
    values = {"username": f"u{number}", "email": f"u{number}@example.org", "password": _HASH[0]}
    return User.objects.create(pk=number, **{"sovereignty_class": "SOVEREIGN", **values, **fields})


def _caller(name: str, user: User) -> Caller:
    _, pair = sessions.open_session(user)
    _, page = sessions.open_session(user, is_page=True)
    return Caller(name, user, pair.access, pair.refresh, page.refresh, _admin_session(user))


def _admin_session(user: User) -> str:
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


class Cast(NamedTuple):
    """One of each kind; `right` has something of everything, and comes last."""

    right: Caller
    others: list[Caller]
    sid: uuid.UUID  # of another session of theirs

    @property
    def all(self) -> list[Caller]:
        """In the order in which they come."""
        return [*self.others, self.right]


def _cast(**of_right: Any) -> Cast:
    right, disabled = _user(**of_right), _user()
    klepsydra.begin([right.pk])
    others = [
        Caller("nobody"),
        _caller("another user", _user()),
        _caller("a lower class", _user(sovereignty_class="INITIATE")),
        _caller("staff without a permission", _user(is_staff=True)),
        _caller("disabled", disabled),
        _ended(right),
    ]
    disabled.is_active = False
    disabled.save()
    right.refresh_from_db()  # the end of all sessions has ended those of the admin, too
    sid, _ = sessions.open_session(right)
    _give_everything(right.pk)
    return Cast(_caller("right", right), others, sid)


def _ended(user: User) -> Caller:
    ended = _caller("an ended session", user)
    sessions.end_all_sessions(user.pk)
    SessionStore(ended.admin).delete()
    return ended


def _give_everything(user_id: int) -> None:
    app = {**window(1), "title": TREASURE}
    canvas.change(user_id, {"patch": {"microApps": {"w": app}}})
    notes.write(user_id, "w", TREASURE)
    beep.command(user_id, f"status {TREASURE}")


# --- What is asked for ---------------------------------------------------------------------------


class Rule(NamedTuple):
    """Who passes, with which status: `right` for whom the thing is, `own` for any other with a
    session (they reach their own), `out` for all others."""

    right: int = 200
    own: int = 200
    out: int = 401
    body: Callable[[Caller], Any] | None = None
    lower: int | None = None  # where a class is asked for
    ended: int | None = None  # where a password is
    query: str = ""


def _public(status: int, body: Callable[[Caller], Any] | None = None, query: str = "") -> Rule:
    """Open to everybody on purpose."""
    return Rule(status, status, status, body, query=query)


def _fixed(**members: Any) -> Callable[[Caller], Any]:
    return lambda _: members


def _named(caller: Caller) -> dict[str, str]:
    return {"username": caller.username, "password": PASSWORD}


NO_SUCH: Final = Rule(405, 405, 405)
V1: Final = "api/v1/"
NEEDS: Final = urlencode({"class": "SOVEREIGN"})
API: Final[dict[tuple[str, str], list[Rule]]] = {
    # Who has a name and a password logs in; who is let in is not asked for a token.
    ("POST", f"{V1}auth/token/"): [Rule(body=_named, ended=200)],
    ("POST", f"{V1}auth/token/refresh/"): [Rule(body=lambda caller: {"refresh": caller.refresh})],
    ("POST", f"{V1}auth/browser/"): [Rule(body=_named, ended=200)],
    ("DELETE", f"{V1}auth/browser/"): [_public(204)],  # 204, too, when there was none
    ("POST", f"{V1}auth/browser/access/"): [Rule()],
    ("POST", f"{V1}auth/logout/"): [Rule(204, 204, body=_fixed())],
    ("POST", f"{V1}auth/password/"): [
        Rule(204, 204, body=_fixed(currentPassword=PASSWORD, newPassword="another-horse-8"))
    ],
    ("GET", f"{V1}auth/sessions/"): [Rule()],
    ("DELETE", f"{V1}auth/sessions/<uuid:sid>/"): [Rule(204, 404)],
    **{
        (method, f"{V1}auth/validate/"): [
            Rule(204, 204),
            Rule(204, 204, lower=403, query=NEEDS),
            Rule(403, 403, query=urlencode({"permission": "canvas.change_canvas"})),
        ]
        for method in METHODS
    },
    ("GET", f"{V1}klepsydra/psyche/"): [Rule()],
    ("GET", f"{V1}klepsydra/instruments/"): [Rule()],
    ("POST", f"{V1}klepsydra/interactions/"): [Rule(body=_fixed(instrument=SLUG, stake=1))],
    ("GET", f"{V1}canvas/"): [Rule()],
    ("PUT", f"{V1}canvas/"): [Rule(body=_fixed(microApps={}))],
    ("PATCH", f"{V1}canvas/"): [Rule(body=_fixed(microApps={}))],
    ("GET", f"{V1}canvas/notes/<str:appId>/"): [Rule()],
    ("PUT", f"{V1}canvas/notes/<str:appId>/"): [Rule(body=_fixed(text="x"))],
    ("POST", f"{V1}beep/commands/"): [Rule(body=_fixed(text="status"))],
    ("GET", f"{V1}beep/history/"): [Rule()],
    ("DELETE", f"{V1}beep/history/"): [Rule(204, 204)],
    # Public on purpose: the page asks the API for everything that is somebody's; documentation;
    # public keys; probes, which tell no address and no secret, and are for inside the network.
    ("GET", ""): [_public(200)],
    ("GET", "api/schema/"): [_public(200)],
    ("GET", "api/docs/"): [_public(200)],
    ("GET", ".well-known/jwks.json"): [_public(200)],
    ("GET", "health/live"): [_public(200)],
    ("GET", "health/ready"): [_public(200)],
    ("GET", "metrics"): [_public(200)],
}
# Of the admin: for who is staff and has no permission at all.
STAFF_MAY: Final = {
    *("", "password_change/", "password_change/done/", "logout/", "jsi18n/", "search/"),
}
OPEN: Final = {"login/"}
# Whatever follows: nothing that is there.
ELSEWHERE: Final = {"(?P<url>.*)$", "r/<path:content_type_id>/<path:object_id>/"}


class Endpoint(NamedTuple):
    """A route of the URL configuration, and what it answers to."""

    route: str
    methods: frozenset[str]


def _walk(patterns: Any, prefix: str = "") -> Iterator[Endpoint]:
    for each in patterns:
        route = prefix + str(each.pattern).removeprefix("^")
        if hasattr(each, "url_patterns"):
            yield from _walk(each.url_patterns, route)
        else:
            yield Endpoint(route, frozenset(_methods(each.callback)))


def _methods(view: Any) -> list[str]:
    view_class = getattr(view, "cls", None) or getattr(view, "view_class", None)
    if view_class is None:
        return ["GET"] if view.__name__ in ("page", "jwks") else [*METHODS]
    offered = (getattr(view, "initkwargs", None) or {}).get("http_method_names") or METHODS
    names = {method.upper() for method in offered}
    return [each for each in METHODS if each in names and hasattr(view_class, each.lower())]


ADMIN: Final = f"{settings.AEVON_ADMIN_PATH}/"
PROBE_ROUTES: Final = [path.lstrip("/") for path in (*PROBES, routes.METRICS)]
ENDPOINTS: Final = [
    *_walk(get_resolver().url_patterns),
    *(Endpoint(route, frozenset({"GET"})) for route in PROBE_ROUTES),
]
OF_THE_API: Final = [each for each in ENDPOINTS if not each.route.startswith(ADMIN)]
OF_THE_ADMIN: Final = sorted({each.route for each in ENDPOINTS if each.route.startswith(ADMIN)})


def test_every_endpoint_has_its_rule() -> None:
    """And no rule is for nothing."""
    there = {(method, each.route) for each in OF_THE_API for method in each.methods}
    assert there == API.keys()
    assert len(OF_THE_ADMIN) > 100


def _path(route: str, cast: Cast) -> str:
    """With ids of the right user in it."""
    assert cast.right.user is not None
    values = {
        "uuid:sid": str(cast.sid),
        "str:appId": "w",
        "str:service": "psyche",
        "slug:name": "warm",
        "path:content_type_id": "1",
    }
    of_right = str(cast.right.user.pk)
    path = route.replace("(?P<url>.*)$", "x")
    path = re.sub(r"\(\?P<app_label>([^)|]*)[^)]*\)/?\$?", r"\1/", path)
    return re.sub(r"<([^>]*)>", lambda found: values.get(found[1], of_right), path)


# --- What the cache is asked ---------------------------------------------------------------------


def touched(said: str) -> set[int]:
    """Whose ids were in a key, or anywhere in what was sent."""
    return {int(found) for found in _ID.findall(said)}


@pytest.fixture
def monitor(server: CacheServer, transactional_db: None) -> Iterator[Monitor]:
    """From now on."""
    watching = Monitor(server)
    with contextlib.closing(watching):
        yield watching


@pytest.fixture
def http(site: Production) -> Iterator[httpx.Client]:
    """Follows nothing, keeps nothing."""
    with httpx.Client(base_url=site.url, timeout=30) as client:
        yield client


class Cell(NamedTuple):
    """What one caller was told at one door, and whose ids reached the cache meanwhile."""

    status: int
    body: str
    location: str
    touched: set[int]


@pytest.fixture
def ask(http: httpx.Client, site: Production, monitor: Monitor) -> Callable[..., Cell]:
    """`ask(caller, method, path, body)`."""

    def ask(caller: Caller, method: str, path: str, body: Any = None) -> Cell:
        monitor.since()
        content = None if body is None else json.dumps(body)
        headers = {**caller.headers(site), "Content-Type": "application/json"}
        if body is None:
            del headers["Content-Type"]
        http.cookies.clear()
        answer = http.request(method, f"/{path}", content=content, headers=headers)
        where = answer.headers.get("location", "")
        return Cell(answer.status_code, answer.text, where, touched(monitor.since()))

    return ask


# --- The matrix ----------------------------------------------------------------------------------

pytestmark = pytest.mark.django_db(transaction=True)
NO_METHOD: Final = 405
REFUSED: Final = {"nobody", "disabled", "an ended session"}


def _expected(rule: Rule, caller: Caller) -> int:
    if caller.name == "an ended session" and rule.ended is not None:
        return rule.ended
    if caller.name in REFUSED:
        return rule.out
    if caller.name == "a lower class" and rule.lower is not None:
        return rule.lower
    return rule.right if caller.name == "right" else rule.own


def _foreign(cell: Cell, caller: Caller, cast: Cast, *, id_too: bool = True) -> list[str]:
    """What of another user's was touched, or shown."""
    own = caller.user.pk if caller.user else 0
    found = [f"touched {each}" for each in sorted(cell.touched - {own})]
    whose = str(cast.right.user.pk)  # type: ignore[union-attr]
    shown = TREASURE in cell.body or (id_too and whose in cell.body)
    if shown and caller.user is not cast.right.user:
        found.append("shown")
    return found


@pytest.mark.parametrize("endpoint", OF_THE_API, ids=lambda each: each.route or "page")
def test_the_right_one_alone(ask: Callable[..., Cell], endpoint: Endpoint) -> None:
    """By every method that the endpoint has; those that it has not are for nobody."""
    wrong, spare = [], _cast()
    for method in METHODS:
        rules = API.get((method, endpoint.route))
        for rule in rules or [NO_SUCH]:
            cast = spare if rule is NO_SUCH else _cast()
            for caller in cast.all:
                path = _path(endpoint.route, cast) + f"?{rule.query}"
                body = rule.body(caller) if rule.body else None
                cell = ask(caller, method, path, body)
                told = f"{method} /{path} {caller.name}: {cell.status}"
                if not _as_expected(rule, caller, cell):
                    wrong.append(f"{told}, not {_expected(rule, caller)}: {cell.body[:200]}")
                wrong += [f"{told}: {each}" for each in _foreign(cell, caller, cast)]
    assert wrong == []


def _as_expected(rule: Rule, caller: Caller, cell: Cell) -> bool:
    if rule is NO_SUCH:
        return cell.status in (401, 403, 405)
    return cell.status == _expected(rule, caller)


def _in_the_admin(route: str, caller: Caller, cell: Cell) -> str:
    """What is wrong with it, if anything."""
    to_login = cell.status == 302 and "/login/" in cell.location
    if cell.status >= 500:
        return "an error"
    if caller.name == "right":
        return "refused" if to_login else ""
    if caller.name != "staff without a permission":
        return "" if to_login or route in OPEN else "let in"
    return "" if cell.status in {*_of_staff(route, cell), NO_METHOD} else "refused, or let in"


def _of_staff(route: str, cell: Cell) -> set[int]:
    """What may be told to who is staff, and no more."""
    if route in OPEN | STAFF_MAY:
        return {200, 302, 400}
    if route in ELSEWHERE or route.startswith("(?P<app_label"):
        return {301, 302, 404}
    # To the form, which refuses; to the index, where there is nothing of that number.
    elsewhere = route.endswith(("<path:object_id>/", "<path:object_id>/history/"))
    return {302, 403} if elsewhere else {403}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_admin_is_for_staff_with_the_permission(ask: Callable[..., Cell], method: str) -> None:
    """Tokens of the API are nothing there; the one with all permissions comes last."""
    hidden = f"admin-{env.derived(settings.SECRET_KEY, 'admin-path')}/"
    cast, wrong = _cast(is_staff=True, is_superuser=True), []
    for full in OF_THE_ADMIN:
        route = full.removeprefix(ADMIN)
        if route == "logout/":
            continue  # it ends what they come with
        for caller in cast.others if method == "POST" else cast.all:
            cell = ask(caller, method, hidden + _path(route, cast))
            told = f"{method} {route} {caller.name}: {cell.status} {cell.location}"
            problem = _in_the_admin(route, caller, cell)
            if problem:
                wrong.append(f"{told}: {problem}")
            if caller.name != "right":  # who may look at everybody
                # Django tells who asks for an id that it "doesn't exist", on the next page.
                found = _foreign(cell, caller, cast, id_too=False)
                wrong += [f"{told}: {each}" for each in found]
    assert wrong == []
