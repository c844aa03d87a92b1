"""The attack contract: an attack is the body of a loop, two pure functions of rows.

The engine owns the loop, the stopping, the bookkeeping and the verdict; see `docs/adding-an-attack.md`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from keras import ops

from robustness import draws, gradients, plugins, settings
from robustness.errors import AttackError, SettingError
from robustness.goals import Goal, predicted
from robustness.losses import LOSSES
from robustness.norms import Norm

State = dict[str, Any]
Knowledge = Literal["white-box", "score", "decision"]


@dataclass(frozen=True)
class Task:
    """What each row is about. Every array has a leading row axis.

    `images` (rows, h, w, c) counts, `aims` (rows,) int32 classes the loss is taken against, `epsilon`
    (rows,) counts, `keys` (rows, 2) int32 for random numbers, `step` (rows,) int32 steps done.
    """

    images: Any
    aims: Any
    epsilon: Any
    keys: Any
    step: Any
    norm: Norm
    goal: Goal

    def project(self, points: Any) -> Any:
        """The nearest legal points: inside the ball around the images and inside 0..255."""
        low, high = -self.images, 255.0 - self.images
        return self.images + self.norm.project(points - self.images, self.epsilon, low, high)

    def random_start(self) -> Any:
        """A random legal point of each row, the same for the same key."""
        shape = tuple(self.images.shape[1:])
        return self.project(self.images + self.norm.sample(self.keys, self.epsilon, shape))

    def uniform(self, shape: tuple[int, ...], stream: int = 0) -> Any:
        """Numbers in (0, 1), (rows, *shape), fresh at each step; `stream` tells uses apart."""
        return draws.uniform(self.keys, 16 + stream + 4096 * (1 + self.step), shape)

    def normal(self, shape: tuple[int, ...], stream: int = 0) -> Any:
        """Standard normal numbers, like `uniform`."""
        return draws.normal(self.keys, 16 + stream + 4096 * (1 + self.step), shape)

    def per_row(self, values: Any) -> Any:
        """(rows,) shaped so that it multiplies images."""
        return ops.reshape(values, (-1, 1, 1, 1))


class Seen:
    """One look at the model: `.logits`, `.label`, `.loss`, `.gradient`, as far as knowledge allows.

    Computed on first use: who never asks for the gradient pays for no backward pass.
    """

    def __init__(self, look: Look, points: Any, loss: Callable[[Any, Any], Any]) -> None:
        self._look, self.points, self._loss = look, points, loss
        self._several = points.shape[1] if len(points.shape) == 5 else 0
        aims = look.task.aims
        self._aims = ops.repeat(aims, self._several) if self._several else aims

    @property
    def _flat(self) -> Any:
        if not self._several:
            return self.points
        return ops.reshape(self.points, (-1, *self.points.shape[2:]))

    def _unflat(self, values: Any) -> Any:
        if not self._several:
            return values
        return ops.reshape(values, (-1, self._several, *values.shape[1:]))

    def _forward(self, points: Any) -> tuple[Any, Any]:
        logits = self._look.logits(points)
        return self._look.task.goal.loss(self._loss, logits, self._aims), logits

    @cached_property
    def _backward(self) -> tuple[tuple[Any, Any], Any]:
        self._look.backward += max(self._several, 1)
        return gradients.value_and_grad(self._forward)(self._flat)

    @cached_property
    def _judged(self) -> tuple[Any, Any]:
        """Loss and logits; those of the backward pass where there was one."""
        return self._backward[0] if "_backward" in self.__dict__ else self._forward(self._flat)

    def _allowed(self, what: str, *knowledge: str) -> None:
        if self._look.knowledge not in knowledge:
            raise AttackError(
                f"A {self._look.knowledge} attack asked for the {what}; that takes knowledge "
                f"{' or '.join(knowledge)}. Declare it in the attack's `knowledge`."
            )

    @property
    def gradient(self) -> Any:
        """Of the loss, shaped like the points."""
        self._allowed("gradient", "white-box")
        return self._unflat(self._backward[1])

    @property
    def loss(self) -> Any:
        """What the attack lowers, (rows,) or (rows, k)."""
        self._allowed("loss", "white-box", "score")
        return self._unflat(self._judged[0])

    @property
    def logits(self) -> Any:
        """(rows, classes) or (rows, k, classes)."""
        self._allowed("logits", "white-box", "score")
        return self._unflat(self._judged[1])

    @property
    def label(self) -> Any:
        """The predicted class, (rows,) or (rows, k) int32."""
        return self._unflat(predicted(self._judged[1]))

    def reached(self) -> tuple[Any, Any]:
        """For the judge: whether a point of each row reached the goal, and the first that did."""
        hit = self._unflat(self._look.task.goal.reached(predicted(self._judged[1]), self._aims))
        if not self._several:
            return hit, self.points
        first = ops.argmax(ops.cast(hit, "int32"), axis=1)
        chosen = ops.one_hot(first, self._several, dtype=self.points.dtype)
        chosen = ops.reshape(chosen, (-1, self._several, 1, 1, 1))
        # Not a product alone: a point that is not finite must not spoil its neighbours.
        finite = ops.where(chosen > 0, self.points, 0.0)
        return ops.any(hit, axis=1), ops.sum(finite, axis=1)


class Look:
    """The only way to the model. It counts passes per row, and it is the judge's eye.

    Called with points (rows, h, w, c), or with k points a row, (rows, k, h, w, c): then everything
    seen has the second axis k.
    """

    def __init__(
        self, logits: Callable[[Any], Any], task: Task, loss: str, knowledge: Knowledge
    ) -> None:
        self.logits, self.task, self.knowledge, self._loss = logits, task, knowledge, loss
        self.forward = self.backward = 0
        self._seen: list[Seen] = []

    def __call__(self, points: Any, *, loss: str | None = None) -> Seen:
        seen = Seen(self, points, LOSSES[loss or self._loss])
        self.forward += points.shape[1] if len(points.shape) == 5 else 1
        self._seen.append(seen)
        return seen

    def verdict(self) -> tuple[Any, Any]:
        """Whether any looked-at point of a row reached the goal (rows,), and the first that did."""
        reached = ops.zeros_like(self.task.aims, dtype="bool")
        candidate = self.task.images
        for seen in self._seen:
            hit, points = seen.reached()
            news = ops.logical_and(hit, ops.logical_not(reached))
            candidate = ops.where(self.task.per_row(news), points, candidate)
            reached = ops.logical_or(reached, hit)
        return reached, candidate


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """Base of every attack: parameters, and how one state becomes the next.

    A state is a dict of arrays, each with a leading row axis, one of them `point` (rows, h, w, c): what
    the attack would hand in now. No Python branching on values, no memory outside the state, nothing
    that mixes rows: a row may be loaded, stepped and unloaded independently of its neighbours.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    knowledge: ClassVar[Knowledge] = "white-box"
    norms: ClassVar[tuple[str, ...]] = ("linf",)

    steps: int = settings.setting(1, "number of steps", low=1, high=100_000)
    loss: str = settings.setting("cross_entropy", "loss that is lowered", choices=tuple(LOSSES))

    def __post_init__(self) -> None:
        settings.check(self)

    @property
    def restarts(self) -> int:
        """How many independent starts the engine gives each image."""
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


def find(name: str) -> type[Attack]:
    """The installed attack called `name`; SettingError with the nearest name for an unknown one."""
    return plugins.load(plugins.ATTACKS, name)


def make(attack: str | Attack, **parameters: Any) -> Attack:
    """An attack from its name and parameters; an attack object is handed through."""
    if isinstance(attack, Attack):
        return attack
    return create(find(attack), parameters)


def create(cls: type[Attack], parameters: dict[str, Any]) -> Attack:
    """`cls` with `parameters` (values, or texts as they come from a command line)."""
    texts = {k: v for k, v in parameters.items() if isinstance(v, str)}
    values = {k: v for k, v in parameters.items() if not isinstance(v, str)}
    settings.from_text(cls, dict.fromkeys(values, ""))
    return cls(
        **{k.replace("-", "_"): v for k, v in values.items()}, **settings.from_text(cls, texts)
    )
