"""What waits for the cache to come back."""

from django.db import models


class Outbox(models.Model):
    """An entry that may be older than its rows, because the cache was away when they changed."""

    id = models.BigAutoField(primary_key=True)
    keyspace = models.CharField(max_length=32)
    user_id = models.BigIntegerField()
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
