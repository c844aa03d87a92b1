"""Measures whether the flips of a finished run survive other JPEG qualities and other input pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from robustness.errors import RunError, SettingError
from robustness.images.png import from_png
from robustness.models.classifier import Classifier
from robustness.numerics.intervals import Share
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.survival import MOST_FLIPS, Predict, SurvivalPoint, survival
from robustness.pipeline.upload import Upload
from robustness.runs.deployed_schema import ShareEntry, SurvivalEntry, SurvivalPointEntry
from robustness.runs.plan import Plan
from robustness.runs.progress import Listener, Progress
from robustness.runs.records import FLIPPED
from robustness.runs.schema import Manifest
from robustness.runs.store import Run

OTHERS = (
    "keras.load_img",
    "tf.image.resize",
    "tf.image.resize:antialias=true",
    "pillow:bilinear",
    "opencv:area",
)
"""The pipelines that are tried beside that of the run; a run lacks those whose library is not installed."""
_MOST_PIXELS = 40_000_000
"""The most pixels of all flips: 100 photographs of 800 x 500, and fewer of larger ones."""
_LEAST_FLIPS = 12
_CHANNELS = (1, 3)
"""The channels that JPEG has."""


class _Pictures(Sequence[np.ndarray]):
    """Pictures of a run, read when they are asked for."""

    def __init__(self, store: Run, names: Sequence[str]) -> None:
        self._store, self._names = store, names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, place: int) -> np.ndarray:  # type: ignore[override]
        return from_png(self._store.png(self._names[place]))


def with_survival(
    manifest: Manifest,
    judge: Classifier,
    images: Classifier,
    plan: Plan,
    store: Run,
    progress: Listener = lambda _: None,
) -> Manifest:
    """Return the manifest with the survival of the run's flips.

    Parameters
    ----------
    manifest : that of the run.
    judge : the classifier of uploaded pictures.
    images : the classifier of images of the model's size, which the other pipelines make.
    plan, store : of the run, whose flips have pictures.
    progress : called with the number of examined pictures.

    Returns
    -------
    The same manifest if images of the model's size were attacked, no flip at the largest epsilon has a
    picture, the model has random outputs, or its images have channels that JPEG lacks.
    """
    deployment = judge.deployment
    possible = plan.draws == 1 and judge.input_shape[-1] in _CHANNELS
    flips = _flips(store, max(plan.threat.epsilons))
    if not isinstance(deployment, Deployment) or not possible or flips.empty:
        return manifest
    try:
        measured = survival(
            _Pictures(store, flips.png.tolist()),
            plan.threat.goal.aims(flips.clean_class.to_numpy(dtype=np.int32)),
            plan.threat.goal,
            partial(_predict, judge, deployment),
            upload=deployment.upload,
            pipelines=_others(images, deployment),
            originals=_Pictures(store, flips.png_original.tolist()),
            most=_most_flips(store, flips),
            progress=lambda done, total: progress(Progress("survival", done, total)),
        )
    except (RunError, OSError, ValueError):
        # A damaged picture is named by verification; the outcomes of the run do not depend on this.
        return manifest
    return manifest.with_changes(
        survival=SurvivalEntry(
            epsilon=max(plan.threat.epsilons),
            examined=measured.examined,
            found=measured.found,
            points=tuple(map(_entry, measured.points)),
        )
    )


def _flips(store: Run, epsilon: float) -> pd.DataFrame:
    """The flips at an epsilon whose pictures are kept, each picture once, with those of their images."""
    outcomes = store.outcomes()
    flips = outcomes[(outcomes.status == FLIPPED) & (outcomes.epsilon == epsilon)]
    images = store.images()[["key", "clean_class", "png"]]
    flips = flips.merge(images, left_on="image", right_on="key", suffixes=("", "_original"))
    flips = flips[flips.png.notna() & flips.png_original.notna() & flips.clean_class.notna()]
    return flips.drop_duplicates(["image", "png"])


def _most_flips(store: Run, flips: pd.DataFrame) -> int:
    """How many flips are examined: large photographs take long to encode."""
    sizes = store.sizes()
    areas = [height * width for height, width in (sizes.get(i, (1, 1)) for i in flips.image)]
    return min(MOST_FLIPS, max(_LEAST_FLIPS, int(_MOST_PIXELS // np.mean(areas))))


def _others(images: Classifier, deployment: Deployment) -> dict[str, Predict]:
    """The other pipelines by name, each before the model."""
    found: dict[str, Predict] = {}
    for text in OTHERS:
        try:
            convention = parse_pipeline(text).convention
        except SettingError:
            continue
        if convention.text != deployment.preprocessing.text:
            other = Deployment(convention, images.input_shape)
            found[convention.text] = partial(_predict, images.at_model_size(), other)
    return found


def _predict(
    classifier: Classifier,
    deployment: Deployment,
    pictures: Sequence[np.ndarray],
    upload: Upload,
) -> np.ndarray:
    """The classes of pictures that are uploaded in a format."""
    uploaded = classifier.deployed(replace(deployment, upload=upload))
    return np.asarray(uploaded.probabilities(pictures).argmax(axis=-1))


def _entry(point: SurvivalPoint) -> SurvivalPointEntry:
    return SurvivalPointEntry(
        name=point.name,
        quality=point.quality,
        flips=_share(point.flips),
        originals=None if point.originals is None else _share(point.originals),
        refused=point.refused,
    )


def _share(share: Share) -> ShareEntry:
    return ShareEntry(count=share.count, total=share.total)
