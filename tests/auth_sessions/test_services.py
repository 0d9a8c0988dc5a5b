"""Sessions opened, refreshed and ended, below HTTP: what the rows, the key and others hear."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session as DjangoSession
from django.db import InternalError, OperationalError, transaction
from django.utils import timezone

from aevon.cache import SESSION
from aevon.cache.connection import store
from aevon.cache.models import Outbox
from aevon.cache.tasks import drain_outbox
from aevon.signals import session_ending
from auth_sessions import services, tokens
from auth_sessions.credentials import WrongCredentials
from auth_sessions.models import Session, User
from auth_sessions.services import SessionOver
from auth_sessions.tasks import forget_old
from auth_sessions.tokens import TokenPair
from tests.auth_sessions.rows import (
    admitted,
    behind,
    behind_a_lock,
    fence_runs_out,
    fenced,
    grace_runs_out,
    held,
    loaded,
    loaded_elsewhere,
    row,
    session,
    sql,
    version,
)
from tests.threads import in_another_thread, in_thread, in_threads
from tests.waiting import wait_for_locks

pytestmark = pytest.mark.django_db
committed = pytest.mark.django_db(transaction=True)
MakeUser = Callable[..., User]
Reason = Session.EndReason
ADDRESS = "192.0.2.1"


@contextmanager
def listening(receiver: Callable[..., None]) -> Iterator[None]:
    """Somebody hears of sessions that are about to end."""
    session_ending.connect(receiver)
    try:
        yield
    finally:
        session_ending.disconnect(receiver)


def refreshed(token: str) -> TokenPair | None:
    """The new pair, or None when the token was no longer good."""
    with suppress(SessionOver):
        return services.refresh(token)
    return None


def refused_login(user: User) -> bool:
    """Whether a user who has been authenticated is not let in after all."""
    with suppress(WrongCredentials):
        services.open_session(user)
        return False
    return True


def state(sid: UUID) -> dict[str, Any]:
    """Everything in the session's row."""
    return Session.objects.filter(sid=sid).values().get()


# --- Opening ---------------------------------------------------------------------------------


def test_an_opened_session_keeps_its_tokens_ends_and_no_token(user: User) -> None:
    """The refresh token's id is there as a digest only."""
    sid, pair = services.open_session(user, user_agent="curl/8")
    kept = state(sid)
    assert kept["access_expires_at"] == pair.access_expires_at
    assert kept["refresh_expires_at"] == pair.refresh_expires_at
    assert kept["refresh_digest"] == tokens.digest(tokens.read_refresh(pair.refresh).jti)
    assert (kept["user_id"], kept["user_agent"], kept["ended_at"]) == (user.pk, "curl/8", None)
    assert abs(timezone.now() - kept["last_seen_at"]) < timedelta(seconds=5)


def test_a_long_user_agent_is_cut(user: User) -> None:
    """It comes from outside, and refuses no login."""
    sid, _ = services.open_session(user, user_agent="ü" * 1_000)
    assert session(sid).user_agent == "ü" * 200


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("unix:", ""),
    ],
)
def test_an_opened_session_keeps_the_network_and_not_the_address(
    user: User, address: str, kept: str
) -> None:
    """Enough to know one's own by."""
    sid, _ = services.open_session(user, address=address)
    assert session(sid).address == kept


@committed
def test_a_user_has_no_more_live_sessions_than_may_be(user: User, settings: Any) -> None:
    """Exactly so many of sixteen at once; whoever ends one may open another, and so may others."""
    settings.AUTH_SESSIONS_PER_USER = 3

    def opened() -> int:
        try:
            services.open_session(user)
        except services.TooManySessions as refused:
            return refused.retry_after_seconds
        return 0

    waits = in_threads([opened] * 16)
    assert waits.count(0) == 3 == Session.objects.count()
    assert all(600_000 < wait <= 604_800 for wait in waits if wait)
    first = Session.objects.values_list("sid", flat=True)[1]
    soon = timezone.now() + timedelta(seconds=1_000)
    Session.objects.filter(sid=first).update(refresh_expires_at=soon)
    assert 900 < opened() <= 1_000
    services.end_session(user.pk, Session.objects.values_list("sid", flat=True)[0])
    assert [opened() > 0, opened() > 0] == [False, True]


