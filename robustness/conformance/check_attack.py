"""`check_attack`: does an attack keep its contract? For our own recipes and for strangers' alike.

The judge of truth is a linear classifier. For two classes the distance of an image to the boundary is
known in closed form, |margin| divided by the dual norm of the difference of the weights, so a budget a
little above it must be enough and a budget a little below it can never be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from robustness.conformance import linear_distances
from robustness.contract.attack import Attack
from robustness.engine import compiled_batch, jobs, outcomes, search
from robustness.engine.compiled_batch import State
from robustness.engine.replay import Walk, trace
from robustness.errors import AttackError, RobustnessError, SettingError
from robustness.models.classifier import Classifier
from robustness.threat.goals import Goal, Targeted, Untargeted
from robustness.threat.norms import KNOWN, Norm
from robustness.threat.threat import Threat

SHAPE = (8, 8, 3)
ROWS = 6
FREE = 5.0
"""The budget where there is no norm: degrees, or the worst severity."""
_LEAST = 1.0
"""The least margin of an image, in logits."""
DUAL = {"linf": 1, "l2": 2, "l1": np.inf, "l0": np.inf}
NEAR = {"linf": 1.05, "l2": 1.05, "l1": 1.25, "l0": 1.25}
"""How many times the least distance an attack that seeks the closest point may need."""


@dataclass(frozen=True)
class Check:
    """One clause of the contract: what was asked, whether it holds, and what was seen if not."""

    name: str
    holds: bool
    sentence: str = ""


def check_attack(attack: type[Attack] | Attack, *, seed: int = 0) -> list[Check]:
    """Try `attack` (a class, or an object with parameters) against its contract.

    Checked for each of its norms, untargeted and targeted: declarations, the shape of the state, the
    budget and the box at every step, numbers that are finite, that it does something, that it works
    where it provably can, that rows do not depend on neighbours, order or batch size, and that a
    seed decides everything.

    Returns
    -------
    The checks, all of which hold.

    Raises
    ------
    AttackError: naming every clause that is broken, and how.
    """
    checks = list(_checks(attack, seed))
    broken = [check for check in checks if not check.holds]
    if broken:
        name = attack.__name__ if isinstance(attack, type) else attack.label
        listed = "\n".join(f"  - {check.name}: {check.sentence}" for check in broken)
        raise AttackError(f"{name} breaks its contract:\n{listed}")
    return checks


def _checks(attack: type[Attack] | Attack, seed: int) -> Iterator[Check]:
    declared = _declarations(attack)
    yield declared
    if not declared.holds:
        return
    made = attack() if isinstance(attack, type) else attack
    for name in made.norms:
        for goal in (Untargeted(), Targeted(2)):
            bench = _Bench(made, KNOWN[name], goal, seed)
            where = f"{name}, {'targeted' if isinstance(goal, Targeted) else 'untargeted'}"
            for title, clause in _CLAUSES.items():
                try:
                    sentence = clause(bench)
                except RobustnessError as error:
                    sentence = str(error)
                except Exception as error:
                    sentence = f"it raised {type(error).__name__}: {error}"
                yield Check(f"{title} ({where})", not sentence, sentence)
                if sentence:
                    break


def _declarations(attack: Any) -> Check:
    cls = attack if isinstance(attack, type) else type(attack)
    if not issubclass(cls, Attack):
        return Check(
            "declares itself",
            False,
            f"{cls.__name__} is not an Attack; derive it from robustness.contract.attack.Attack.",
        )
    missing = [n for n in ("name", "paper", "norms") if not getattr(cls, n, None)]
    if missing:
        return Check(
            "declares itself",
            False,
            f"{cls.__name__} lacks {', '.join(missing)}; set them as class variables.",
        )
    unknown = [n for n in cls.norms if n not in KNOWN]
    if unknown:
        return Check(
            "declares itself",
            False,
            f"unknown norms {', '.join(unknown)}; expected some of {', '.join(KNOWN)}.",
        )
    if cls.knowledge not in ("white-box", "score", "decision"):
        return Check(
            "declares itself",
            False,
            f"knowledge {cls.knowledge!r}; expected white-box, score or decision.",
        )
    try:
        if isinstance(attack, type):
            attack()
    except (SettingError, TypeError) as error:
        return Check("declares itself", False, f"it cannot be made without parameters: {error}")
    return Check("declares itself", True)


class _Bench:
    """A linear classifier, images, and the attack's points at every step."""

    def __init__(self, attack: Attack, norm: Norm, goal: Goal, seed: int) -> None:
        self.attack, self.norm, self.goal, self.seed = attack, norm, goal, seed
        rng = np.random.default_rng(seed)
        # Like one another, and near the boundary: an attack of a few small steps must reach it too.
        base = rng.integers(70, 186, SHAPE)
        self.images = (base + rng.integers(-6, 7, (ROWS, *SHAPE))).astype(np.uint8)
        # Logits of a few units: where they are hundreds apart, cross-entropy has no gradient left.
        self.weights = rng.normal(0, 0.02, (int(np.prod(SHAPE)), 3)).astype("float32")
        flat = self.images.reshape(ROWS, -1).astype("float32")
        # Every image is of class 0, by a margin that differs from image to image.
        gaps = flat @ (self.weights[:, :1] - self.weights[:, 1:])
        self.bias = np.concatenate([[0.0], gaps.min(0) - _LEAST])
        self.classifier = _linear(self.weights, self.bias)
        self.labels = np.zeros(ROWS, int)
        self.threat = Threat((self.budget,), norm, goal)
        self._rows: dict[int, compiled_batch.CompiledBatch] = {}
        self._walks: dict[Any, dict[int, np.ndarray]] = {}
        self._distances: dict[int, dict[int, float]] = {}

    def rows(self, slots: int) -> compiled_batch.CompiledBatch:
        """Rows of a batch size; kept, since tracing costs more than running."""
        if slots not in self._rows:
            self._rows[slots] = compiled_batch.CompiledBatch(
                self.classifier, self.attack, self.threat, slots=slots, seed=self.seed
            )
        return self._rows[slots]

    @property
    def budget(self) -> float:
        """Well above the distance of the farthest image to the boundary."""
        if self.norm.name == "free":
            return FREE
        flat = self.images.reshape(ROWS, -1).astype("float64")
        rivals = [self.goal.target] if isinstance(self.goal, Targeted) else [1, 2]
        needs = []
        for rival in rivals:
            normal = (self.weights[:, 0] - self.weights[:, rival]).astype("float64")
            margins = flat @ normal - (flat @ normal).min() + _LEAST
            needs.append(margins / np.linalg.norm(normal, DUAL[self.norm.name]))
        need = float(np.min(needs, axis=0).max())
        if self.norm.name == "l0":
            # A pixel moves by a hundred counts and more, in three channels.
            need = need / 60
        return float(np.ceil(3 * need + 2))

    def points(
        self,
        order: Sequence[int] = range(ROWS),
        *,
        stretch: int = 0,
        restart: int = 0,
        again: bool = False,
    ) -> dict[int, np.ndarray]:
        """The points (steps + 1, h, w, c) of some images, run together in this order.

        Odd images have `stretch` times the budget more; `again` runs what was run before.
        """
        asked = (tuple(order), stretch, restart)
        if again or asked not in self._walks:
            self._walks[asked] = self._walk(list(order), stretch, restart)
        return self._walks[asked]

    def distances(self, restart: int = 0) -> dict[int, float]:
        """How near to each image a start flips it; of an attack that seeks the closest."""
        if restart not in self._distances:
            self.points(restart=restart)
        return self._distances[restart]

    def _walk(self, order: list[int], stretch: int, restart: int) -> dict[int, np.ndarray]:
        rows = self.rows(len(order))
        steps = self.attack.steps if self.attack.seeks == "closest" else min(self.attack.steps, 25)
        walks = [
            Walk(
                jobs.AttackJob(
                    jobs.Example(str(i), self.images[i], int(self.labels[i])),
                    self.budget * (1 + stretch * (i % 2)),
                    restart,
                ),
                steps,
                self.budget,
            )
            for i in order
        ]
        points: dict[int, list[np.ndarray]] = {i: [] for i in order}
        first = {order.index(i) for i in order}
        shapes: list[Any] = []
        latest: list[tuple[State, np.ndarray]] = []

        def seen(walk: int, step: int, state: State, row: int) -> None:
            if walk not in first:
                return
            # Once a step: what holds for the batch's state need not be read again for every row.
            if not latest or latest[0][0] is not state:
                latest[:] = [(state, ops.convert_to_numpy(state["own"]["point"]))]
                shape = tree.map_structure(lambda x: (tuple(x.shape), str(x.dtype)), state["own"])
                if shapes and shape != shapes[0]:
                    raise AttackError(
                        f"the state changes from {shapes[0]} to {shape}; keep names, shapes and types."
                    )
                shapes[:] = [shape]
            points[order[walk]].append(latest[0][1][row])
            if step == steps and not stretch and self.attack.seeks == "closest":
                far = float(state["best"]["distance"][row])
                self._distances.setdefault(restart, {})[order[walk]] = far

        trace(rows, walks, seen)
        return {i: np.stack(walk) for i, walk in points.items()}

    def least(self, i: int) -> float:
        """The least distance at which image i can reach a class it may reach, by closed form."""
        rivals = [self.goal.target] if isinstance(self.goal, Targeted) else [1, 2]
        logits = self.images[i].reshape(-1).astype("float64") @ self.weights + self.bias
        pixels = self.images[i].reshape(-1, SHAPE[-1])
        return min(
            linear_distances.DISTANCES[self.norm.name](
                (self.weights[:, k] - self.weights[:, 0]).reshape(pixels.shape).astype("float64"),
                float(logits[0] - logits[k]),
                pixels,
            )
            for k in rivals
        )

    def flips(self) -> dict[str, outcomes.EpsilonOutcome]:
        """The verdict on each image at the bench's budget."""
        found: dict[str, outcomes.EpsilonOutcome] = {}
        subjects = (
            jobs.Example(str(i), image, int(label))
            for i, (image, label) in enumerate(zip(self.images, self.labels, strict=True))
        )
        search.search(
            self.classifier,
            self.attack,
            self.threat,
            subjects,
            lambda subject, rungs: found.__setitem__(subject.key, rungs[0]),
            seed=self.seed,
            rows=self.rows(ROWS),
        )
        return found


