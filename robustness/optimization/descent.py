"""Gradient descent with any Keras optimizer, as a program of the one loop.

Problem: minimise ``sum(loss(point, *data))``. Update: ``point <- project(point + rates * step)``, where
`step` is what the optimizer adds for the gradient at `point`. It is one job of `iterate`: the point may
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
"""``loss(point, *data) -> value``: differentiable, written in `keras.ops`; its sum is lowered."""

Pieces = Callable[[], Iterable[tuple[Any, ...]]]
"""More data, a piece at a time: the losses and gradients of the pieces are added up, so that memory
does not grow with the rows. Called at every look."""

CONVERGED = "converged"
SPENT = "steps spent before the tolerance was met"
DIVERGED = "diverged: the loss grew beyond all bounds; a smaller learning rate may help"
_BLOWN = 1e3
"""How many times its first loss a descent may end with before it is said to have diverged."""


@dataclass(frozen=True)
class Step:
    """One scored point: what `each` and `stop` are shown. Step 0 is the start."""

    step: int
    point: np.ndarray
    loss: float
    gradient: np.ndarray


@dataclass(frozen=True)
class Solution:
    """The last scored point, its loss, the losses of all points (steps + 1,), and how it ended."""

    value: np.ndarray
    loss: float
    history: np.ndarray
    steps: int
    status: str

    @property
    def converged(self) -> bool:
        """Whether the stopping rule was met; False too where none was given."""
        return self.status == CONVERGED


def gradient_below(tolerance: float) -> Callable[[Step], bool]:
    """Return a stopping rule: no entry of the gradient is larger than `tolerance` in absolute value."""
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
    loss: see `Loss`. Arrays it needs belong into `data`, so that it is traced once per shape.
    start: the first point, any shape.
    optimizer: a name (see `optimizer_names`) or a Keras optimizer, which is copied.
    learning_rate: a number or a Keras schedule; replaces the optimizer's own.
    data: arrays passed to `loss`.
    rates: multiplies each step; broadcasts to the point: a learning rate per parameter.
    project: maps a point to the nearest allowed one; applied to the start and after every step.
    stop: returns whether a point is good enough. None runs all steps.
    each: called with every point that was evaluated, the start included.
    pieces: see `Pieces`; `loss` takes the arrays of a piece after those of `data`.

    Returns
    -------
    The last point, with its loss and how the descent ended.

    Raises
    ------
    SettingError: for settings out of range, a start that is not finite, or an optimizer that is not known.
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
    """One job in one place: the descent of one point."""

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
    """``(point, gradient, memory) -> (point, memory)`` of the optimizer, and its first memory."""
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
    loss: Loss, data: Sequence[Any], pieces: Pieces | None = None
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return ``point -> (values, gradient)`` of `loss` with `data`, summed over pieces if there are any."""
    evaluate = compiled_value_and_gradient(loss)
    held = [ops.convert_to_tensor(d) for d in data]

    def call(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = ops.convert_to_tensor(point)
        values: Any = np.float64(0.0)
        slope = np.zeros_like(point)
        for piece in pieces() if pieces else ((),):
            more, steeper = evaluate(at, *held, *[ops.convert_to_tensor(array) for array in piece])
            values, slope = values + np.asarray(more), slope + np.asarray(steeper)
        return np.asarray(values), slope

    return call


def _totals(
    loss: Loss, data: Sequence[Any], pieces: Pieces | None
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    evaluate = value_and_gradient(loss, data, pieces)

    def call(point: np.ndarray) -> tuple[float, np.ndarray]:
        values, slope = evaluate(point)
        return float(np.sum(values)), slope

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
    """Return a new optimizer by name, or a copy of one; SettingError suggests the nearest name."""
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
