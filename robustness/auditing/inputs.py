"""Resolves the inputs of an audit: images, model, surrogate, attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from robustness.auditing.named_model import named_model
from robustness.auditing.wrapped_model import (
    MULTI_LABEL,
    class_count,
    draft_classifier,
    expect_nothing_stated,
    expect_source_classes,
    labelled_parts,
    resolve_model,
    with_label,
    without_labels,
)
from robustness.configuration.audit_config import AuditConfig
from robustness.contract.attack import Attack
from robustness.contract.ensembles import Ensemble, create
from robustness.errors import ImagesError, ModelError, SettingError, UnsafeModelError
from robustness.images import Entry, Source, SourceOptions, from_arrays, tallied
from robustness.images.cache import PictureCache, Prepare
from robustness.images.class_match import ClassTable
from robustness.images.named import open_named
from robustness.images.selection import select_from
from robustness.images.source_kinds import CACHE_BYTES
from robustness.images.sources import open_object
from robustness.models import loading
from robustness.models.adapter import AdaptedModel, InputAdapter, adapt
from robustness.models.classifier import Classifier
from robustness.models.inner_scaling import inner_scaling
from robustness.models.layers import entry_dtype
from robustness.models.scalings import candidates


def labelled_arrays(
    model: Classifier | keras.Model | str | Path,
    images: Source,
    *,
    limit: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """Return the classifier, and every readable labelled image of a source.

    Parameters
    ----------
    model : as for `robustness.audit`.
    images : source of the images.
    limit, seed : size and seed of the random sample, see `robustness.images.select`.
    settings : how the model is read, as for `resolve`.

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
        lambda one: with_label(select_from(one, limit=limit, seed=seed)),
        **settings,
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
    images: Any,
    labels: Any,
    names: Sequence[str] | None,
    label_column: str | None,
    cache_bytes: int = CACHE_BYTES,
) -> Source:
    """Return the source of a name, path or URL, of an array, data set or Source.

    Raises
    ------
    ImagesError
        It cannot be used as a whole.
    SettingError
        Labels, or a label column, came with images that take none.
    """
    if isinstance(images, np.ndarray):
        if label_column is not None:
            raise SettingError(
                "`label_column` was given with an array of images; expected `labels`, or the path of a CSV "
                "or .npz."
            )
        return from_arrays(images, labels, names)
    named = isinstance(images, (str, Path))
    options = SourceOptions(None if names is None else tuple(names), label_column, cache_bytes)
    source = (
        open_named(images, names, label_column, cache_bytes)
        if named
        else open_object(images, options)
    )
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


def resolve(  # noqa: PLR0913 - what a user may state about a model
    model: Any,
    source: Source,
    select_from: Callable[[Source], list[Entry]],
    *,
    class_names: Sequence[str] | None = None,
    scaling: Any = None,
    head: str | None = None,
    adapter: InputAdapter | None = None,
    several: bool = False,
    trust: bool = False,
    architecture: str | None = None,
    imports: Sequence[str] = (),
    command: str = "",
    prepare: Prepare | None = None,
) -> ResolvedInputs:
    """Load the model, match the classes of the images with its outputs, and decide its scaling and head.

    Parameters
    ----------
    model : a Classifier, a Keras model, or the path of a file.
    source : the images.
    select_from : selects the entries of a source.
    class_names, scaling, head : those given; None to find them.
    adapter : how images enter the model, as far as it is stated.
    several : whether classes are sets of labels, so that labels of the images are not used (`gives_sets`).
    trust : load a model file despite findings.
    architecture, imports : see `robustness.models.loading.load_model`.
    command : the command that was given, for messages.
    prepare : applied to every picture that is read; None to resize it to the model's input.

    Raises
    ------
    ModelError, ImagesError, SettingError
        The model cannot be loaded, its classes cannot be matched with the images, or its scaling or head is
        open.
    """
    file = Path(model) if isinstance(model, (str, Path)) else getattr(model, "file", None)
    if isinstance(model, Classifier):
        expect_nothing_stated({"head": head, "adapter": adapter})
    else:
        if isinstance(model, (str, Path)):
            model = loading.load_model(model, trust, architecture, imports)
        model = adapt(model, adapter)
    outputs = class_count(model)
    stated = _stated_names(class_names, model, file, outputs)
    if several:
        names = None if stated is None else stated.names
        way = LabelledSource(source, names, None, "" if stated is None else stated.reason)
    else:
        ways = list(labelled_source(source, outputs, stated))
        way = ways[0] if len(ways) == 1 else _decided(ways, model, select_from, scaling, prepare)
    entries, cache = select_from(way.source), PictureCache(way.source, prepare)
    entries = without_labels(entries) if several else entries
    classifier = resolve_model(
        model,
        cache,
        entries,
        class_names=way.names,
        scaling=scaling,
        head=head,
        trust=trust,
        architecture=architecture,
        command=command,
        file=file,
    )
    if way.names is not None and not classifier.named:
        classifier = classifier.with_class_names(way.names)
    expect_source_classes(way.source, entries, classifier.class_names)
    return ResolvedInputs(classifier, cache, entries, way.table, way.reason)


