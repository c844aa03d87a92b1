"""Translates layers of Keras 1 into those of Keras 2, as `keras.legacy.interfaces` of Keras 2 did.

Changes of names only. Kernels that Theano has computed with are turned in `weights`.
"""

from __future__ import annotations

from typing import Any

from robustness.models.legacy.entries import Config, Unconvertible

_CLASSES = {
    "AtrousConvolution2D": "Conv2D",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "SeparableConvolution2D": "SeparableConv2D",
}
_COMMON = {
    "output_dim": "units",
    "bias": "use_bias",
    "p": "rate",
    "border_mode": "padding",
    "subsample": "strides",
    "sigma": "stddev",
    "atrous_rate": "dilation_rate",
    "input_dtype": "dtype",
    "nb_filter": "filters",
    "subsample_length": "strides",
    "pool_length": "pool_size",
    "stride": "strides",
}
_TRAINING = ("init", "weights", "beta_init", "gamma_init", "depthwise_init", "pointwise_init")
_ORDERS = {"tf": "channels_last", "th": "channels_first"}
_MERGES = {
    "sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate",
}  # fmt: skip
_WITHOUT = {
    "Deconvolution2D", "Highway", "MaxoutDense", "TimeDistributedDense", "LSTM", "GRU", "SimpleRNN",
    "ConvLSTM2D", "Recurrent", "LocallyConnected1D", "LocallyConnected2D", "SReLU", "ParametricSoftplus",
}  # fmt: skip
MARKS = {
    "nb_filter",
    "output_dim",
    "border_mode",
    "dim_ordering",
    "p",
    "input_dtype",
    "W_regularizer",
}
"""Settings that only Keras 1 has written."""


def modernised(entry: Config) -> Config:
    """Return a layer of Keras 1 as one of Keras 2.

    Raises
    ------
    Unconvertible
        The layer has no equal.
    """
    name, config = str(entry.get("class_name")), dict(entry["config"])
    if name in _WITHOUT:
        raise Unconvertible(f"is a {name} of Keras 1, which has no equal in Keras 3")
    if name == "Merge":
        return _merged(entry, config)
    if name == "BatchNormalization" and config.pop("mode", 0) != 0:
        raise Unconvertible("is a BatchNormalization of Keras 1 in a mode other than 0")
    if name == "Embedding":
        return entry
    if config.get("dim_ordering") not in (None, *_ORDERS):
        raise Unconvertible(f"has the dim_ordering {str(config['dim_ordering'])[:20]!r}")
    made: Config = {}
    for key, value in config.items():
        if key in _TRAINING or key.endswith(("_regularizer", "_constraint")):
            continue
        if key == "dim_ordering":
            made["data_format"] = _ORDERS.get(value, "channels_last")
        elif key in (
            "nb_row",
            "nb_col",
            "kernel_dim1",
            "kernel_dim2",
            "kernel_dim3",
            "filter_length",
        ):
            continue
        else:
            made[_COMMON.get(key, key)] = value
    kernel = [config[k] for k in ("nb_row", "nb_col") if k in config]
    kernel = kernel or [
        config[k] for k in ("kernel_dim1", "kernel_dim2", "kernel_dim3") if k in config
    ]
    kernel = kernel or ([config["filter_length"]] if "filter_length" in config else [])
    if kernel:
        made["kernel_size"] = kernel
    return {**entry, "class_name": _CLASSES.get(name, name), "config": made}


def _merged(entry: Config, config: Config) -> Config:
    """The layer of Keras 2 for a `Merge` in a graph."""
    mode = config.get("mode", "sum")
    if mode not in _MERGES or config.get("mode_type") == "lambda" or config.get("layers"):
        raise Unconvertible(f"merges in the way {str(mode)[:40]!r}, which has no equal in Keras 3")
    made: dict[str, Any] = {"name": config.get("name")}
    if mode == "concat":
        made["axis"] = config.get("concat_axis", -1)
    return {**entry, "class_name": _MERGES[mode], "config": made}


def is_keras1(version: str | None, config: Any) -> bool:
    """Return whether Keras 1 (or 0) has written a configuration, by its version, else by its words."""
    if version:
        return version.split(".")[0] in ("0", "1")
    pending, seen = [config], 0
    while pending and seen < 100_000:
        value = pending.pop()
        seen += 1
        if isinstance(value, dict):
            if MARKS & value.keys():
                return True
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return False
