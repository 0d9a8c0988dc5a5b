"""What KLEPSYDRA does when other services tell something."""

from typing import Any

from aevon.signals import users_created
from klepsydra import services


def connect() -> None:
    """Users that were made in bulk get their PsycheStates with them."""
    users_created.connect(_users_created, dispatch_uid="klepsydra")


def _users_created(*, user_ids: list[int], **_: Any) -> None:
    services.begin(user_ids)
