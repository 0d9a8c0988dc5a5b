"""What PostgreSQL itself holds of a canvas."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DataError, IntegrityError, transaction

from auth_sessions.models import User
from canvas import selectors
from canvas.documents import CanvasDocument, empty
from canvas.models import AwayEdit, Canvas
from canvas.persistence import persist
from tests.canvas.helpers import window
from tests.threads import in_thread
from tests.waiting import wait_for_locks

pytestmark = pytest.mark.django_db


def revisions(documents: list[CanvasDocument]) -> dict[int, int]:
    """What `persist` tells of the rows."""
    return {user_id: row.revision for user_id, row in persist(documents).items()}


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


def test_persist_upserts_and_tells_the_revisions(make_user: Any) -> None:
    """New rows and old ones in one go."""
    new, old = make_user(), make_user()
    Canvas.objects.create(user=old, revision=3)
    assert revisions([document(new, 1, a=window()), document(old, 4)]) == {new.pk: 1, old.pk: 4}
    row = Canvas.objects.get(user=new)
    assert row.layout == {"microApps": {"a": window()}}
    assert row.updated_at.isoformat() == "2026-11-24T10:00:00.123456+00:00"


@pytest.mark.parametrize("revision", [3, 2])
def test_persist_never_goes_back(user: User, revision: int) -> None:
    """The row with the same or a higher revision stays, and its revision is told."""
    Canvas.objects.create(user=user, revision=3, layout={"microApps": {"newer": window()}})
    in_row = persist([document(user, revision, older=window())])[user.pk]
    assert (in_row.revision, in_row.same) == (3, False)
    assert set(Canvas.objects.get(user=user).layout["microApps"]) == {"newer"}


def test_persist_leaves_out_users_that_are_gone(user: User) -> None:
    """Nobody is waiting for their layouts."""
    gone = document(user, 1)
    user.delete()
    assert persist([gone]) == {}


def test_persist_waits_for_what_changed_past_the_cache(user: User) -> None:
    """The live document and the row have diverged; neither revision says which has more."""
    Canvas.objects.create(user=user, revision=3)
    AwayEdit.objects.create(user=user, change={"patch": {}})
    assert revisions([document(user, 9, a=window())]) == {user.pk: 0}
    assert Canvas.objects.get(user=user).revision == 3


def test_persist_takes_a_document_without_a_time(user: User) -> None:
    """Somebody edited the key by hand; the layout is kept all the same."""
    assert revisions([empty(user.pk)]) == {user.pk: 0}


def test_persist_refuses_a_batch_with_poison_as_a_whole(make_user: Any) -> None:
    """`DataError` tells the flush to try them one by one."""
    good, bad = make_user(), make_user()
    with pytest.raises(DataError):
        persist([document(good, 1), document(bad, 1, a=window(title="\0"))])
    assert not Canvas.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_persist_refuses_to_run_inside_a_transaction(user: User) -> None:
    """A mark cleared before the commit would lose the layout with a rollback."""
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        persist([document(user, 1)])


@pytest.mark.django_db(transaction=True)
def test_persist_waits_for_a_deletion_under_way(user: User) -> None:
    """And leaves the user out, instead of failing for everybody in the batch."""
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            User.objects.filter(pk=user.pk).delete()
            flushing = pool.submit(in_thread(persist), [document(user, 1)])
            wait_for_locks()
        assert flushing.result(5) == {}


def test_every_user_with_a_row_is_known(make_user: Any) -> None:
    """In order, as the warm-up walks through them."""
    users = [make_user() for _ in range(3)]
    for user in users[1:]:
        Canvas.objects.create(user=user)
    assert list(selectors.user_ids()) == [user.pk for user in users[1:]]
