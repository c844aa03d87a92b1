"""Measures how many flips survive another JPEG quality, or another input pipeline, than the audited one.

This is the robustness of the attack, not of the model: it tells how far a flip depends on the exact file and
the exact preprocessing. Nothing is attacked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robustness.errors import PipelineError
from robustness.numerics.intervals import Share
from robustness.pipeline.upload import DEFAULT_SUBSAMPLING, PNG, Upload, parse_upload

if TYPE_CHECKING:
    from robustness.threat.goals import Goal

QUALITIES = (50, 60, 70, 75, 80, 85, 90, 95, 100)
MOST_FLIPS = 100
"""The most flips that are looked at, spread evenly over all."""
_PIXELS_AT_ONCE = 2_000_000
"""Pictures are predicted in groups of at most this many pixels, or one by one."""

Predict = Callable[[Sequence[np.ndarray], Upload], np.ndarray]
"""The classes (n,) of pictures (height, width, channels) uint8, whose sizes may differ, in their files."""
Treatment = tuple[str, int | None, Upload, Predict]
"""Name, JPEG quality, the format of the files, and what predicts them."""
Group = list[tuple[int, np.ndarray]]


@dataclass(frozen=True)
class SurvivalPoint:
    """The share of flips that survive one treatment, with its 95 % Wilson interval.

    Attributes
    ----------
    name : the treatment: ``jpeg:75``, or the name of a pipeline.
    quality : the JPEG quality; None for a pipeline.
    flips : how many changed pictures still reach the goal after the treatment.
    originals : how many unchanged pictures reach it after the same treatment: what the treatment causes
        without any attack. None if they were not given.
    refused : pictures that the pipeline cannot process; they are in no total.
    """

    name: str
    quality: int | None
    flips: Share
    originals: Share | None
    refused: int


@dataclass(frozen=True)
class Survival:
    """Survival of `examined` flips of `found`: one point per JPEG quality, then one per pipeline."""

    examined: int
    found: int
    points: tuple[SurvivalPoint, ...]


def survival(  # noqa: PLR0913 - what is measured, and how it is shown
    pictures: Sequence[np.ndarray],
    aims: np.ndarray,
    goal: Goal,
    predict: Predict,
    *,
    upload: Upload = PNG,
    pipelines: Mapping[str, Predict] | None = None,
    originals: Sequence[np.ndarray] | None = None,
    most: int = MOST_FLIPS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Survival:
    """Return the shares of verified flips that survive JPEG at several qualities, and other pipelines.

    Parameters
    ----------
    pictures : sequence of ndarray
        The changed pictures before they are encoded, uint8 (height, width, channels). Each is taken once, so
        that a sequence may read them from files.
    aims : ndarray, shape (pictures,)
        int: the classes of `Goal.aims`.
    goal : Goal
        Decides whether a class is a flip.
    predict : callable
        From pictures, and the format in which they are uploaded, to their classes through the audited
        pipeline.
    upload : Upload
        How pictures are uploaded. Pipelines receive its files; JPEG has its subsampling.
    pipelines : mapping of str to callable, optional
        Other pipelines by name, each like `predict`.
    originals : sequence of ndarray, optional
        The unchanged pictures, in the order of `pictures`.
    most : int
        The most flips to examine, at least 2.
    progress : callable
        Called with the number of examined pictures, and of all of them.

    Returns
    -------
    Survival
        At most `most` flips are examined: all, or such as are evenly spread over their order.

    Raises
    ------
    ValueError
        The numbers of pictures, aims and originals differ.
    """
    found = len(pictures)
    if len(aims) != found or (originals is not None and len(originals) != found):
        raise ValueError(
            f"{found} pictures came with {len(aims)} aims"
            + (f" and {len(originals)} originals" if originals is not None else "")
            + "; expected as many of each."
        )
    chosen = evenly_spread(found, most)
    treatments = _treatments(predict, upload, pipelines or {})
    total = len(chosen) * (1 if originals is None else 2)
    changed = _reached(pictures, chosen, aims, goal, treatments, lambda n: progress(n, total))
    clean = None
    if originals is not None:
        clean = _reached(
            originals,
            chosen,
            aims,
            goal,
            treatments,
            lambda n: progress(len(chosen) + n, total),
        )
    points = []
    for place, (name, quality, _, _) in enumerate(treatments):
        usable = changed[place] >= 0
        if clean is not None:
            usable &= clean[place] >= 0
        total = int(usable.sum())
        points.append(
            SurvivalPoint(
                name,
                quality,
                Share.of(int(changed[place][usable].sum()), total),
                None if clean is None else Share.of(int(clean[place][usable].sum()), total),
                len(chosen) - total,
            )
        )
    return Survival(len(chosen), found, tuple(points))


def evenly_spread(count: int, most: int) -> list[int]:
    """Return at most `most` places of 0 to `count` - 1, the first and the last included, in equal gaps."""
    if count <= most:
        return list(range(count))
    return [place * (count - 1) // (most - 1) for place in range(most)]


def _treatments(
    predict: Predict, upload: Upload, pipelines: Mapping[str, Predict]
) -> list[Treatment]:
    subsampling = upload.subsampling or DEFAULT_SUBSAMPLING
    files = [
        parse_upload(f"jpeg:{quality},subsampling={subsampling},seen=none") for quality in QUALITIES
    ]
    curve = [(f"jpeg:{file.quality}", file.quality, file, predict) for file in files]
    return [*curve, *((name, None, upload, other) for name, other in pipelines.items())]


def _reached(
    pictures: Sequence[np.ndarray],
    chosen: Sequence[int],
    aims: np.ndarray,
    goal: Goal,
    treatments: Sequence[Treatment],
    progress: Callable[[int], None],
) -> np.ndarray:
    """Return 1 where a treated picture reaches the goal, 0 where not, -1 where it is refused."""
    marks = np.empty((len(treatments), len(chosen)), np.int8)
    done = 0
    for group in _groups(pictures, chosen):
        here = slice(done, done + len(group))
        for place, (_, _, upload, predict) in enumerate(treatments):
            classes = _classes(predict, [pixels for _, pixels in group], upload)
            reached = np.asarray(goal.reached(classes, np.asarray(aims)[[at for at, _ in group]]))
            marks[place, here] = np.where(classes < 0, -1, reached)
        done += len(group)
        progress(done)
    return marks


def _classes(predict: Predict, pictures: list[np.ndarray], upload: Upload) -> np.ndarray:
    """Predict pictures together, or one by one if a pipeline refuses one of them, whose class is -1."""
    try:
        return np.asarray(predict(pictures, upload))
    except PipelineError:
        if len(pictures) == 1:
            return np.array([-1])
    return np.concatenate([_classes(predict, [one], upload) for one in pictures])


def _groups(pictures: Sequence[np.ndarray], chosen: Sequence[int]) -> Iterator[Group]:
    """Read the chosen pictures in groups that fit into memory."""
    group: Group = []
    pixels = 0
    for place in chosen:
        picture = pictures[place]
        size = picture.shape[0] * picture.shape[1]
        if group and pixels + size > _PIXELS_AT_ONCE:
            yield group
            group, pixels = [], 0
        group.append((place, picture))
        pixels += size
    if group:
        yield group
