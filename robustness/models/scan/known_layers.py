"""Maps Keras layers and operations to the rules that compute their sizes without Keras."""

from __future__ import annotations

from typing import Any

from robustness.models.scan import layer_sizes as rules
from robustness.models.scan.config_parsing import name_of, tables
from robustness.models.scan.config_safety import APPLICATION_LAYERS
from robustness.models.scan.layer_sizes import Config, Rule, Unfollowed

MODELS = {"Sequential", "Functional", "Model"}
_RANKS = {"1D": 1, "2D": 2, "3D": 3}
_ALIKE = {
    *("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "ThresholdedReLU", "Identity"),
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout"),
    *("GaussianDropout", "GaussianNoise", "ActivityRegularization", "Masking"),
    *("UnitNormalization", "RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast"),
    *("RandomBrightness", "RandomTranslation"),
}
_SPREAD = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"}


def _rules() -> dict[str, Rule]:
    found: dict[str, Rule] = dict.fromkeys(_ALIKE, rules.alike)
    found |= dict.fromkeys(_SPREAD, rules.spread)
    for ending, rank in _RANKS.items():
        for name in ("Conv", "Convolution"):
            found[name + ending] = rules.conv(rank)
            found[f"{name}{ending}Transpose"] = rules.transposed(rank)
            found[f"Separable{name}{ending}"] = rules.conv(rank, "separable")
        found[f"DepthwiseConv{ending}"] = rules.conv(rank, "depthwise")
        for name in ("MaxPool", "MaxPooling", "AvgPool", "AveragePooling"):
            found[name + ending] = rules.pool(rank)
            found[f"Global{name}{ending}"] = rules.pool_all(rank)
        found[f"ZeroPadding{ending}"] = rules.bordered(rank, "padding", 1)
        found[f"Cropping{ending}"] = rules.bordered(rank, "cropping", -1)
        found[f"UpSampling{ending}"] = rules.upsampled(rank)
    return found | {
        "Dense": rules.dense,
        "Embedding": rules.embedding,
        "Flatten": rules.flattened,
        "Reshape": rules.reshaped,
        "Permute": rules.permuted,
        "RepeatVector": rules.repeated,
        "BatchNormalization": rules.normalised(2, "center", "scale"),
        "LayerNormalization": rules.normalised(0, "center", "scale"),
        "RMSNormalization": rules.normalised(1),
        "GroupNormalization": rules.normalised(0, "center", "scale"),
        "Normalization": rules.normalised(3),
        "PReLU": rules.prelu,
        "Rescaling": rules.scaled,
        "Resizing": rules.resized,
        "CenterCrop": rules.resized,
        "Concatenate": rules.concatenated,
        "MultiHeadAttention": rules.attention,
        "LayerScale": rules.layer_scaled,
        "CustomScaleLayer": rules.spread,
    }


RULES = _rules()
# Operations (`keras.ops`): their classes share names with layers but take other arguments.
OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(
        ("Add", "Subtract", "Multiply", "TrueDivide", "Divide", "Maximum", "Minimum", "Power"),
        rules.spread,
    ),
    **dict.fromkeys(
        ("Relu", "Relu6", "Sigmoid", "Tanh", "Silu", "Softplus", "Negative", "Absolute", "Exp"),
        rules.alike,
    ),
    **dict.fromkeys(("Square", "Sqrt", "Log", "Gelu", "HardSigmoid", "HardSilu"), rules.alike),
    **dict.fromkeys(("Flip", "Cast", "Clip", "Rsqrt"), rules.alike),
}
_ACTIVATIONS = {
    *("linear", "relu", "relu6", "softmax", "sigmoid", "tanh", "elu", "selu", "softplus", "silu"),
    *("softsign", "swish", "gelu", "exponential", "hard_sigmoid", "hard_silu", "hard_swish"),
    *("leaky_relu", "log_softmax", "mish", "celu", "log_sigmoid"),
}
_HELPERS = {
    *("GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal"),
    *("VarianceScaling", "RandomNormal", "RandomUniform", "TruncatedNormal", "Zeros", "Ones"),
    *("Constant", "Orthogonal", "L1", "L2", "L1L2", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"),
    *("DTypePolicy", "Policy", "FloatDTypePolicy", "SeedGenerator", "TensorShape"),
    *("__keras_tensor__", "__tuple__", "__numpy__", "__slice__", "__ellipsis__"),
}
_APPLIED = {name for _, name in APPLICATION_LAYERS}
_KEEPING = {*_HELPERS, *MODELS, "InputLayer", *RULES}


def rule_of(layer: Config) -> Rule:
    """Return the rule for the sizes of a layer or operation; Unfollowed if only Keras knows them."""
    name, module = layer.get("class_name"), layer.get("module")
    operation = isinstance(module, str) and ".ops" in module
    rule = (OPERATIONS if operation else RULES).get(str(name))
    if rule is None or not (operation or plain_module(layer)):
        raise Unfollowed("a size that only Keras can tell")
    return rule


def plain_module(layer: Config) -> bool:
    """Return whether the class is Keras' own layer or model of that name."""
    module = layer.get("module")
    if layer.get("registered_name") not in (None, layer.get("class_name")):
        return False
    if (module, layer.get("class_name")) in APPLICATION_LAYERS:
        return True
    own = (
        "keras.layers",
        "keras.src.layers",
        "keras.models",
        "keras.src.models",
        "keras.src.engine",
    )
    applied = layer.get("class_name") in _APPLIED
    return not applied and (
        module in (None, "keras", "keras.src")
        or any(module == one or str(module).startswith(f"{one}.") for one in own)
    )


def expect_known(config: Config) -> None:
    """Check that every object within `config` (layer, initializer, activation, policy) has a known size.

    Raises
    ------
    Unfollowed
        An object or function is not known, or two different objects have the same `shared_object_id`: Keras
        would create the first and use it in place of the second.
    """
    shared: dict[Any, Any] = {}
    for value in tables(config):
        _expect_plain_values(value)
        if "class_name" not in value:
            continue
        name = value["class_name"]
        if name == "function":
            if value.get("config") not in _ACTIVATIONS:
                raise Unfollowed(f"it uses the function {str(value.get('config'))[:40]!r}")
        elif name not in _KEEPING and ".ops" not in str(value.get("module")):
            raise Unfollowed(f"{name_of(value)} has a size that only Keras can tell")
        number = value.get("shared_object_id")
        if number is not None:
            same = shared.setdefault(str(number), value)
            if same is not value and (same.get("class_name"), same.get("config")) != (
                name,
                value.get("config"),
            ):
                raise Unfollowed("different objects share a number")


def _expect_plain_values(value: Config) -> None:
    for key in ("activation", "recurrent_activation"):
        if isinstance(value.get(key), str) and value[key] not in _ACTIVATIONS:
            raise Unfollowed(f"it uses the activation {value[key][:40]!r}")
    for key in ("lora_rank", "quantization_config"):
        if value.get(key) is not None:
            raise Unfollowed(f"it sets {key}")
    for key, initial in value.items():
        if key.endswith("_initializer") and isinstance(initial, str) and len(initial) > 40:
            raise Unfollowed("an initializer has an odd name")
