"""What was said to BEEP: one conversation per user, turn by turn."""

from typing import Final

from django.conf import settings
from django.db import models
from django.db.models import F, Q

COMMAND_MAX: Final = 4_000  # characters
RESPONSE_MAX: Final = 8_000
IDEMPOTENCY_KEY_MAX: Final = 200


class Conversation(models.Model):
    """One row per user who has spoken to BEEP: the number of the last turn.

    Turns up to `forgotten_through` were forgotten. Numbers are never given twice while the
    conversation lasts: it ends with its user, or when an administrator deletes it.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="conversation",
    )
    last_seq = models.BigIntegerField(default=0)
    forgotten_through = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(last_seq__gte=0), name="conversation_last_seq_ge_0"),
            models.CheckConstraint(
                condition=Q(forgotten_through__gte=0, forgotten_through__lte=F("last_seq")),
                name="conversation_forgets_past_turns",
            ),
        ]

    def __str__(self) -> str:
        return f"conversation of user {self.pk}"


class Turn(models.Model):
    """One command and its response. Turns are added and forgotten, never changed: the database
    refuses an update (migration 0002)."""

    # The column is the user's id: the conversation's key is its user.
    conversation = models.ForeignKey(
        Conversation,
        on_delete=models.CASCADE,
        db_column="user_id",
        db_index=False,  # turn_seq_unique begins with it
        related_name="turns",
    )
    seq = models.BigIntegerField()
    command = models.CharField(max_length=COMMAND_MAX)
    response = models.CharField(max_length=RESPONSE_MAX)
    resolved = models.JSONField(help_text="Intent, arguments, references and question")
    # An intent and its arguments (`aevon.intents.Deed`).
    undo = models.JSONField(null=True, blank=True, help_text="What takes back what was done")
    at = models.DateTimeField()
    idempotency_key = models.CharField(max_length=IDEMPOTENCY_KEY_MAX, null=True, blank=True)  # noqa: DJ001  most turns have none
    # SHA-256 of the command, where there is a key.
    request_digest = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["conversation", "-seq"]
        indexes = [models.Index(fields=["at"], name="turn_by_time")]
        constraints = [
            models.UniqueConstraint(fields=["conversation", "seq"], name="turn_seq_unique"),
            models.UniqueConstraint(
                fields=["conversation", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="turn_idempotency_key_unique",
            ),
            models.CheckConstraint(condition=Q(seq__gte=1), name="turn_seq_ge_1"),
            models.CheckConstraint(
                condition=Q(idempotency_key=None, request_digest="")
                | (Q(idempotency_key__isnull=False) & ~Q(request_digest="")),
                name="turn_digest_goes_with_key",
            ),
        ]

    def __str__(self) -> str:
        return f"turn {self.seq} of user {self.conversation_id}"
