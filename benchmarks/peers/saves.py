"""Ways of Django's to save canvases, each above all that were saved before."""

from datetime import UTC, datetime

from django.db.models import Max

from benchmarks.apart import Calls
from benchmarks.layouts import layout
from benchmarks.measure import seconds
from benchmarks.peers.models import Canvas


def saves(first: str, count: str, few: str) -> Calls:
    """Of `count` users from the first on; of `few` of them where it is done one by one."""
    user_ids = range(int(first), int(first) + int(count))
    fields = ["layout", "revision", "updated_at", "persisted_at"]

    def changed(users: range) -> list[Canvas]:
        last = Canvas.objects.aggregate(last=Max("revision"))["last"] or 0
        now = datetime.now(UTC)
        return [
            Canvas(user_id=u, layout=layout(u), revision=last + 1, updated_at=now, persisted_at=now)
            for u in users
        ]

    def update_or_create() -> float:
        canvases = changed(user_ids[: int(few)])

        def run() -> None:
            for each in canvases:
                values = {name: getattr(each, name) for name in fields}
                Canvas.objects.update_or_create(user_id=each.user_id, defaults=values)

        return len(canvases) / seconds(run)

    def bulk_create() -> float:
        canvases = changed(user_ids)

        def run() -> None:
            Canvas.objects.bulk_create(
                canvases, update_conflicts=True, unique_fields=["user"], update_fields=fields
            )

        return len(canvases) / seconds(run)

    return {
        "update_or_create one by one": update_or_create,
        "bulk_create(update_conflicts=True)": bulk_create,
    }
