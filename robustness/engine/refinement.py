"""Searches the nearest file that flips, among 8-bit changes in the order that a gradient gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count, islice

import numpy as np

from robustness.engine.attempts import Attempt, AttemptPool, original_pixels, room
from robustness.engine.model_input import on_canvas
from robustness.images.png import from_png
from robustness.numerics.pixel_lattice import Path
from robustness.optimization.bracketing import Bracket
from robustness.threat.threat import Threat

FINE = 1.01
"""A search for the nearest file ends when a radius that flips is within this factor of one that does not."""

MAX_CALLS = 4
"""The largest number of calls of the judge in a search that starts at a radius predicted by the gradient."""

CLOSE = 1.005
"""Between file lengths within this factor of each other no further length is searched."""

NOTHING = 0.5
"""A radius at which every file is the unchanged image."""

ROUNDS = 3
"""The largest number of gradients, each taken at the nearest flip so far."""

Box = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def seek(
    pool: AttemptPool,
    threat: Threat,
    attempts: Mapping[int, Attempt],
    searches: dict[int, Bracket],
    paths: Mapping[int, Path],
    most: int | None = None,
) -> None:
    """Store in each attempt the nearest flip that its search finds along its path; all rows together.

    Parameters
    ----------
    pool, threat
        The attempt pool and the threat of the program.
    attempts, searches, paths
        Attempts, searches and paths by slot; a search is removed when it ends.
    most
        The largest number of calls of the judge; no limit if None.
    """
    name = threat.norm.name
    for call in count(1):
        if not searches or (most and call > most):
            return
        files = [
            (attempts[slot], radius, changed(attempts[slot], paths[slot].within(radius)))
            for slot, search in searches.items()
            for radius in search.asks
        ]
        verdicts = iter(pool.judge_files(files))
        for slot, search in list(searches.items()):
            flips = list(islice(verdicts, len(search.asks)))
            for flip in flips:
                attempts[slot].keep_nearer(flip, name)
            flip_distances = [flip.distances.of(name) if flip else None for flip in flips]
            if not search.hear(flip_distances, attempts[slot].distance(name)):
                del searches[slot]


def _flipped_picture(attempt: Attempt) -> np.ndarray:
    """The picture of an attempt's flip, shaped like the pixels of its example."""
    example = attempt.progress.example
    if attempt.flip is None:
        return example.pixels
    picture = from_png(attempt.flip.png)
    return on_canvas(picture, example.pixels.shape) if example.size else picture


def changed(attempt: Attempt, change: np.ndarray) -> np.ndarray:
    """Return the attempt's image plus a change in whole counts, (height, width, channels) uint8."""
    return np.asarray((attempt.progress.example.pixels + change).astype(np.uint8))


