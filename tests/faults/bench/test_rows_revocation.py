"""A user is disabled or demoted under load (fault 26)."""

import threading
import time
from itertools import count
from typing import Any, Final

import httpx

from auth_sessions.models import User
from tests.waiting import eventually

from . import report
from .production import FORWARDED, Production
from .visitors import Person, make_people

_numbers = count(1)
CLIENTS: Final = 5
A_SECOND: Final = 50
CHANGES: Final[tuple[tuple[str, Any, int], ...]] = (
    ("is_active", False, 401),
    ("sovereignty_class", "INITIATE", 403),
)
ROUNDS: Final = 4


class Turnstile:
    """`validate/` for the class SOVEREIGN, fifty times a second, by five clients."""

    def __init__(self, site: Production, person: Person) -> None:
        self._url, self._headers = site.url, person.headers
        self._over = threading.Event()
        self.seen: list[tuple[float, int]] = []  # when it began, and the status

    def __enter__(self) -> "Turnstile":
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        at = time.monotonic()
        with httpx.Client(base_url=self._url, headers=self._headers) as client:
            while not self._over.wait(max(0, at - time.monotonic())):
                begun = time.monotonic()
                answer = client.get("/api/v1/auth/validate/?class=SOVEREIGN")
                self.seen.append((begun, answer.status_code))
                at = max(at + CLIENTS / A_SECOND, begun - 1)

    def go_on(self, count: int) -> None:
        """Until so many more have been answered."""
        enough = len(self.seen) + count
        assert eventually(lambda: len(self.seen) >= enough)


def change(site: Production, person: Person, field: str, value: Any, *, by_form: bool) -> None:
    """By an administrator, or by a program through the ORM."""
    if by_form:
        with Administrator(site) as chief:
            chief.change(person.user_id, field, value)
    else:
        user = User.objects.get(pk=person.user_id)
        setattr(user, field, value)
        user.save()


class Administrator:
    """A browser of somebody who may change users, on the admin's own pages."""

    PASSWORD: Final = "a-password-that-nobody-guesses-7"

    def __init__(self, site: Production) -> None:
        name = f"chief{next(_numbers)}"
        User.objects.create_superuser(name, f"{name}@example.org", self.PASSWORD)
        self._client = httpx.Client(base_url=site.url, headers=FORWARDED)
        self._referer = site.url.replace("http:", "https:") + "/"
        self._cookies: dict[str, str] = {}
        self._post("/admin/login/", {"username": name, "password": self.PASSWORD})

    def __enter__(self) -> "Administrator":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def change(self, user_id: int, field: str, value: Any) -> None:
        """One field of the form, all others as they are; it is acknowledged when this returns."""
        user = User.objects.get(pk=user_id)
        shown = {
            "username": user.username,
            "email": user.email,
            "sovereignty_class": user.sovereignty_class,
            "is_active": user.is_active,
            "date_joined_0": f"{user.date_joined:%Y-%m-%d}",
            "date_joined_1": f"{user.date_joined:%H:%M:%S}",
        }
        sent = {name: each for name, each in (shown | {field: value}).items() if each is not False}
        self._post(f"/admin/auth_sessions/user/{user_id}/change/", sent)

    def _post(self, path: str, form: dict[str, Any]) -> None:
        self._keep(self._client.get(path, headers=self._headers()))
        token = self._cookies["__Host-csrftoken"]
        body = {**form, "csrfmiddlewaretoken": token}
        answer = self._keep(self._client.post(path, data=body, headers=self._headers()))
        assert answer.status_code == 302, answer.text

    def _keep(self, answer: httpx.Response) -> httpx.Response:
        """Its cookies are for TLS, which has ended in front of the site."""
        for line in answer.headers.get_list("set-cookie"):
            name, _, rest = line.partition("=")
            self._cookies[name] = rest.partition(";")[0]
        self._client.cookies.clear()
        return answer

    def _headers(self) -> dict[str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        return {"Cookie": cookies, "Referer": self._referer}


def test_row_26_disabled_or_demoted(start: Any) -> None:
    """None that begins after the acknowledgement is let in, whoever makes the change."""
    site: Production = start(AEVON_ADMIN_PATH="admin")
    seen = accepted = 0
    for number, (field, value, status) in enumerate(CHANGES * ROUNDS):
        (person,) = make_people(1, sovereignty_class="SOVEREIGN")
        with Turnstile(site, person) as turnstile:
            turnstile.go_on(20)
            change(site, person, field, value, by_form=number % 4 < 2)
            acknowledged = time.monotonic()
            turnstile.go_on(40)
        after = [told for begun, told in turnstile.seen if begun > acknowledged]
        assert set(after) == {status}
        seen += len(after)
        accepted += sum(told == 204 for _, told in turnstile.seen)
    assert accepted >= 20 * len(CHANGES) * ROUNDS
    report.measured(26, f"0 of {seen} accepted after {len(CHANGES) * ROUNDS} changes")
