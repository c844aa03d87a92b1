"""Check an attack against its contract, clause by clause: for the built-in recipes and for plug-ins.

The truth is a linear classifier: the distance of an image to its boundary is known in closed form (the margin
over the dual norm of the difference of the weights), so a budget well above it must suffice, and no budget
below it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from robustness.contract.attack import Attack
from robustness.errors import AttackError, RobustnessError
from robustness.testing.clauses import CLAUSES, DECLARES_ITSELF, declaration_fault
from robustness.testing.linear_case import LinearCase
from robustness.threat import norms
from robustness.threat.goals import Goal, Targeted, Untargeted

if TYPE_CHECKING:
    import pytest

Fault = Callable[[], str]
"""Returns what is wrong with an attack, or ""."""


@dataclass(frozen=True)
class Check:
    """The result of one clause.

    Parameters
    ----------
    name : the clause, with the norm and the goal it was checked for.
    holds : whether the attack keeps it.
    sentence : what is wrong if not.
    """

    name: str
    holds: bool
    sentence: str = ""

    @property
    def id(self) -> str:
        """The name in lower-case words joined by hyphens, as in a test's id."""
        return _id(self.name)


@dataclass(frozen=True)
class ClauseCheck:
    """A clause of the contract for one attack; call it to check it.

    Parameters
    ----------
    attack : a class or an object.
    name : the clause, with the norm and the goal it is checked for.
    find_fault : returns what is wrong, or "".
    """

    attack: type[Attack] | Attack
    name: str
    find_fault: Fault

    def __call__(self) -> None:
        """Raise AttackError if the attack breaks the clause."""
        if sentence := self.find_fault():
            raise AttackError(
                f"{_label(self.attack)} breaks its contract:\n  - {self.name}: {sentence}"
            )


@dataclass(frozen=True)
class _CaseSource:
    """Builds the case of one norm and goal when it is first needed."""

    attack: type[Attack] | Attack
    norm: str
    goal: Goal
    seed: int

    # Only the latest case is kept: each holds compiled functions.
    latest: ClassVar[tuple[_CaseSource, LinearCase] | None] = None

    def get(self) -> LinearCase:
        latest = _CaseSource.latest
        if latest is None or latest[0] is not self:
            attack = self.attack() if isinstance(self.attack, type) else self.attack
            latest = (self, LinearCase(attack, norms.parse(self.norm), self.goal, self.seed))
            _CaseSource.latest = latest
        return latest[1]

    @property
    def label(self) -> str:
        goal = "targeted" if isinstance(self.goal, Targeted) else "untargeted"
        return f"{self.norm}, {goal}"


def check_attack(attack: type[Attack] | Attack, *, seed: int = 0) -> list[Check]:
    """Check an attack against all clauses of its contract.

    For each of its norms, untargeted and targeted: its declarations, the shape of its state, the budget and
    the range 0..255 at every step, finite numbers, that it changes something, that it flips what provably
    can be flipped, that rows do not depend on neighbours, order or batch size, and that the seed decides
    everything.

    Parameters
    ----------
    attack : a class, which is made without parameters, or an object.
    seed : of the images, the model and the attack.

    Returns
    -------
    The checks, all of which hold.

    Raises
    ------
    AttackError
        Some clause is broken; the message names each, and what is wrong.
    """
    results: list[Check] = []
    for group in _groups(attack, seed):
        for name, find_fault in group:
            sentence = find_fault()
            results.append(Check(name, not sentence, sentence))
            if sentence:
                # Later clauses of the same case would only repeat it.
                break
    broken = [check for check in results if not check.holds]
    if broken:
        listed = "\n".join(f"  - {check.name}: {check.sentence}" for check in broken)
        raise AttackError(f"{_label(attack)} breaks its contract:\n{listed}")
    return results


def checks(attack: type[Attack] | Attack, *, seed: int = 0) -> Iterator[tuple[str, ClauseCheck]]:
    """The clauses of the contract as separate checks.

    Parameters
    ----------
    attack : a class, which is made without parameters, or an object.
    seed : of the images, the model and the attack.

    Yields
    ------
    The id of a clause, such as ``stays-within-the-budget-linf-untargeted``, and a `ClauseCheck` to call: it
    raises AttackError if the attack breaks the clause. Nothing is compiled before a check is called;
    consecutive checks share what is compiled.
    """
    for group in _groups(attack, seed):
        for name, find_fault in group:
            yield _id(name), ClauseCheck(attack, name, find_fault)


def parametrize_with_checks(
    attacks: Iterable[type[Attack] | Attack], *, seed: int = 0
) -> pytest.MarkDecorator:
    """A pytest decorator that runs a test once for each clause of each attack.

    Parameters
    ----------
    attacks : classes or objects.
    seed : of the images, the models and the attacks.

    Returns
    -------
    A decorator for a test with one argument, `check`, a function to call.

    Examples
    --------
    >>> @parametrize_with_checks([MyAttack()])  # doctest: +SKIP
    ... def test_the_contract_is_kept(check):
    ...     check()
    """
    import pytest  # noqa: PLC0415 - only tests have it

    parameters = [
        pytest.param(check, id=f"{_label(attack)}-{name}")
        for attack in attacks
        for name, check in checks(attack, seed=seed)
    ]
    return pytest.mark.parametrize("check", parameters)


def _groups(attack: type[Attack] | Attack, seed: int) -> Iterator[list[tuple[str, Fault]]]:
    """The clauses by case; the first group are the declarations, without which there are no cases."""
    yield [(DECLARES_ITSELF, lambda: declaration_fault(attack))]
    if declaration_fault(attack):
        return
    for norm in attack.norms:
        for goal in (Untargeted(), Targeted(2)):
            source = _CaseSource(attack, norm, goal, seed)
            yield [
                (f"{title} ({source.label})", _reporting(clause, source))
                for title, clause in CLAUSES.items()
            ]


def _reporting(clause: Callable[[LinearCase], str], source: _CaseSource) -> Fault:
    """The clause on its case; what the attack raises is a fault too."""

    def find_fault() -> str:
        try:
            return clause(source.get())
        except RobustnessError as error:
            return str(error)
        except Exception as error:
            return f"it raised {type(error).__name__}: {error}"

    return find_fault


def _label(attack: type[Attack] | Attack) -> str:
    return attack.__name__ if isinstance(attack, type) else attack.label


def _id(name: str) -> str:
    return name.replace("(", "").replace(")", "").replace(",", "").replace(" ", "-")