def _stated_names(
    given: Sequence[str] | None, model: Any, file: Path | None, outputs: int
) -> StatedNames | None:
    """The class names that were given, that the model states, or that a file beside it names."""
    if given is not None:
        return StatedNames(tuple(given), "The class names were given.")
    if isinstance(model, Classifier) and model.named:
        return StatedNames(model.class_names, "The class names are those of the model.")
    original = model.original if isinstance(model, AdaptedModel) else model.model
    return class_names_of(original) or beside_model(file, outputs)


def _decided(
    ways: Sequence[LabelledSource],
    model: Any,
    select_from: Callable[[Source], list[Entry]],
    scaling: Any,
    prepare: Prepare | None,
) -> LabelledSource:
    """The way of labelling under which most images are right; ImagesError if that is not clear."""
    first, cache = ways[0], PictureCache(ways[0].source, prepare)
    entries = select_from(first.source)
    draft = model if isinstance(model, Classifier) else draft_classifier(model, scaling or "0..255")
    options = {draft.scaling.name: draft.scaling}
    if draft is not model and scaling is None and not inner_scaling(model.model).counts:
        options = candidates(draft.input_shape[-1], entry_dtype(model.model))
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


def resolve_surrogate(
    model: Any,
    target: Classifier,
    cache: PictureCache,
    entries: list[Entry],
    *,
    trust: bool,
    imports: Sequence[str] = (),
) -> Classifier | None:
    """Return the model that attacks use in place of `target`; ModelError if inputs or classes differ."""
    if model is None:
        return None
    if target.head.kind == MULTI_LABEL:
        raise ModelError(
            "A surrogate came with a multi-label model, whose classes are its sets of labels; expected none."
        )
    try:
        model = named_model(model, trust=trust, class_names=None, imports=imports)
        surrogate = resolve_model(
            model,
            cache,
            entries,
            class_names=target.class_names,
            scaling=None,
            trust=trust,
            imports=imports,
        )
    except UnsafeModelError:
        raise
    except ModelError as error:
        raise ModelError(
            f"The surrogate cannot be used. {error}\nOptions such as --scaling, --head, --input-size and "
            "--output are those of the audited model. A surrogate that needs its own is given in Python: "
            "robustness.audit(..., surrogate=Classifier(model, scaling=..., head=...))."
        ) from error
    shape, classes = surrogate.input_shape, len(surrogate.class_names)
    expected = (target.input_shape, len(target.class_names))
    if (shape, classes) != expected:
        raise ModelError(
            f"The surrogate takes images of shape {shape} and has {classes} classes; expected those "
            f"of the target, {expected[0]} and {expected[1]}."
        )
    return surrogate