class Refining:
    """Search nearer files around flips, by the gradient at the flips.

    The point of a minimum-distance attack is at best the nearest in float. At the file made from it, the
    gradient of the margin gives the gain of each count relative to its cost. If the model is linear there,
    the shortest change that still flips is known (`Norm.steepest_path`): among all changes, and among those
    between the image and the file. Where that change is shorter than the file, the search for the radius
    starts at its length, and the nearest file that flips according to the judge is kept.
    """

    def __init__(self, pool: AttemptPool, threat: Threat) -> None:
        self._pool, self._threat = pool, threat

    def __call__(self, attempts: Mapping[int, Attempt]) -> None:
        """Store in each attempt the nearest flip found around its present one."""
        name, improving = self._threat.norm.name, dict(attempts)
        for _ in range(ROUNDS):
            if not improving:
                return
            before = {slot: attempt.distance(name) for slot, attempt in improving.items()}
            self._round(improving)
            improving = {s: a for s, a in improving.items() if a.distance(name) * FINE < before[s]}

    def _round(self, attempts: Mapping[int, Attempt]) -> None:
        files = [_flipped_picture(attempt) for attempt in attempts.values()]
        gradients, leads = self._pool.margin_gradients(files, list(attempts.values()))
        images = original_pixels(attempts.values())
        low, high = room(self._threat, attempts.values())
        changes = np.stack(files) - images
        for box in (_all, _between):
            paths, guesses = {}, {}
            for i, slot in enumerate(attempts):
                scale = float(np.abs(gradients[i]).max())
                if not 0 < scale < np.inf:
                    continue
                slope = gradients[i].astype(np.float64) / scale
                path = self._threat.norm.steepest_path(slope, *box(changes[i], low[i], high[i]))
                if path is None:
                    continue
                needed = float((slope * changes[i]).sum()) - float(leads[i]) / scale
                paths[slot], guesses[slot] = path, path.reaching(needed)
            self._search(attempts, paths, guesses)

    def _search(
        self,
        attempts: Mapping[int, Attempt],
        paths: Mapping[int, Path],
        guesses: Mapping[int, float],
    ) -> None:
        norm, searches = self._threat.norm, {}
        for slot, guess in guesses.items():
            far = attempts[slot].distance(norm.name)
            if guess * FINE < far:
                start = max(guess, NOTHING)
                searches[slot] = Bracket(start, NOTHING / 2, far, near=FINE, power=norm.power)
        seek(self._pool, self._threat, attempts, searches, paths, MAX_CALLS)


def rescue(
    pool: AttemptPool, threat: Threat, attempts: Sequence[Attempt], *, gradients: bool
) -> None:
    """Search other files within the budget of attempts whose scaled and rounded point does not flip.

    Parameters
    ----------
    pool, threat
        The attempt pool and the threat of the program.
    attempts
        The attempts; those without a `float_flip`, a point that flips in float, are skipped. A flip that is
        found is stored in its attempt.
    gradients
        Whether the attack may use gradients; they order the counts where the files along the change to that
        point do not flip.
    """
    attempts = [attempt for attempt in attempts if attempt.float_flip is not None]
    if not attempts or not threat.norm.has_path_along:
        return
    images = original_pixels(attempts)
    points = np.stack([a.float_flip for a in attempts if a.float_flip is not None])
    changes = np.nan_to_num(points - images)
    low, high = room(threat, attempts)
    paths = [threat.norm.path_along(*x) for x in zip(changes, low, high, strict=True)]
    files = _judge_paths(pool, threat, attempts, [path for path in paths if path is not None])
    usable = gradients and pool.judges_attacked_model
    standing = [i for i, attempt in enumerate(attempts) if not attempt.flip] if usable else []
    if standing:
        remaining = [attempts[i] for i in standing]
        slopes, _ = pool.margin_gradients([files[i] for i in standing], remaining)
        unit_slopes = [
            g / scale if 0 < (scale := np.abs(g).max()) < np.inf else 0 * g for g in slopes
        ]
        around = [
            threat.norm.steepest_path(np.nan_to_num(slope), low[i], high[i])
            for i, slope in zip(standing, unit_slopes, strict=True)
        ]
        if threat.norm.has_steepest_path:
            _judge_paths(pool, threat, remaining, [path for path in around if path is not None])


def _judge_paths(
    pool: AttemptPool, threat: Threat, attempts: Sequence[Attempt], paths: Sequence[Path]
) -> list[np.ndarray]:
    """Judge the files of the attempts' budgets along these paths, and keep the flips."""
    budgets = [threat.epsilons[attempt.epsilon_index] for attempt in attempts]
    files = [
        (attempt, budget, changed(attempt, path.within(budget)))
        for attempt, budget, path in zip(attempts, budgets, paths, strict=True)
    ]
    for attempt, flip in zip(attempts, pool.judge_files(files), strict=True):
        if flip:
            attempt.flip, attempt.flip_step = flip, attempt.steps
    return [picture for _, _, picture in files]


def _all(_: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return low, high


def _between(change: np.ndarray, _: np.ndarray, __: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(change, 0), np.maximum(change, 0)
