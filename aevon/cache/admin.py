"""The cache in the admin: what waits for repair, and the cached state beside each row."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_permission_codename, get_user_model
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin
from unfold.decorators import display

from aevon.cache import inspection, maintenance, resources
from aevon.cache.connection import CacheError
from aevon.cache.keyspace import Keyspace
from aevon.cache.maintenance import Warmed
from aevon.cache.models import Outbox, VersionFloor
from aevon.cache.resources import Resource
from aevon.cache.shown import pretty

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Model]
else:
    _Base = object

AWAY: Final = "cache away"
COLOURS: Final = {
    "in sync": "success",
    "unsaved": "info",
    "missing": "warning",
    "stale": "danger",
    "corrupt": "danger",
}


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """For looking; goes only along with its user."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, *args: Any) -> bool:
        """Only along with the user: Django asks here, too, when one is to be deleted."""
        user = get_user_model()._meta  # noqa: SLF001  public by convention
        page = request.resolver_match.url_name if request.resolver_match else None
        with_user = (page or "").startswith(f"{user.app_label}_{user.model_name}_")
        return with_user and bool(super().has_delete_permission(request, *args))


def may_change(request: HttpRequest, model: type[Model]) -> bool:
    """Whether the user may change rows of the model, in whatever way the admin offers."""
    options = model._meta  # noqa: SLF001  public by convention
    name = get_permission_codename("change", options)
    return request.user.has_perm(f"{options.app_label}.{name}")


def note(request: HttpRequest, rows: Iterable[Model], what: str) -> None:
    """Write into the rows' histories what is about to be done to their entries: what is cut short
    is noted, too."""
    assert request.user.pk is not None  # noqa: S101  staff are somebody
    LogEntry.objects.log_actions(request.user.pk, rows, CHANGE, change_message=what)


class CachedStateAdmin(_Base):
    """A mixin, before `ModelAdmin`, for rows that stand behind one of the protocol's keys.

    The list gets a column with the verdict, computed for the whole page in one query and two
    round trips; the form gets a panel with key, lifetime and value beside what PostgreSQL holds;
    and there are actions to warm and to flush. With the cache away the pages say so and work.
    """

    cache_keyspace: Keyspace
    # The field of the row that holds the user's id.
    cache_user_field = "pk"
    change_form_outer_after_template = "cache/cached_state.html"

    @property
    def _resource(self) -> Resource:
        return resources.resource(self.cache_keyspace.name)

    def _user_id(self, row: Model) -> int:
        return int(getattr(row, self.cache_user_field))

    def get_list_display(self, request: HttpRequest) -> Any:
        return [*super().get_list_display(request), "cache_verdict"]

    @display(description="Cache", label=COLOURS)  # type: ignore[untyped-decorator]  # unfold's
    def cache_verdict(self, row: Any) -> str:
        """The column; the verdicts were put on the rows of the page."""
        return str(getattr(row, "_cache_verdict", "—"))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page = super().get_changelist_instance(request)
        user_ids = sorted({self._user_id(row) for row in page.result_list})
        verdicts = self._verdicts(user_ids)
        for row in page.result_list:
            row._cache_verdict = verdicts.get(self._user_id(row), AWAY)  # noqa: SLF001  ours
        return page

    def _verdicts(self, user_ids: list[int]) -> dict[int, Any]:
        try:
            return dict(maintenance.judge(self._resource, user_ids)) if user_ids else {}
        except CacheError:
            return {}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None:
            context["cached_state"] = panel(self._resource, self._user_id(row))
        return super().render_change_form(request, context, *args, **kwargs)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)
        if self.has_operate_permission(request):
            names = ("warm_the_cache", "flush_from_the_cache")
            found |= {name: self.get_action(name) for name in names}
        return found

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may do something about the rows' entries: not who may only look."""
        return may_change(request, self.model)

    @admin.action(description="Warm the cache")
    def warm_the_cache(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Load the rows' entries, as `manage.py cache_warmup` does."""
        warmed = Warmed(self.cache_keyspace.name)
        with self._telling_when_away(request):
            for user_ids in self._batches(queryset, request, "Warm the cache."):
                warmed.step(user_ids, self._resource.warm(user_ids))
            self.message_user(request, f"Cached: {warmed.cached} of {warmed.users} users.")

    @admin.action(description="Flush from the cache")
    def flush_from_the_cache(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Remove the rows' entries, as `manage.py cache_flush` does: unsaved ones are persisted
        first and stay where that fails."""
        done, kept = 0, 0
        with self._telling_when_away(request):
            for user_ids in self._batches(queryset, request, "Flush from the cache."):
                kept += len(maintenance.remove(self._resource, user_ids))
                done += len(user_ids)
            told = f"Flushed: {done - kept} users; {kept} unsaved and kept."
            self.message_user(request, told, "warning" if kept else "success")

    def _batches(
        self, queryset: QuerySet[Any], request: HttpRequest, what: str
    ) -> Iterator[list[int]]:
        """The rows' users, of whom it has been noted what is about to be done."""
        rows, field = queryset.order_by(), self.cache_user_field
        every = rows.values_list(field, flat=True).distinct()
        for user_ids in maintenance.batches(every.iterator(), maintenance.BATCH):
            note(request, rows.filter(**{f"{field}__in": user_ids}), what)
            yield user_ids

    @contextlib.contextmanager
    def _telling_when_away(self, request: HttpRequest) -> Iterator[None]:
        try:
            yield
        except CacheError as error:
            self.message_user(request, f"The cache is away: {error}", "error")


def panel(resource: Resource, user_id: int) -> dict[str, Any]:
    """What the template shows of a user's entry; `away` instead when the cache cannot be asked."""
    try:
        found = inspection.inspect_one(resource, user_id)
    except CacheError:
        key = resource.keyspace.key(user_id)
        ledger = pretty(resource.ledger(user_id))
        return {"user_id": user_id, "key": key, "away": True, "ledger": ledger}
    return {
        "user_id": user_id,
        "key": found.held.key,
        "type": found.held.type,
        "lifetime": inspection.lifetime(found.held),
        "verdict": found.verdict,
        "waiting": found.waiting,
        "value": pretty(found.held.value),
        "ledger": pretty(found.ledger),
    }


@admin.register(Outbox)
class OutboxAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Entries that may be older than their rows. Empty within seconds while the cache answers."""

    list_display = ("keyspace", "user_id", "version", "added_at")
    list_filter = ("keyspace",)
    search_fields = ("=user_id",)
    actions = ("repair_now",)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    def has_repair_permission(self, request: HttpRequest) -> bool:
        """Whether the user may do more than look."""
        return may_change(request, Outbox)

    @admin.action(description="Repair now", permissions=["repair"])
    def repair_now(self, request: HttpRequest, queryset: QuerySet[Outbox]) -> None:
        """Repair the selected entries, as the beat task does every two seconds."""
        wanted = list(queryset)
        note(request, wanted, "Repair now.")
        try:
            repaired = resources.repair_waiting(only=[each.pk for each in wanted])
        except CacheError as error:
            self.message_user(request, f"The cache is away: {error}", "error")
            return
        self.message_user(request, f"Repaired: {repaired} entries.")


@admin.register(VersionFloor)
class VersionFloorAdmin(ReadOnlyAdmin):
    """The versions that users' rows have used up: one that begins again counts on."""

    list_display = ("keyspace", "user_id", "version")
    list_filter = ("keyspace",)
    search_fields = ("=user_id",)
