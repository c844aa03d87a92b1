"""Brings the weights in a `.keras` archive of Keras 2 into the order of Keras 3.

Keras 2.12 and 2.13 stored the layers of a model under `_layer_checkpoint_dependencies`, where each layer with
weights takes two names (`dense`, then `dense_2`), and on Windows with backslashes in the names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

BEFORE = "_layer_checkpoint_dependencies"


def needs_rewriting(file: Any) -> bool:
    """Return whether Keras 3 cannot read the weights in an open `h5py.File` as they are."""
    return any(BEFORE in key or "\\" in key for key in file)


def rewrite(file: Any, model: Any, target: Any) -> None:
    """Copy all arrays of an open `h5py.File` into `target`, under the names for `model` in Keras 3."""
    moves = sorted(_moves(model, "", ""), key=lambda pair: -len(pair[0]))
    for path, values in _arrays(file):
        for old, new in moves:
            if path.startswith(f"{old}/"):
                target[f"{new}{path[len(old) :]}"] = values
                break


def _arrays(file: Any) -> Iterator[tuple[str, Any]]:
    """Every array with its path, slashes for backslashes."""
    pending = [("", file)]
    while pending:
        path, group = pending.pop()
        for key in group:
            name = "/".join(filter(None, (path, key.replace("\\", "/"))))
            member = group[key]
            if hasattr(member, "shape"):
                yield name, member[()]
            else:
                pending.append((name, member))


def _moves(model: Any, old: str, new: str) -> Iterator[tuple[str, str]]:
    """The folder of each layer in the file, and where Keras 3 expects it."""
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for layer in model.layers:
        kind = snake_case(type(layer).__name__)
        was, now = _numbered(kind, before[kind]), _numbered(kind, after[kind])
        before[kind] += 2 if layer.weights else 1
        after[kind] += 1
        olds = [f"{old}{container}/{name}" for container, name in ((BEFORE, was), ("layers", now))]
        for place in olds:
            yield place, f"{new}layers/{now}"
            if hasattr(layer, "layers"):
                yield from _moves(layer, f"{place}/", f"{new}layers/{now}/")


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def snake_case(name: str) -> str:
    """Return the name of a class as Keras writes it in weights files."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