def _linear(weights: np.ndarray, bias: np.ndarray) -> Classifier:
    model = keras.Sequential(
        [
            keras.layers.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(weights.shape[1], dtype="float32"),
        ]
    )
    model.layers[-1].set_weights([weights, np.asarray(bias, "float32")])
    return Classifier(model, scaling="0..255", head="logits", name="linear")


def _state(bench: _Bench) -> str:
    rows = bench.rows(ROWS)
    subject = jobs.Example("0", bench.images[0], 0)
    state = rows.enter(None, range(ROWS), [jobs.AttackJob(subject, bench.budget)] * ROWS)["own"]
    if "point" not in state:
        return f"the state has {', '.join(state)}; it must hold the images under 'point'."
    if tuple(state["point"].shape) != (ROWS, *SHAPE):
        return f"'point' has shape {tuple(state['point'].shape)}; expected {(ROWS, *SHAPE)}."
    short = [name for name, x in state.items() if not x.shape or x.shape[0] != ROWS]
    return f"{', '.join(short)} lack the leading axis of rows." if short else ""


def _finite(bench: _Bench) -> str:
    for i, walk in bench.points().items():
        if not np.isfinite(walk).all():
            step = int(np.argmin(np.isfinite(walk).all(axis=(1, 2, 3))))
            return f"image {i} has NaN or infinite numbers after step {step}."
    return ""


