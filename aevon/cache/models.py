"""What the cache has yet to be told, and the versions that are used up."""

from django.db import models


class Outbox(models.Model):
    """An entry that may be older than its rows.

    Triggers write it in every transaction that changes a cached row, with the version committed,
    so that the entry follows whatever becomes of the writer. Without a version the entry is
    repaired whatever it holds.
    """

    id = models.BigAutoField(primary_key=True)
    keyspace = models.CharField(max_length=32)
    user_id = models.BigIntegerField()
    version = models.BigIntegerField(null=True)
    added_at = models.DateTimeField()

    class Meta:
        db_table = "cache_outbox"
        verbose_name = verbose_name_plural = "outbox"
        ordering = ["added_at"]
        constraints = [
            models.UniqueConstraint(fields=["keyspace", "user_id"], name="cache_outbox_one_per_key")
        ]

    def __str__(self) -> str:
        return f"{self.keyspace}:{self.user_id}"


class VersionFloor(models.Model):
    """The versions that a user's row has used up: one that begins again counts on.

    Otherwise a state that is published late would look newer than the one that replaced it. The
    database keeps it (`triggers.versioned`).
    """

    id = models.BigAutoField(primary_key=True)
    keyspace = models.CharField(max_length=32)
    user_id = models.BigIntegerField()
    version = models.BigIntegerField()

    class Meta:
        db_table = "cache_version_floor"
        constraints = [
            models.UniqueConstraint(
                fields=["keyspace", "user_id"], name="cache_version_floor_one_per_key"
            )
        ]

    def __str__(self) -> str:
        return f"{self.keyspace}:{self.user_id} v{self.version}"
