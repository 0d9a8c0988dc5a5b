"""Notes: read and write the text of a micro-app, in PostgreSQL alone."""

from collections.abc import Collection
from typing import Final

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from canvas.models import Note

NOTES_MAX: Final = 500


class VersionMismatch(Exception):
    """The note has another version than the caller expects; it was not written."""

    def __init__(self, current: int) -> None:
        super().__init__(f"The current version is {current}.")
        self.current = current


class TooManyNotes(Exception):
    """The user has as many notes as a user may have; another one was not written."""


class NoSuchUser(Exception):
    """The user does not exist any more."""


def read(user_id: int, app_id: str) -> Note:
    """The note; an unsaved one of version 0 where none was ever written."""
    note = Note.objects.filter(user_id=user_id, app_id=app_id).first()
    return note or Note(user_id=user_id, app_id=app_id)


@transaction.atomic
def write(user_id: int, app_id: str, text: str, *, if_match: Collection[str] | None = None) -> Note:
    """Replace the text; the note as it is then.

    `if_match` holds the versions, as text, that the change is meant for. Raises
    `VersionMismatch`, `TooManyNotes`, `NoSuchUser`.
    """
    note = _locked(user_id, app_id) or _new(user_id, app_id)
    if if_match is not None and str(note.version) not in if_match:
        raise VersionMismatch(note.version)
    note.text, note.version, note.updated_at = text, note.version + 1, timezone.now()
    note.save()
    return note


def _locked(user_id: int, app_id: str) -> Note | None:
    return Note.objects.select_for_update().filter(user_id=user_id, app_id=app_id).first()


def _new(user_id: int, app_id: str) -> Note:
    """A note to insert; the user is locked, so that nobody else inserts one meanwhile.

    Only here: a deletion of the user takes their notes first and the user last.
    """
    users = get_user_model().objects.select_for_update(no_key=True)
    if users.filter(pk=user_id).values_list("pk").first() is None:
        raise NoSuchUser
    if note := _locked(user_id, app_id):  # somebody inserted it while we waited
        return note
    if Note.objects.filter(user_id=user_id).count() >= NOTES_MAX:
        raise TooManyNotes
    return Note(user_id=user_id, app_id=app_id)
