"""The model of the bounded list, docs/models/bounded_list.py, in a shortened form."""

import bounded_list as model
import pytest

SMALL_MIXES = [
    *[(mix, "no faults") for mix in ("CCRR", "-CCAR", "-CFCR")],
    *[(mix, "evictions") for mix in ("CCR", "CFR")],
    *[(mix, "leases run out") for mix in ("CCR", "-CFRR")],
    *[(mix, "a restart") for mix in ("CCR", "CAR", "-CFR")],
    ("CPDR", "a restart, drain"),
    *[(mix, "drain") for mix in ("-CPDR", "CQDR", "CFDR", "FPDR")],
    *[(mix, "a crash") for mix in ("CRD", "CARD", "CCRD", "CFRD")],
    *[(mix, "two crashes") for mix in ("CRD", "CCRD")],
]


@pytest.mark.parametrize(("mix", "scope"), SMALL_MIXES)
def test_list_in_every_interleaving(mix: str, scope: str) -> None:
    """No read lacks a turn, or has one that was forgotten, and a quiet list is the last turns."""
    found = model.explore(mix, model.SCOPES[scope])
    assert found.violation is None, found.schedule
    assert found.schedules > 1_000


@pytest.mark.parametrize("rule", model.Rules._fields)
def test_list_without_a_rule(rule: str) -> None:
    """The model sees what the rule is for."""
    _, found = model.without(rule)
    assert found.violation
    assert found.schedule
