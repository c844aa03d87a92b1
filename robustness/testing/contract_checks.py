"""Checks an attack against its contract, clause by clause; for the built-in attacks and for plug-ins.

The model is a linear classifier: the distance of an image to its decision boundary is known in closed form
(the margin over the dual norm of the difference of the weights), so a budget well above it must suffice, and
no smaller budget can.
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
"""Returns the fault of an attack as a sentence, or ""."""


@dataclass(frozen=True)
class Check:
    """The result of one clause.

    Parameters
    ----------
    name : str
        The clause, with the norm and the goal for which it was checked.
    holds : bool
        Whether the attack satisfies it.
    sentence : str
        The fault; "" if there is none.
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
    """A clause of the contract for one attack; calling it makes the check.

    Parameters
    ----------
    attack : Attack or its class
        The attack.
    name : str
        The clause, with the norm and the goal for which it is checked.
    find_fault : callable
        Returns the fault as a sentence, or "".
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
    """Builds the linear case of one norm and goal on first use."""

    attack: type[Attack] | Attack
    norm: str
    goal: Goal
    seed: int

    # Only the latest case is kept, since each contains compiled functions.
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

    After its declarations, for each of its norms, untargeted and targeted: the shape of its state, finite
    numbers, the budget and the range 0..255 at every step, that it changes the images, that rows do not
    depend on neighbours, order or batch size, that the seed determines the result, and that it flips what
    provably can be flipped, near the least distance if it seeks the closest point.

    Parameters
    ----------
    attack : Attack or its class
        A class is instantiated without arguments.
    seed : int
        Of the images, the model and the attack.

    Returns
    -------
    list of Check
        The checks, all of which hold.

    Raises
    ------
    AttackError
        The attack breaks a clause; the message lists all broken clauses and their faults.
    """
    results: list[Check] = []
    for group in _groups(attack, seed):
        for name, find_fault in group:
            sentence = find_fault()
            results.append(Check(name, not sentence, sentence))
            if sentence:
                # The same fault would break later clauses of this case.
                break
    broken = [check for check in results if not check.holds]
    if broken:
        listed = "\n".join(f"  - {check.name}: {check.sentence}" for check in broken)
        raise AttackError(f"{_label(attack)} breaks its contract:\n{listed}")
    return results


def checks(attack: type[Attack] | Attack, *, seed: int = 0) -> Iterator[tuple[str, ClauseCheck]]:
    """Yield the clauses of the contract as separate checks.

    Parameters
    ----------
    attack : Attack or its class
        A class is instantiated without arguments.
    seed : int
        Of the images, the model and the attack.

    Yields
    ------
    id : str
        The id of a clause, such as ``stays-within-the-budget-linf-untargeted``.
    check : ClauseCheck
        Raises AttackError when it is called, if the attack breaks the clause. Nothing is compiled before
        that; consecutive checks share compiled functions.
    """
    for group in _groups(attack, seed):
        for name, find_fault in group:
            yield _id(name), ClauseCheck(attack, name, find_fault)


def parametrize_with_checks(
    attacks: Iterable[type[Attack] | Attack], *, seed: int = 0
) -> pytest.MarkDecorator:
    """Return a pytest decorator that runs a test once for each clause of each attack.

    Parameters
    ----------
    attacks : iterable of Attack or its class
        Classes are instantiated without arguments.
    seed : int
        Of the images, the models and the attacks.

    Returns
    -------
    pytest.MarkDecorator
        For a test with one argument, `check`, which it calls.

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
    """The clauses by case; the first group checks the declarations, which the cases need."""
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
    """The clause applied to its case; an exception of the attack is a fault as well."""

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
