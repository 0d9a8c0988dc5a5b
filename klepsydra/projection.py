"""How a row becomes `psyche:{userId}`, and what makes the entry follow it."""

from typing import Final

from aevon.cache import PSYCHE, EntryResource, Projection, register, write_through
from klepsydra import selectors
from klepsydra.documents import PsycheDocument
from klepsydra.models import PsycheState

PSYCHES: Final = Projection(
    keyspace=PSYCHE,
    document=PsycheDocument,
    read=selectors.read_documents,
    user_ids=selectors.users_with_psyche,
    version=lambda document: document.version,
)


def connect() -> None:
    """Register the resource and follow every save and delete."""
    register(EntryResource(PSYCHES))
    write_through.follow(PSYCHES, PsycheState, lambda state: state.user_id)
