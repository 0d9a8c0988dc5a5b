"""Changing the live layout."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aevon.cache import CANVAS
from aevon.cache.codec import encode
from aevon.cache.connection import store
from auth_sessions.models import User
from canvas import services
from canvas.documents import CanvasDocument
from canvas.layout import Change, InvalidLayout
from canvas.models import Canvas
from tests.canvas.helpers import held, in_row, live, mark, patch, put, ttl_ms, window
from tests.threads import in_thread

pytestmark = pytest.mark.django_db


def test_a_user_without_a_row_has_the_empty_layout(user: User) -> None:
    """Revision 0, never changed."""
    document = services.live(user.pk)
    assert (document.layout, document.revision) == ({"microApps": {}}, 0)
    assert document.updated_at is None
    assert not Canvas.objects.exists()


def test_a_read_is_a_hit_after_the_first(
    user: User, django_assert_num_queries: Any, trips: Any
) -> None:
    """Also for the empty layout: one round trip, 0 SQL."""
    services.live(user.pk)
    with django_assert_num_queries(0), trips() as sent:
        assert services.live(user.pk).revision == 0
    assert sent.count == 1


def test_a_miss_is_read_from_the_row(user: User, django_assert_num_queries: Any) -> None:
    """One query; then it is a hit."""
    Canvas.objects.create(user=user, layout={"microApps": {"a": window()}}, revision=7)
    with django_assert_num_queries(1):
        assert services.live(user.pk).revision == 7
    assert (held(user.pk) or {})["layout"] == {"microApps": {"a": window()}}


def test_a_change_is_two_round_trips_and_no_sql(
    user: User, django_assert_num_queries: Any, trips: Any
) -> None:
    """Read, then document and mark together."""
    patch(user.pk, a=window())
    with django_assert_num_queries(0), trips() as sent:
        patch(user.pk, a={"zIndex": 2})
    assert sent.count == 2


def test_a_change_sends_four_commands(user: User) -> None:
    """GET; then the compare-and-set, the mark and its place in the order, together."""
    patch(user.pk, a=window())
    with store().client.monitor() as monitor:
        patch(user.pk, a={"zIndex": 2})
        store().command("PING")
        seen = []
        while (said := monitor.next_command())["command"] != "PING":
            if said["client_type"] != "lua":
                seen.append(said["command"].split()[0])
    # The monitor holds a connection: a new one introduces itself.
    greetings = ("AUTH", "SELECT", "INFO", "ROLE")
    assert [name for name in seen if name not in greetings] == ["GET", "EVALSHA", "ZADD", "ZADD"]


def test_a_change_is_acknowledged_with_the_next_revision(user: User) -> None:
    """The key and its mark are there by then, and PostgreSQL has not heard of it."""
    first = patch(user.pk, a=window())
    second = patch(user.pk, a={"position": {"x": 99}})
    assert (first.revision, second.revision) == (1, 2)
    assert held(user.pk) == {
        "userId": user.pk,
        "layout": {"microApps": {"a": window(position={"x": 99, "y": 20})}},
        "revision": 2,
        "updatedAt": second.updated_at,
        "_changedAt": second.changed_at,
        "_dirtySince": first.dirty_since,
        "_incarnation": first.incarnation,
    }
    assert mark(user.pk) == 2
    assert not Canvas.objects.exists()


def test_an_unsaved_document_has_no_expiry(user: User) -> None:
    """Even if the saved one before it had."""
    services.live(user.pk)
    assert ttl_ms(user.pk) > 0
    patch(user.pk, a=window())
    assert ttl_ms(user.pk) == -1


def test_a_patch_merges_and_a_put_replaces(user: User) -> None:
    """And null removes a micro-app."""
    patch(user.pk, a=window(), b=window())
    patch(user.pk, a=None, c=window())
    assert live(user.pk) == {"b", "c"}
    put(user.pk, d=window())
    assert live(user.pk) == {"d"}


def test_an_invalid_change_changes_nothing(user: User) -> None:
    """Neither document nor mark nor revision."""
    patch(user.pk, a=window())
    before = held(user.pk)
    with pytest.raises(InvalidLayout, match=r"microApps\.a\.zIndex"):
        patch(user.pk, a={"zIndex": "top"})
    assert held(user.pk) == before
    assert mark(user.pk) == 1


def test_if_match_lets_only_the_expected_revision_through(user: User) -> None:
    """The refusal tells the current one."""
    patch(user.pk, a=window())
    services.change(user.pk, {"patch": {}}, if_match={"1", "7"})
    with pytest.raises(services.RevisionMismatch) as mismatch:
        services.change(user.pk, {"patch": {}}, if_match={"1"})
    assert mismatch.value.current == 2
    assert mark(user.pk) == 2


def test_only_one_of_many_with_the_same_if_match_wins(user: User) -> None:
    """Compare and set, not compare and then set."""
    patch(user.pk, a=window())

    def attempt(number: int) -> bool:
        try:
            services.change(user.pk, {"patch": {}}, if_match={"1"})
        except services.RevisionMismatch:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(attempt, range(16))) == 1


def test_a_corrupt_document_is_replaced_from_the_row(user: User) -> None:
    """Of whatever kind the corruption is; a change then goes on from the row."""
    Canvas.objects.create(user=user, layout={"microApps": {"a": window()}}, revision=7)
    for corrupt in (b"\xff", b"[]", b'{"userId":1}', b""):
        store().command("SET", CANVAS.key(user.pk), corrupt)
        assert live(user.pk) == {"a"}
    store().command("UNLINK", CANVAS.key(user.pk))
    store().command("LPUSH", CANVAS.key(user.pk), "a list")
    assert patch(user.pk, b=window()).revision == 8


def test_a_plan_is_made_again_when_somebody_else_was_faster(user: User) -> None:
    """It sees the newest state each time, so no move is lost."""
    patch(user.pk, a=window())
    seen: list[int] = []

    def plan(document: CanvasDocument) -> Change:
        seen.append(document.revision)
        if len(seen) == 1:  # as another process would: past this one's turn
            newer = CanvasDocument(
                user_id=user.pk, layout=document.layout, revision=2, updated_at=None
            )
            store().command("SET", CANVAS.key(user.pk), encode(newer))
        return {"patch": {}}

    assert services.change_by(user.pk, plan).revision == 3
    assert seen == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_a_hundred_patches_at_once_all_survive(user: User) -> None:
    """100 threads, 100 micro-apps, 100 revisions; PostgreSQL has them after one flush."""
    barrier = threading.Barrier(100)

    @in_thread
    def work(number: int) -> int:
        barrier.wait()
        return patch(user.pk, **{f"a{number}": window(zIndex=number)}).revision

    with ThreadPoolExecutor(100) as pool:
        revisions = sorted(pool.map(work, range(100)))
    assert revisions == list(range(1, 101))
    assert live(user.pk) == {f"a{number}" for number in range(100)}
    services.persist_now()
    assert in_row(user.pk) == live(user.pk)


@pytest.mark.parametrize("revision", ["1e309", "9" * 400, str(2**63 - 1), str(2**53), "-1", "1.5"])
def test_an_impossible_revision_is_no_document(user: User, revision: str) -> None:
    """It is replaced by the row's, and the next change is saved."""
    patch(user.pk, a=window())
    services.persist_now()
    members = f'"userId":{user.pk},"layout":{{"microApps":{{}}}},"updatedAt":null'
    store().command("SET", CANVAS.key(user.pk), f'{{{members},"revision":{revision}}}')
    assert patch(user.pk, b=window()).revision == 2
    assert services.persist_now() == services.Flushed(persisted=1)
    assert in_row(user.pk) == {"a", "b"}
    assert mark(user.pk) is None
