"""What an audit is given, resolved: images, model, surrogate."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustness.errors import ImagesError, ModelError, SettingError
from robustness.images import Entry, Source, from_arrays, open_source, select, tallied
from robustness.images.cache import PictureCache
from robustness.images.labels import expect_classes
from robustness.models import loading
from robustness.models.classifier import Classifier, input_shape


def labelled_arrays(
    model: Classifier | keras.Model | str | Path,
    images: Source,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """A classifier, and every readable labelled image of a source: uint8 pixels, and classes (n,).

    ImagesError if there is none.
    """
    entries = [e for e in select(images.entries(), limit=limit, seed=seed) if e.label is not None]
    shelf = PictureCache(images)
    classifier = resolve_model(
        model, shelf, entries, class_names=images.class_names, scaling=None, trust=False
    )
    expect_source_classes(images, entries, classifier.class_names)
    pictures = list(shelf.stream(entries, classifier.input_shape))
    read = [p for p in pictures if p.pixels is not None]
    reasons = [p.reason for p in pictures]
    if not read:
        why = f" ({tallied(reasons, len(entries))})" if entries else ""
        raise ImagesError(
            f"{images.description}: no labelled picture can be read{why}; expected a folder for each class."
        )
    return (
        classifier,
        np.stack([p.pixels for p in read if p.pixels is not None]),
        np.array([p.entry.label for p in read]),
    )


def resolve_images(
    images: Any, labels: Any, names: Sequence[str] | None, label_column: str | None
) -> Source:
    if isinstance(images, np.ndarray):
        if label_column is not None:
            raise SettingError(
                "`label_column` was given with an array of images; expected `labels`, or the path of a CSV "
                "or .npz."
            )
        return from_arrays(images, labels, names)
    path = isinstance(images, (str, Path))
    source = open_source(images, names, label_column) if path else images
    if labels is not None:
        raise SettingError(
            "`labels` were given with images that are no array; expected them in the file itself: folders "
            "named for classes, a CSV's column (`label_column`), or an array of the .npz."
        )
    return source


def resolve_model(
    model: Any, shelf: PictureCache, entries: list[Entry], *, trust: bool, **settings: Any
) -> Classifier:
    """The model as a Classifier; its scaling given, found inside, or decided on the images."""
    if isinstance(model, Classifier):
        return model
    if isinstance(model, (str, Path)):
        settings["file"] = model
        model = loading.load_model(model, trust)
    # Before labels decide anything: how many outputs there are is known now, their names may not be.
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, tuple) and shape and isinstance(shape[-1], int):
        numbers = [str(number) for number in range(max(2, shape[-1]))]
        expect_source_classes(shelf.source, entries, settings["class_names"] or numbers)
    if settings["scaling"] is not None:
        return Classifier(model, **settings)
    keys, pixels, labels = shelf.sample(entries, input_shape(model))
    if not keys:
        expect_readable(shelf, entries, input_shape(model))
    return Classifier.decide(model, pixels, labels, **settings)


def resolve_surrogate(
    model: Any, target: Classifier, shelf: PictureCache, entries: list[Entry], *, trust: bool
) -> Classifier | None:
    """The model that attacks look at in place of `target`; ModelError unless it takes its images."""
    if model is None:
        return None
    eyes = resolve_model(
        model, shelf, entries, class_names=target.class_names, scaling=None, trust=trust
    )
    asked = (eyes.input_shape, len(eyes.class_names))
    expected = (target.input_shape, len(target.class_names))
    if asked != expected:
        raise ModelError(
            f"The surrogate takes images of shape {asked[0]} and has {asked[1]} classes; expected those "
            f"of the target, {expected[0]} and {expected[1]}."
        )
    return eyes


def expect_source_classes(source: Source, entries: list[Entry], names: Sequence[str]) -> None:
    """ImagesError, naming the source, unless every label is one of the classes `names`."""
    try:
        expect_classes([entry.label for entry in entries], names)
    except ImagesError as error:
        raise ImagesError(f"{source.description}: {error}") from error


def expect_readable(shelf: PictureCache, entries: list[Entry], shape: tuple[int, int, int]) -> None:
    """ImagesError, with the most frequent reasons, if no picture at all can be read."""
    reasons = []
    with contextlib.closing(shelf.stream(entries, shape)) as pictures:
        for picture in pictures:
            if picture.pixels is not None:
                return
            reasons.append(picture.reason)
    if reasons:
        raise ImagesError(
            f"{shelf.source.description}: no picture can be read ({tallied(reasons, len(entries))}); "
            "expected some to decide the model's scaling on."
        )
