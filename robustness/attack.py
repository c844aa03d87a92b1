"""The attack contract: an attack is the body of a loop, two pure functions of rows.

The engine owns the loop, the stopping, the bookkeeping and the verdict; see `docs/adding-an-attack.md`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from keras import ops

from robustness import draws, gradients, plugins, settings
from robustness.declarations import Declarations
from robustness.errors import AttackError, SettingError
from robustness.goals import Goal, predicted
from robustness.losses import LEVELS, LOSSES, stand_in
from robustness.norms import Norm
from robustness.scales import scaled
from robustness.threat import room

State = dict[str, Any]
Knowledge = Literal["white-box", "score", "decision"]
Seeks = Literal["any", "closest"]


@dataclass(frozen=True)
class Task:
    """What each row is about. Every array has a leading row axis.

    `images` (rows, h, w, c) counts, `aims` (rows,) int32 classes the loss is taken against, `epsilon`
    (rows,) counts, `keys` (rows, 2) int32 for random numbers, `restart` (rows,) int32 which of the
    attack's starts this is, `step` (rows,) int32 steps done. `mask` (h, w, 1) is 1 where pixels may change
    and 0 elsewhere; None if all may.
    """

    images: Any
    aims: Any
    epsilon: Any
    keys: Any
    restart: Any
    step: Any
    norm: Norm
    goal: Goal
    mask: Any = None

    def clip(self, points: Any) -> Any:
        """The nearest pictures: inside 0..255 and the mask, however far from the images."""
        inside = ops.clip(points, 0.0, 255.0)
        if self.mask is None:
            return inside
        several = len(points.shape) == 5
        return ops.where(self.mask > 0, inside, self.images[:, None] if several else self.images)

    def room(self, points: Any) -> tuple[Any, Any]:
        """The least and the largest change of each component of `points` that leaves them pictures."""
        return room(points, self.mask)

    def only(self, gradient: Any) -> Any:
        """`gradient`, nothing where pixels may not change."""
        return gradient if self.mask is None else gradient * self.mask

    def distance(self, points: Any) -> Any:
        """How far each point is from its image, (rows,), in the threat's norm."""
        return self.norm.size(points - self.images)

    def project(self, points: Any) -> Any:
        """The nearest legal points: inside the ball around the images, 0..255, and the mask."""
        low, high = self.room(self.images)
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
    """One look at the model: `.logits`, `.label`, `.loss`, `.level`, `.gradient`, as far as knowledge allows.

    Computed on first use: who never asks for the gradient pays for no backward pass.
    """

    def __init__(self, look: Look, points: Any, loss: str) -> None:
        self._look, self.points, self._loss = look, points, loss
        self._several = points.shape[1] if len(points.shape) == 5 else 0
        aims, images = look.task.aims, look.task.images
        self._aims = ops.repeat(aims, self._several) if self._several else aims
        self._images = ops.repeat(images, self._several, axis=0) if self._several else images

    @property
    def _flat(self) -> Any:
        if not self._several:
            return self.points
        return ops.reshape(self.points, (-1, *self.points.shape[2:]))

    def _unflat(self, values: Any) -> Any:
        if not self._several:
            return values
        return ops.reshape(values, (-1, self._several, *values.shape[1:]))

    @cached_property
    def _linear(self) -> tuple[Any, Callable[[Any], Any]]:
        """Logits of every point, and the gradient of any weighting of them; one forward pass."""
        if self._look.knowledge == "white-box":
            logits, pull = gradients.linearise(self._look.logits, self._flat)
        else:
            logits, pull = self._look.logits(self._flat), _no_gradient
        # Weights may be next to nothing: the network's own arithmetic must not lose them.
        return self._look.hear(logits), lambda weights: self._look.hear(scaled(pull, weights))

    def _felt(self, slopes: Any) -> Any:
        """A gradient at every point as it is handed out, (rows, h, w, c) or (rows, k, h, w, c)."""
        return self._look.feel(self._look.task.only(self._unflat(slopes)))

    @cached_property
    def _gradient(self) -> Any:
        return self.gradient_of(self._losses)

    def _losses(self, logits: Any) -> Any:
        return self._look.task.goal.loss(LOSSES[self._loss], logits, self._aims)

    def _allowed(self, what: str, *knowledge: str) -> None:
        if self._look.knowledge not in knowledge:
            raise AttackError(
                f"A {self._look.knowledge} attack asked for the {what}; that takes knowledge "
                f"{' or '.join(knowledge)}. Declare it in the attack's `knowledge`."
            )

    @property
    def gradient(self) -> Any:
        """Of the loss, shaped like the points."""
        return self._gradient

    def gradient_of(self, values: Callable[[Any], Any]) -> Any:
        """Of any function of the logits, shaped like the points; each call is a backward pass.

        `values` takes the logits of all points, (rows, classes) or (rows * k, classes), to a number
        each, (rows,) or (rows * k,).
        """
        self._allowed("gradient", "white-box")
        logits, pull = self._linear
        self._look.pay(backward=max(self._several, 1))
        _, weights = gradients.value_and_grad(lambda z: (values(z), ()))(logits)
        return self._felt(pull(weights))

    def pull(self, weights: Any) -> Any:
        """Gradient of ``sum(weights * logits)``, `weights` like the logits; a backward pass."""
        self._allowed("gradient", "white-box")
        logits, pull = self._linear
        self._look.pay(backward=max(self._several, 1))
        slopes = pull(ops.reshape(ops.cast(weights, logits.dtype), ops.shape(logits)))
        return self._felt(slopes)

    @property
    def loss(self) -> Any:
        """What the attack lowers, (rows,) or (rows, k)."""
        self._allowed("loss", "white-box", "score")
        return self._unflat(self._losses(self._linear[0]))

    @property
    def level(self) -> Any:
        """What rises and falls with `loss`, at the pace of logits, (rows,) or (rows, k).

        To be compared, or to estimate slopes from: a cross-entropy changes by many powers of ten.
        """
        self._allowed("loss", "white-box", "score")
        levels = self._look.task.goal.loss(LEVELS[self._loss], self._linear[0], self._aims)
        return self._unflat(levels)

    @property
    def logits(self) -> Any:
        """(rows, classes) or (rows, k, classes)."""
        self._allowed("logits", "white-box", "score")
        return self._unflat(self._linear[0])

    @property
    def label(self) -> Any:
        """The predicted class, (rows,) or (rows, k) int32."""
        return self._unflat(predicted(self._linear[0]))

    @cached_property
    def hit(self) -> Any:
        """Whether each point reaches the goal, (rows,) or (rows, k): all that a decision tells."""
        return self._unflat(self._look.task.goal.reached(predicted(self._linear[0]), self._aims))

    def nearest(self) -> tuple[Any, Any, Any]:
        """For the judge: of each row's points that reach the goal the one nearest to the image.

        The point (rows, h, w, c), its distance (rows,), and whether there is any (rows,).
        """
        task = self._look.task
        far = task.norm.size(self._flat - self._images)
        far = self._unflat(ops.where(ops.isfinite(far), far, _FAR))
        if not self._several:
            return self.points, far, self.hit
        first = ops.argmin(ops.where(self.hit, far, 2 * _FAR), axis=1)
        chosen = ops.one_hot(first, self._several, dtype=self.points.dtype)
        wide = ops.reshape(chosen, (-1, self._several, 1, 1, 1))
        # Not a product alone: a point that is not finite must not spoil its neighbours.
        point = ops.sum(ops.where(wide > 0, self.points, 0.0), axis=1)
        return point, ops.sum(chosen * far, axis=1), ops.any(self.hit, axis=1)


