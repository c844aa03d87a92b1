"""Workers in threads share the compiled functions of equal models and attacks.

Each loads the model from its file, as a worker on a machine of its own does; tracing the same functions for
each would be most of the time of these tests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from robustness import backend
from robustness.auditing.cluster import probe, start, worker
from robustness.engine.compiled_batch import CompiledBatch
from robustness.models.classifier import Classifier
from robustness.models.identity import identity

contents: WeakKeyDictionary[Classifier, str] = WeakKeyDictionary()
kept: dict[Hashable, tuple[Any, Any]] = {}
kinds: dict[Hashable, str] = {}


def content(classifier: Classifier) -> str:
    """The hash of what determines the outputs of a classifier: weights, layers, scaling and head."""
    if classifier not in contents:
        twin = classifier._twin
        models = [identity(classifier.model), identity(twin.model)]
        said = [twin.reason, classifier.head.kind, classifier.class_names]
        text = json.dumps([*models, *said, repr(classifier.scaling)])
        contents[classifier] = hashlib.sha256(f"{classifier.digest} {text}".encode()).hexdigest()
    return contents[classifier]


def key_of(fn: Callable[..., Any]) -> Hashable | None:
    """What determines the graph of a method of a classifier or a batch; None if it is not known."""
    owner: Any = getattr(fn, "__self__", None)
    classifier: Any = owner.classifier if isinstance(owner, CompiledBatch) else owner
    if not isinstance(classifier, Classifier):
        return None
    random = len(classifier.model.variables) > len(classifier.model.weights)
    if random or classifier.deployment is not None:
        return None
    if owner is classifier:
        return fn.__name__, content(classifier)
    if owner.threat.mask is not None:
        return None
    threat = (owner.threat.epsilons, owner.threat.norm.name, owner.threat.goal)
    return fn.__name__, content(classifier), threat, owner.attack, owner.batch_size


@pytest.fixture(scope="module", autouse=True)
def shared_graphs() -> Iterator[None]:
    """Compile each method of equal classifiers and batches once, and ask once which bits they compute."""
    usual = backend.compile

    def compiled(fn: Callable[..., Any]) -> Callable[..., Any]:
        key = key_of(fn)
        if key is None:
            return usual(fn)
        owner = fn.__self__  # type: ignore[attr-defined]
        first, graph = kept.setdefault(key, (owner, usual(fn)))
        if isinstance(owner, Classifier):
            return graph

        def call(*args: Any) -> Any:
            result = graph(*args)
            # Tracing notes these in the batch that it traces.
            owner.passes, owner.watched = first.passes, first.watched
            return result

        call.graph_of = graph.graph_of  # type: ignore[attr-defined]
        return call

    def kind(judge: Classifier, attacked: Classifier, *, draws: int = 1) -> str:
        key = content(judge), content(attacked), draws
        if key not in kinds:
            kinds[key] = probe.kind_of(judge, attacked, draws=draws)
        return kinds[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "compile", compiled)
        patch.setattr(worker, "kind_of", kind)
        patch.setattr(start, "kind_of", kind)
        yield
