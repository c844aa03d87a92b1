"""Evaluates the model for an attack: `Look`, the only access of an attack to the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from keras import ops

from robustness import backend
from robustness.contract.task import FAR, Task, where_rows
from robustness.contract.types import Knowledge
from robustness.errors import AttackError
from robustness.numerics.losses import LEVELS, LOSSES
from robustness.numerics.powers_of_two import scaled
from robustness.threat.goals import predicted


class Evaluation:
    """The model's outputs at some points, restricted to the attack's knowledge.

    Each property is computed on first use: an attack that never reads `gradient` costs no backward pass.
    With k points per row every shape below has a second axis k.

    Raises
    ------
    AttackError
        When a property is read that the attack's declared knowledge does not include.
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
        """The logits of every point, and a function from weights to the gradient of their weighted sum."""
        if self._look.knowledge == "white-box":
            logits, pull = backend.linearise(self._look.logits, self._flat)
        else:
            logits, pull = self._look.logits(self._flat), _no_gradient
        # Weights may be tiny; the arithmetic of the network must not underflow.
        return self._look.record_output(logits), lambda weights: self._look.record_output(
            scaled(pull, weights)
        )

    def _recorded(self, slopes: Any) -> Any:
        """The gradient that the attack receives, (rows, h, w, c) or (rows, k, h, w, c)."""
        return self._look.record_gradient(self._look.task.only(self._unflat(slopes)))

    @cached_property
    def _gradient(self) -> Any:
        return self.gradient_of(self._losses)

    def _losses(self, logits: Any) -> Any:
        return self._look.task.goal.loss(LOSSES[self._loss], logits, self._aims)

    def _allowed(self, what: str, *knowledge: str) -> None:
        if self._look.knowledge not in knowledge:
            raise AttackError(
                f"A {self._look.knowledge} attack read the {what}, which needs knowledge "
                f"{' or '.join(knowledge)}. Declare it in the attack's `knowledge`."
            )

    @property
    def gradient(self) -> Any:
        """The gradient of the loss, shaped like the points; 0 where the mask forbids changes."""
        return self._gradient

    def gradient_of(self, values: Callable[[Any], Any]) -> Any:
        """Return the gradient of a function of the logits; each call is a backward pass.

        Parameters
        ----------
        values
            Maps the logits of all points, (rows, classes) or (rows * k, classes), to one number per point,
            (rows,) or (rows * k,).

        Returns
        -------
        The gradient, shaped like the points.
        """
        self._allowed("gradient", "white-box")
        logits, pull = self._linear
        self._look.count_passes(backward=max(self._several, 1))
        _, weights = backend.value_and_grad(lambda z: (values(z), ()))(logits)
        return self._recorded(pull(weights))

    def pull(self, weights: Any) -> Any:
        """Return the gradient of ``sum(weights * logits)``, a backward pass; `weights` is like the logits."""
        self._allowed("gradient", "white-box")
        logits, pull = self._linear
        self._look.count_passes(backward=max(self._several, 1))
        slopes = pull(ops.reshape(ops.cast(weights, logits.dtype), ops.shape(logits)))
        return self._recorded(slopes)

    @property
    def loss(self) -> Any:
        """The loss that the attack minimises, (rows,)."""
        self._allowed("loss", "white-box", "score")
        return self._unflat(self._losses(self._linear[0]))

    @property
    def level(self) -> Any:
        """A monotone function of `loss` on the scale of logits, (rows,).

        Use it to compare points or to estimate slopes: a cross-entropy varies by many powers of ten.
        """
        self._allowed("loss", "white-box", "score")
        levels = self._look.task.goal.loss(LEVELS[self._loss], self._linear[0], self._aims)
        return self._unflat(levels)

    @property
    def logits(self) -> Any:
        """The logits, (rows, classes)."""
        self._allowed("logits", "white-box", "score")
        return self._unflat(self._linear[0])

    @property
    def label(self) -> Any:
        """The predicted class, (rows,) int32."""
        return self._unflat(predicted(self._linear[0]))

    @cached_property
    def hit(self) -> Any:
        """Whether each point reaches the goal, (rows,) bool; open to every attack, like `label`."""
        return self._unflat(self._look.task.goal.reached(predicted(self._linear[0]), self._aims))

    def nearest(self) -> tuple[Any, Any, Any]:
        """Return, for each row, the point nearest to the image among those that reach the goal.

        Returns
        -------
        The point (rows, h, w, c), its distance (rows,) in the norm's unit, and whether there is one
        (rows,) bool.
        """
        task = self._look.task
        far = task.norm.size(self._flat - self._images)
        far = self._unflat(ops.where(ops.isfinite(far), far, FAR))
        if not self._several:
            return self.points, far, self.hit
        first = ops.argmin(ops.where(self.hit, far, 2 * FAR), axis=1)
        chosen = ops.one_hot(first, self._several, dtype=self.points.dtype)
        wide = ops.reshape(chosen, (-1, self._several, 1, 1, 1))
        # Not a product: a point that is not finite would make the sum of its row not finite.
        point = ops.sum(ops.where(wide > 0, self.points, 0.0), axis=1)
        return point, ops.sum(chosen * far, axis=1), ops.any(self.hit, axis=1)


def _no_gradient(weights: Any) -> Any:
    raise AttackError("Only a white-box attack reads gradients; declare it in `knowledge`.")


