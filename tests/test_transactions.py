"""What a transaction has not committed yet is nobody else's to see."""

from collections.abc import Callable

import pytest
from django.db import transaction

from aevon.cache import PSYCHE, resources, write_behind
from aevon.cache.connection import store
from auth_sessions.models import User
from canvas import services as canvas
from canvas.models import Canvas
from canvas.projection import CANVAS_BUFFER
from klepsydra import services as klepsydra
from klepsydra.models import PsycheState

pytestmark = pytest.mark.django_db(transaction=True)
WINDOW = {
    "type": "note",
    "title": "n",
    "position": {"x": 1, "y": 2},
    "size": {"width": 10, "height": 10},
    "zIndex": 1,
}


def test_a_load_inside_a_transaction_caches_nothing(user: User) -> None:
    """The row that is rolled back afterwards was never in the cache: there is only the fence of
    who made it."""
    with transaction.atomic():
        assert klepsydra.psyche(user.pk).version == 1
        assert set(resources.held(PSYCHE, user.pk).value) == {"_fence", "_floor"}
        transaction.set_rollback(True)
    assert PsycheState.cached.get(user.pk) is None


def test_a_load_of_what_is_there_inside_a_transaction_caches_nothing(user: User) -> None:
    """Nor does it leave a lease: another transaction may have changed the row since."""
    klepsydra.psyche(user.pk)
    store().command("DEL", PSYCHE.key(user.pk))
    with transaction.atomic():
        assert PsycheState.cached.get(user.pk).version == 1
        assert PsycheState.cached.get_many([user.pk])[user.pk].version == 1
        assert resources.held(PSYCHE, user.pk).type == "none"
    assert PsycheState.cached.get(user.pk).version == 1
    assert resources.held(PSYCHE, user.pk).type == "string"


def test_a_live_canvas_behind_its_row_goes_on_above_it(user: User) -> None:
    """An older snapshot was loaded: what is unsaved in it still reaches PostgreSQL."""
    canvas.change(user.pk, {"patch": {"microApps": {"a": WINDOW}}})
    canvas.persist_now()
    Canvas.objects.filter(pk=user.pk).update(revision=50)
    canvas.change(user.pk, {"patch": {"microApps": {"b": WINDOW}}})
    canvas.persist_now()
    assert canvas.persist_now().persisted == 1
    assert set(Canvas.objects.get(pk=user.pk).layout["microApps"]) == {"a", "b"}
    assert Canvas.objects.get(pk=user.pk).revision == 51


def test_a_foreign_member_of_the_index_stops_no_flush(
    user: User, make_user: Callable[..., User]
) -> None:
    """It is removed; the others are persisted."""
    for key in CANVAS_BUFFER.index.shards():
        store().command("ZADD", key, 1, "nobody", 2, "0")
    canvas.change(user.pk, {"patch": {"microApps": {"a": WINDOW}}})
    assert write_behind.flush(CANVAS_BUFFER).persisted == 1
    assert write_behind.exposure(CANVAS_BUFFER).unsaved == 0
