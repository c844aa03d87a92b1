"""The inputs of an audit, resolved: images, model, surrogate, attacks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustness.configuration.audit_config import AuditConfig
from robustness.contract.attack import Attack
from robustness.contract.ensembles import Ensemble, create
from robustness.errors import ImagesError, ModelError, SettingError
from robustness.images import Entry, Source, from_arrays, open_source, select, tallied
from robustness.images.cache import SAMPLE, PictureCache
from robustness.images.labels import expect_classes
from robustness.models import loading
from robustness.models.classifier import Classifier, input_shape
from robustness.models.scaling_choice import Labelled

MOST_DECIDING = 16 * SAMPLE
"""The largest number of labelled images that are used to decide the scaling or the order of the classes."""


def labelled_arrays(
    model: Classifier | keras.Model | str | Path,
    images: Source,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """The classifier, and every readable labelled image of a source.

    Parameters
    ----------
    model : as for `robustness.audit`.
    images : the source.
    limit, seed : the random sample, see `robustness.images.select`.

    Returns
    -------
    classifier : the model as a Classifier.
    pixels : uint8 of shape (n, height, width, channels), in counts.
    labels : the classes, of shape (n,).

    Raises
    ------
    ImagesError
        No labelled image can be read.
    """
    entries = [e for e in select(images.entries(), limit=limit, seed=seed) if e.label is not None]
    cache = PictureCache(images)
    classifier = resolve_model(
        model, cache, entries, class_names=images.class_names, scaling=None, trust=False
    )
    expect_source_classes(images, entries, classifier.class_names)
    pictures = list(cache.stream(entries, classifier.input_shape))
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


def make_attacks(config: AuditConfig, file: str = "") -> list[Attack | Ensemble]:
    """The attacks and ensembles of a configuration, by name or as they are.

    Parameters
    ----------
    config : the options.
    file : the audit.toml they come from, for errors.

    Raises
    ------
    SettingError
        A parameter is unknown or out of range; the message names the attack's place in the file.
    """
    made = []
    for number, choice in enumerate(config.attack_choices()):
        if not isinstance(choice, tuple):
            made.append(expect_attack(choice))
            continue
        name, parameters = choice
        try:
            made.append(create(name, parameters))
        except SettingError as error:
            if not file:
                raise
            reason = str(error).removeprefix(f"{name}: ")
            raise SettingError(f"{file}: attacks[{number}] ({name}): {reason}") from None
    return made


def expect_attack(attack: object) -> Attack | Ensemble:
    """The object, if it is an attack or ensemble; else SettingError."""
    if not isinstance(attack, (Attack, Ensemble)):
        raise SettingError(
            f"attacks has {attack!r:.200}; expected the name of an attack, an Attack or an Ensemble."
        )
    return attack


def resolve_images(
    images: Any, labels: Any, names: Sequence[str] | None, label_column: str | None
) -> Source:
    """Return the source of a path, of arrays or of a Source; ImagesError if it cannot be used."""
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
    model: Any,
    cache: PictureCache,
    entries: list[Entry],
    *,
    trust: bool,
    command: str = "",
    **settings: Any,
) -> Classifier:
    """The model as a Classifier; its scaling given, part of the model, or chosen by labelled images."""
    if isinstance(model, Classifier):
        return model
    if isinstance(model, (str, Path)):
        settings["file"] = model
        model = loading.load_model(model, trust)
    # Labels decide the scaling, so they are checked first; the number of outputs is known already.
    outputs = getattr(model, "output_shape", None)
    if isinstance(outputs, tuple) and outputs and isinstance(outputs[-1], int):
        numbers = [str(number) for number in range(max(2, outputs[-1]))]
        expect_source_classes(cache.source, entries, settings["class_names"] or numbers)
    if settings["scaling"] is not None:
        return Classifier(model, **settings)
    shape = input_shape(model)
    # An image without label decides nothing.
    keys, pixels, labels = cache.sample(with_label(entries) or entries, shape)
    if not keys:
        expect_readable(cache, entries, shape)
    more = labelled_parts(cache, entries, shape)
    return Classifier.decide(model, pixels, labels, more=more, command=command, **settings)


def with_label(entries: list[Entry]) -> list[Entry]:
    """The entries that have a label."""
    return [entry for entry in entries if entry.label is not None]


def labelled_parts(
    cache: PictureCache, entries: list[Entry], shape: tuple[int, int, int]
) -> Iterator[Labelled]:
    """Yield the labelled images after the first `SAMPLE` in growing parts, `MOST_DECIDING` at most."""
    labelled = with_label(entries)[:MOST_DECIDING]
    done = SAMPLE
    while done < len(labelled):
        keys, pixels, labels = cache.sample(labelled[done : 2 * done], shape, done)
        done *= 2
        if keys and labels is not None:
            yield pixels, labels


def resolve_surrogate(
    model: Any, target: Classifier, cache: PictureCache, entries: list[Entry], *, trust: bool
) -> Classifier | None:
    """The model that attacks are computed on in place of `target`; ModelError if its input differs."""
    if model is None:
        return None
    surrogate = resolve_model(
        model, cache, entries, class_names=target.class_names, scaling=None, trust=trust
    )
    shape, classes = surrogate.input_shape, len(surrogate.class_names)
    expected = (target.input_shape, len(target.class_names))
    if (shape, classes) != expected:
        raise ModelError(
            f"The surrogate takes images of shape {shape} and has {classes} classes; expected those "
            f"of the target, {expected[0]} and {expected[1]}."
        )
    return surrogate


def expect_source_classes(source: Source, entries: list[Entry], names: Sequence[str]) -> None:
    """ImagesError, naming the source, unless every label is one of the classes `names`."""
    try:
        expect_classes([entry.label for entry in entries], names)
    except ImagesError as error:
        raise ImagesError(f"{source.description}: {error}") from error


def expect_readable(cache: PictureCache, entries: list[Entry], shape: tuple[int, int, int]) -> None:
    """ImagesError, with the most frequent reasons, if no picture at all can be read."""
    reasons = []
    with contextlib.closing(cache.stream(entries, shape)) as pictures:
        for picture in pictures:
            if picture.pixels is not None:
                return
            reasons.append(picture.reason)
    if reasons:
        raise ImagesError(
            f"{cache.source.description}: no picture can be read ({tallied(reasons, len(entries))}); "
            "expected some to decide the model's scaling on."
        )
