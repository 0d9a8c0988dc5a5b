"""What BEEP is answered."""

from typing import Any

import pytest

from aevon import intents
from auth_sessions.models import User
from beep.phrases import read_enumeration
from klepsydra import services
from klepsydra.instruments import INSTRUMENTS
from klepsydra.models import Interaction, PsycheState
from tests.klepsydra.rows import row

pytestmark = pytest.mark.django_db(transaction=True)
NOBODY = 10**9


@pytest.fixture
def roll(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`roll(n)`: what the next plays roll."""
    return lambda n: monkeypatch.setattr(services.secrets, "randbelow", lambda _: n)


def change(user: User, **fields: Any) -> None:
    """Save fields of the state, as the admin does."""
    state = PsycheState.objects.get(pk=user.pk)
    for name, value in fields.items():
        setattr(state, name, value)
    state.save()


@pytest.mark.parametrize(
    "name", ["spinforge", "SpinForge", "SPINFORGE", "oracle of delphi", "sisyphus-ascent"]
)
def test_an_instrument_is_known_by_slug_and_name(player: User, name: str) -> None:
    """In any case."""
    perform("klepsydra.play", player.pk, {"instrument": name})
    assert Interaction.objects.get().instrument in INSTRUMENTS


def test_a_play_without_a_stake_takes_the_least(player: User, roll: Any) -> None:
    """And says what was lost."""
    roll(0)
    answer = perform("klepsydra.play", player.pk, {"instrument": "SpinForge"})
    assert answer == "SpinForge: COMMON. You lost your stake of 1 Ξ."
    assert row(player.pk)["lossStreak"] == 1


def test_a_win_tells_the_payout(player: User, roll: Any) -> None:
    """With the stake that was named."""
    roll(8_500)
    change(player, amplitude=0.0)
    answer = perform("klepsydra.play", player.pk, {"instrument": "SpinForge", "stake": 7})
    assert answer == "SpinForge: UNCOMMON! 7 Ξ brought 14 Ξ."


def test_the_fifth_loss_announces_the_sure_win(player: User, roll: Any) -> None:
    """So does the status."""
    roll(0)
    change(player, loss_streak=4)
    answer = perform("klepsydra.play", player.pk, {"instrument": "SpinForge"})
    assert answer.endswith("The next play is a sure win.")
    assert perform("klepsydra.status", player.pk, {}).endswith("is a sure win.")


def test_a_resting_player_is_told_when_to_come_back(player: User) -> None:
    """No stake is taken."""
    change(player, is_throttled=True, frustration_level=0.8)
    answer = perform("klepsydra.play", player.pk, {"instrument": "SpinForge"})
    assert answer.startswith("You are resting; no stake was taken. SpinForge can be played again")
    assert "You are resting" in perform("klepsydra.status", player.pk, {})


@pytest.mark.parametrize("stake", [0, 2_001, 10**18])
def test_a_wrong_stake_is_refused_with_the_limits(player: User, stake: int) -> None:
    """Nothing changes."""
    with pytest.raises(intents.IntentRefused, match="between 1 and 2000"):
        perform("klepsydra.play", player.pk, {"instrument": "SpinForge", "stake": stake})
    assert row(player.pk)["version"] == 1


@pytest.mark.parametrize("arguments", [{}, {"instrument": ""}, {"instrument": "roulette"}])
def test_an_unknown_instrument_is_answered_with_the_list(
    player: User, arguments: dict[str, Any]
) -> None:
    """One that "the second one" can point into."""
    with pytest.raises(intents.IntentRefused) as refusal:
        perform("klepsydra.play", player.pk, arguments)
    assert read_enumeration(str(refusal.value)) == names()


def test_the_list_of_instruments_can_be_pointed_into(player: User) -> None:
    """BEEP reads the names back."""
    assert read_enumeration(perform("klepsydra.instruments", player.pk, {})) == names()
    assert intents.offered("instruments") == names()


@pytest.mark.parametrize("phase", [0.0, 3.1])
def test_the_status_tells_the_state_of_this_moment(player: User, phase: float) -> None:
    """On a flat wave, calm; no luck of -0.00."""
    change(player, amplitude=0.0001, phase=phase, loss_streak=2)
    assert perform("klepsydra.status", player.pk, {}) == (
        "Your luck wave is at +0.00, your loss streak is 2 and your frustration is at 0%."
    )


@pytest.mark.parametrize("intent", ["klepsydra.play", "klepsydra.status"])
def test_nobody_is_refused(db: None, intent: str) -> None:
    """A user who was deleted meanwhile."""
    with pytest.raises(intents.IntentRefused, match="do not know you"):
        perform(intent, NOBODY, {"instrument": "SpinForge"})


def perform(intent: str, user_id: int, arguments: dict[str, Any]) -> str:
    """What BEEP is answered; nothing here can be taken back."""
    done = intents.perform(intent, user_id, arguments)
    assert done.undo is None
    return done.answer


def names() -> tuple[str, ...]:
    """The instruments' names in their order."""
    return tuple(each.name for each in INSTRUMENTS.values())
