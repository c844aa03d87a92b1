"""Resolves the inputs of an audit: images, model, surrogate, attacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustness.auditing.class_order import decide_order
from robustness.auditing.classes import (
    LabelledSource,
    StatedNames,
    beside_model,
    class_names_of,
    labelled_source,
    order_of,
    order_undecided,
)
from robustness.configuration.audit_config import AuditConfig
from robustness.contract.attack import Attack
from robustness.contract.ensembles import Ensemble, create
from robustness.errors import ImagesError, ModelError, SettingError
from robustness.images import Entry, Source, from_arrays, open_source, select, tallied
from robustness.images.cache import SAMPLE, PictureCache
from robustness.images.class_match import ClassTable
from robustness.images.labels import expect_classes
from robustness.models import loading
from robustness.models.classifier import Classifier, input_shape
from robustness.models.inner_scaling import inner_scaling
from robustness.models.layers import entry_dtype
from robustness.models.scaling_choice import Labelled
from robustness.models.scalings import Scaling, candidates
from robustness.runs.schema import ModelEntry

MOST_DECIDING = 16 * SAMPLE
"""The largest number of labelled images that are used to decide the scaling or the order of the classes."""


def labelled_arrays(
    model: Classifier | keras.Model | str | Path,
    images: Source,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """Return the classifier, and every readable labelled image of a source.

    Parameters
    ----------
    model : as for `robustness.audit`.
    images : source of the images.
    limit, seed : size and seed of the random sample, see `robustness.images.select`.

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
    resolved = resolve(
        model,
        images,
        lambda one: with_label(select(one.entries(), limit=limit, seed=seed)),
        class_names=None,
        scaling=None,
        trust=False,
    )
    classifier, entries, cache = resolved.classifier, resolved.entries, resolved.cache
    pictures = list(cache.stream(entries, classifier.input_shape))
    read = [p for p in pictures if p.pixels is not None]
    reasons = [p.reason for p in pictures]
    if not read:
        why = f" ({tallied(reasons, len(entries))})" if entries else ""
        raise ImagesError(
            f"{images.description}: no labelled image can be read{why}; expected a folder for each class."
        )
    return (
        classifier,
        np.stack([p.pixels for p in read if p.pixels is not None]),
        np.array([p.entry.label for p in read]),
    )