def _budget(bench: _Bench) -> str:
    bounded = bench.attack.seeks == "any"
    for i, walk in bench.points().items():
        if walk.min() < -1e-3 or walk.max() > 255 + 1e-3:
            return f"image {i} leaves 0..255 ({walk.min():.4g}..{walk.max():.4g}); end with task.project."
        size = np.asarray(
            ops.convert_to_numpy(bench.norm.size(walk - bench.images[i].astype("float32")))
        )
        if bounded and size.max() > bench.budget * (1 + 1e-4):
            return (
                f"image {i} is {size.max():.5g} away after step {int(size.argmax())}; the budget is "
                f"{bench.budget:g}. End with task.project."
            )
    return ""


def _does_something(bench: _Bench) -> str:
    still = [
        i
        for i, walk in bench.points().items()
        if not np.abs(walk - bench.images[i].astype("float32")).max() > 0
    ]
    return f"{len(still)} of {ROWS} images come back unchanged." if still else ""


def _neighbours(bench: _Bench) -> str:
    together = bench.points(stretch=2)
    others = {"in another order": bench.points(range(ROWS - 1, -1, -1), stretch=2)}
    # Among copies of itself, in a batch of the same shape: the last bits are the same too.
    others["among others"] = {i: bench.points([i] * ROWS, stretch=2)[i] for i in (0, 1)}
    if bench.attack.seeks == "any":
        others["alone"] = {i: bench.points([i], stretch=2)[i] for i in (0, 1)}
    # One that circles about the boundary blows up the last bits that a batch of another shape changes.
    for what, walks in others.items():
        for i, walk in walks.items():
            apart = float(np.abs(walk - together[i]).max())
            if apart > 1e-3 * bench.budget:
                return (
                    f"image {i} comes out {apart:.3g} counts different {what}; a row may not depend on "
                    "its neighbours. Reduce over axes 1 and up only, and use task.per_row."
                )
    return ""


