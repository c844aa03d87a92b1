"""A linear classifier with images near its decision boundary, on which attacks are checked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops, tree

from robustness.contract.attack import Attack
from robustness.engine.compiled_batch import CompiledBatch, State
from robustness.engine.jobs import AttackJob, Example
from robustness.engine.outcomes import EpsilonOutcome
from robustness.engine.replay import Replay, replay_states
from robustness.engine.search import search
from robustness.errors import AttackError
from robustness.models.linear_classifier import linear_classifier
from robustness.threat.goals import Goal, Targeted
from robustness.threat.norms import Norm
from robustness.threat.threat import Threat

SHAPE = (8, 8, 3)
IMAGES = 6
FREE = 5.0
"""The budget of threats without a norm: degrees, or the highest severity."""
COMPARED_STEPS = 200
"""The largest number of steps of a run that is only compared with another run."""
EDGES = 2
"""Components of every image at 0, and at 255."""
LEAST_MARGIN = 1.0
"""The smallest margin of an image, in logits."""


class LinearCase:
    """A linear classifier of three classes, images of class 0, and the attack's points at every step.

    Parameters
    ----------
    attack : Attack
        The attack to check.
    norm : Norm
        Of the threat.
    goal : Goal
        Of the threat.
    seed : int
        Of the images, the weights and the attack.
    """

    def __init__(self, attack: Attack, norm: Norm, goal: Goal, seed: int) -> None:
        self.attack, self.norm, self.goal, self.seed = attack, norm, goal, seed
        rng = np.random.default_rng(seed)
        # Similar images near the boundary, so that an attack with a few small steps can reach it.
        base = rng.integers(70, 186, SHAPE)
        self.images = (base + rng.integers(-6, 7, (IMAGES, *SHAPE))).astype(np.uint8)
        # Logits of a few units: if they differ by hundreds, the gradient of cross-entropy vanishes.
        self.weights = rng.normal(0, 0.02, (int(np.prod(SHAPE)), 3)).astype("float32")
        if attack.seeks == "any":
            # The least distance of the others is compared with a closed form without bounds.
            for places, value in zip(_outward(self.weights), (0, 255), strict=True):
                self.images.reshape(IMAGES, -1)[:, places] = value
        flat = self.images.reshape(IMAGES, -1).astype("float32")
        # Every image has class 0, with different margins.
        gaps = flat @ (self.weights[:, :1] - self.weights[:, 1:])
        self.bias = np.concatenate([[0.0], gaps.min(0) - LEAST_MARGIN])
        self.classifier = linear_classifier(self.weights, self.bias, SHAPE, name="linear")
        self.threat = Threat((self.budget,), norm, goal)
        self._batches: dict[int, CompiledBatch] = {}
        self._points: dict[Any, dict[int, np.ndarray]] = {}
        self._distances: dict[int, dict[int, float]] = {}

    def batch(self, size: int) -> CompiledBatch:
        """Return the attack compiled for a batch size; cached, since tracing costs more than running."""
        if size not in self._batches:
            self._batches[size] = CompiledBatch(
                self.classifier, self.attack, self.threat, batch_size=size, seed=self.seed
            )
        return self._batches[size]

    def example(self, i: int) -> Example:
        """Return image `i` as an example."""
        return Example(str(i), self.images[i], 0)

    @cached_property
    def budget(self) -> float:
        """A budget well above the distance of the farthest image to the boundary."""
        if not self.norm.measures:
            return FREE
        flat = self.images.reshape(IMAGES, -1).astype("float64")
        needs = []
        for rival in self._rivals:
            normal = (self.weights[:, 0] - self.weights[:, rival]).astype("float64")
            margins = flat @ normal - (flat @ normal).min() + LEAST_MARGIN
            needs.append(margins / self.norm.gain(normal))
        need = float(np.min(needs, axis=0).max())
        return float(np.ceil(3 * need + 2))

    @property
    def _rivals(self) -> list[int]:
        """The classes that reach the goal."""
        return [self.goal.target] if isinstance(self.goal, Targeted) else [1, 2]

    def points(
        self,
        order: Sequence[int] = range(IMAGES),
        *,
        stretch: int = 0,
        restart: int = 0,
        again: bool = False,
    ) -> dict[int, np.ndarray]:
        """Run the attack on images that share a batch.

        Parameters
        ----------
        order : sequence of int
            The image in each slot.
        stretch : int
            Images with odd numbers have a budget 1 + `stretch` times as large. Such a run, which is only
            compared with others, takes at most `COMPARED_STEPS` steps.
        restart : int
            The start of the attack, from 0.
        again : bool
            Whether to run again what is cached, with at most `COMPARED_STEPS` steps.

        Returns
        -------
        dict of int to np.ndarray
            By image, its points (steps + 1, height, width, channels).
        """
        key = (tuple(order), stretch, restart)
        if again:
            return self._run(list(order), stretch, restart, compared=True)
        if key not in self._points:
            self._points[key] = self._run(list(order), stretch, restart, compared=stretch > 0)
        return self._points[key]

    def distances(self, restart: int = 0) -> dict[int, float]:
        """Return the distance at which a start flips each image, for attacks that seek the closest point."""
        if restart not in self._distances:
            self.points(restart=restart)
        return self._distances[restart]

    def _run(
        self, order: list[int], stretch: int, restart: int, *, compared: bool
    ) -> dict[int, np.ndarray]:
        closest = self.attack.seeks == "closest"
        steps = self.attack.steps if closest else min(self.attack.steps, 25)
        if compared:
            steps = min(steps, COMPARED_STEPS)
        replays = [
            Replay(
                AttackJob(self.example(i), self.budget * (1 + stretch * (i % 2)), restart),
                steps,
                self.budget,
            )
            for i in order
        ]
        points: dict[int, list[np.ndarray]] = {i: [] for i in order}
        first = {order.index(i) for i in order}
        latest: list[tuple[State, np.ndarray]] = []
        expected: Any = None
        for number, step, state, slot in replay_states(self.batch(len(order)), replays):
            if number not in first:
                continue
            # The state of the whole batch is converted once per step, not once per row.
            if not latest or latest[0][0] is not state:
                latest[:] = [(state, ops.convert_to_numpy(state["own"]["point"]))]
                shape = tree.map_structure(lambda x: (tuple(x.shape), str(x.dtype)), state["own"])
                expected = expected or shape
                if shape != expected:
                    raise AttackError(
                        f"the state changes from {expected} to {shape}; expected the same keys, shapes "
                        "and types."
                    )
            image = order[number]
            points[image].append(latest[0][1][slot])
            if step == steps and not compared and closest:
                distance = float(state["best"]["distance"][slot])
                self._distances.setdefault(restart, {})[image] = distance
        return {i: np.stack(steps) for i, steps in points.items()}

    def least_distance(self, i: int) -> float | None:
        """Return the least distance at which image `i` reaches the goal; None without a closed form."""
        logits = self.images[i].reshape(-1).astype("float64") @ self.weights + self.bias
        pixels = self.images[i].reshape(-1, SHAPE[-1])
        distances = [
            self.norm.plane_distance(
                (self.weights[:, k] - self.weights[:, 0]).reshape(pixels.shape).astype("float64"),
                float(logits[0] - logits[k]),
                pixels,
            )
            for k in self._rivals
        ]
        known = [distance for distance in distances if distance is not None]
        return min(known) if len(known) == len(distances) else None

    def outcomes(self) -> dict[str, EpsilonOutcome]:
        """Return the outcome of each image at the budget, by its key."""
        results = search(self.batch(IMAGES), map(self.example, range(IMAGES)))
        return {example.key: outcomes[0] for example, outcomes in results}


def _outward(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Components that attacks lower, and those that they raise, whichever rival they seek; `EDGES` of each.

    At 0 and 255 they show whether an attack stays within the range of images. Their weights are small, so
    that an attack hardly misses them, but not so small that it leaves them as they are.
    """
    slopes = weights[:, 1:] - weights[:, :1]
    order = np.argsort(np.abs(slopes).sum(axis=1))[len(slopes) // 4 :]
    return (
        order[(slopes[order] < 0).all(axis=1)][:EDGES],
        order[(slopes[order] > 0).all(axis=1)][:EDGES],
    )
