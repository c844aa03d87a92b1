"""Reads the weights of an HDF5 file of Keras 1 or 2 into a built Keras 3 model.

Keras 3 assigns arrays by order alone, so that two arrays of one shape in another order (the mean and the
variance of a BatchNormalization of a nested model) go unnoticed. Here names decide where the file states
them, and an order that contradicts the names is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.backend import _private
from robustness.errors import ModelError

_SUFFIX = re.compile(r"(_\d+)?(:\d+)?$")
# Keras 3 calls the kernel of DepthwiseConv2D "kernel", older versions "depthwise_kernel".
_LEAVES = {
    "W": "kernel", "b": "bias", "gamma": "gamma", "beta": "beta", "running_mean": "moving_mean",
    "running_std": "moving_variance", "moving_mean": "moving_mean", "moving_variance": "moving_variance",
    "kernel": "kernel", "bias": "bias", "depthwise_kernel": "kernel",
    "pointwise_kernel": "pointwise_kernel", "alpha": "alpha", "alphas": "alpha", "alpha1": "alpha",
    "recurrent_kernel": "recurrent_kernel", "mean": "mean", "variance": "variance", "count": "count",
}  # fmt: skip
_LONGEST_FIRST = sorted(_LEAVES, key=len, reverse=True)
_TURNED = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose")


@dataclass(frozen=True)
class Saved:
    """An array of the file: the name of its weight, and its numbers."""

    name: str
    values: np.ndarray


def load_hdf5_weights(
    model: Any,
    file: Any,
    names: Mapping[str, str] | None = None,
    *,
    keras1: bool = False,
    turned: bool = False,
) -> None:
    """Assign every weight of `model` from an open HDF5 file.

    Parameters
    ----------
    model : a built Keras model.
    file : the open `h5py.File`, already scanned.
    names : the name in the model of each layer of the file, if they differ.
    keras1 : whether Keras 1 has written it, which stored kernels with channels first in another order.
    turned : whether the kernels of convolutions are those of Theano, turned by 180 degrees.

    Raises
    ------
    ModelError
        The file and the model do not belong together.
    """
    group = file.get("model_weights", file)
    saved = {name: _arrays(group[name]) for name in _texts(group, "layer_names")}
    saved = {name: arrays for name, arrays in saved.items() if arrays}
    layers = [layer for layer in model.layers if layer.weights]
    pairs = _paired(layers, saved, names or {})
    for layer, arrays in pairs:
        _assign(layer, arrays, keras1, turned)
    if "top_level_model_weights" in group and _arrays(group["top_level_model_weights"]):
        raise ModelError(
            "the file holds weights outside of the layers, which a custom model only can read"
        )


def _texts(group: Any, key: str) -> list[str]:
    """A list of texts among the attributes, which may be stored in several parts."""
    parts = [group.attrs[key]] if key in group.attrs else []
    while not parts or f"{key}{len(parts)}" in group.attrs:
        if key in group.attrs or f"{key}{len(parts)}" not in group.attrs:
            break
        parts.append(group.attrs[f"{key}{len(parts)}"])
    return [
        text.decode("utf-8") if isinstance(text, bytes) else str(text)
        for part in parts
        for text in part
    ]


def _arrays(group: Any) -> list[Saved]:
    return [Saved(name, np.asarray(group[name])) for name in _texts(group, "weight_names")]


def _paired(
    layers: list[Any], saved: dict[str, list[Saved]], names: Mapping[str, str]
) -> list[tuple[Any, list[Saved]]]:
    """Each layer with its arrays: by name if all names agree, else by order."""
    if len(layers) != len(saved):
        raise ModelError(
            f"the model has {len(layers)} layers with weights, the file {len(saved)}: they do not "
            "belong together"
        )
    renamed = {names.get(name, name.replace("/", "_")): arrays for name, arrays in saved.items()}
    if len(renamed) == len(saved) and all(layer.name in renamed for layer in layers):
        return [(layer, renamed[layer.name]) for layer in layers]
    return list(zip(layers, saved.values(), strict=True))


def _assign(layer: Any, arrays: list[Saved], keras1: bool, turned: bool) -> None:
    targets = list(_targets(layer))
    if len(targets) != len(arrays):
        raise ModelError(
            f"layer {layer.name[:60]!r} has {len(targets)} weights, the file {len(arrays)} for it: "
            "they do not "
            "belong together"
        )
    ordered = _by_names(targets, arrays) or arrays
    for (owner, weight), one in zip(targets, ordered, strict=True):
        wanted, told = _leaf(weight.name), _leaf(one.name)
        if wanted and told and wanted != told:
            raise ModelError(
                f"the weight {one.name[:80]!r} of the file stands where layer {owner.name[:60]!r} has "
                f"its {wanted}"
            )
        values = _fitting(owner, wanted, one.values, keras1, turned)
        if tuple(values.shape) != tuple(weight.shape):
            raise ModelError(
                f"the weight {one.name[:80]!r} has the shape {tuple(values.shape)}, layer "
                f"{owner.name[:60]!r} "
                f"expects {tuple(weight.shape)}"
            )
        weight.assign(values)
    for owner in {id(owner): owner for owner, _ in targets}.values():
        if hasattr(owner, "finalize_state"):
            owner.finalize_state()


def _targets(layer: Any) -> list[tuple[Any, Any]]:
    """The weights of a layer in the order of Keras 2 (trainable first), each with its innermost layer."""
    owners = {id(weight): owner for owner in _parts(layer) for weight in owner.weights}
    ordered = [*layer.trainable_weights, *layer.non_trainable_weights]
    return [(owners[id(weight)], weight) for weight in ordered]


def _parts(layer: Any) -> Iterator[Any]:
    """A layer and those within it, the outer before the inner."""
    yield layer
    for inner in _private.inner_layers(layer):
        yield from _parts(inner)


def _by_names(targets: list[tuple[Any, Any]], arrays: list[Saved]) -> list[Saved] | None:
    """The arrays in the order of `targets`, matched by layer and weight; None if names do not suffice."""
    keys = [(owner.name, _leaf(weight.name)) for owner, weight in targets]
    known: dict[tuple[str, str], Saved] = {}
    for one in arrays:
        owner, _, leaf = one.name.rpartition("/")
        for name in (owner.replace("/", "_"), owner.rpartition("/")[2]):
            key = (name, _leaf(leaf))
            if key in known and known[key] is not one:
                return None
            known[key] = one
    chosen = [known.get(key) for key in keys]
    if len(set(keys)) < len(keys) or not all(leaf for _, leaf in keys) or None in chosen:
        return None
    picked = [one for one in chosen if one is not None]
    return picked if len({id(one) for one in picked}) == len(arrays) else None


def _leaf(name: str) -> str:
    """What a weight is (kernel, bias, gamma, ...), from its name in any version; "" if that is not known."""
    bare = _SUFFIX.sub("", name.rpartition("/")[2])
    for word in _LONGEST_FIRST:
        if bare == word or bare.endswith(f"_{word}"):
            return _LEAVES[word]
    return ""


def _fitting(owner: Any, leaf: str, values: np.ndarray, keras1: bool, turned: bool) -> np.ndarray:
    """The numbers of a weight, the kernel of a convolution brought into the order of Keras 3."""
    if leaf != "kernel" or type(owner).__name__ not in _TURNED:
        return values
    space = values.ndim - 2
    if keras1 and space == 2 and getattr(owner, "data_format", "") == "channels_first":
        values = values.transpose(2, 3, 1, 0)
    elif keras1 and type(owner).__name__ == "Conv1D" and values.ndim == 4:
        values = values[:, 0]
    if turned:
        values = np.flip(values, axis=tuple(range(values.ndim - 2)))
    return np.ascontiguousarray(values)