def make_attacks(config: AuditConfig, file: str = "") -> list[Attack | Ensemble]:
    """Return the attacks and ensembles of a configuration, made from their names or as given.

    Parameters
    ----------
    config : the options.
    file : path of the audit.toml that they come from, for errors; "" for none.

    Raises
    ------
    SettingError
        A parameter is unknown or out of range; the message names the attack's position in the file.
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
    """Return the object if it is an attack or ensemble, else raise SettingError."""
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
            "`labels` were given with images that are not an array; expected the labels in the source "
            "itself: folders named by class, a CSV column (`label_column`), or an array of the .npz."
        )
    return source


@dataclass(frozen=True)
class ResolvedInputs:
    """The classifier and the images of an audit, with labels by output of the model.

    Attributes
    ----------
    classifier : the model.
    cache : the images.
    entries : those that are selected.
    table : which folder has which class; None if images have no labels by name.
    reason : where the class names come from, a sentence.
    """

    classifier: Classifier
    cache: PictureCache
    entries: list[Entry]
    table: ClassTable | None
    reason: str

    @property
    def source(self) -> Source:
        """The source of the images."""
        return self.cache.source


def resolve(
    model: Any,
    source: Source,
    select_from: Callable[[Source], list[Entry]],
    *,
    class_names: Sequence[str] | None,
    scaling: Any,
    trust: bool,
    command: str = "",
) -> ResolvedInputs:
    """Load the model, match the classes of the images with its outputs, and decide its scaling.

    Parameters
    ----------
    model : a Classifier, a Keras model, or the path of a file.
    source : the images.
    select_from : selects the entries of a source.
    class_names, scaling : those given; None to find them.
    trust : load a model file despite findings.
    command : the command that was given, for messages.

    Raises
    ------
    ModelError, ImagesError, SettingError
        The model cannot be loaded, its classes cannot be matched with the images, or its scaling is open.
    """
    file = Path(model) if isinstance(model, (str, Path)) else getattr(model, "file", None)
    if isinstance(model, (str, Path)):
        model = loading.load_model(model, trust)
    outputs = _outputs(model)
    stated = _stated_names(class_names, model, file, outputs)
    ways = list(labelled_source(source, outputs, stated))
    way = ways[0]
    if len(ways) > 1:
        way = _decided(ways, model, select_from, scaling)
    entries, cache = select_from(way.source), PictureCache(way.source)
    classifier = resolve_model(
        model,
        cache,
        entries,
        class_names=way.names,
        scaling=scaling,
        trust=trust,
        command=command,
        file=file,
    )
    if way.names is not None and not classifier.named:
        classifier = classifier.with_class_names(way.names)
    expect_source_classes(way.source, entries, classifier.class_names)
    return ResolvedInputs(classifier, cache, entries, way.table, way.reason)


def _outputs(model: Any) -> int:
    """The number of classes that a model tells apart."""
    if isinstance(model, Classifier):
        return len(model.class_names)
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, tuple) and shape and isinstance(shape[-1], int):
        return max(2, shape[-1])
    return len(Classifier(model, scaling="0..255").class_names)


def _stated_names(
    given: Sequence[str] | None, model: Any, file: Path | None, outputs: int
) -> StatedNames | None:
    """The class names that were given, that the model states, or that a file beside it names."""
    if given is not None:
        return StatedNames(tuple(given), "The class names were given.")
    if isinstance(model, Classifier) and model.named:
        return StatedNames(model.class_names, "The class names are those of the model.")
    return class_names_of(getattr(model, "model", model)) or beside_model(file, outputs)


def _decided(
    ways: Sequence[LabelledSource],
    model: Any,
    select_from: Callable[[Source], list[Entry]],
    scaling: Any,
) -> LabelledSource:
    """The way of labelling under which most images are right; ImagesError if that is not clear."""
    first, cache = ways[0], PictureCache(ways[0].source)
    entries = select_from(first.source)
    draft = model
    if not isinstance(model, Classifier):
        draft = Classifier(model, scaling=scaling or "0..255", class_names=first.names)
    options = {draft.scaling.name: draft.scaling}
    if draft is not model and scaling is None and not inner_scaling(model).counts:
        options = candidates(draft.input_shape[-1], entry_dtype(model))
    _, pixels, labels = cache.sample(with_label(entries), draft.input_shape)
    sample = [] if labels is None or not len(pixels) else [(pixels, labels)]
    parts = chain(sample, labelled_parts(cache, entries, draft.input_shape))
    number, said = decide_order(
        draft, options, parts, {order_of(way, first): _outputs_by(first, way) for way in ways}
    )
    if number is None and ways[1].names != first.names:
        raise order_undecided(ways, said)
    # Where names are stated, a number that is not shown to be otherwise is the place of a name.
    chosen = ways[number or 0]
    reason = f"{chosen.reason} {said}"
    table = None if chosen.table is None else replace(chosen.table, reason=reason)
    return replace(chosen, table=table, reason=reason)


def _outputs_by(first: LabelledSource, way: LabelledSource) -> np.ndarray:
    """The output of each label of the first way under another way; -1 for labels without images."""
    outputs = np.full(len(first.names or ()), -1)
    if first.table is None or way.table is None:
        return outputs
    index = {row.found: row.index for row in way.table.rows}
    for row in first.table.rows:
        found = index.get(row.found)
        if row.index is not None and found is not None:
            outputs[row.index] = found
    return outputs


def resolve_model(
    model: Any,
    cache: PictureCache,
    entries: list[Entry],
    *,
    trust: bool,
    command: str = "",
    **settings: Any,
) -> Classifier:
    """Return the model as a Classifier; its scaling is given, part of it, or chosen by labelled images."""
    if isinstance(model, Classifier):
        return model
    if isinstance(model, (str, Path)):
        settings["file"] = model
        model = loading.load_model(model, trust)
    # Labels decide the scaling, so they are checked first.
    numbers = [str(number) for number in range(_outputs(model))]
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


def recorded_scaling(entry: ModelEntry) -> Scaling | None:
    """The scaling of the inputs, as a run records it; None if it does not."""
    found = entry.scaling
    if found is None or found.multiply is None or found.offset is None:
        return None
    return Scaling(
        str(found.name), found.multiply, found.offset, str(found.order), str(found.sentence)
    )


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
    """Return the model that attacks use in place of `target`; ModelError if inputs or classes differ."""
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
    """Raise ImagesError, which names the source, unless every label is one of the classes `names`."""
    try:
        expect_classes([entry.label for entry in entries], names)
    except ImagesError as error:
        raise ImagesError(f"{source.description}: {error}") from error


def expect_readable(cache: PictureCache, entries: list[Entry], shape: tuple[int, int, int]) -> None:
    """Raise ImagesError, with the most frequent reasons, if no image can be read."""
    reasons = []
    with contextlib.closing(cache.stream(entries, shape)) as pictures:
        for picture in pictures:
            if picture.pixels is not None:
                return
            reasons.append(picture.reason)
    if reasons:
        raise ImagesError(
            f"{cache.source.description}: no image can be read ({tallied(reasons, len(entries))}); "
            "expected readable images, by which the model's scaling is chosen."
        )
