"""What is read from PostgreSQL: documents, live sessions, and who is let in."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone

from aevon.cache import Gone
from auth_sessions import selectors, services
from auth_sessions.documents import SessionDocument
from auth_sessions.models import Session, SessionAnchor, User
from auth_sessions.projection import SESSIONS
from tests.auth_sessions.rows import group, permission, session, sql, version

pytestmark = pytest.mark.django_db
MakeUser = Callable[..., User]
SID = "0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c"
LATE = "5b5e0a39-5c30-4c6b-8d0f-3a4cf6b7a001"


def read(user: User) -> SessionDocument:
    """The user's document."""
    found = selectors.read_documents([user.pk])[user.pk]
    assert isinstance(found, SessionDocument)
    return found


def opened(user: User, *, access_seconds: float = 900, ended: bool = False) -> UUID:
    """A session whose access token lives so long from now on."""
    sid, _ = services.open_session(user)
    end = timezone.now() + timedelta(seconds=access_seconds)
    Session.objects.filter(sid=sid).update(access_expires_at=end)
    if ended:
        services.end_session(user.pk, sid)
    return sid


# --- Permissions -----------------------------------------------------------------------------


def test_permissions_of_a_user_and_of_their_groups_are_merged(user: User) -> None:
    """Sorted, and each once, however often it was given."""
    opened(user)
    user.user_permissions.set([permission("view_user"), permission("add_user")])
    user.groups.set([group("one", "view_user", "delete_user"), group("two", "delete_user")])
    assert read(user).permissions == [
        "auth_sessions.add_user",
        "auth_sessions.delete_user",
        "auth_sessions.view_user",
    ]


def test_two_permissions_of_one_name_are_shown_once(user: User) -> None:
    """Two models of an app may have the same codename."""
    opened(user)
    for model in (User, Session):
        kind = ContentType.objects.get_for_model(model)
        same = Permission.objects.create(codename="same", name="Same", content_type=kind)
        user.user_permissions.add(same)
    assert read(user).permissions == ["auth_sessions.same"]


def test_permissions_are_those_that_django_knows(user: User) -> None:
    """Of several apps; in the order of their letters."""
    opened(user)
    given = list(Permission.objects.order_by("-pk")[::3])
    user.user_permissions.set(given[::2])
    group("some").user_set.add(user)
    user.groups.get().permissions.set(given[1:])
    assert len({name.split(".")[0] for name in read(user).permissions}) > 3
    assert read(user).permissions == sorted(user.get_all_permissions())


def test_a_superuser_has_every_permission(make_user: MakeUser) -> None:
    """Without being given one; and those given besides are there only once."""
    root = make_user(is_superuser=True)
    root.user_permissions.set([permission("view_user")])
    opened(root)
    assert read(root).permissions == sorted(root.get_all_permissions())
    assert len(read(root).permissions) == Permission.objects.count()


def test_a_user_who_was_given_nothing_has_no_permission(user: User, make_user: MakeUser) -> None:
    """What others have, by themselves or by their groups, is theirs."""
    other = make_user()
    other.user_permissions.set([permission("view_user")])
    other.groups.set([group("one", "delete_user")])
    opened(user)
    assert read(user).permissions == []


# --- The user and the version ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["INITIATE", "SOVEREIGN", "ARCHITECT"])
def test_a_document_says_who_the_user_is(make_user: MakeUser, name: str) -> None:
    """Id, name and class."""
    user = make_user(username="ada", sovereignty_class=name)
    opened(user)
    found = read(user)
    assert (found.user_id, found.username, found.sovereignty_class) == (user.pk, "ada", name)
    assert found.status == "active"


