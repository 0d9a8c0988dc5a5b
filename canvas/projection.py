"""How rows and live documents become one another, and what repairs them after an outage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.contrib.auth import get_user_model

from aevon.cache import (
    CANVAS,
    CANVAS_INDEX,
    BufferResource,
    CacheError,
    Contended,
    Projection,
    WriteBehind,
    flush,
    register,
    write_behind,
)
from canvas import journal, selectors
from canvas.documents import CanvasDocument, SealedCanvas, content, empty
from canvas.persistence import locked, save

CANVASES: Final = Projection(
    keyspace=CANVAS,
    document=CanvasDocument,
    read=selectors.read_documents,
    user_ids=selectors.user_ids,
    version=lambda document: document.revision,
    current=content,
    anchor="canvas_canvas",
)
CANVAS_BUFFER: Final = WriteBehind(
    projection=CANVASES,
    keys=CANVAS_INDEX,
    empty=empty,
    locked=locked,
    save=save,
    sealed=SealedCanvas,
)


@dataclass(frozen=True, slots=True)
class CanvasResource(BufferResource[CanvasDocument]):
    """`canvas:{userId}`: what changed past the cache is repeated on the live document."""

    def repair(self, user_ids: Sequence[int]) -> None:
        try:
            replayed = journal.replay(self.buffer, user_ids)
        except Contended as error:
            raise CacheError(f"Not repaired now: {error}") from None
        # The rows have it: the documents are told.
        flush.flush_users(self.buffer, replayed)
        self._follow_rows([user_id for user_id in user_ids if user_id not in replayed])

    def would_repair(self, user_ids: Sequence[int]) -> list[int]:
        replayed = selectors.users_with_away_edits(user_ids)
        mended = {*replayed, *super(CanvasResource, self).would_repair(user_ids)}
        return sorted(mended)

    def _follow_rows(self, user_ids: Sequence[int]) -> None:
        """Removed as far as saved; entirely where the user is gone, whom no flush could save."""
        users = get_user_model().objects.filter(pk__in=user_ids)
        existing = set(users.values_list("pk", flat=True))
        write_behind.discard_saved(self.buffer, sorted(existing))
        write_behind.discard(self.buffer, [u for u in user_ids if u not in existing])


def connect() -> None:
    """Register the resource."""
    register(CanvasResource(CANVASES, CANVAS_BUFFER))
