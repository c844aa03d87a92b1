"""Weights in half the space: kernels as float16, all else as float32, in one `.npz`.

The names say which layer (by position and kind) and which of its variables, so a file that belongs
to another network is noticed. Statistics, scales and biases stay float32: a variance may be too
large or too small for float16, and they are few.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robustness.errors import ModelError

CARD = "card.json"


def save(model: Any, path: Path) -> str:
    """Write all weights of the Keras `model` to `path` (`.npz`); returns the file's SHA-256.

    Same weights, same bytes. ModelError for a weight that is not finite.
    """
    arrays = {}
    for name, variable in _named(model):
        value = variable.numpy().astype(np.float32)
        if not np.isfinite(value).all():
            raise ModelError(f"The weight {name} has values that are not finite; train again.")
        arrays[name] = _compact(value)
    draft = path.with_name(path.name + ".part")
    with draft.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    draft.replace(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(model: Any, path: Path, *, sha256: str | None = None) -> None:
    """Fill the Keras `model` with the weights in `path`, as `save` wrote them.

    The file must have the SHA-256 given, else the one in `card.json` beside it. ModelError if it
    has not, is missing, or belongs to another network; `model` is then left as it was.
    """
    expected = sha256 or recorded_sha256(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The weights {path.name} cannot be read: {error.strerror}.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ModelError(
            f"The weights {path.name} are damaged or not the published ones: SHA-256 "
            f"{found}, expected {expected}. Install the toolkit again."
        )
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise ModelError(f"The weights {path.name} are not a .npz of numbers: {error}.") from error
    wanted = dict(_named(model))
    shapes = {name: tuple(variable.shape) for name, variable in wanted.items()}
    if shapes != {name: value.shape for name, value in stored.items()}:
        odd = sorted(
            name
            for name in shapes.keys() | stored.keys()
            if name not in stored or stored[name].shape != shapes.get(name)
        )
        raise ModelError(
            f"The weights {path.name} belong to another network: they differ in {', '.join(odd)}."
        )
    for name, variable in wanted.items():
        variable.assign(stored[name].astype(np.float32))


def recorded_sha256(path: Path) -> str:
    """The SHA-256 that the card beside `path` gives for it; ModelError without one."""
    card = path.with_name(CARD)
    try:
        weights = json.loads(card.read_text("utf-8"))["weights"]
        if weights["file"] == path.name:
            return str(weights["sha256"])
    except FileNotFoundError as error:
        raise ModelError(
            f"There is no model card {card.name} beside {path.name}, so nobody can say whether "
            f"the weights are the published ones. Install the toolkit again, or publish the "
            f"weights (scripts/publish_weights.py)."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The model card {card.name} cannot be read: {error!r}.") from error
    raise ModelError(f"The model card {card.name} is not about {path.name}.")


def _named(model: Any) -> Iterator[tuple[str, Any]]:
    """(name, variable) of all weights; Keras' own layer names depend on what was built before."""
    with_weights = [layer for layer in model.layers if layer.weights]
    for position, layer in enumerate(with_weights):
        for variable in layer.weights:
            if "seed_generator" not in variable.path:
                yield f"{position:02d}.{type(layer).__name__}.{variable.name}", variable


def _compact(value: np.ndarray) -> np.ndarray:
    """`value` as float16 if it is a kernel and fits."""
    if value.ndim < 2 or np.abs(value).max(initial=0) > np.finfo(np.float16).max:
        return value
    return value.astype(np.float16)
