"""PsycheStates may be edited, the record may not."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from auth_sessions.models import User
from klepsydra.models import Interaction, PsycheState
from tests.klepsydra.rows import held, play, row, sql

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def desk(make_user: Any) -> Client:
    """An administrator's browser."""
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def edit(user: User) -> str:
    """The address of a user's PsycheState."""
    return reverse("admin:klepsydra_psychestate_change", args=[user.pk])


def form(desk: Client, user: User, **changes: Any) -> dict[str, Any]:
    """The form as the page shows it, with some fields filled in otherwise."""
    shown = desk.get(edit(user)).context["adminform"].form
    data: dict[str, Any] = {}
    for bound in shown:
        value = bound.value()
        if hasattr(value, "astimezone"):
            data |= {f"{bound.name}_0": f"{value:%Y-%m-%d}", f"{bound.name}_1": f"{value:%H:%M:%S}"}
        elif value is not None and value is not False:
            data[bound.name] = value
    return data | changes


def test_a_saved_form_is_written_through(desk: Client, player: User) -> None:
    """The entry follows."""
    response = desk.post(edit(player), form(desk, player, loss_streak=4))
    assert response.status_code == 302
    assert held(player.pk) == row(player.pk)
    assert (row(player.pk)["lossStreak"], row(player.pk)["version"]) == (4, 2)


def test_a_form_older_than_the_state_is_refused(desk: Client, player: User) -> None:
    """What was played meanwhile stays."""
    data = form(desk, player, loss_streak=4)
    play(player.pk)
    before = row(player.pk)
    response = desk.post(edit(player), data)
    assert response.status_code == 200
    assert "has changed since you opened it" in response.content.decode()
    assert row(player.pk) == before


def test_a_form_out_of_range_is_refused_with_words(desk: Client, player: User) -> None:
    """Not with an IntegrityError."""
    response = desk.post(edit(player), form(desk, player, amplitude=3))
    assert response.status_code == 200
    assert "psyche_amplitude_range" in response.content.decode()


def test_unticking_the_throttle_clears_its_end(desk: Client, player: User) -> None:
    """One box is enough."""
    sql(
        "UPDATE klepsydra_psychestate SET is_throttled = true,"
        " throttled_until = now() + interval '1 hour' WHERE user_id = %s",
        player.pk,
    )
    data = form(desk, player)
    del data["is_throttled"]
    assert desk.post(edit(player), data).status_code == 302
    assert row(player.pk)["throttledUntil"] is None


def test_a_deleted_state_leaves_the_cache(desk: Client, player: User) -> None:
    """The user begins afresh; the record stays."""
    play(player.pk)
    delete = reverse("admin:klepsydra_psychestate_delete", args=[player.pk])
    assert desk.post(delete, {"post": "yes"}).status_code == 302
    assert held(player.pk) is None
    assert Interaction.objects.count() == 1


def test_the_record_does_not_forbid_to_delete_its_user(desk: Client, player: User) -> None:
    """Although nobody may delete the record, or the floor of versions, by itself."""
    play(player.pk)
    page = desk.get(reverse("admin:auth_sessions_user_delete", args=[player.pk]))
    assert not page.context["perms_lacking"] & {"interaction", "psyche state", "version floor"}


def test_the_record_can_be_looked_at_only(desk: Client, player: User) -> None:
    """No form, no deletion."""
    play(player.pk, idempotency_key="k1")
    record = Interaction.objects.get()
    page = desk.get(reverse("admin:klepsydra_interaction_changelist"), {"q": "k1"})
    assert "sisyphus-ascent" in page.content.decode()
    address = reverse("admin:klepsydra_interaction_change", args=[record.pk])
    assert desk.get(address).status_code == 200
    assert desk.post(address, {"payout": 5}).status_code == 403
    delete = reverse("admin:klepsydra_interaction_delete", args=[record.pk])
    assert desk.post(delete, {"post": "yes"}).status_code == 403
    assert desk.get(reverse("admin:klepsydra_interaction_add")).status_code == 403


def test_the_states_are_listed_and_found(desk: Client, player: User) -> None:
    """By name and by user id; none can be added by hand."""
    for query in (player.username, str(player.pk)):
        page = desk.get(reverse("admin:klepsydra_psychestate_changelist"), {"q": query})
        assert player.username in page.content.decode()
    assert desk.get(reverse("admin:klepsydra_psychestate_add")).status_code == 403
    assert PsycheState.objects.count() == 1
