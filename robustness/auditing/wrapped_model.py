"""Makes a Classifier of a model: scaling and head are given, found in the model, or decided by images."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustness.errors import ImagesError, ModelError, SettingError
from robustness.images import Entry, Source, select, tallied
from robustness.images.cache import SAMPLE, PictureCache
from robustness.images.entries import labels_of
from robustness.images.labels import expect_classes
from robustness.models import loading
from robustness.models.adapter import AdaptedModel, adapt
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import LARGE_BATCH
from robustness.models.head_kinds import AmbiguousHeadError
from robustness.models.label_sets import LabelSets
from robustness.models.scaling_choice import Labelled
from robustness.models.scalings import Scaling
from robustness.runs.schema import ModelEntry

MOST_DECIDING = 16 * SAMPLE
"""The largest number of labelled images that are used to decide the scaling or the order of the classes."""


def class_count(model: Classifier | AdaptedModel) -> int:
    """The number of classes that a model tells apart."""
    if isinstance(model, Classifier):
        return len(model.class_names)
    shape = getattr(model.model, "output_shape", None)
    if isinstance(shape, tuple) and shape and isinstance(shape[-1], int):
        return max(2, shape[-1])
    return len(draft_classifier(model, "0..255").class_names)


def draft_classifier(model: AdaptedModel, scaling: Any) -> Classifier:
    """A classifier of the model before its head is decided."""
    try:
        return Classifier(model, scaling=scaling)
    except AmbiguousHeadError as error:
        return Classifier(model, scaling=scaling, head=error.kind)


def resolve_model(
    model: Any, cache: PictureCache, entries: list[Entry], **settings: Any
) -> Classifier:
    """The model as a Classifier; scaling and head given, part of the model, or decided by the images."""
    return _with_sets(_resolved(model, cache, entries, **settings), cache, entries)


def _resolved(
    model: Any,
    cache: PictureCache,
    entries: list[Entry],
    *,
    trust: bool,
    imports: Sequence[str] = (),
    command: str = "",
    **settings: Any,
) -> Classifier:
    if isinstance(model, Classifier):
        expect_nothing_stated(settings)
        return model
    if isinstance(model, (str, Path)):
        settings["file"] = model
        model = loading.load_model(model, trust, settings.get("architecture"), imports)
    adapted = adapt(model, settings.pop("adapter", None))
    # Labels decide the scaling, so they are checked first.
    numbers = [str(number) for number in range(class_count(adapted))]
    expect_source_classes(cache.source, entries, settings["class_names"] or numbers)
    if settings["scaling"] is not None:
        # Labelled images decide an open head.
        with contextlib.suppress(AmbiguousHeadError):
            return Classifier(adapted, **settings)
    # An image without label decides nothing.
    keys, pixels, labels = cache.sample(with_label(entries) or entries, adapted.shape)
    if not keys:
        expect_readable(cache, entries, adapted.shape)
    more = _further_parts(cache, entries, adapted.shape)
    try:
        return Classifier.decide(adapted, pixels, labels, more=more, command=command, **settings)
    except ModelError as error:
        if labels is not None or isinstance(error, AmbiguousHeadError):
            raise
        raise ModelError(f"{error}\nThe images: {cache.source.description}.") from error


MULTI_LABEL = "multi-label"


def gives_sets(head: str | None, model: object) -> bool:
    """Whether the classes of an audit are sets of labels: of a multi-label head."""
    own = model.head.kind if isinstance(model, Classifier) else None
    return MULTI_LABEL in (head, own)


def without_labels(entries: list[Entry]) -> list[Entry]:
    """The entries without labels: a set of labels is no class of theirs."""
    return [Entry(entry.key, entry.name, None) for entry in entries]


def _with_sets(classifier: Classifier, cache: PictureCache, entries: list[Entry]) -> Classifier:
    """A multi-label classifier with the sets of labels that it gives to the images as its classes."""
    if classifier.head.kind != MULTI_LABEL or classifier.head.sets is not None:
        return classifier
    values = []
    with contextlib.closing(cache.stream(entries, classifier.input_shape)) as pictures:
        read = (p.pixels for p in pictures if p.pixels is not None)
        while part := [pixels for _, pixels in zip(range(LARGE_BATCH), read, strict=False)]:
            values.append(classifier.logits_of(np.stack(part)))
    if not values:
        expect_readable(cache, entries, classifier.input_shape)
        return classifier
    sets = LabelSets.seen(classifier.class_names, np.concatenate(values))
    several = classifier.with_label_sets(sets)
    several.head_reason = (
        f"Of {len(sets.labels)} labels any that changes is a flip. What must hold are the labels that the "
        "model gives to the unchanged image; labels of the images themselves are not used."
    )
    return several


def expect_nothing_stated(settings: dict[str, Any]) -> None:
    """SettingError if options say how a Classifier is to be read, which it knows itself."""
    stated = [name for name in ("head", "adapter") if settings.get(name)]
    if stated:
        names = {"head": "head", "adapter": "input_size, image_input, constants or output"}
        raise SettingError(
            f"{' and '.join(names[name] for name in stated)} came with a model that is a Classifier already; "
            "leave it out, or make the Classifier with it."
        )


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


def _further_parts(
    cache: PictureCache, entries: list[Entry], shape: tuple[int, int, int]
) -> Iterator[Labelled]:
    """Yield labelled images as `labelled_parts`, and after those of the audit the others of the source.

    A limit is one of what is attacked: what the model expects is decided by all images that have a label.
    """
    labelled = with_label(entries)
    used = {entry.key for entry in labelled}
    if labelled:
        others = select(
            with_label(list(cache.source.entries())), only=lambda one: one.key not in used
        )
        yield from labelled_parts(cache, labelled + others, shape, min(SAMPLE, len(labelled)))


def labelled_parts(
    cache: PictureCache, entries: list[Entry], shape: tuple[int, int, int], done: int = SAMPLE
) -> Iterator[Labelled]:
    """Yield the labelled images after the first `done` in growing parts, `MOST_DECIDING` at most."""
    labelled = with_label(entries)[:MOST_DECIDING]
    while done < len(labelled):
        keys, pixels, labels = cache.sample(labelled[done : 2 * done], shape, done)
        done *= 2
        if keys and labels is not None:
            yield pixels, labels


def expect_source_classes(source: Source, entries: list[Entry], names: Sequence[str]) -> None:
    """Raise ImagesError, which names the source, unless every label is one of the classes `names`."""
    counts = Counter(labels_of(entries))
    try:
        expect_classes(counts, names, counts.values())
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
