"""Reads and writes weights at half the size: kernels as float16, all others as float32, in one `.npz`.

Names consist of the position and kind of the layer and the name of the variable, so that a file of another
network is detected. Statistics, scales and biases stay float32: a variance may be out of the range of
float16, and they are few.
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
    """Write all weights of a Keras model to `path` (`.npz`); the same weights give the same bytes.

    Returns
    -------
    The SHA-256 of the file.

    Raises
    ------
    ModelError
        A weight is not finite.
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
    """Load the weights in `path`, as written by `save`, into a Keras model.

    Parameters
    ----------
    model
        The built model; unchanged if an error is raised.
    path
        The `.npz` file.
    sha256
        The expected SHA-256 of the file; by default the one in the `card.json` beside it.

    Raises
    ------
    ModelError
        The file is missing, damaged or another one, or belongs to another network.
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
    """The SHA-256 of `path` that the card beside it states; ModelError without one."""
    card = path.with_name(CARD)
    try:
        weights = json.loads(card.read_text("utf-8"))["weights"]
        if weights["file"] == path.name:
            return str(weights["sha256"])
    except FileNotFoundError as error:
        raise ModelError(
            f"There is no model card {card.name} beside {path.name}, so that the "
            f"weights cannot be checked. Install the toolkit again, or publish the weights "
            f"(scripts/publish_weights.py)."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The model card {card.name} cannot be read: {error!r}.") from error
    raise ModelError(
        f"The model card {card.name} does not describe {path.name}. Install the toolkit again."
    )


def _named(model: Any) -> Iterator[tuple[str, Any]]:
    """(name, variable) of all weights; Keras' own layer names depend on the models built before."""
    with_weights = [layer for layer in model.layers if layer.weights]
    for position, layer in enumerate(with_weights):
        for variable in layer.weights:
            if "seed_generator" not in variable.path:
                yield f"{position:02d}.{type(layer).__name__}.{variable.name}", variable


def _compact(value: np.ndarray) -> np.ndarray:
    """`value` as float16 if it is a kernel and in range."""
    if value.ndim < 2 or np.abs(value).max(initial=0) > np.finfo(np.float16).max:
        return value
    return value.astype(np.float16)
