"""Tests of `check_attack`: each fault is detected with its own message."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
from keras import backend, ops, random

from robustness import attacks, testing
from robustness.attacks import BIM, PGD, Attack, AttackError, setting
from robustness.testing import check_attack, checks, parametrize_with_checks


@dataclass(frozen=True, kw_only=True)
class Base(Attack):
    name: ClassVar[str] = "base"
    paper: ClassVar[str] = "none"
    steps: int = setting(6, "number of steps", low=1)

    def init(self, task):
        return {"point": task.images}

    def move(self, task, state, look):
        return state["point"] - task.per_row(task.epsilon / 3) * ops.sign(
            look(state["point"]).gradient
        )

    def step(self, task, state, look):
        return {"point": task.project(self.move(task, state, look))}


@dataclass(frozen=True, kw_only=True)
class IgnoresBudget(Base):
    def step(self, task, state, look):
        return {"point": ops.clip(self.move(task, state, look), 0, 255)}


@dataclass(frozen=True, kw_only=True)
class LeavesBox(Base):
    def step(self, task, state, look):
        return {"point": state["point"] - 60.0 + 0 * self.move(task, state, look)}


@dataclass(frozen=True, kw_only=True)
class ForgetsTheBox(Base):
    """Within the budget of every image, but not within 0..255."""

    norms: ClassVar[tuple[str, ...]] = ("linf",)

    def step(self, task, state, look):
        change = self.move(task, state, look) - task.images
        epsilon = task.per_row(task.epsilon)
        return {"point": task.images + ops.clip(change, -epsilon, epsilon)}


@dataclass(frozen=True, kw_only=True)
class OwnRandomNumbers(Base):
    def step(self, task, state, look):
        noise = random.normal(state["point"].shape)
        return {"point": task.project(self.move(task, state, look) + noise)}


@dataclass(frozen=True, kw_only=True)
class DoesNothing(Base):
    def step(self, task, state, look):
        return {"point": state["point"] + 0 * look(state["point"]).gradient}


@dataclass(frozen=True, kw_only=True)
class MixesRows(Base):
    def step(self, task, state, look):
        move = self.move(task, state, look) - state["point"]
        return {"point": task.project(state["point"] + ops.mean(move, axis=0, keepdims=True))}


@dataclass(frozen=True, kw_only=True)
class LeavesNaN(Base):
    def step(self, task, state, look):
        out = super().step(task, state, look)["point"]
        return {"point": out / ops.where(task.per_row(task.step) >= 2, 0.0, 1.0) * 1.0}


@dataclass(frozen=True, kw_only=True)
class GoesTheWrongWay(Base):
    def step(self, task, state, look):
        return {"point": task.project(2 * state["point"] - self.move(task, state, look))}


@dataclass(frozen=True, kw_only=True)
class NoPoint(Base):
    def init(self, task):
        return {"image": task.images}

    def step(self, task, state, look):
        return state


@dataclass(frozen=True, kw_only=True)
class Grows(Base):
    def step(self, task, state, look):
        return {"point": task.project(self.move(task, state, look)), "new": task.epsilon}


@dataclass(frozen=True, kw_only=True)
class Peeks(Base):
    knowledge: ClassVar = "score"


@dataclass(frozen=True, kw_only=True)
class Raises(Base):
    def step(self, task, state, look):
        raise ZeroDivisionError("oops")


@dataclass(frozen=True, kw_only=True)
class Nameless(Base):
    name: ClassVar[str] = ""


@dataclass(frozen=True, kw_only=True)
class OddNorm(Base):
    norms: ClassVar[tuple[str, ...]] = ("l7",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "clause", "said"),
    [
        (IgnoresBudget, "stays within the budget", "the budget is"),
        (LeavesBox, "stays within the budget", "outside 0..255"),
        (ForgetsTheBox, "stays within the budget", "outside 0..255"),
        (OwnRandomNumbers, "treats rows independently", "task.uniform or task.normal"),
        (DoesNothing, "does something", "are unchanged at every step. Return the new point"),
        (MixesRows, "treats rows independently", "its neighbours"),
        (LeavesNaN, "stays finite", "NaN or infinite numbers after step 3. Guard divisions"),
        (GoesTheWrongWay, "flips a linear model", "do not flip at epsilon"),
        (
            NoPoint,
            "keeps a state of rows",
            "expected a dict of arrays with 'point' float32 (6, 8, 8, 3)",
        ),
        (
            Grows,
            "stays finite",
            "'new' float32 (6,), 'point' float32 (6, 8, 8, 3); expected 'point'",
        ),
        (Peeks, "stays finite", "read the gradient"),
        (Raises, "stays finite", "ZeroDivisionError: oops"),
        (Nameless, "declares itself", "lacks name"),
        (OddNorm, "declares itself", "norms l7 are not known"),
        (dict, "declares itself", "is not an Attack"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_fault_has_its_own_message(attack, clause, said):
    if attack is OwnRandomNumbers and backend.backend() == "jax":
        # JAX itself refuses them while it traces.
        clause, said = "stays finite", "traced by JAX"
    with pytest.raises(AttackError) as caught:
        check_attack(attack)
    assert clause in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.slow
def test_a_valid_attack_passes_as_class_and_as_object():
    assert check_attack(Base)
    names = {check.name for check in check_attack(BIM(steps=8))}
    assert "flips a linear model (linf, targeted)" in names


@pytest.mark.slow
def test_other_seeds_give_the_same_verdict():
    assert check_attack(PGD(steps=6), seed=3)


@pytest.mark.slow
def test_every_clause_is_a_separate_check():
    found = dict(checks(BIM(steps=8)))
    assert len(found) == 17
    assert list(found)[:2] == ["declares-itself", "keeps-a-state-of-rows-linf-untargeted"]
    for check in found.values():
        check()


def test_a_check_names_the_violated_clause():
    found = dict(checks(IgnoresBudget()))
    found["stays-finite-linf-untargeted"]()
    with pytest.raises(
        AttackError, match=r"(?s)base\(steps=6\).*budget \(linf, untargeted\): image"
    ):
        found["stays-within-the-budget-linf-untargeted"]()


def test_for_an_invalid_attack_only_declarations_are_checked():
    ((name, check),) = checks(dict)  # type: ignore[arg-type]
    assert name == "declares-itself"
    with pytest.raises(AttackError, match="dict is not an Attack"):
        check()


def test_checks_become_pytest_parameters_with_ids():
    mark = parametrize_with_checks([BIM, PGD(steps=6)]).mark
    name, parameters = mark.args
    ids = [parameter.id for parameter in parameters]
    assert name == "check"
    assert len(set(ids)) == len(ids) == 17 + 1 + 3 * 2 * 8
    assert "BIM-flips-a-linear-model-linf-targeted" in ids
    assert "pgd(steps=6)-stays-finite-l1-untargeted" in ids


def test_attacks_and_checks_import_no_framework_before_use():
    code = (
        "import sys, robustness.attacks, robustness.testing\n"
        "assert 'BIM' in dir(robustness.attacks) and 'checks' in dir(robustness.testing)\n"
        "assert not {'keras', 'tensorflow', 'pytest'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", [attacks, testing])
def test_every_public_name_exists(module):
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = module.Nothing