def test_a_disabled_user_has_a_document_that_says_so(user: User) -> None:
    """With everything else in it. Their sessions have ended; somebody has opened one by hand."""
    sid = opened(user)
    active = read(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert isinstance(selectors.read_documents([user.pk])[user.pk], Gone)
    Session.objects.filter(sid=sid).update(ended_at=None, end_reason="")
    found = read(user)
    assert found == msgspec.structs.replace(active, status="disabled", version=found.version)
    assert not selectors.admits(found, str(sid))


def test_a_document_has_its_anchors_version(user: User) -> None:
    """As it is in that moment."""
    opened(user)
    assert read(user).version == version(user) == 3
    SessionAnchor.objects.update(version=2**53)
    assert read(user).version == 2**53


# --- Sessions in a document ------------------------------------------------------------------


def test_a_document_lists_only_sessions_that_live(user: User) -> None:
    """Neither those that were ended nor those whose access token ran out."""
    long, short = opened(user, access_seconds=600), opened(user, access_seconds=60)
    opened(user, access_seconds=-1)
    opened(user, ended=True)
    ends = {str(sid): int(session(sid).access_expires_at.timestamp()) for sid in (long, short)}
    found = read(user)
    assert set(found.sessions) == set(ends)
    assert all(abs(found.sessions[sid] - end) <= 1 for sid, end in ends.items())
    assert found.expires_at == found.sessions[str(long)]


def test_a_documents_sessions_are_in_order(user: User) -> None:
    """So that one state is always the same bytes."""
    for _ in range(8):
        opened(user)
    assert list(read(user).sessions) == sorted(read(user).sessions)


def test_an_expiry_is_the_access_tokens_own(user: User) -> None:
    """To the second, as the token says it."""
    sid, pair = services.open_session(user)
    assert read(user).sessions == {str(sid): pair.expires_at}
    assert read(user).expires_at == pair.expires_at


def test_a_session_that_ends_in_this_instant_is_over(user: User) -> None:
    """One that has a second left is not."""
    over, left = opened(user), opened(user)
    statement = "UPDATE auth_sessions_session SET access_expires_at = now() + %s WHERE sid = %s"
    sql(statement, timedelta(0), over)
    sql(statement, timedelta(seconds=1), left)
    assert list(read(user).sessions) == [str(left)]


@pytest.mark.parametrize("over", [{"ended": True}, {"access_seconds": -1}])
def test_a_user_whose_sessions_are_over_has_no_document(user: User, over: dict[str, Any]) -> None:
    """But the version of that; so has one who never had any. Of somebody unknown nothing is
    known."""
    assert selectors.read_documents([user.pk, 10**9]) == {user.pk: Gone(1)}
    opened(user, **over)
    assert selectors.read_documents([user.pk]) == {user.pk: Gone(version(user))}
    assert version(user) > 2


# --- Many ------------------------------------------------------------------------------------


def test_documents_of_many_are_one_query(
    make_user: MakeUser, django_assert_num_queries: Any
) -> None:
    """The same as each alone, and nobody has what is another's."""
    users = [make_user() for _ in range(4)]
    sids = [opened(user) for user in users[:3]]
    users[0].user_permissions.add(permission("view_user"))
    users[1].groups.add(group("one", "delete_user"))
    with django_assert_num_queries(1):
        found = selectors.read_documents([user.pk for user in users])
    documents = {user.pk: read(user) for user in users[:3]}
    assert found == {**documents, users[3].pk: Gone(1)}
    assert [list(document.sessions) for document in documents.values()] == [[str(s)] for s in sids]
    assert [documents[user.pk].permissions for user in users[:3]] == [
        ["auth_sessions.view_user"],
        ["auth_sessions.delete_user"],
        [],
    ]


def test_documents_of_nobody_are_none(user: User) -> None:
    """Others who have one are not read."""
    opened(user)
    assert selectors.read_documents([]) == {}


def test_users_with_live_sessions_are_told_once_each(make_user: MakeUser) -> None:
    """In order; exactly those who have a document."""
    users = [make_user() for _ in range(5)]
    for user in (users[3], users[0], users[3]):
        opened(user)
    opened(users[1], ended=True)
    opened(users[2], access_seconds=-1)
    told = list(selectors.users_with_live_sessions())
    assert told == [users[0].pk, users[3].pk]
    assert set(told) == set(SESSIONS.documents([user.pk for user in users]))


def test_sessions_of_a_user_last_as_long_as_their_refresh_token(
    user: User, make_user: MakeUser
) -> None:
    """An access token that ran out does not end them; nobody else's are among them."""
    asleep, _ = opened(user, access_seconds=-60), opened(user, ended=True)
    run_out, _ = opened(user, access_seconds=-60), opened(make_user())
    sql(
        "UPDATE auth_sessions_session SET refresh_expires_at = access_expires_at WHERE sid = %s",
        run_out,
    )
    assert [each.sid for each in selectors.sessions_of(user.pk)] == [asleep]


def test_sessions_of_a_user_are_listed_newest_first(user: User) -> None:
    """As the API shows them."""
    sids = [opened(user) for _ in range(3)]
    assert [each.sid for each in selectors.sessions_of(user.pk)] == sids[::-1]


# --- Who is let in ---------------------------------------------------------------------------


def document(**changes: Any) -> SessionDocument:
    """Ada's, with one session that lives for a minute."""
    end = int(time.time()) + 60
    values: dict[str, Any] = {
        "user_id": 7,
        "username": "ada",
        "status": "active",
        "sovereignty_class": "INITIATE",
        "permissions": ["canvas.view_canvas"],
        "sessions": {SID: end},
        "version": 3,
        "expires_at": end,
    }
    return SessionDocument(**{**values, **changes})


def seconds_left(seconds: int) -> dict[str, int]:
    """The session's expiry so far from now."""
    return {SID: int(time.time()) + seconds}


@pytest.mark.parametrize(
    ("found", "sid", "expected"),
    [
        (document, SID, True),
        (lambda: document(sessions=seconds_left(2)), SID, True),
        (lambda: document(sessions=seconds_left(0)), SID, False),
        (lambda: document(sessions=seconds_left(-1)), SID, False),
        (lambda: document(sessions={}), SID, False),
        (document, LATE, False),
        (document, SID.upper(), False),
        (document, "", False),
        (lambda: document(expires_at=0), SID, True),
        (lambda: document(status="disabled"), SID, False),
        (lambda: None, SID, False),
    ],
)
def test_a_session_is_let_in_only_while_the_document_lists_it(
    found: Callable[[], SessionDocument | None], sid: str, expected: bool
) -> None:
    """By its own expiry, under its own id, and only for an active user."""
    assert selectors.admits(found(), sid) is expected


def test_sessions_that_have_ended_since_are_left_out(user: User) -> None:
    """Each by its own expiry; everything else stays as it was read."""
    now = int(time.time())
    whole = document(sessions={SID: now + 60, LATE: now - 1, "now": now})
    assert selectors.without_ended(whole) == msgspec.structs.replace(
        whole, sessions={SID: now + 60}
    )
    assert len(whole.sessions) == 3
