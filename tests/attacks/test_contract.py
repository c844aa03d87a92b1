"""Tests that each attack is checked against the contract by some test in this folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from robustness import attacks
from robustness.attacks.hopskipjump import HopSkipJump
from robustness.testing import checks

APART = {"Universal", "Patch", "HopSkipJump"}
"""The first two need a fitted file; the third is tested below."""


def test_every_attack_has_a_contract_test():
    held = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        test = getattr(import_module(f"tests.attacks.{path.stem}"), "test_the_contract_is_kept", 0)
        for mark in getattr(test, "pytestmark", []):
            for parameter in mark.args[1] if mark.name == "parametrize" else []:
                attack = parameter.values[0].attack
                held.add(attack.__name__ if isinstance(attack, type) else type(attack).__name__)
    assert set(attacks._RECIPES) - held == APART


REPEATED = ("treats-rows-independently", "is-decided-by-its-seed")
"""The clauses that run the attack several more times."""


def check_clauses(attack: HopSkipJump, seed: int, *, repeated: bool) -> None:
    """Check the clauses that run the attack several times, or the others."""
    chosen = [
        check for name, check in checks(attack, seed=seed) if name.startswith(REPEATED) == repeated
    ]
    assert chosen
    for check in chosen:
        check()


@pytest.mark.slow
@pytest.mark.parametrize("seed", (0, 1, 2))
def test_hopskipjump_keeps_the_contract_with_5000_queries(seed):
    check_clauses(HopSkipJump(steps=500, points=10), seed, repeated=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", (0, 1))
def test_hopskipjump_repeats_its_points(seed):
    """Every phase occurs several times in 100 steps; only the distance needs more."""
    check_clauses(HopSkipJump(steps=100, points=10), seed, repeated=True)
