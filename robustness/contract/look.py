"""The only way from an attack to the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from keras import ops

from robustness import backend
from robustness.contract.task import Task
from robustness.contract.types import Knowledge
from robustness.errors import AttackError
from robustness.numerics.losses import LEVELS, LOSSES
from robustness.numerics.powers_of_two import scaled
from robustness.threat.goals import predicted


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
            logits, pull = backend.linearise(self._look.logits, self._flat)
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
        _, weights = backend.value_and_grad(lambda z: (values(z), ()))(logits)
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
