"""Every recipe is held to the contract somewhere in this folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import attacks
from attacks.hopskipjump import HopSkipJump
from robustness.conformance import check_attack
from robustness.errors import AttackError

APART = {"Universal", "Patch", "HopSkipJump"}
"""The first two apply a file that was fitted; the third is below."""


def test_every_recipe_is_held_to_the_contract():
    held = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        test = getattr(import_module(f"tests.attacks.{path.stem}"), "test_the_contract_is_kept", 0)
        for mark in getattr(test, "pytestmark", []):
            for value in mark.args[1] if mark.name == "parametrize" else []:
                held.add(value.__name__ if isinstance(value, type) else type(value).__name__)
    assert set(attacks.__all__) - held == APART


@pytest.mark.slow
def test_hopskipjump_keeps_all_of_it_but_the_least_distance():
    """A search by decisions ends at the boundary that its start lies behind, and near it only."""
    with pytest.raises(AttackError) as told:
        check_attack(HopSkipJump(steps=100))
    broken = [line for line in str(told.value).splitlines() if line.startswith("  - ")]
    assert broken
    assert all("comes near the least distance" in line for line in broken)
