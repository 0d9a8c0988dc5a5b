"""What PostgreSQL itself holds of a canvas."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DataError, IntegrityError, transaction
from msgspec.structs import replace

from aevon.cache import LockedRow, rfc3339
from auth_sessions.models import User
from canvas import journal, selectors
from canvas.documents import CanvasDocument
from canvas.models import AwayEdit, Canvas
from canvas.persistence import locked, save
from tests.canvas.helpers import window
from tests.threads import in_thread
from tests.waiting import wait_for_locks

pytestmark = pytest.mark.django_db


def document(user: User, revision: int, **apps: Any) -> CanvasDocument:
    return CanvasDocument(
        user_id=user.pk,
        layout={"microApps": apps},
        revision=revision,
        updated_at="2026-11-24T10:00:00.123456Z",
        dirty_since=1.0,
    )


@pytest.mark.parametrize("layout", [[], 5, "microApps", {}, {"microApps": []}, {"microApps": None}])
def test_a_row_holds_a_layout_and_nothing_else(user: User, layout: Any) -> None:
    """Whoever writes: the constraint refuses it."""
    with pytest.raises(IntegrityError, match="canvas_layout_has_micro_apps"):
        Canvas.objects.create(user=user, layout=layout)


def test_a_revision_is_not_negative(user: User) -> None:
    """The constraint refuses it."""
    with pytest.raises(IntegrityError, match="canvas_revision_ge_0"):
        Canvas.objects.create(user=user, revision=-1)


@pytest.mark.parametrize("change", [{}, {"patch": {}, "replace": {}}, {"other": 1}])
def test_an_away_edit_is_one_change(user: User, change: Any) -> None:
    """The constraint refuses what no replay could understand."""
    with pytest.raises(IntegrityError, match="canvas_away_edit_is_a_change"):
        AwayEdit.objects.create(user=user, change=change)


def test_a_layout_changed_by_hand_raises_the_revision(user: User) -> None:
    """The trigger: caches can tell that the row has moved on."""
    Canvas.objects.create(user=user, revision=7)
    Canvas.objects.filter(user=user).update(layout={"microApps": {"a": window()}})
    assert Canvas.objects.get(user=user).revision == 8
    Canvas.objects.filter(user=user).update(layout={"microApps": {}}, revision=20)
    assert Canvas.objects.get(user=user).revision == 20


def test_rows_are_held_and_made(make_user: Any) -> None:
    """With their revisions; of users that are gone there is none, and nobody waits for theirs."""
    new, old, gone = make_user(), make_user(), make_user()
    Canvas.objects.create(user=old, revision=3)
    gone_id = gone.pk
    gone.delete()
    with locked([gone_id, old.pk, new.pk]) as rows:
        assert rows == {new.pk: LockedRow(0), old.pk: LockedRow(3), gone_id: None}
        saved = save([document(new, 1, a=window()), document(old, 4)])
    assert saved == {u.pk: rfc3339(Canvas.objects.get(user=u).persisted_at) for u in (new, old)}
    row = Canvas.objects.get(user=new)
    assert (row.layout, row.revision) == ({"microApps": {"a": window()}}, 1)
    assert row.updated_at.isoformat() == "2026-11-24T10:00:00.123456+00:00"


@pytest.mark.parametrize("revision", [3, 2])
def test_a_save_never_goes_back(user: User, revision: int) -> None:
    """The row with the same or a higher revision stays."""
    Canvas.objects.create(user=user, revision=3, layout={"microApps": {"newer": window()}})
    assert save([document(user, revision, older=window())]) == {}
    assert set(Canvas.objects.get(user=user).layout["microApps"]) == {"newer"}


def test_a_row_that_took_changes_past_the_cache(user: User) -> None:
    """It is told as it was before the first of them: that is what the live document knows of."""
    Canvas.objects.create(user=user, revision=5)
    for found in (3, 4):
        AwayEdit.objects.create(user=user, change={"patch": {}}, found_revision=found)
    with locked([user.pk]) as rows:
        assert rows == {user.pk: LockedRow(5, before_away=3)}


def test_a_save_takes_a_document_without_a_time(user: User) -> None:
    """Somebody edited the key by hand; the layout is kept all the same."""
    with locked([user.pk]):
        assert save([replace(document(user, 1), updated_at=None)]).keys() == {user.pk}


def test_a_save_refuses_a_batch_with_poison_as_a_whole(make_user: Any) -> None:
    """`DataError` tells the flush to try its halves."""
    good, bad = make_user(), make_user()
    with pytest.raises(DataError), transaction.atomic(), locked([good.pk, bad.pk]):
        save([document(good, 1), document(bad, 1, a=window(title="\0"))])
    assert not Canvas.objects.filter(revision__gt=0).exists()


@pytest.mark.django_db(transaction=True)
def test_rows_wait_for_a_deletion_under_way(user: User) -> None:
    """And leave the user out, instead of failing for everybody in the batch."""

    def revisions() -> Any:
        with locked([user.pk]) as rows:
            return rows

    Canvas.objects.create(user=user)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            User.objects.filter(pk=user.pk).delete()
            holding = pool.submit(in_thread(revisions))
            wait_for_locks()
        assert holding.result(5) == {user.pk: None}


@pytest.mark.django_db(transaction=True)
def test_what_changed_while_one_waited_for_a_row_is_told(user: User) -> None:
    """The change past the cache that holds it, and its revision."""

    def held() -> Any:
        with locked([user.pk]) as rows:
            return rows

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            journal.change_row(user.pk, lambda _: {"patch": {}})
            holding = pool.submit(in_thread(held))
            wait_for_locks()
        assert holding.result(5) == {user.pk: LockedRow(1, before_away=0)}


def test_every_user_with_a_row_is_known(make_user: Any) -> None:
    """In order, as the warm-up walks through them."""
    users = [make_user() for _ in range(3)]
    for user in users[1:]:
        Canvas.objects.create(user=user)
    assert list(selectors.user_ids()) == [user.pk for user in users[1:]]
