"""What Dragonfly holds in the list `convo_history:{userId}`."""

from aevon.cache import Document, Version


class TurnDocument(Document, frozen=True, kw_only=True):
    """One turn. `at` is RFC 3339 in UTC with microseconds."""

    seq: Version
    command: str
    response: str
    at: str
