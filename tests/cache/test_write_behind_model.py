"""The model of the write-behind, docs/models/write_behind.py, in a shortened form."""

import pytest
import write_behind as model

SMALL_MIXES = [
    *[(mix, "a crash") for mix in ("UUF", "UUPF", "UAFLL")],
    *[(mix, scope) for mix in ("UUF", "UFF") for scope in ("dirty eviction", "memory lost")],
    *[(mix, "restart, crash") for mix in ("UUF", "UFF", "UAFL")],
    *[(mix, "two crashes") for mix in ("UUF", "UFF")],
    *[(mix, "cut off") for mix in ("UUF", "UAFL")],
    *[(mix, "unordered") for mix in ("UUF", "UAFL")],
]


@pytest.mark.parametrize(("mix", "scope"), SMALL_MIXES)
def test_write_behind_in_every_interleaving(mix: str, scope: str) -> None:
    """Every acknowledged change reaches the row, and nothing goes back."""
    found = model.explore(mix, model.SCOPES[scope])
    assert found.violation is None, found.schedule
    assert found.schedules > 10_000


@pytest.mark.parametrize("rule", sorted(set(model.Rules._fields) - {"revive_locks"}))
def test_write_behind_without_a_rule(rule: str) -> None:
    """The model sees what the rule is for. (One takes seconds, and is left to the model itself.)"""
    found = model.without(rule)
    assert found.violation
    assert found.schedule


@pytest.mark.parametrize("scope", ["two losses", "psql, restart"])
def test_write_behind_beyond_what_is_promised(scope: str) -> None:
    """The model sees what its text names as not promised."""
    mix, faults = model.CAVEATS[scope]
    assert model.explore(mix, faults).violation