@committed
@pytest.mark.parametrize("change", [{"password": "!"}, {"is_active": False}])
def test_who_is_let_in_by_what_has_just_changed_gets_no_session(
    user: User, change: dict[str, Any]
) -> None:
    """The password was checked before the change, and the session would begin after it."""
    checked = User.objects.get(pk=user.pk)
    rows = User.objects.filter(pk=user.pk)
    locked = rows.select_for_update(no_key=True)
    login = partial(refused_login, checked)
    assert behind(locked, [login], lambda: rows.update(**change)) == [True]
    assert not Session.objects.exists()


@committed
def test_a_session_whose_opening_was_rolled_back_is_nowhere(user: User) -> None:
    """Its token lets nobody in."""
    with transaction.atomic():
        _, pair = services.open_session(user)
        transaction.set_rollback(True)
    assert held(user) is None
    assert not admitted(pair.access)


@committed
def test_sessions_opened_at_once_are_all_listed(user: User) -> None:
    """Each raised the version by one, and the key holds nothing but the last state."""
    opened = in_threads([partial(services.open_session, user)] * 16)
    assert set(loaded(user)["sessions"]) == {str(sid) for sid, _ in opened}
    assert held(user) == row(user)
    assert version(user) == 17


# --- Refreshing ------------------------------------------------------------------------------


def test_a_refresh_moves_the_sessions_ends_and_nothing_else(user: User) -> None:
    """It is the same session, under the new token's digest."""
    sid, pair = services.open_session(user, user_agent="curl/8")
    past = timezone.now() - timedelta(days=1)
    Session.objects.update(created_at=past, last_seen_at=past, access_expires_at=past)
    before = state(sid)
    new = services.refresh(pair.refresh)
    after = state(sid)
    assert after["access_expires_at"] == new.access_expires_at > before["access_expires_at"]
    assert after["refresh_digest"] == new.refresh_digest != before["refresh_digest"]
    assert after["last_seen_at"] > before["last_seen_at"]
    moved = {"access_expires_at", "refresh_expires_at", "refresh_digest", "last_seen_at"}
    changed = {name for name in after if after[name] != before[name]}
    assert changed - {"refresh_expires_at"} == moved - {"refresh_expires_at"} | {"rotated_at"}


def test_a_session_is_refreshed_again_and_again(user: User) -> None:
    """Each time with the latest token."""
    sid, pair = services.open_session(user)
    for _ in range(5):
        pair = services.refresh(pair.refresh)
    assert session(sid).ended_at is None
    assert session(sid).refresh_digest == pair.refresh_digest


@committed
def test_a_token_spent_long_ago_ends_its_session(user: User) -> None:
    """Not only the one before the latest; the user's other session lives on."""
    sid, first = services.open_session(user)
    other, _ = services.open_session(user)
    latest = services.refresh(services.refresh(services.refresh(first.refresh).refresh).refresh)
    assert refreshed(first.refresh) is None
    assert session(sid).end_reason == Reason.REUSE
    assert list(held(user)["sessions"]) == [str(other)]
    assert not admitted(latest.access)


def test_a_refreshed_access_token_says_the_users_class_of_now(user: User) -> None:
    """Not that of the login."""
    _, pair = services.open_session(user)
    User.objects.filter(pk=user.pk).update(sovereignty_class="ARCHITECT", email="new@example.org")
    claims = jwt.decode(services.refresh(pair.refresh).access, options={"verify_signature": False})
    assert (claims["sovereigntyClass"], claims["email"]) == ("ARCHITECT", "new@example.org")


