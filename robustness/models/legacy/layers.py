"""Converts single layers of Keras 2 to layers of Keras 3.

What only training uses (initializers, regularizers, constraints) is left out: the weights are loaded anyway.
Where a layer of the same name computes something else in Keras 3, other layers take its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robustness.models.legacy.entries import Config, Piece, Unconvertible, layer, text_of
from robustness.models.legacy.left_out import TRAINING_ENDS, scaled_sum

_IDLE = {
    *("batch_input_shape", "input_dtype", "input_shape", "input_length", "batch_size"),
    *("time_major", "implementation", "fused", "renorm", "renorm_clipping", "renorm_momentum"),
    *(
        "virtual_batch_size",
        "adjustment",
        "rng_type",
        "autocast",
        "ragged",
        "sparse",
        "_name",
        "init_values_dtype",
    ),
    *("experimental_autocast", "experimental_dtype", "weights"),
    *("query_shape", "key_shape", "value_shape", "softmax_robust_masking"),
}
"""Settings that Keras 3 does not take, and that do not change the answers of a model."""
_MUST_BE_OFF = ("time_major", "ragged", "sparse", "renorm", "fused_activation")
_RENAMED = {
    "SyncBatchNormalization": "BatchNormalization",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution2DTranspose": "Conv2DTranspose",
    "Convolution3D": "Conv3D",
    "SeparableConvolution2D": "SeparableConv2D",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "LSTMV2": "LSTM",
    "GRUV2": "GRU",
    "FixedDropout": "Dropout",
}
_WITHOUT = {
    "CuDNNLSTM",
    "CuDNNGRU",
    "LocallyConnected1D",
    "LocallyConnected2D",
    "ConvRNN2D",
    "Layer",
}
_IDENTICAL = {
    *(
        "RandomFlip",
        "RandomRotation",
        "RandomZoom",
        "RandomContrast",
        "RandomBrightness",
        "RandomHeight",
    ),
    *("RandomWidth", "RandomTranslation", "ActivityRegularization", "StochasticDepth"),
}
"""Layers that return their input unless in training."""
_APPLIED = {
    "LayerScale": "keras.src.applications.convnext",
    "CustomScaleLayer": "keras.src.applications.inception_resnet_v2",
}
"""Layers that `keras.applications` defines."""
_ACTIVATIONS = {
    **{
        "softmax_v2": "softmax",
        "relu_v2": "relu",
        "relu6_v2": "relu6",
        "leaky_relu_v2": "leaky_relu",
    },
    **{"swish": "silu", "swish_v1": "silu", "hard_swish": "hard_silu", "gelu_v2": "gelu"},
    **{"log_softmax_v2": "log_softmax", "Swish": "silu", "mish": "mish"},
}
_OWN = {
    *(
        "Activation",
        "Add",
        "AdditiveAttention",
        "AlphaDropout",
        "Attention",
        "Average",
        "AveragePooling1D",
        "AveragePooling2D",
    ),
    *("AveragePooling3D", "BatchNormalization", "Bidirectional", "CategoryEncoding", "CenterCrop"),
    *(
        "Concatenate",
        "Conv1D",
        "Conv1DTranspose",
        "Conv2D",
        "Conv2DTranspose",
        "Conv3D",
        "Conv3DTranspose",
    ),
    *("ConvLSTM2D", "Cropping1D", "Cropping2D", "Cropping3D", "Dense", "DepthwiseConv1D"),
    *(
        "DepthwiseConv2D",
        "Discretization",
        "Dot",
        "Dropout",
        "ELU",
        "EinsumDense",
        "Embedding",
        "Flatten",
    ),
    *(
        "GRU",
        "GaussianDropout",
        "GaussianNoise",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
    ),
    *("GlobalAveragePooling3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D"),
    *("GroupNormalization", "Identity", "InputLayer", "LSTM", "LayerNormalization", "LeakyReLU"),
    *("Masking", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "Maximum", "Minimum"),
    *("MultiHeadAttention", "Multiply", "Normalization", "PReLU", "Permute", "RandomCrop", "ReLU"),
    *(
        "RepeatVector",
        "Rescaling",
        "Reshape",
        "Resizing",
        "SeparableConv1D",
        "SeparableConv2D",
        "SimpleRNN",
    ),
    *(
        "Softmax",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "Subtract",
        "TimeDistributed",
    ),
    *("UnitNormalization", "UpSampling1D", "UpSampling2D", "UpSampling3D", "ZeroPadding1D"),
    *("ZeroPadding2D", "ZeroPadding3D"),
}
"""Layers that Keras 2 and 3 both have."""


def layer_pieces(entry: Config) -> list[Piece]:
    """Return the layers of Keras 3 that compute what a layer of Keras 2 computes, in order.

    Raises
    ------
    Unconvertible
        There are none.
    """
    class_name, config = text_of(entry.get("class_name")), entry.get("config")
    if not isinstance(config, dict):
        raise Unconvertible("has no settings")
    plain = class_name.rpartition(">")[2]
    plain = _RENAMED.get(plain, plain)
    if plain in _WITHOUT:
        raise Unconvertible(f"is a {plain} layer, which Keras 3 does not have")
    if plain == "Lambda" and (scaled := scaled_sum(entry)):
        plain, config = scaled["class_name"], scaled["config"]
    elif plain == "Lambda":
        raise Unconvertible(
            "is a Lambda layer: it carries bytecode that only the Python that saved it can run"
        )
    name = text_of(config.get("name") or entry.get("name"))
    if plain == "InputLayer":
        return [_entry(config, name)]
    if plain in _IDENTICAL:
        return [layer("Identity", name, **_kept(config, "dtype"))]
    if plain in _APPLIED:
        return [Piece(plain, _settings(config, name), _APPLIED[plain], plain)]
    if plain == "ThresholdedReLU":
        return [layer("ReLU", name, threshold=config.get("theta", 1.0), **_kept(config, "dtype"))]
    if plain not in _OWN or not _keras_own(entry):
        return [_custom(entry, class_name, config)]
    settings = _settings(config, name)
    if plain in _SPECIAL:
        _SPECIAL[plain](settings)
    after = _activation(settings, name)
    return [Piece(plain, settings), *after]


def _keras_own(entry: Config) -> bool:
    """Whether the class is that of Keras, not one of the user with the same name."""
    module = entry.get("module")
    return module is None or str(module).startswith(
        ("keras.", "tf_keras.", "tensorflow.python.keras.")
    )


def _custom(entry: Config, class_name: str, config: Config) -> Piece:
    """A layer whose class Keras must find among the registered ones; its settings are its own."""
    registered = entry.get("registered_name") or class_name
    module = entry.get("module")
    own = isinstance(module, str) and module.startswith(("keras.", "tf_keras."))
    build = entry.get("build_config")
    return Piece(
        class_name.rpartition(">")[2],
        {"name": entry.get("name"), **config},
        None if own else module,
        registered,
        build=build if isinstance(build, dict) else None,
    )  # fmt: skip


def _entry(config: Config, name: str) -> Piece:
    """The input of a model."""
    _expect_off(config)
    shape = config.get("batch_input_shape") or config.get("batch_shape")
    if shape is None and config.get("input_shape") is not None:
        shape = [None, *config["input_shape"]]
    if shape is None:
        raise Unconvertible("states no input shape")
    dtype = config.get("dtype") or config.get("input_dtype") or "float32"
    return layer("InputLayer", name, batch_shape=_sizes(shape), dtype=_dtype(dtype))


def _sizes(value: Any) -> list[Any]:
    """A shape as a list."""
    if isinstance(value, dict):
        value = value.get("items")
    if not isinstance(value, list | tuple):
        raise Unconvertible(f"has a shape that is none: {str(value)[:40]!r}")
    return list(value)


def _kept(config: Config, *keys: str) -> Config:
    return {key: _dtype(config[key]) for key in keys if config.get(key) is not None}


def _settings(config: Config, name: str) -> Config:
    """The settings that Keras 3 knows, the name first."""
    _expect_off(config)
    made: Config = {"name": name}
    for key, value in config.items():
        if (
            key == "name"
            or key in _IDLE
            or (key == "input_dim" and "output_dim" not in config)
            or key.endswith(TRAINING_ENDS)
        ):
            continue
        if key == "dtype":
            if value is not None:
                made[key] = _dtype(value)
        else:
            made[key] = _plain_value(value)
    return made


def _plain_value(value: Any) -> Any:
    """A tuple or an array that a configuration stores as an object, as a list or a number."""
    if isinstance(value, dict) and value.get("class_name") in ("__tuple__", "TensorShape"):
        return value.get("items")
    return (
        value.get("value") if isinstance(value, dict) and value.get("type") == "ndarray" else value
    )


def _expect_off(config: Config) -> None:
    on = [key for key in _MUST_BE_OFF if config.get(key)]
    if on:
        raise Unconvertible(f"sets {on[0]}, which has no equal in Keras 3")


def _dtype(value: Any) -> str:
    """The name of a dtype or of a policy of dtypes."""
    if isinstance(value, dict):
        inner = value.get("config")
        value = inner.get("name") if isinstance(inner, dict) else None
    name = text_of(value)
    if name == "_infer":
        return "float32"
    return name


def _activation(settings: Config, name: str) -> list[Piece]:
    """Give `settings` the activation of Keras 3; return the layers that follow if it is none."""
    value = settings.get("activation")
    recurrent = settings.get("recurrent_activation")
    if recurrent in ("hard_sigmoid", "hard_sigmoid_v2"):
        raise Unconvertible("uses hard_sigmoid for its gates, which is another function in Keras 3")
    if value is None:
        return []
    if isinstance(value, dict) and value.get("class_name") != "function":
        settings["activation"] = "linear"
        inner = value.get("config")
        own = inner if isinstance(inner, dict) else {}
        return layer_pieces({**value, "config": {**own, "name": f"{name}_activation"}})
    if isinstance(value, dict):
        value = value.get("config")
    plain = text_of(value).rpartition(">")[2]
    if plain in ("hard_sigmoid", "hard_sigmoid_v2"):
        # Keras 2 clips 0.2 x + 0.5, Keras 3 clips x / 6 + 0.5.
        settings["activation"] = "linear"
        return [
            layer("Rescaling", f"{name}_slope", scale=1.2, offset=0.0),
            layer("Activation", f"{name}_activation", activation="hard_sigmoid"),
        ]
    settings["activation"] = _ACTIVATIONS.get(plain, plain)
    return []


def _one_axis(settings: Config) -> None:
    axis = settings.get("axis")
    if isinstance(axis, list | tuple):
        if len(axis) != 1:
            raise Unconvertible(f"normalises over {len(axis)} axes, which Keras 3 does not")
        settings["axis"] = axis[0]


def _without_groups(settings: Config) -> None:
    if settings.pop("groups", 1) not in (1, None):
        raise Unconvertible("has groups, which this layer of Keras 3 does not take")


def _slope(settings: Config) -> None:
    if "alpha" in settings:
        settings["negative_slope"] = settings.pop("alpha")


def _no_reset(settings: Config) -> None:
    settings.setdefault("reset_after", False)


def _without_rest(settings: Config) -> None:
    for key in ("noise_shape", "trainable"):
        settings.pop(key, None)


def _plain_numbers(settings: Config) -> None:
    for key in ("mean", "variance"):
        if settings.get(key) is None:
            settings.pop(key, None)


def _wrapped(settings: Config) -> None:
    """Convert the layers that a wrapper holds."""
    for key in ("layer", "backward_layer"):
        if settings.get(key) is None:
            continue
        pieces = layer_pieces(settings[key])
        if len(pieces) != 1:
            raise Unconvertible("wraps a layer that is several in Keras 3")
        settings[key] = pieces[0].to_config()


def _nearest(settings: Config) -> None:
    settings.setdefault("interpolation", "nearest")


_SPECIAL: dict[str, Callable[[Config], None]] = {
    "BatchNormalization": _one_axis,
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _without_groups),
    "DepthwiseConv1D": _without_groups,
    "DepthwiseConv2D": _without_groups,
    "SeparableConv1D": _without_groups,
    "SeparableConv2D": _without_groups,
    "LeakyReLU": _slope,
    "GRU": _no_reset,
    "Normalization": _plain_numbers,
    "TimeDistributed": _wrapped,
    "Bidirectional": _wrapped,
    "UpSampling2D": _nearest,
    **dict.fromkeys(("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"), _without_rest),
    "Discretization": _without_rest,
}
