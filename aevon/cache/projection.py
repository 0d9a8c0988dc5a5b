"""How a user's rows become the document of their entry: what a service declares."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from aevon.cache.keyspace import Keyspace, registered

# A safety lifetime is shortened by up to this share, so that what was written together does not
# end together.
JITTER: Final = 0.1


class UserDocument(Protocol):
    """What every cached document has."""

    @property
    def user_id(self) -> int: ...


D = TypeVar("D", bound=Any)


@dataclass(frozen=True, slots=True)
class Gone:
    """PostgreSQL has no row for the user, as of this version: a tombstone, `{"_gone": version}`."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection(Generic[D]):
    """How a user's rows become the document under `keyspace`.

    `read(user_ids)` gives the documents of those users from PostgreSQL, in one statement. A user
    without rows is `Gone`, where PostgreSQL knows the version of that, and is then cached as such;
    otherwise left out. `user_ids()` gives every user that has a document, in constant memory.
    `version(document)` rises with every change, also across a deletion. `expires_at(document)`, in
    Unix seconds, where the document itself says when it ends; otherwise the keyspace's lifetime
    counts. `current(document)` is the document without the parts that have ended since it was read,
    so that a comparison with the row does not take the passing of time for a difference, and
    without those that no row has. `anchor` is the table whose triggers tell the outbox of every
    change; the checks look for them (W006).
    """

    keyspace: Keyspace
    document: type[D]
    read: Callable[[Sequence[int]], Mapping[int, D | Gone]]
    user_ids: Callable[[], Iterator[int]]
    version: Callable[[D], int]
    expires_at: Callable[[D], float] | None = None
    current: Callable[[D], D] = lambda document: document
    anchor: str | None = None

    def __post_init__(self) -> None:
        registered(self.keyspace)

    def documents(self, user_ids: Sequence[int]) -> dict[int, D]:
        """The documents of those of the users who have one, from PostgreSQL."""
        rows = self.read(user_ids)
        return {user_id: row for user_id, row in rows.items() if not isinstance(row, Gone)}

    def read_one(self, user_id: int) -> D | None:
        """The document of one user from PostgreSQL."""
        return self.documents([user_id]).get(user_id)

    def living(self, rows: Mapping[int, D | Gone]) -> dict[int, D]:
        """Those of the documents whose own end has not passed."""
        documents = {u: row for u, row in rows.items() if not isinstance(row, Gone)}
        return {u: document for u, document in documents.items() if not self.ended(document)}

    def lifetime(self, document: D) -> tuple[str, int]:
        """The SET option and its number, in milliseconds."""
        if self.expires_at is not None:
            return "PXAT", int(self.expires_at(document) * 1000)
        assert self.keyspace.ttl_ms is not None  # noqa: S101  every other keyspace has one
        return "PX", int(self.keyspace.ttl_ms() * (1 - JITTER * random.random()))  # noqa: S311  not a secret

    def ended(self, document: D) -> bool:
        """Whether the document's own end has passed."""
        return self.expires_at is not None and self.expires_at(document) <= time.time()