def _expect_points(points: Any, images: Any) -> None:
    """Raise AttackError unless there is a point, or several, of the shape of the image for each row."""
    shape, wanted = tuple(getattr(points, "shape", ())), tuple(images.shape)
    each = (*shape[:1], *shape[2:]) if len(shape) == 5 else shape
    if each == wanted or None in each or None in wanted:
        return
    raise AttackError(
        f"An attack evaluated the model at points of the shape {shape}; expected {wanted}, or "
        f"({wanted[0]}, k, {', '.join(map(str, wanted[1:]))}) for k points per row."
    )


class Look:
    """The only access to the model: evaluates it at points, counts passes, and keeps candidates for the
    judge.

    Call it with points (rows, h, w, c), or with k points per row, (rows, k, h, w, c).

    Parameters
    ----------
    logits
        The model, from points (n, h, w, c) to logits (n, classes).
    task
        The rows.
    loss
        The name of the loss that the attack minimises.
    knowledge
        What the attack may read of the model.

    Attributes
    ----------
    forward, backward
        Passes per row so far.
    """

    def __init__(
        self, logits: Callable[[Any], Any], task: Task, loss: str, knowledge: Knowledge
    ) -> None:
        self.logits, self.task, self.knowledge, self._loss = logits, task, knowledge, loss
        self.forward = self.backward = 0
        self._judged: list[Evaluation] = []
        self._outputs: list[Any] = []
        self._slopes: list[Any] = []

    def __call__(self, points: Any, *, loss: str | None = None, judged: bool = True) -> Evaluation:
        """Evaluate the model at points.

        Parameters
        ----------
        points
            (rows, h, w, c), or (rows, k, h, w, c) for k points per row, in counts.
        loss
            The name of another loss than the attack's.
        judged
            Whether the points are candidates for a flip; False for probes.
        """
        _expect_points(points, self.task.images)
        evaluation = Evaluation(self, points, loss or self._loss)
        self.count_passes(forward=points.shape[1] if len(points.shape) == 5 else 1)
        if judged:
            self._judged.append(evaluation)
        return evaluation

    def count_passes(self, forward: int = 0, backward: int = 0) -> None:
        """Add to the passes per row."""
        self.forward += forward
        self.backward += backward

    def record_output(self, answer: Any) -> Any:
        """Keep an output (logits or a gradient) for `fingerprint`, and return it."""
        self._outputs.append(answer)
        return answer

    def record_gradient(self, gradient: Any) -> Any:
        """Keep the size of a gradient that the attack receives, for `blind`, and return the gradient."""
        rows = ops.reshape(gradient, (ops.shape(self.task.aims)[0], -1))
        self._slopes.append(ops.sum(ops.abs(rows), axis=1))
        return gradient

    def blind(self) -> Any | None:
        """Return whether the gradients of each row are useless, (rows,) bool: all zero, or one not finite.

        None if the attack took no gradient.
        """
        if not self._slopes:
            return None
        size = sum(self._slopes[1:], self._slopes[0])
        return ops.logical_not(ops.logical_and(ops.isfinite(size), size > 0))

    def fingerprint(self) -> Any:
        """Return a checksum (rows,) int32 of the model's outputs, to compare them bit by bit.

        It is a sum of integers, whose order does not matter; each output has its own odd weight.
        """
        rows, total = ops.shape(self.task.aims)[0], 0 * self.task.aims
        for number, answer in enumerate(self._outputs):
            bits = ops.view(ops.cast(answer, "float32"), dtype="int32")
            total = total + (2 * number + 1) * ops.sum(ops.reshape(bits, (rows, -1)), axis=1)
        return total

    def with_model(self, logits: Callable[[Any], Any], passes: int) -> Look:
        """Return a look at a model that is built on this one.

        Parameters
        ----------
        logits
            The new model, from points (n, h, w, c) to logits (n, classes).
        passes
            The number of passes of this look's model in one pass of the new model; this look counts them.
        """
        return _LookAtModel(self, logits, passes)

    def verdict(self) -> tuple[Any, Any, Any]:
        """Return the nearest evaluated point of each row that reached the goal.

        Returns
        -------
        The point (rows, h, w, c), its distance (rows,) in the norm's unit, and whether there is one
        (rows,) bool. Without one the other two are meaningless.
        """
        task = self.task
        if not self._judged:
            return task.images, ops.full_like(task.epsilon, FAR), ops.zeros_like(task.aims, "bool")
        point, far, reached = self._judged[0].nearest()
        for evaluation in self._judged[1:]:
            fresh, distance, hit = evaluation.nearest()
            news = ops.logical_and(hit, ops.logical_or(distance < far, ops.logical_not(reached)))
            point = where_rows(news, fresh, point)
            far = ops.where(news, distance, far)
            reached = ops.logical_or(reached, hit)
        return point, far, reached


class _LookAtModel(Look):
    """A look at a model built on another look's model; that look keeps the points and counts the passes."""

    def __init__(self, look: Look, logits: Callable[[Any], Any], passes: int) -> None:
        self._behind, self._passes = look, passes
        super().__init__(logits, look.task, look._loss, look.knowledge)
        self._judged, self._outputs, self._slopes = look._judged, look._outputs, look._slopes

    def count_passes(self, forward: int = 0, backward: int = 0) -> None:
        self._behind.count_passes(self._passes * forward, self._passes * backward)
