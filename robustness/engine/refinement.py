"""The nearest file that flips, sought among 8-bit changes that a gradient puts in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count, islice

import numpy as np
from keras import ops

from robustness.engine.attempts import Attempt, AttemptPool
from robustness.images.png import from_png
from robustness.numerics.pixel_lattice import Path
from robustness.optimization.bracketing import Bracket
from robustness.threat.threat import Threat

FINE = 1.01
"""The search for the nearest file ends when two radii are this near: one flips, the other does not."""

HEARINGS = 4
"""Times that the judge is asked at most on the way to a radius that the gradient foretells."""

CLOSE = 1.005
"""Lengths of files this near to one another leave nothing between them that is worth a look."""

NOTHING = 0.5
"""A radius whose files are the images themselves."""

ROUNDS = 3
"""Gradients that are taken at most, each at the nearest flip so far."""

Box = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def seek(
    bench: AttemptPool,
    threat: Threat,
    jobs: Mapping[int, Attempt],
    searches: dict[int, Bracket],
    paths: Mapping[int, Path],
    most: int | None = None,
) -> None:
    """Leave in each job the nearest flip that its search finds along its path; all rows together.

    `most`: hearings of each row, as many as it takes if None.
    """
    name = threat.norm.name
    for hearing in count(1):
        if not searches or (most and hearing > most):
            return
        files = [
            (jobs[p], ask, moved(jobs[p], paths[p].within(ask)))
            for p, search in searches.items()
            for ask in search.asks
        ]
        told = iter(bench.of_files(files))
        for place, search in list(searches.items()):
            flips = list(islice(told, len(search.asks)))
            for flip in flips:
                jobs[place].keep(flip, name)
            found = [flip.distances.of(name) if flip else None for flip in flips]
            if not search.hear(found, jobs[place].far(name)):
                del searches[place]


def moved(job: Attempt, change: np.ndarray) -> np.ndarray:
    """The image of a try, changed by so many whole counts, (height, width, channels) uint8."""
    return np.asarray((job.climb.subject.pixels + change).astype(np.uint8))


class Refining:
    """Nearer files around flips that are found, by the gradient at them.

    A minimiser's point is the nearest in float, if it is the nearest at all. At the file that it has become,
    the gradient of the margin tells what each count brings for what it costs. The model taken as linear
    there, the shortest change that still flips is known (`steepest`): among all changes, and among those
    between the image and the file. Where it is shorter than the file, the search for the radius begins there,
    and the nearest of what flips before the judge stays.
    """

    def __init__(self, bench: AttemptPool, threat: Threat) -> None:
        self._bench, self._threat = bench, threat

    def __call__(self, jobs: Mapping[int, Attempt]) -> None:
        """Leave in each job the nearest flip around the one it has."""
        name, standing = self._threat.norm.name, dict(jobs)
        for _ in range(ROUNDS):
            if not standing:
                return
            before = {place: job.far(name) for place, job in standing.items()}
            self._round(standing)
            standing = {p: j for p, j in standing.items() if j.far(name) * FINE < before[p]}

    def _round(self, jobs: Mapping[int, Attempt]) -> None:
        files = [from_png(job.flip.png) for job in jobs.values() if job.flip]
        gradients, leads = self._bench.slopes(files, list(jobs.values()))
        images = np.stack([job.climb.subject.pixels for job in jobs.values()]).astype("float32")
        low, high = (ops.convert_to_numpy(x) for x in self._threat.room(images))
        changes = np.stack(files) - images
        for box in (_all, _between):
            paths, guesses = {}, {}
            for i, place in enumerate(jobs):
                scale = float(np.abs(gradients[i]).max())
                if not 0 < scale < np.inf:
                    continue
                slope = gradients[i].astype(np.float64) / scale
                path = self._threat.norm.steepest_path(slope, *box(changes[i], low[i], high[i]))
                if path is None:
                    continue
                needed = float((slope * changes[i]).sum()) - float(leads[i]) / scale
                paths[place], guesses[place] = path, path.reaching(needed)
            self._search(jobs, paths, guesses)

    def _search(
        self, jobs: Mapping[int, Attempt], paths: Mapping[int, Path], guesses: Mapping[int, float]
    ) -> None:
        norm, searches = self._threat.norm, {}
        for place, guess in guesses.items():
            far = jobs[place].far(norm.name)
            if guess * FINE < far:
                start = max(guess, NOTHING)
                searches[place] = Bracket(start, NOTHING / 2, far, near=FINE, power=norm.power)
        seek(self._bench, self._threat, jobs, searches, paths, HEARINGS)


def rescue(bench: AttemptPool, threat: Threat, jobs: Sequence[Attempt], *, knows: bool) -> None:
    """Leave in each job the flip of a file within its budget, where its scaled and rounded point is none.

    Parameters
    ----------
    bench, threat : of the program.
    jobs : tries whose point `lost` flips in float, within the budget of their rung.
    knows : whether the attack knows gradients, which put the counts in order where the point does not.
    """
    jobs = [job for job in jobs if job.lost is not None]
    if not jobs or not threat.norm.has_path_along:
        return
    images = np.stack([job.climb.subject.pixels for job in jobs]).astype("float32")
    changes = np.nan_to_num(np.stack([job.lost for job in jobs if job.lost is not None]) - images)
    low, high = (ops.convert_to_numpy(x) for x in threat.room(images))
    paths = [threat.norm.path_along(*x) for x in zip(changes, low, high, strict=True)]
    files = _judged(bench, threat, jobs, [path for path in paths if path is not None])
    held = [i for i, job in enumerate(jobs) if not job.flip] if knows and bench.direct else []
    if held:
        gradients, _ = bench.slopes([files[i] for i in held], [jobs[i] for i in held])
        slopes = [
            g / scale if 0 < (scale := np.abs(g).max()) < np.inf else 0 * g for g in gradients
        ]
        around = [
            threat.norm.steepest_path(np.nan_to_num(slope), low[i], high[i])
            for i, slope in zip(held, slopes, strict=True)
        ]
        if threat.norm.has_steepest_path:
            paths_around = [path for path in around if path is not None]
            _judged(bench, threat, [jobs[i] for i in held], paths_around)


def _judged(
    bench: AttemptPool, threat: Threat, jobs: Sequence[Attempt], paths: Sequence[Path]
) -> list[np.ndarray]:
    """The files of the jobs' budgets along these paths; of a flip the job is told."""
    budgets = [threat.epsilons[job.rung] for job in jobs]
    files = [
        (job, budget, moved(job, path.within(budget)))
        for job, budget, path in zip(jobs, budgets, paths, strict=True)
    ]
    for job, flip in zip(jobs, bench.of_files(files), strict=True):
        if flip:
            job.flip, job.found = flip, job.steps
    return [picture for _, _, picture in files]


def _all(_: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return low, high


def _between(change: np.ndarray, _: np.ndarray, __: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(change, 0), np.maximum(change, 0)
