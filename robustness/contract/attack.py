"""The attack contract: an attack is the body of a loop, two pure functions of rows.

The engine owns the loop, the stopping, the bookkeeping and the verdict; see `docs/adding-an-attack.md`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from robustness.configuration import parameters as settings
from robustness.contract.declarations import Declarations
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import Knowledge, Seeks, State
from robustness.errors import SettingError
from robustness.numerics.losses import LOSSES, stand_in
from robustness.threat.goals import Goal
from robustness.threat.norms import Norm


@dataclass(frozen=True, kw_only=True)
class Attack(Declarations, ABC):
    """Base of every attack: parameters, and how one state becomes the next.

    A state is a dict of arrays, each with a leading row axis, one of them `point` (rows, h, w, c): what
    the attack would hand in now. No Python branching on values, no memory outside the state, nothing
    that mixes rows: a row may be loaded, stepped and unloaded independently of its neighbours.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    knowledge: ClassVar[Knowledge] = "white-box"
    norms: ClassVar[tuple[str, ...]] = ("linf",)
    seeks: ClassVar[Seeks] = "any"
    """"any" point inside the budget: the row leaves at its first verified flip. "closest": the row
    runs its steps, the engine keeps the nearest point that reached the goal, and the outcome at every
    epsilon follows from its distance; `Task.epsilon` is then the largest epsilon of all. A row whose
    state says `done` (rows,) bool has nothing left to look for, and leaves before its steps are spent."""

    refined: ClassVar[bool] = True
    """Whether the engine looks for files nearer than that of a "closest" attack by a gradient at it
    (`refining.Refining`). Only white-box attacks'; not worth the looks where the attack's last step is that
    of the linear model."""

    baseline: ClassVar[bool] = False
    """Whether it learns nothing from what it sees: what attacks are compared with. The contract does
    not ask of it that it flips what can be flipped."""

    steps: int = settings.setting(1, "number of steps", low=1, high=100_000)
    loss: str = settings.setting("cross_entropy", "loss that is lowered", choices=tuple(LOSSES))

    def __post_init__(self) -> None:
        settings.check(self)

    @property
    def restarts(self) -> int:
        """How many independent starts the engine gives each image."""
        return 1

    @property
    def width(self) -> int:
        """How many points a row looks at in a step; wide rows run fewer at a time."""
        return 1

    @abstractmethod
    def init(self, task: Task) -> State:
        """The state before the first step."""

    @abstractmethod
    def step(self, task: Task, state: State, look: Look) -> State:
        """The state after one more step."""

    def expect_norm(self, norm: Norm) -> None:
        """SettingError unless there is a version of this attack for `norm`."""
        if norm.name not in self.norms:
            raise SettingError(
                f"{self.name} has no {norm.name} version; it works in {', '.join(self.norms)}. "
                "Choose one of these norms, or another attack."
            )

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Attack:
        """One with these parameters, values or texts; SettingError for one it does not know."""
        texts = {k: v for k, v in parameters.items() if isinstance(v, str)}
        values = {k: v for k, v in parameters.items() if not isinstance(v, str)}
        settings.from_text(cls, dict.fromkeys(values, ""))
        return cls(
            **{k.replace("-", "_"): v for k, v in values.items()}, **settings.from_text(cls, texts)
        )

    def adapted_to(self, goal: Goal, classes: int) -> tuple[Attack, str]:
        """The attack as it runs towards `goal` on a model of so many classes, and what that replaces.

        The second is a phrase for reports, "" where nothing was replaced.
        """
        loss, why = stand_in(self.loss, classes)
        return (replace(self, loss=loss), why) if why else (self, "")

    @property
    def label(self) -> str:
        """Name and parameters, for people; unique among the attacks of a run."""
        shown = {
            name: getattr(self, name)
            for name, (field, _) in settings.settings(type(self)).items()
            if name == "steps" or getattr(self, name) != field.default
        }
        return f"{self.name}({', '.join(f'{k}={_short(v)}' for k, v in shown.items())})"

    def parameters(self) -> dict[str, Any]:
        """Every parameter by name, JSON-able."""
        return asdict(self)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