def _seeded(bench: _Bench) -> str:
    first, second = bench.points(), bench.points(again=True)
    if not all(np.array_equal(first[i], second[i]) for i in first):
        return (
            "two runs with one seed differ; draw random numbers with task.uniform or task.normal."
        )
    return ""


def _works(bench: _Bench) -> str:
    if bench.attack.baseline:
        return ""
    held = [key for key, rung in bench.flips().items() if rung.flip is None]
    if held:
        return (
            f"{len(held)} of {ROWS} images hold at epsilon {bench.budget:g}, three times the distance "
            "to the boundary of a linear model; does it lower the loss?"
        )
    return ""


def _comes_near(bench: _Bench) -> str:
    if bench.attack.seeks == "any":
        return ""
    factor = NEAR[bench.norm.name]
    for i in range(ROWS):
        least, found = bench.least(i), np.inf
        # What an attack does from several starts, it need not do from the first.
        for restart in range(bench.attack.restarts):
            found = min(found, bench.distances(restart)[i])
            if found < least * (1 - 1e-3):
                return (
                    f"image {i} counts as flipped at {found:.5g}, and nothing nearer than {least:.5g} "
                    "flips."
                )
            # Two classes must be passed on the way to a target: then the least distance is only a bound.
            if found <= factor * least or isinstance(bench.goal, Targeted):
                break
        else:
            return (
                f"image {i} is flipped at {found:.5g}; the least distance is {least:.5g}, and {factor:g} "
                "times that is allowed."
            )
    return ""


_CLAUSES: dict[str, Callable[[_Bench], str]] = {
    "keeps a state of rows": _state,
    "stays finite": _finite,
    "stays within the budget": _budget,
    "does something": _does_something,
    "treats rows independently": _neighbours,
    "is decided by its seed": _seeded,
    "flips a linear model": _works,
    "comes near the least distance": _comes_near,
}