_FAR = 1e30
"""A distance that is farther than any."""


def _no_gradient(weights: Any) -> Any:
    raise AttackError("Only a white-box attack sees gradients; declare it in `knowledge`.")


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
        self._heard: list[Any] = []
        self._slopes: list[Any] = []

    def __call__(self, points: Any, *, loss: str | None = None, judged: bool = True) -> Seen:
        """What the model says of `points`; not `judged`, they are no candidates (probes, say)."""
        seen = Seen(self, points, loss or self._loss)
        self.pay(forward=points.shape[1] if len(points.shape) == 5 else 1)
        if judged:
            self._seen.append(seen)
        return seen

    def pay(self, forward: int = 0, backward: int = 0) -> None:
        """Count so many passes a row."""
        self.forward += forward
        self.backward += backward

    def hear(self, answer: Any) -> Any:
        """Remember what the model answered, logits or a gradient, for `fingerprint`."""
        self._heard.append(answer)
        return answer

    def feel(self, gradient: Any) -> Any:
        """Remember how large a gradient was that the attack was given, for `blind`."""
        rows = ops.reshape(gradient, (ops.shape(self.task.aims)[0], -1))
        self._slopes.append(ops.sum(ops.abs(rows), axis=1))
        return gradient

    def blind(self) -> Any | None:
        """Whether no gradient that the attack was given leads anywhere, (rows,) bool; None if it took none.

        All were zero, or one was not finite.
        """
        if not self._slopes:
            return None
        size = sum(self._slopes[1:], self._slopes[0])
        return ops.logical_not(ops.logical_and(ops.isfinite(size), size > 0))

    def fingerprint(self) -> Any:
        """Integers (rows,) that differ where a bit of what the model answered does.

        Added up as whole numbers, so that the order does not matter; each answer has an odd weight.
        """
        rows, total = ops.shape(self.task.aims)[0], 0 * self.task.aims
        for number, answer in enumerate(self._heard):
            bits = ops.view(ops.cast(answer, "float32"), dtype="int32")
            total = total + (2 * number + 1) * ops.sum(ops.reshape(bits, (rows, -1)), axis=1)
        return total

    def through(self, logits: Callable[[Any], Any], passes: int) -> Look:
        """A look at another model made of this one, at so many passes a point; it counts as this one's."""
        return _Through(self, logits, passes)

    def verdict(self) -> tuple[Any, Any, Any]:
        """The nearest point of each row that was looked at and reached the goal.

        The point (rows, h, w, c), its distance (rows,), and whether there is one (rows,); where there
        is none the other two mean nothing.
        """
        task = self.task
        if not self._seen:
            return task.images, ops.full_like(task.epsilon, _FAR), ops.zeros_like(task.aims, "bool")
        point, far, reached = self._seen[0].nearest()
        for seen in self._seen[1:]:
            fresh, distance, hit = seen.nearest()
            news = ops.logical_and(hit, ops.logical_or(distance < far, ops.logical_not(reached)))
            point = ops.where(task.per_row(news), fresh, point)
            far = ops.where(news, distance, far)
            reached = ops.logical_or(reached, hit)
        return point, far, reached