def test_a_refresh_token_of_another_users_session_touches_nothing(
    user: User, make_user: MakeUser
) -> None:
    """However well it is signed: it does not even count as used twice."""
    sid, pair = services.open_session(user)
    before = state(sid)
    forged = tokens.issue(make_user(), sid)
    assert refreshed(forged.refresh) is None
    assert state(sid) == before
    assert refreshed(pair.refresh) is not None


def test_a_refresh_token_of_no_session_is_refused(user: User) -> None:
    """It may have been deleted."""
    assert refreshed(tokens.issue(user, uuid4()).refresh) is None


def test_an_ended_session_is_not_refreshed(user: User) -> None:
    """Its end stays as it was, also for a token that was used before."""
    sid, first = services.open_session(user)
    second = services.refresh(first.refresh)
    services.end_session(user.pk, sid)
    before = state(sid)
    assert refreshed(second.refresh) is refreshed(first.refresh) is None
    assert state(sid) == before


def test_a_disabled_users_session_does_not_come_back(user: User) -> None:
    """Enabled again, they log in again."""
    sid, pair = services.open_session(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert refreshed(pair.refresh) is None
    User.objects.filter(pk=user.pk).update(is_active=True)
    assert refreshed(pair.refresh) is None
    assert session(sid).end_reason == Reason.DISABLED


@committed
def test_a_refresh_that_was_rolled_back_spends_no_token(user: User) -> None:
    """Nobody hears of it, and the old token is good."""
    _, pair = services.open_session(user)
    before = held(user)
    with transaction.atomic():
        services.refresh(pair.refresh)
        assert loaded_elsewhere(user) == before
        transaction.set_rollback(True)
    assert loaded(user) == row(user) == before
    assert fenced(user)
    assert refreshed(pair.refresh) is not None
    assert loaded(user) == row(user) != before


@committed
def test_refreshes_of_one_token_at_once_are_one_rotation(user: User) -> None:
    """All get the same next token; it is good, and the spent one is for ten seconds more. After
    that it ends the session, and what it was changed for is good for nothing."""
    sid, pair = services.open_session(user)
    answers = behind_a_lock(sid, [partial(refreshed, pair.refresh)] * 8)
    assert {answer and answer.refresh_digest for answer in answers} == {session(sid).refresh_digest}
    assert all(answer and admitted(answer.access) for answer in answers)
    latest = answers[0] and refreshed(answers[0].refresh)
    assert latest is not None
    assert session(sid).ended_at is None
    grace_runs_out()
    assert answers[1] is not None
    assert refreshed(answers[1].refresh) is None
    assert session(sid).end_reason == Reason.REUSE
    assert held(user) is None
    assert not admitted(latest.access)
    assert refreshed(latest.refresh) is None


@pytest.mark.parametrize(("seconds", "good"), [(5.0, True), (10.5, False)])
def test_a_spent_token_is_good_for_ten_seconds(user: User, seconds: float, good: bool) -> None:
    """For the same next token, and from when it was spent first."""
    sid, pair = services.open_session(user)
    new = services.refresh(pair.refresh)
    spent = timezone.now() - timedelta(seconds=seconds)
    Session.objects.update(rotated_at=spent)
    again = refreshed(pair.refresh)
    assert (again is not None) is good
    assert session(sid).rotated_at == spent
    if again is not None:
        assert again.refresh_digest == new.refresh_digest


def test_a_token_spent_before_the_last_has_no_grace(user: User) -> None:
    """Two rotations in ten seconds: the first token is nobody's parallel request."""
    sid, first = services.open_session(user)
    services.refresh(services.refresh(first.refresh).refresh)
    assert refreshed(first.refresh) is None
    assert session(sid).end_reason == Reason.REUSE


def test_the_next_token_cannot_be_guessed_without_the_secret(user: User, settings: Any) -> None:
    """Nor told from the digest that is kept."""
    _, pair = services.open_session(user)
    jti = tokens.read_refresh(pair.refresh).jti
    mine = tokens.successor(jti)
    assert tokens.read_refresh(services.refresh(pair.refresh).refresh).jti == mine
    settings.SECRET_KEY = "another secret of at least thirty-two characters"
    assert tokens.successor(jti) != mine


def test_a_session_ends_after_its_lifetime_however_much_it_is_used(
    user: User, settings: Any
) -> None:
    """No token of it outlives that; then it is over."""
    sid, pair = services.open_session(user)
    lifetime = settings.AUTH_SESSION_LIFETIME
    Session.objects.update(created_at=timezone.now() - lifetime + timedelta(seconds=60))
    last = session(sid).created_at + lifetime
    pair = services.refresh(pair.refresh)
    assert timedelta(0) <= last - pair.access_expires_at < timedelta(seconds=1)
    assert pair.refresh_expires_at == pair.access_expires_at == session(sid).refresh_expires_at
    Session.objects.update(created_at=timezone.now() - lifetime)
    assert refreshed(pair.refresh) is None
    with pytest.raises(SessionOver):
        services.renew_access(pair.refresh)


@committed
def test_two_sessions_refreshed_at_once_are_both_refreshed(user: User) -> None:
    """They share a key and a version, and nothing else."""
    pairs = [services.open_session(user)[1] for _ in range(8)]
    answers = in_threads([partial(refreshed, pair.refresh) for pair in pairs])
    assert all(answer is not None and admitted(answer.access) for answer in answers)
    assert held(user) == row(user)
    assert version(user) == 17


@committed
def test_a_session_ended_during_a_refresh_stays_ended(user: User) -> None:
    """The refresh waits for the end, and then finds no session."""
    sid, pair = services.open_session(user)
    end = partial(services.end_session, user.pk, sid)
    assert behind_a_lock(sid, [partial(refreshed, pair.refresh)], end) == [None]
    assert session(sid).end_reason == Reason.LOGOUT
    assert session(sid).refresh_digest == pair.refresh_digest
    assert held(user) is None


@committed
def test_a_session_refreshed_during_its_end_ends(user: User) -> None:
    """The end waits for the refresh, and ends what that has made."""
    sid, pair = services.open_session(user)
    new: list[TokenPair] = []
    end = partial(services.end_session, user.pk, sid)
    assert behind_a_lock(sid, [end], lambda: new.append(services.refresh(pair.refresh))) == [True]
    assert not admitted(new[0].access)
    assert refreshed(new[0].refresh) is None
    assert held(user) is None


# --- Ending ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", Reason.values)
def test_an_ended_session_says_when_and_why(user: User, reason: str) -> None:
    """And everything else that it said."""
    sid, _ = services.open_session(user)
    before = state(sid)
    assert services.end_session(user.pk, sid, reason)
    after = state(sid)
    assert abs(timezone.now() - after["ended_at"]) < timedelta(seconds=5)
    assert after == {**before, "ended_at": after["ended_at"], "end_reason": reason}


def test_a_session_ends_once(user: User) -> None:
    """The second time there is none to end: time and reason stay."""
    sid, _ = services.open_session(user)
    assert services.end_session(user.pk, str(sid))
    before = state(sid)
    assert not services.end_session(user.pk, sid, Reason.ADMIN)
    assert not services.end_all_sessions(user.pk, Reason.ADMIN)
    assert state(sid) == before


def test_a_session_that_somebody_else_ends_meanwhile_keeps_that_end(user: User) -> None:
    """Between the reading of the sessions and their end."""
    sid, _ = services.open_session(user)
    ended = {"ended_at": timezone.now() - timedelta(seconds=9), "end_reason": Reason.ADMIN}
    with listening(lambda **_: Session.objects.update(**ended)):
        services.end_session(user.pk, sid)
    assert {name: state(sid)[name] for name in ended} == ended


def test_all_sessions_of_a_user_end_together(user: User, make_user: MakeUser) -> None:
    """Those that live; another user's are left alone."""
    ended, _ = services.open_session(user)
    services.end_session(user.pk, ended)
    theirs, _ = services.open_session(make_user())
    sids = [services.open_session(user)[0] for _ in range(3)]
    assert services.end_all_sessions(user.pk, Reason.ADMIN)
    assert {session(sid).end_reason for sid in sids} == {Reason.ADMIN}
    assert session(ended).end_reason == Reason.LOGOUT
    assert session(theirs).ended_at is None


@committed
def test_sessions_of_one_user_ended_at_once_all_end(user: User) -> None:
    """Each by its own, and all of them meanwhile."""
    sids = [services.open_session(user)[0] for _ in range(8)]
    calls = [partial(services.end_session, user.pk, sid) for sid in sids]
    in_threads([*calls, partial(services.end_all_sessions, user.pk)])
    assert not Session.objects.filter(ended_at=None).exists()
    assert held(user) is None


def nobodys(user: User, other: User) -> dict[str, Callable[[], bool]]:
    """Ways to end a session that the user does not have."""
    theirs, _ = services.open_session(other)
    over, _ = services.open_session(user)
    past = timezone.now() - timedelta(days=1)
    Session.objects.filter(sid=over).update(access_expires_at=past, refresh_expires_at=past)
    return {
        "another's": lambda: services.end_session(user.pk, theirs),
        "run out": lambda: services.end_session(user.pk, over),
        "unknown": lambda: services.end_session(user.pk, uuid4()),
        "all of none": lambda: services.end_all_sessions(user.pk),
        "an unknown user's": lambda: services.end_all_sessions(10**9),
    }


@committed
def test_ending_a_session_that_a_user_does_not_have_touches_nothing(
    user: User, make_user: MakeUser
) -> None:
    """Neither rows, versions nor keys, and nobody hears of it."""
    other, heard = make_user(), []
    calls = nobodys(user, other)
    rows = list(Session.objects.values())
    keys = [store().command("GET", SESSION.key(each.pk)) for each in (user, other)]
    versions = (version(user), version(other))
    with listening(lambda **kwargs: heard.append(kwargs)):
        assert [what for what, end in calls.items() if end()] == []
    assert heard == []
    assert list(Session.objects.values()) == rows
    assert [store().command("GET", SESSION.key(each.pk)) for each in (user, other)] == keys
    assert (version(user), version(other)) == versions


@committed
@pytest.mark.parametrize("way", ["one", "all", "reuse"])
def test_others_hear_of_an_end_before_it_comes(user: User, way: str) -> None:
    """Once, with the user's id, while the session still lives in both stores."""
    sid, pair = services.open_session(user)
    services.refresh(pair.refresh)
    grace_runs_out()
    before, heard = held(user), []

    def hear(*, user_id: int, **_: Any) -> None:
        heard.append((user_id, session(sid).ended_at, held(user)))

    with listening(hear):
        if way == "one":
            services.end_session(user.pk, sid)
        elif way == "all":
            services.end_all_sessions(user.pk)
        else:
            assert refreshed(pair.refresh) is None
    assert heard == [(user.pk, None, before)]
    assert held(user) is None


def test_others_hear_once_when_several_sessions_end(user: User) -> None:
    """What they save is the user's, not the session's."""
    heard: list[int] = []
    for _ in range(3):
        services.open_session(user)
    with listening(lambda *, user_id, **_: heard.append(user_id)):
        services.end_all_sessions(user.pk)
    assert heard == [user.pk]


def test_a_stolen_session_ends_whatever_it_loses(user: User) -> None:
    """A receiver that cannot save is logged; thief and victim are out all the same."""
    sid, pair = services.open_session(user)
    new = services.refresh(pair.refresh)
    grace_runs_out()

    def fail(**_: Any) -> None:
        raise OperationalError("not today")

    with listening(fail):
        assert refreshed(pair.refresh) is None
    assert session(sid).end_reason == Reason.REUSE
    assert not admitted(new.access)


@committed
@pytest.mark.parametrize("change", [{"password": "!"}, {"is_active": False}])
def test_a_change_that_does_not_see_who_has_logged_in_is_refused(
    user: User, change: dict[str, Any]
) -> None:
    """A transaction above READ COMMITTED would leave a session alive that was opened since it
    began; nothing has changed then, and nobody is logged out."""
    with transaction.atomic():
        sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        rows = User.objects.filter(pk=user.pk)
        assert rows.exists()
        _, pair = in_another_thread(services.open_session, user)
        with pytest.raises(InternalError, match="READ COMMITTED"):
            rows.update(**change)
        transaction.set_rollback(True)
    assert admitted(pair.access)


@committed
def test_a_user_disabled_during_a_refresh_is_not_its_deadlock(user: User) -> None:
    """Both take the session before the anchor; what the refresh gave ends as well."""
    sid, pair = services.open_session(user)
    disable = partial(User.objects.filter(pk=user.pk).update, is_active=False)
    new: list[TokenPair] = []
    assert behind_a_lock(sid, [disable], lambda: new.append(services.refresh(pair.refresh))) == [1]
    assert session(sid).end_reason == Reason.DISABLED
    assert not admitted(new[0].access)


@committed
def test_everywhere_and_a_new_password_at_once_are_not_each_others_deadlock(user: User) -> None:
    """Both take the user before the sessions, of which there are several."""
    for _ in range(3):
        services.open_session(user)
    rows = User.objects.filter(pk=user.pk)
    everywhere = partial(services.end_all_sessions, user.pk)
    locked = rows.select_for_update(no_key=True)
    ended = behind(locked, [everywhere] * 2, lambda: rows.update(password="!"))
    assert len(ended) == 2
    assert {each.end_reason for each in Session.objects.all()} == {Reason.PASSWORD}


@committed
def test_a_login_during_everywhere_comes_after_it(user: User) -> None:
    """It waits for what ends all others, and is not one of them."""
    sid, _ = services.open_session(user)
    with ThreadPoolExecutor(1) as pool:
        logins = []

        def log_in_meanwhile() -> None:
            logins.append(pool.submit(in_thread(services.open_session), user))
            wait_for_locks(2)

        everywhere = partial(services.end_all_sessions, user.pk)
        assert behind_a_lock(sid, [everywhere], log_in_meanwhile) == [True]
        _, pair = logins[0].result()
    assert session(sid).end_reason == Reason.LOGOUT
    assert admitted(pair.access)


@committed
def test_a_login_during_a_deletion_finds_nobody(user: User) -> None:
    """It waits for the deletion, which has been told of all there is."""
    opening = partial(refused_login, user)
    rows = User.objects.filter(pk=user.pk)
    assert behind(rows.select_for_update(), [opening], rows.delete) == [True]
    assert not User.objects.exists()


@committed
def test_two_new_passwords_at_once_are_one(user: User) -> None:
    """The slower of the two was let in by a password that is none any more."""
    user.set_password("lovelace")
    user.save()

    def change(new: str) -> bool:
        with suppress(WrongCredentials):
            services.change_password(user.pk, current="lovelace", new=new, address=ADDRESS)
            return True
        return False

    changes = [partial(change, f"analytical engine {n}") for n in range(2)]
    locked = User.objects.select_for_update().filter(pk=user.pk)
    assert sorted(behind(locked, changes, lambda: None)) == [False, True]


@committed
def test_records_of_sessions_go_after_a_time(
    user: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have been over for long enough, ended or run out, in as many batches as it takes;
    who is logged in stays so, and the cache has nothing to follow."""
    monkeypatch.setattr(services, "FORGOTTEN_AT_ONCE", 1)
    (live, pair), (ended, _), (run_out, _), (recent, _) = (
        services.open_session(user) for _ in range(4)
    )
    services.end_session(user.pk, ended)
    now = timezone.now()
    long_ago = now - settings.AUTH_SESSION_RECORDS - timedelta(seconds=5)
    for sid in (ended, run_out, recent):
        Session.objects.filter(sid=sid).update(
            access_expires_at=long_ago, refresh_expires_at=now if sid == recent else long_ago
        )
    before, document = version(user), held(user)
    assert services.forget_old_sessions() == 2
    assert set(Session.objects.values_list("sid", flat=True)) == {live, recent}
    assert admitted(pair.access)
    assert (version(user), held(user)) == (before, document)
    assert services.forget_old_sessions() == 0


@committed
def test_records_that_are_held_are_passed_over(user: User, settings: Any) -> None:
    """Nobody waits for anybody; what is left goes the next time."""
    sids = [services.open_session(user)[0] for _ in range(2)]
    long_ago = timezone.now() - settings.AUTH_SESSION_RECORDS * 2
    Session.objects.update(access_expires_at=long_ago, refresh_expires_at=long_ago)
    with transaction.atomic():
        Session.objects.select_for_update().get(sid=sids[0])
        assert in_another_thread(services.forget_old_sessions) == 1
    assert services.forget_old_sessions() == 1


def test_what_has_run_out_in_the_admin_goes_with_them(user: User) -> None:
    """The same task; a login that has not run out stays."""
    for days in (-1, 1):
        store_ = SessionStore()
        store_["who"] = user.pk
        store_.set_expiry(timedelta(days=days))
        store_.create()
    forget_old()
    assert DjangoSession.objects.count() == 1


def test_the_end_of_one_session_is_not_that_of_all(user: User) -> None:
    """The admin's go on; everywhere ends them, and says so in the user's row."""
    sid, _ = services.open_session(user)
    services.end_session(user.pk, sid)
    assert User.objects.get().logged_out_at is None
    assert services.end_all_sessions(user.pk) is False
    assert User.objects.get().logged_out_at is not None


@committed
@pytest.mark.parametrize("used_first", ["page", "program"])
def test_a_session_of_before_is_of_where_it_is_used_first(user: User, used_first: str) -> None:
    """Before there was a difference; nobody is taken for a thief for that."""
    sid, pair = services.open_session(user)
    Session.objects.update(is_page=None)
    if used_first == "page":
        services.renew_access(pair.refresh)
        assert refreshed(pair.refresh) is None
    else:
        latest = services.refresh(pair.refresh).refresh
        with pytest.raises(SessionOver):
            services.renew_access(latest)
    assert session(sid).end_reason == Reason.REUSE


def test_a_cookie_that_was_spent_before_is_none_of_the_pages(user: User) -> None:
    """By a process that did not know the difference yet."""
    sid, pair = services.open_session(user, is_page=True)
    Session.objects.update(refresh_digest=tokens.digest(tokens.successor("x")))
    with pytest.raises(SessionOver):
        services.renew_access(pair.refresh)
    assert session(sid).end_reason == Reason.REUSE


@committed
def test_a_user_deleted_while_their_password_changes_waits_for_it(user: User) -> None:
    """Both take the user before the sessions: none is another's deadlock."""
    services.open_session(user)
    delete = User.objects.get(pk=user.pk).delete
    rows = User.objects.filter(pk=user.pk)
    locked = rows.select_for_update(no_key=True)
    [(deleted, _)] = behind(locked, [delete], lambda: rows.update(password="!"))
    assert deleted > 0
    assert not Session.objects.exists()
    assert held(user) is None


@committed
def test_a_user_deleted_during_a_refresh_waits_for_it(user: User) -> None:
    """Both take the session before the anchor: none is another's deadlock."""
    sid, pair = services.open_session(user)
    delete = User.objects.get(pk=user.pk).delete
    [(deleted, _)] = behind_a_lock(sid, [delete], partial(services.refresh, pair.refresh))
    assert deleted > 0
    assert not User.objects.exists()
    assert held(user) is None


@committed
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_session_lives_on_when_its_end_would_lose_something(user: User, everywhere: bool) -> None:
    """A receiver that cannot save raises: the caller hears it, and nothing has changed."""
    sid, pair = services.open_session(user)
    before, document = state(sid), held(user)

    def fail(**_: Any) -> None:
        raise RuntimeError("not today")

    end = partial(services.end_session, sid=sid) if not everywhere else services.end_all_sessions
    with listening(fail), pytest.raises(RuntimeError, match="not today"):
        end(user.pk)
    assert (state(sid), held(user)) == (before, document)
    assert admitted(pair.access)
    assert end(user.pk)


@committed
def test_an_end_that_was_rolled_back_leaves_the_session(user: User) -> None:
    """It is let in during the transaction, after it, and when the fence has run out."""
    sid, pair = services.open_session(user)
    before = held(user)
    with transaction.atomic():
        services.end_session(user.pk, sid)
        assert loaded_elsewhere(user) == before
        transaction.set_rollback(True)
    assert fenced(user)
    assert admitted(pair.access)
    fence_runs_out(user)
    assert admitted(pair.access)
    assert held(user) == row(user) == before


# --- While the cache is away -----------------------------------------------------------------


def opening(user: User) -> tuple[str, Callable[[], object], bool]:
    """A second session, and then the first one's token."""
    _, pair = services.open_session(user)
    return pair.access, lambda: services.open_session(user), True


def refreshing(user: User) -> tuple[str, Callable[[], object], bool]:
    """The old access token stays good until it runs out."""
    _, pair = services.open_session(user)
    return pair.access, lambda: services.refresh(pair.refresh), True


def reusing(user: User) -> tuple[str, Callable[[], object], bool]:
    """A spent refresh token comes again."""
    _, pair = services.open_session(user)
    new = services.refresh(pair.refresh)
    grace_runs_out()
    return new.access, lambda: refreshed(pair.refresh), False


def ending(user: User) -> tuple[str, Callable[[], object], bool]:
    """One session of two."""
    services.open_session(user)
    sid, pair = services.open_session(user)
    return pair.access, lambda: services.end_session(user.pk, sid), False


def ending_all(user: User) -> tuple[str, Callable[[], object], bool]:
    """Both."""
    services.open_session(user)
    _, pair = services.open_session(user)
    return pair.access, lambda: services.end_all_sessions(user.pk), False


@committed
@pytest.mark.parametrize("prepare", [opening, refreshing, reusing, ending, ending_all])
def test_what_is_done_while_the_cache_is_away_counts_at_once_and_is_followed_later(
    user: User, cache_away: Any, prepare: Callable[[User], tuple[str, Callable[[], object], bool]]
) -> None:
    """PostgreSQL decides meanwhile; the outbox removes the older document."""
    access, act, good = prepare(user)
    older = held(user)
    drain_outbox()
    with cache_away():
        act()
        assert admitted(access) is good
    assert held(user) == older
    assert list(Outbox.objects.values_list("keyspace", "user_id", "version")) == [
        ("session", user.pk, version(user))
    ]
    drain_outbox()
    assert held(user) is None
    assert admitted(access) is good
    assert held(user) == row(user) != older


@committed
def test_a_session_opened_while_the_cache_is_away_is_cached_by_its_first_use(
    user: User, cache_away: Any
) -> None:
    """For as long as its token."""
    with cache_away():
        sid, pair = services.open_session(user)
        assert admitted(pair.access)
    drain_outbox()  # the absence of a session may have been cached before
    assert admitted(pair.access)
    assert held(user)["sessions"] == {str(sid): pair.expires_at}
    end = time.time() + store().command("PTTL", SESSION.key(user.pk)) / 1000
    assert abs(end - pair.expires_at) <= 1
