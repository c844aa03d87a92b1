"""Compiled functions that the tests of a module share.

An audit traces its attacks for its model anew, which takes most of the time of an audit of a few small
images. Tests audit equal models again and again: resumed, by workers that each load the model from its file,
with other batch sizes or options. Within a module the first of equal functions is traced, and the others use
its graph. Functions are equal if their code is the same and everything that they hold: for a classifier its
weights, layers, scaling and head. A function that holds anything else is traced as usual.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import singledispatch
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from robustness import backend
from robustness.contract.attack import Attack
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.model_input import ImageInput, PictureInput
from robustness.models.classifier import Classifier
from robustness.models.identity import identity
from robustness.threat.norms import Norm
from robustness.threat.threat import Threat

settings: WeakKeyDictionary[Classifier, str] = WeakKeyDictionary()
seen = threading.local()


class UnknownError(Exception):
    """It is not known what determines what a value computes."""


def content(classifier: Classifier) -> tuple[str, str]:
    """What determines the outputs of a classifier without its deployment: its weights, and all else."""
    models = (classifier.model, classifier._twin.model)
    if any(len(model.variables) > len(model.weights) for model in models):
        raise UnknownError("states of random numbers")
    replaced = [
        n for n, held in vars(classifier).items() if callable(held) and hasattr(Classifier, n)
    ]
    if replaced:
        raise UnknownError(f"{replaced} of its own")
    if classifier not in settings:
        if any(identity(model)["code"] for model in models):
            raise UnknownError("layers with code of their own, which may hold anything")
        said = [classifier._twin.reason, classifier.head.kind, classifier.class_names]
        settings[classifier] = json.dumps([*map(identity, models), *said, repr(classifier.scaling)])
    sha = hashlib.sha256()
    for weight in classifier.model.get_weights():
        sha.update(weight.tobytes())
    return sha.hexdigest(), settings[classifier]


@singledispatch
def key_of(value: Any) -> Hashable:
    """What determines what `value` computes.

    Raises
    ------
    UnknownError
        The value is of another kind than those known here.
    """
    raise UnknownError(type(value).__name__)


@key_of.register(int | float | str | type | None)
def _(value: Any) -> Hashable:
    return type(value), value


@key_of.register
def _(method: MethodType) -> Hashable:
    return method.__func__.__code__, key_of(method.__self__)


@key_of.register
def _(function: FunctionType) -> Hashable:
    if function.__defaults__ or function.__kwdefaults__:
        raise UnknownError("defaults")
    held = inspect.getclosurevars(function).nonlocals
    return (
        function.__module__,
        function.__code__,
        *((name, key_of(held[name])) for name in sorted(held)),
    )


@key_of.register
def _(attack: Attack) -> Hashable:
    try:
        hash(attack)
    except TypeError as error:
        raise UnknownError(attack.name) from error
    return attack


@key_of.register
def _(norm: Norm) -> Hashable:
    return type(norm)


@key_of.register
def _(threat: Threat) -> Hashable:
    mask = None if threat.mask is None else threat.mask.free.tobytes()
    return threat.epsilons, key_of(threat.norm), threat.goal, mask


@key_of.register
def _(classifier: Classifier) -> Hashable:
    deployment: Any = classifier.deployment
    vars(seen).setdefault("classifiers", []).append((classifier, content(classifier)))
    if deployment is None:
        return content(classifier)
    if deployment.queried is not None or not hasattr(deployment.preprocessing, "geometry"):
        raise UnknownError("a function of the user")
    # A convention states all of it.
    return content(classifier), repr(deployment)


@key_of.register
def _(batch: CompiledBatch) -> Hashable:
    if type(batch.input) not in (ImageInput, PictureInput):
        raise UnknownError("a function of the user")
    parts = (batch.classifier, batch.threat, batch.attack)
    return *map(key_of, parts), batch.batch_size, batch.input.shape


@dataclass(frozen=True)
class Kept:
    """The graph of a function, the object whose method it is, and the classifiers in it as they were."""

    graph: Callable[..., Any]
    owner: Any
    classifiers: list[tuple[Classifier, tuple[str, str]]]

    @property
    def unchanged(self) -> bool:
        """Whether nobody has set other weights or methods since."""
        try:
            return all(content(classifier) == then for classifier, then in self.classifiers)
        except UnknownError:
            return False


@pytest.fixture(scope="module")
def shared_graphs() -> Iterator[dict[Hashable, Kept]]:
    """Trace equal functions once in a module; returns their graphs, which a test may clear."""
    kept: dict[Hashable, Kept] = {}
    usual = backend.compile

    def compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
        owner: Any = getattr(fn, "__self__", None)
        seen.classifiers = []
        try:
            key = key_of(fn)
        except UnknownError:
            return usual(fn)
        if key not in kept or not kept[key].unchanged:
            kept[key] = Kept(usual(fn), owner, [*seen.classifiers])
        first = kept[key]
        if not isinstance(owner, CompiledBatch):
            return first.graph

        def call(*args: Any) -> Any:
            result = first.graph(*args)
            # Tracing notes these in the batch that it traces.
            owner.passes, owner.watched = first.owner.passes, first.owner.watched
            return result

        call.graph_of = first.graph.graph_of  # type: ignore[attr-defined]
        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "compile", compiled)
        yield kept
