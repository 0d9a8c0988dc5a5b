"""Maintenance of the real services, after real traffic."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from aevon.cache import maintenance, resources
from aevon.cache.connection import store
from aevon.cache.maintenance import audit, chosen, consistency, flush, warm_up
from auth_sessions.models import User
from canvas.models import Canvas
from klepsydra.models import PsycheState
from tests.cache.ledgers import query

pytestmark = pytest.mark.django_db(transaction=True)

APP = {
    "type": "notes",
    "title": "Notes",
    "position": {"x": 1, "y": 2.5},
    "size": {"width": 300, "height": 200},
    "zIndex": 1,
}


@pytest.fixture
def busy(user: User, client: APIClient) -> User:
    """A user who logged in, played, moved windows and spoke to BEEP."""
    play = {"instrument": "spinforge", "stake": 1}
    for _ in range(3):
        assert client.post("/api/v1/klepsydra/interactions/", play).status_code == 200
        assert client.patch("/api/v1/canvas/", {"microApps": {"a": APP}}).status_code == 200
        assert client.post("/api/v1/beep/commands/", {"text": "help"}).status_code == 200
    return user


def held(user: User) -> dict[str, Any]:
    """What the cache holds on the user, by keyspace."""
    found = {each.keyspace.name: resources.held(each.keyspace, user.pk) for each in chosen("all")}
    return {name: each.value for name, each in found.items()}


def test_all_four_keyspaces_are_known() -> None:
    """Every service registers its own."""
    names = {each.keyspace.name for each in chosen("all")}
    assert names == {"psyche", "canvas", "session", "convo_history"}
    with pytest.raises(LookupError):
        maintenance.chosen("django")


def test_after_traffic_the_cache_is_fully_consistent(busy: User) -> None:
    """Three keys are in sync, the canvas waits for the flush."""
    done = audit(chosen("all"))
    assert consistency(done) == 1.0
    assert {each.service: dict(each.counts) for each in done} == {
        "psyche": {"in sync": 1},
        "session": {"in sync": 1},
        "convo_history": {"in sync": 1},
        "canvas": {"unsaved": 1},
    }


def test_a_flush_and_a_warm_up_bring_back_what_was_there(busy: User) -> None:
    """Nothing is lost, the unsaved canvas included."""
    before = held(busy)
    flushed = flush(chosen("all"))
    assert [(each.removed, each.kept) for each in flushed] == [(1, 0)] * 4
    assert set(held(busy).values()) == {None}
    warmed = warm_up(chosen("all"))
    assert [(each.loaded, each.failed) for each in warmed] == [(1, 0)] * 4
    del before["canvas"]["_dirtySince"], before["canvas"]["_changedAt"]
    after = held(busy)
    told = {name: after["canvas"].pop(name) for name in ("_persistedRevision", "_persistedAt")}
    assert told["_persistedRevision"] == before["canvas"]["revision"]
    assert after == before


def test_a_flush_leaves_no_key_of_the_four_services_behind(busy: User) -> None:
    """No mark, no lease."""
    flush(chosen("all"))
    assert [key for key in store().scan("*") if not key.startswith("auth:")] == []


def test_what_was_changed_by_somebody_else_is_followed(busy: User, client: APIClient) -> None:
    """The database noted it: the next drain of the outbox tells the entries, those alone that are
    older."""
    flush(chosen("canvas"))
    warm_up(chosen("all"))
    resources.repair_waiting()
    query("UPDATE klepsydra_psychestate SET loss_streak = 4")
    query("UPDATE auth_sessions_user SET sovereignty_class = 'ARCHITECT'")
    before = held(busy)
    assert resources.repair_waiting() == 2
    assert held(busy) == {**before, "psyche": None, "session": None}
    assert client.get("/api/v1/klepsydra/psyche/").json()["lossStreak"] == 4
    assert client.get("/api/v1/canvas/").status_code == 200
    assert consistency(audit(chosen("all"))) == 1.0


def test_a_flush_ends_no_session_and_revives_none(
    busy: User, client: APIClient, client_for: Any
) -> None:
    """The row decides."""
    ended = client_for(busy)
    assert ended.post("/api/v1/auth/logout/", {}).status_code == 204
    flush(chosen("session"))
    assert client.get("/api/v1/auth/validate/").status_code == 204
    assert ended.get("/api/v1/auth/validate/").status_code == 401


def test_discarding_unsaved_canvases_goes_back_to_the_row(busy: User, client: APIClient) -> None:
    """After a restore of PostgreSQL."""
    flush(chosen("canvas"))
    client.patch("/api/v1/canvas/", {"microApps": {"a": None}})
    flush(chosen("canvas"), discard_unsaved=True)
    assert client.get("/api/v1/canvas/").json()["layout"] == {"microApps": {"a": APP}}


def test_what_was_changed_behind_the_caches_back_is_found_and_mended(
    busy: User, client: APIClient
) -> None:
    """By SQL, and by QuerySet.update() of a model without a `CachedManager`."""
    flush(chosen("canvas"))
    warm_up(chosen("all"))
    query("UPDATE klepsydra_psychestate SET loss_streak = 4")
    Canvas.objects.filter(pk=busy.pk).update(layout={"microApps": {}}, revision=99)
    query("UPDATE auth_sessions_user SET sovereignty_class = 'ARCHITECT'")
    found = {each.service: each.wrong for each in audit(chosen("all"), repair=True)}
    assert found == {"psyche": 1, "canvas": 1, "session": 1, "convo_history": 0}
    assert consistency(audit(chosen("all"))) == 1.0
    assert client.get("/api/v1/klepsydra/psyche/").json()["lossStreak"] == 4
    assert client.get("/api/v1/canvas/").json()["revision"] == 99


def test_entries_whose_rows_are_gone_are_stale_until_repaired(busy: User) -> None:
    """Deleted in SQL, where nobody tells the cache."""
    flush(chosen("canvas"))
    warm_up(chosen("all"))
    for model in (PsycheState, Canvas):
        model.objects.filter(pk=busy.pk)._raw_delete("default")
    found = {each.service: each.wrong for each in audit(chosen("all"), repair=True)}
    assert (found["psyche"], found["canvas"]) == (1, 1)
    assert store().command("EXISTS", f"psyche:{busy.pk}", f"canvas:{busy.pk}") == 0