class _Through(Look):
    """A look whose points and passes are another look's."""

    def __init__(self, look: Look, logits: Callable[[Any], Any], passes: int) -> None:
        self._behind, self._passes = look, passes
        super().__init__(logits, look.task, look._loss, look.knowledge)
        self._seen, self._heard, self._slopes = look._seen, look._heard, look._slopes

    def pay(self, forward: int = 0, backward: int = 0) -> None:
        self._behind.pay(self._passes * forward, self._passes * backward)


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
    def made(cls, parameters: dict[str, Any]) -> Attack:
        """One with these parameters, values or texts; SettingError for one it does not know."""
        texts = {k: v for k, v in parameters.items() if isinstance(v, str)}
        values = {k: v for k, v in parameters.items() if not isinstance(v, str)}
        settings.from_text(cls, dict.fromkeys(values, ""))
        return cls(
            **{k.replace("-", "_"): v for k, v in values.items()}, **settings.from_text(cls, texts)
        )

    def suited(self, goal: Goal, classes: int) -> tuple[Attack, str]:
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


def find(name: str) -> type[Attack]:
    """The installed attack `name`; SettingError for an unknown name, with the nearest, or no attack."""
    found = plugins.load(plugins.ATTACKS, name)
    return plugins.expect_class(found, Attack, name, ("name", "knowledge", "norms"))


def make(attack: str | Attack, **parameters: Any) -> Attack:
    """An attack from its name and parameters; an attack object is handed through."""
    if isinstance(attack, Attack):
        return attack
    return create(find(attack), parameters)


def create(cls: type[Attack], parameters: dict[str, Any]) -> Attack:
    """`cls` with `parameters` (values, or texts as they come from a command line)."""
    return cls.made(parameters)
