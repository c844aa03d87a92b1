"""Gradient descent with any Keras optimizer, as a program of `iterate`.

Problem: minimise ``sum(loss(point, *data))``. Update: ``point <- project(point + rates * step)``, where
`step` is the optimizer's update for the gradient at `point`. A descent is one job of `iterate`: its point may
be a vector, a matrix, or many starts stacked along the first axis. Everything is float64, because published
figures are quoted to more digits than float32 holds.

The optimizer's state is an argument and a result (`Optimizer.stateless_apply`) where Keras supports that. On
the TensorFlow backend it does not (keras 3.15), so there the optimizer's variables live in a copy of the
optimizer that belongs to the job: the caller's object is not changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from keras import ops

from robustness import backend
from robustness.errors import SettingError
from robustness.optimization.iterate import iterate
from robustness.text import did_you_mean

Loss = Callable[..., Any]
"""``loss(point, *data) -> value``: differentiable, written in `keras.ops`; its sum is minimised."""

Pieces = Callable[[], Iterable[tuple[Any, ...]]]
"""Returns further data in pieces. Their losses and gradients are added up, so that memory does not grow with
the number of rows. Called at every evaluation."""

CONVERGED = "converged"
SPENT = "steps spent before the tolerance was met"
DIVERGED = "diverged: the loss grew beyond all bounds; a smaller learning rate may help"
_BLOWN = 1e3
"""Growth of the loss, as a multiple of the first loss, above which a descent counts as diverged."""


@dataclass(frozen=True)
class Step:
    """One evaluated point, the argument of `each` and `stop`; step 0 is the start."""

    step: int
    point: np.ndarray
    loss: float
    gradient: np.ndarray


@dataclass(frozen=True)
class Solution:
    """The result of a descent.

    Attributes
    ----------
    value : numpy.ndarray
        The last evaluated point.
    loss : float
        The loss at that point.
    history : numpy.ndarray, shape (steps + 1,)
        The losses of all evaluated points.
    steps : int
        The number of steps taken.
    status : str
        How the descent ended: `CONVERGED`, `SPENT` or `DIVERGED`.
    """

    value: np.ndarray
    loss: float
    history: np.ndarray
    steps: int
    status: str

    @property
    def converged(self) -> bool:
        """Whether the stopping rule was met; False if none was given."""
        return self.status == CONVERGED


def gradient_below(tolerance: float) -> Callable[[Step], bool]:
    """Return a stopping rule: no entry of the gradient exceeds `tolerance` in absolute value."""
    return lambda step: bool(np.max(np.abs(step.gradient)) <= tolerance)


def minimize(  # noqa: PLR0913 - the public entry; keywords with defaults
    loss: Loss,
    start: Any,
    *,
    optimizer: str | keras.optimizers.Optimizer = "adam",
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | None = None,
    steps: int = 100,
    data: Sequence[Any] = (),
    rates: Any = 1.0,
    project: Callable[[Any], Any] | None = None,
    stop: Callable[[Step], bool] | None = None,
    each: Callable[[Step], None] | None = None,
    pieces: Pieces | None = None,
) -> Solution:
    """Minimise ``sum(loss(point, *data))`` from `start` in at most `steps` steps.

    Parameters
    ----------
    loss : callable
        See `Loss`. Pass the arrays that it needs as `data`, so that it is traced once per shape.
    start : array_like
        The first point, of any shape; finite.
    optimizer : str or keras.optimizers.Optimizer
        A name (see `optimizer_names`) or an optimizer, which is copied.
    learning_rate : float or keras.optimizers.schedules.LearningRateSchedule, optional
        Replaces the learning rate of the optimizer.
    steps : int
        The largest number of steps, at least 1.
    data : sequence of array_like
        Arrays passed to `loss`.
    rates : array_like
        Multiplies each step: a learning rate per parameter. Broadcasts to the point.
    project : callable, optional
        Maps a point to the nearest allowed one; applied to the start and after every step.
    stop : callable, optional
        Returns whether a `Step` is good enough; None runs all steps.
    each : callable, optional
        Called with every evaluated point, including the start.
    pieces : callable, optional
        See `Pieces`; `loss` takes the arrays of a piece after those of `data`.

    Returns
    -------
    Solution
        The last point, its loss, and how the descent ended.

    Raises
    ------
    SettingError
        A setting is out of range, the start is not finite, or the optimizer is unknown.
    """
    if steps < 1:
        raise SettingError(f"steps={steps}; expected a whole number of at least 1.")
    begin = np.array(start, dtype="float64")
    if not np.all(np.isfinite(begin)):
        raise SettingError("The start has entries that are not finite; expected real numbers.")
    program = _Program(
        look=_totals(loss, data, pieces),
        optimizer=find_optimizer(optimizer, learning_rate),
        steps=steps,
        rates=np.asarray(rates, "float64"),
        project=project or (lambda point: point),
        stop=stop,
        each=each,
    )
    jobs = [begin]
    iterate(program, lambda: jobs.pop() if jobs else None)
    last = program.last
    return Solution(last.point, last.loss, np.array(program.losses), last.step, program.status)


@dataclass
class _Program:
    """A program with one job in one slot: the descent of one point."""

    look: Callable[[Any], tuple[float, np.ndarray]]
    optimizer: keras.optimizers.Optimizer
    steps: int
    rates: np.ndarray
    project: Callable[[Any], Any]
    stop: Callable[[Step], bool] | None
    each: Callable[[Step], None] | None
    losses: list[float] = field(default_factory=list)
    status: str = ""
    last: Step = field(init=False)
    move: Callable[..., tuple[Any, Any]] = field(init=False)

    def enter(self, state: Any, places: Sequence[int], jobs: Sequence[np.ndarray]) -> Any:
        start = np.array(self.project(ops.convert_to_tensor(jobs[0])))
        self.move, memory = _mover(self.optimizer, start)
        self._score(start, 0)
        return memory

    def advance(self, state: Any) -> tuple[Any, np.ndarray]:
        if not self.status:
            before, gradient = self.last.point, self.last.gradient
            after, state = self.move(
                ops.convert_to_tensor(before), ops.convert_to_tensor(gradient), state
            )
            moved = before + self.rates * (np.asarray(after) - before)
            point = np.array(self.project(ops.convert_to_tensor(moved)))
            self._score(point, self.last.step + 1)
        return state, np.array([bool(self.status)])

    def leave(self, state: Any, places: Sequence[int], jobs: Sequence[Any]) -> Sequence[bool]:
        return [True]

    def _score(self, point: np.ndarray, step: int) -> None:
        loss, gradient = self.look(point)
        self.last = Step(step, point, loss, gradient)
        self.losses.append(loss)
        if self.each is not None:
            self.each(self.last)
        if not (np.isfinite(loss) and np.all(np.isfinite(gradient))):
            self.status = DIVERGED
        elif self.stop is not None and self.stop(self.last):
            self.status = CONVERGED
        elif step >= self.steps:
            blown = loss > self.losses[0] + _BLOWN * abs(self.losses[0])
            self.status = DIVERGED if blown else SPENT


def _mover(
    optimizer: keras.optimizers.Optimizer, start: np.ndarray
) -> tuple[Callable[..., tuple[Any, Any]], Any]:
    """The optimizer as ``(point, gradient, memory) -> (point, memory)``, and its initial memory."""
    variable = keras.Variable(start, dtype="float64")
    optimizer.build([variable])

    def pure(point: Any, gradient: Any, memory: Any) -> tuple[Any, Any]:
        points, memory = optimizer.stateless_apply(memory, [gradient], [point])
        return points[0], memory

    def held(point: Any, gradient: Any, memory: Any) -> tuple[Any, Any]:
        variable.assign(point)
        optimizer.apply([gradient], [variable])
        return ops.convert_to_tensor(variable.value) + 0.0, memory

    memory = [ops.convert_to_tensor(v.value) for v in optimizer.variables]
    point = ops.convert_to_tensor(start)
    try:
        pure(point, ops.zeros_like(point), memory)
    except ValueError:
        return backend.compile(held), []
    return backend.compile(pure), memory


@lru_cache(maxsize=32)
def compiled_value_and_gradient(loss: Loss) -> Callable[..., tuple[Any, Any]]:
    """Return ``(point, *data) -> (values, gradient)``, compiled once per loss and shape."""
    gradient = backend.value_and_grad(lambda point, *data: (loss(point, *data), ()))

    def call(point: Any, *data: Any) -> tuple[Any, Any]:
        (values, _), slope = gradient(point, *data)
        return values, slope

    return backend.compile(call)


def value_and_gradient(
    loss: Loss, data: Sequence[Any], pieces: Pieces | None = None, *, total: bool = False
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return ``point -> (values, gradient)`` of `loss` with `data`, summed over the pieces if given.

    `total`: the values are summed to one, so that a loss may have one for each sample of a piece.
    """
    evaluate = compiled_value_and_gradient(loss)
    held = [ops.convert_to_tensor(d) for d in data]

    def call(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = ops.convert_to_tensor(point)
        values: Any = np.float64(0.0)
        slope = np.zeros_like(point)
        for piece in pieces() if pieces else ((),):
            more, steeper = evaluate(at, *held, *[ops.convert_to_tensor(array) for array in piece])
            more = np.asarray(more)
            values, slope = values + (np.sum(more) if total else more), slope + np.asarray(steeper)
        return np.asarray(values), slope

    return call


def _totals(
    loss: Loss, data: Sequence[Any], pieces: Pieces | None
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    evaluate = value_and_gradient(loss, data, pieces, total=True)

    def call(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = evaluate(point)
        return float(value), slope

    return call


_ALIASES = {
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
}
_WRAPPERS = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")


def optimizer_names() -> dict[str, type]:
    """Return the optimizers of Keras by lower-case name, and two aliases for SGD with momentum."""
    known = {
        name.lower(): kind
        for name, kind in vars(keras.optimizers).items()
        if inspect.isclass(kind)
        and issubclass(kind, keras.optimizers.Optimizer)
        and name not in _WRAPPERS
    }
    return known | {alias: known[name.lower()] for alias, (name, _) in _ALIASES.items()}


def find_optimizer(
    optimizer: str | keras.optimizers.Optimizer,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | None = None,
) -> keras.optimizers.Optimizer:
    """Return a new optimizer by name, or a copy of an optimizer.

    Parameters
    ----------
    optimizer : str or keras.optimizers.Optimizer
        A name (see `optimizer_names`; case, hyphens and underscores do not matter) or an optimizer.
    learning_rate : float or keras.optimizers.schedules.LearningRateSchedule, optional
        Replaces the learning rate of the optimizer.

    Raises
    ------
    SettingError
        The name is unknown (the message suggests the nearest), `optimizer` is something else, or the
        learning rate is not a finite number above 0.
    """
    if isinstance(learning_rate, (int, float)) and not 0 < learning_rate < np.inf:
        raise SettingError(f"learning_rate={learning_rate:g}; expected a number above 0.")
    rate = {} if learning_rate is None else {"learning_rate": learning_rate}
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return type(optimizer).from_config(optimizer.get_config() | rate)
    if not isinstance(optimizer, str):
        raise SettingError(
            f"optimizer={optimizer!r}; expected a name such as 'adam' or a keras.optimizers object."
        )
    known = optimizer_names()
    word = optimizer.lower().replace("-", "").replace("_", "").strip()
    if word not in known:
        hint = did_you_mean(word, known)
        raise SettingError(
            f"No optimizer is called {optimizer!r}; Keras has {', '.join(sorted(known))}.{hint}"
        )
    return known[word](**(_ALIASES.get(word, ("", {}))[1] | rate))
