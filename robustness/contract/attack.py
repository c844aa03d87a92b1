"""The base class of attacks: the body of a loop, as two pure functions of rows.

The engine runs the loop, stops it, counts passes and judges flips; see `docs/adding-an-attack.md`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from robustness.configuration import attack_parameters as settings
from robustness.contract.declarations import Declarations
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import Knowledge, Seeks, State
from robustness.errors import SettingError
from robustness.numerics.losses import LOSSES, stand_in
from robustness.threat.goals import Goal
from robustness.threat.norms import Norm

LEAST_PROBE = 1.0
"""The least root mean square of a probe, in counts, of which enough is left when its file is written."""


@dataclass(frozen=True, kw_only=True)
class Attack(Declarations, ABC):
    """Base of every attack: its parameters, and how one state becomes the next.

    A state is a dict of arrays, each with a leading row axis. One of them is `point`, (rows, height, width,
    channels) counts: the attack's current result. An attack must not branch in Python on values, keep
    anything outside the state, or mix rows: each row is loaded, stepped and removed independently of the
    others.

    Attributes
    ----------
    name, paper
        The name of the attack, and its publication.
    knowledge
        What the attack may read of the model: "white-box", "score" (no gradient) or "decision" (labels).
    norms
        The names of the norms for which the attack is defined.
    any_norm
        Whether the attack also works in every other norm with convex balls.
    seeks
        "any" point inside the budget: a row ends at its first verified flip. "closest" point: a row runs all
        its steps, the engine keeps the nearest point that reached the goal, and the outcome at every epsilon
        follows from its distance; `Task.epsilon` is then the largest of all. A row whose state has `done`
        (rows,) bool set ends before its steps are spent.
    refined
        Whether the engine searches nearer files around the flips of a white-box attack that seeks the closest
        point (`engine.refinement`). False where the attack's last step is already the best one for a linear
        model.
    padded
        Whether the attack may run on pictures with an empty margin, so that pictures of several sizes share a
        batch. False where its steps depend on the borders of the image: windows, rotations, blurs.
    baseline
        Whether the attack ignores the model's outputs, as noise does. The contract does not require such an
        attack to flip anything.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    knowledge: ClassVar[Knowledge] = "white-box"
    norms: ClassVar[tuple[str, ...]] = ("linf",)
    """The norms for which the attack is defined, by name."""
    any_norm: ClassVar[bool] = False
    """Whether the attack also works in every other norm with convex balls, because it uses only the steepest
    direction, the projection and the samples of the norm."""

    seeks: ClassVar[Seeks] = "any"
    refined: ClassVar[bool] = True
    padded: ClassVar[bool] = True
    baseline: ClassVar[bool] = False

    steps: int = settings.setting(1, "number of steps", low=1, high=100_000)
    loss: str = settings.setting("cross_entropy", "loss that is lowered", choices=tuple(LOSSES))

    def __post_init__(self) -> None:
        settings.check(self)

    @property
    def restarts(self) -> int:
        """The number of independent starts of each image."""
        return 1

    @property
    def width(self) -> int:
        """The number of points that a row evaluates in a step; the batch size is divided by it."""
        return 1

    def on_files(self) -> Attack:
        """Return the attack for points that are rounded to 8-bit files before the model sees them."""
        return self

    @abstractmethod
    def init(self, task: Task) -> State:
        """Return the state before the first step.

        Parameters
        ----------
        task
            The rows to attack.
        """

    @abstractmethod
    def step(self, task: Task, state: State, look: Look) -> State:
        """Return the state after one more step.

        Parameters
        ----------
        task
            The rows; `task.step` is the number of steps done.
        state
            The result of the last step, or of `init`.
        look
            Evaluates the model at points when called.

        Returns
        -------
        A state with the same names, shapes and types.
        """

    def expect_norm(self, norm: Norm) -> None:
        """Raise SettingError unless the attack works in `norm`."""
        if not works_in(self, norm):
            raise SettingError(
                f"{self.name} has no {norm.name} version; it works in {', '.join(self.norms)}. "
                "Choose one of these norms, or another attack."
            )

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Attack:
        """Make the attack from named parameters.

        Parameters
        ----------
        parameters
            Values, or strings from a command line, by name; `-` in a name counts as `_`.

        Raises
        ------
        SettingError
            A parameter is unknown or out of range.
        """
        texts = {k: v for k, v in parameters.items() if isinstance(v, str)}
        values = {k: v for k, v in parameters.items() if not isinstance(v, str)}
        settings.from_text(cls, dict.fromkeys(values, ""))
        return cls(
            **{k.replace("-", "_"): v for k, v in values.items()}, **settings.from_text(cls, texts)
        )

    def adapted_to(self, goal: Goal, classes: int) -> tuple[Attack, str]:
        """Return the attack adapted to a goal and a number of classes.

        Parameters
        ----------
        goal
            The goal of the threat.
        classes
            The number of classes of the model.

        Returns
        -------
        The attack, and a phrase for reports that says what was replaced; "" if nothing was.
        """
        loss, why = stand_in(self.loss, classes)
        return (replace(self, loss=loss), why) if why else (self, "")

    @property
    def label(self) -> str:
        """The name, `steps`, and the parameters that differ from their default; unique in a run."""
        shown = {
            name: getattr(self, name)
            for name, (field, _) in settings.settings(type(self)).items()
            if name == "steps" or getattr(self, name) != field.default
        }
        return f"{self.name}({', '.join(f'{k}={_short(v)}' for k, v in shown.items())})"

    def parameters(self) -> dict[str, Any]:
        """Return all parameters by name, as JSON values."""
        return asdict(self)


def works_in(attack: Attack | type[Attack], norm: Norm) -> bool:
    """Return whether an attack has a version for `norm`."""
    return norm.name in attack.norms or (attack.any_norm and norm.convex)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
