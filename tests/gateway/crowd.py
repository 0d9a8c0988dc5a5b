"""Clients that go on asking while a change is made, and what they saw of it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from tests.waiting import eventually

from .conftest import Gateway

CLIENTS = 5
A_SECOND = 50


class Seen(NamedTuple):
    """One request: when it began, and the status."""

    began: float
    status: int


@dataclass
class Crowd:
    """So many clients ask for a path, fifty times a second together.

    `acknowledged` is when the change had been acknowledged: what begins later must be refused.
    """

    gateway: Gateway
    path: str
    headers: dict[str, str]
    seen: list[Seen] = field(default_factory=list)
    acknowledged: float = float("inf")

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        pace = CLIENTS / A_SECOND
        at = time.monotonic() + pace * number / CLIENTS
        with self.gateway.client() as client:
            while not self._over.wait(max(0, at - time.monotonic())):
                began = time.monotonic()
                answer = client.get(self.path, headers=self.headers)
                self.seen.append(Seen(began, answer.status_code))
                at = max(at + pace, time.monotonic() - 1)

    def go_on(self, count: int) -> None:
        """Until so many more have been answered."""
        enough = len(self.seen) + count
        assert eventually(lambda: len(self.seen) >= enough), f"{len(self.seen)} of {enough}"

    def change(self, act: Callable[[], object]) -> None:
        """Make the change, and note when it was acknowledged."""
        act()
        self.acknowledged = time.monotonic()

    def accepted(self) -> int:
        """How many were let through before."""
        return sum(1 for each in self.seen if each.status == 200)

    def slipped_through(self) -> list[Seen]:
        """Those that were let through although they began after the acknowledgement."""
        return [each for each in self.seen if each.began > self.acknowledged and each.status == 200]

    def refusals(self) -> set[int]:
        """What those who began afterwards were answered."""
        return {each.status for each in self.seen if each.began > self.acknowledged}
