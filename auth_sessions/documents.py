"""What Dragonfly holds under `session:{userId}`."""

from typing import Literal

from aevon.cache import Document, Version


class SessionDocument(Document, frozen=True, kw_only=True):
    """Who a user is and which of their sessions live, for an API gateway to query.

    `sessions` maps a session id to the expiry of its latest access token, and `expires_at` is the
    last of these, both in Unix seconds. `version` is the anchor row's.
    """

    user_id: int
    username: str
    status: Literal["active", "disabled"]
    # A closed set: it goes into a header, and the key can be edited by hand.
    sovereignty_class: Literal["INITIATE", "SOVEREIGN", "ARCHITECT"]
    permissions: list[str]
    sessions: dict[str, int]
    version: Version
    expires_at: int
