"""Completes the configuration that Keras 3 writes into HDF5, which states no modules.

Without them Keras does not find its own operations (``x / 127.5`` is a `TrueDivide`) and the layers of
`keras.applications`, and its reader of HDF5 fails for an index with ``...``. Only modules are added here; the
result is read as a configuration in a `.keras` file is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from robustness.models.legacy.conversion import Conversion
from robustness.models.legacy.entries import Config

Weights = Mapping[str, Sequence[Mapping[str, tuple[int, ...]]]]
"""The shapes of weights by their names, once for each layer of a name: nested models may share it."""

MODULE_OF_OPERATION = {
    name: f"keras.src.ops.{module}"
    for module, names in {
        "numpy": (
            "Absolute Add Average Clip Divide Exp ExpandDims Flip GetItem Log Max Maximum Mean Min Minimum "
            "Multiply Negative Pad Power Reshape Sqrt Square Squeeze Stack Subtract Sum Tanh Transpose "
            "TrueDivide"
        ),
        "nn": "Elu Gelu HardSigmoid HardSilu LeakyRelu Relu Relu6 Sigmoid Silu Softmax Softplus",
        "math": "Rsqrt",
        "core": "Cast",
    }.items()
    for name in names.split()
}
"""Operations of usual classifiers; `backend._private.operations` finds the others while Keras loads."""

_MODULE_OF_MODEL = {
    "Functional": "keras.src.models.functional",
    "Model": "keras",
    "Sequential": "keras",
}
_KEYS_OF_LAYERS = {"name", "trainable", "dtype"}
_VARIABLE = re.compile(r"(gamma|variable)(_\d+)?(:0)?")


def completed(config: Config, version: str, weights: Weights) -> Conversion | None:
    """Return a configuration that Keras 3 has written into HDF5, with the modules that it lacks.

    Parameters
    ----------
    config : the parsed configuration. It is not changed.
    version : the version of Keras that the file states.
    weights : the weights in the file (`weights_of`). A `LayerScale` or `CustomScaleLayer` is taken as that of
        `keras.applications` only if its settings are exactly those of that class, and its weights fit.

    Returns
    -------
    Conversion or None
        None if nothing is to be added, or the model is of the author's own class.
    """
    module = _MODULE_OF_MODEL.get(str(config.get("class_name")))
    made = _model(config, weights)
    if module is None or made is config:
        return None
    made = {"module": module, "registered_name": None, **made}
    return Conversion(made, f"Keras {version}", False, False, (), completed=True)


def weights_of(file: Any) -> Weights:
    """Return the weights in an open HDF5 file, which holds no links: findings of its scan are refused."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {}

    def note(path: str, one: Any) -> None:
        owner, _, name = path.rpartition("/")
        if hasattr(one, "shape"):
            groups.setdefault(owner, {})[name] = tuple(one.shape or ())

    if "model_weights" in file:
        file["model_weights"].visititems(note)
    found: dict[str, list[Mapping[str, tuple[int, ...]]]] = {}
    for owner, weights in groups.items():
        found.setdefault(owner.rpartition("/")[2], []).append(weights)
    return found


def _model(entry: Config, weights: Weights) -> Config:
    """A model with its layers completed; the same object if none was."""
    config = entry.get("config")
    layers = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(layers, list):
        return entry
    made = [_layer(one, weights) for one in layers]
    if all(after is before for after, before in zip(made, layers, strict=True)):
        return entry
    return {**entry, "config": {**config, "layers": made}}


def _layer(entry: Any, weights: Weights) -> Any:
    if not isinstance(entry, dict) or "module" in entry or "registered_name" in entry:
        return entry
    name, config = entry.get("class_name"), entry.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        return entry
    if name in _MODULE_OF_MODEL:
        return _model(entry, weights)
    module = None
    # Layers and operations share names; every layer states whether it is trained, an operation never does.
    if "trainable" not in config:
        module = MODULE_OF_OPERATION.get(name)
    elif name == "LayerScale" and _is_layer_scale(config, weights):
        module = "keras.src.applications.convnext"
    elif name == "CustomScaleLayer" and _is_scaled_sum(config, weights):
        module = "keras.src.applications.inception_resnet_v2"
    return entry if module is None else {"module": module, "registered_name": name, **entry}


def _is_layer_scale(config: Config, weights: Weights) -> bool:
    """Whether the settings and the only weight, one number per channel, are those of ConvNeXt's layer."""
    if set(config) != {*_KEYS_OF_LAYERS, "init_values", "projection_dim"}:
        return False
    size = config["projection_dim"]
    if type(size) is not int or type(config["init_values"]) not in (int, float):
        return False
    own = [list(group.items()) for group in weights.get(str(config["name"]), ())]
    single = all(len(group) == 1 and _VARIABLE.fullmatch(group[0][0]) for group in own)
    return single and any(group[0][1] == (size,) for group in own)


def _is_scaled_sum(config: Config, weights: Weights) -> bool:
    """Whether the settings are those of InceptionResNetV2's layer, which has no weights."""
    if set(config) != {*_KEYS_OF_LAYERS, "scale"}:
        return False
    return type(config["scale"]) in (int, float) and not weights.get(str(config["name"]))
