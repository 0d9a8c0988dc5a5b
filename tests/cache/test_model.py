"""The model of the entry protocol, docs/models/entry_protocol.py, in a shortened form."""

import entry_protocol as model
import pytest
from interleavings import schedules

SMALL_MIXES = [
    *[(mix, "evictions") for mix in ("WWR", "GGR", "SSR", "WDR", "-WIR")],
    *[(mix, "a crash") for mix in ("WWR", "GGR", "SSR", "WDR", "-WIR")],
    *[(mix, scope) for mix in ("PPR", "WPR") for scope in ("drain", "cut off, restart")],
    *[(mix, scope) for mix in ("PPR", "SR", "DR") for scope in ("outage", "restart")],
    *[(mix, "outage, restart") for mix in ("WR", "GR", "DR")],
    *[(mix, "hands") for mix in ("WWR", "GWR")],
]


@pytest.mark.parametrize(("mix", "scope"), SMALL_MIXES)
def test_protocol_in_every_interleaving(mix: str, scope: str) -> None:
    """No read is too old, and a quiet cache serves what PostgreSQL has."""
    found = model.explore(mix, model.SCOPES[scope])
    assert found.violation is None, found.schedule
    assert found.schedules > 500


@pytest.mark.parametrize("rule", model.Rules._fields)
def test_protocol_without_a_rule(rule: str) -> None:
    """The model sees what the rule is for."""
    found = model.without(rule)
    assert found.violation
    assert found.schedule


def test_schedules_are_counted_in_a_small_world() -> None:
    """A reader that misses takes three steps. Of two, the later one begins before the other one
    fills, in nine ways, or hits."""
    assert model.explore("R", model.Scope()).schedules == 1
    assert model.explore("RR", model.Scope()).schedules == 10


def test_schedules_without_end_are_not_counted() -> None:
    """A model in which something may go on for ever is told so."""
    assert schedules([[1, 2], [2], []]) == 2
    with pytest.raises(ValueError, match="cycle"):
        schedules([[1], [2], [1]])
