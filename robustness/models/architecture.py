"""Builds the model that a file of weights belongs to, from what the user names as its architecture.

`keras.applications:MobileNetV2:classes=2,size=96` names a model of Keras. `model.json` and `model.yaml` are
architectures as `model.to_json()` writes them, of any version. `module:function` (or `file.py:function`) is
the user's own code, called without arguments; it needs `--trust-model`.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from robustness.errors import ModelError, SettingError, UnsafeModelError
from robustness.files import bounded
from robustness.models.scan.config_safety import quote
from robustness.models.scan.configuration import (
    MAX_CONFIG_BYTES,
    MAX_CONFIG_VALUES,
    judge_config,
    parse_config,
)
from robustness.models.scan.model_size import MAX_PARAMETERS
from robustness.models.suffixes import APPLICATIONS, ARCHITECTURE_SUFFIXES
from robustness.models.user_modules import import_module
from robustness.text import did_you_mean

EXPECTED = (
    "keras.applications:NAME (such as keras.applications:MobileNetV2:classes=2,size=96), a .json or "
    ".yaml file of "
    "model.to_json(), or module:function"
)
_TRUST = "Load it only if you trust who made it: --trust-model (in Python trust_model=True)."
_NUMBERS = {"classes": int, "size": int, "alpha": float, "channels": int, "depth_multiplier": int}


def build(text: str, *, trust: bool = False) -> Any:
    """Return the built Keras model, its weights random, that `text` names.

    Parameters
    ----------
    text : as in the docstring of the module.
    trust : whether the user's code may run, and a file with findings may be used.

    Raises
    ------
    SettingError
        The text names nothing, or has a parameter that is not known.
    UnsafeModelError
        It is code or has findings, and `trust` is False.
    ModelError
        The file or the function does not give a model.
    """
    if text.startswith(APPLICATIONS):
        return _application(text.removeprefix(APPLICATIONS))
    if text.lower().endswith(ARCHITECTURE_SUFFIXES):
        return _from_file(Path(text), trust)
    module, colon, function = text.rpartition(":")
    if not colon or not function.isidentifier() or not module:
        raise SettingError(f"The architecture is {text[:200]!r}; expected {EXPECTED}.")
    if not trust:
        raise UnsafeModelError(
            f"The architecture {text[:200]!r} is code, which would run with your rights. {_TRUST}"
        )
    return _from_code(module, function)


def _application(text: str) -> Any:
    import keras  # noqa: PLC0415 - imports a framework

    name, _, parameters = text.partition(":")
    known = sorted(
        one
        for one, what in vars(keras.applications).items()
        if one[:1].isupper() and callable(what)
    )
    if name not in known:
        raise SettingError(
            f"keras.applications has no model {name[:60]!r}; expected one of {', '.join(known)}."
            f"{did_you_mean(name, known)}"
        )
    values = _parameters(parameters)
    make = getattr(keras.applications, name)
    size, channels = values.pop("size", None), values.pop("channels", 3)
    shape = None if size is None else (size, size, channels)
    refused = [key for key in values if key not in inspect.signature(make).parameters]
    if refused:
        raise SettingError(f"keras.applications:{name} has no parameter {refused[0]!r}.")
    try:
        # No weights: they would be downloaded.
        return make(weights=None, input_shape=shape, **values)
    except ValueError as error:
        raise SettingError(
            f"keras.applications:{name} cannot be built so ({str(error)[:200]})."
        ) from error


def _parameters(text: str) -> dict[str, Any]:
    """Numbers from `classes=2,size=96`."""
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key not in _NUMBERS:
            raise SettingError(
                f"The architecture has the parameter {part[:60]!r}; expected {', '.join(_NUMBERS)}, as in "
                f"{APPLICATIONS}MobileNetV2:classes=2,size=96."
            )
        try:
            values[key] = _NUMBERS[key](value)
        except ValueError:
            raise SettingError(
                f"The architecture has {key} = {value[:40]!r}; expected a number."
            ) from None
    return values


def _from_file(path: Path, trust: bool) -> Any:
    import keras  # noqa: PLC0415

    try:
        data = bounded.read_bytes_bounded(path, MAX_CONFIG_BYTES)
        config = parse_config(
            data if path.suffix.lower() == ".json" else _json_of_yaml(data), path.name
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(
            f"The architecture {quote(path, 200)} cannot be read ({reason}); expected {EXPECTED}."
        ) from error
    version = config.get("keras_version")
    judged = judge_config(config, str(version)[:40] if version else None, MAX_PARAMETERS)
    modern = version is None and "module" in config
    if modern:
        judged = judge_config(config, "3", MAX_PARAMETERS)
    if judged.findings and not trust:
        raise UnsafeModelError(
            f"The architecture {quote(path.name)} could run code, read other files or take all memory: "
            f"{'; '.join(judged.findings[:5])}. {_TRUST}"
        )
    if judged.unconverted:
        raise ModelError(f"The architecture {quote(path.name)} {judged.unconverted}.")
    if judged.trial and not trust:
        raise UnsafeModelError(
            f"The sizes of the architecture {quote(path.name)} are not known, since {judged.trial}. {_TRUST}"
        )
    made = judged.conversion.config if judged.conversion else config
    try:
        return keras.saving.deserialize_keras_object(made, safe_mode=not trust)
    except Exception as error:  # layers may raise any exception
        text = str(error).rpartition("Exception encountered:")[2].strip()
        raise ModelError(
            f"Keras could not build the architecture {quote(path.name)} ({type(error).__name__}: "
            f"{text[:300]})."
        ) from error


def _json_of_yaml(data: bytes) -> str:
    """The JSON of an architecture in YAML, whose anchors stand for no more values than a file may hold."""
    try:
        import yaml  # type: ignore[import-untyped]  # noqa: PLC0415 - optional, without types
    except ImportError:
        raise ValueError(
            "PyYAML is not installed; `pip install 'robustness-toolkit[old-keras]'`, or save it as JSON"
        ) from None

    class Loader(yaml.SafeLoader):
        """The safe loader, which takes the tuples of Keras 2 for lists."""

    Loader.add_constructor(
        "tag:yaml.org,2002:python/tuple",
        lambda loader, node: loader.construct_sequence(node, deep=True),
    )
    try:
        value = yaml.load(data.decode("utf-8"), Loader)  # noqa: S506 - derived from the safe loader
        _expect_few(value)
        return json.dumps(value)
    except (yaml.YAMLError, RecursionError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no plain YAML: {str(error).splitlines()[0][:100]}") from None


def _expect_few(value: Any) -> None:
    """Raise ValueError if a value with shared parts, written out, is too large."""
    counts: dict[int, int] = {}

    def count(one: Any) -> int:
        if not isinstance(one, dict | list):
            return 1
        if id(one) not in counts:
            counts[id(one)] = MAX_CONFIG_VALUES + 1  # a part that contains itself never ends
            parts = one.values() if isinstance(one, dict) else one
            counts[id(one)] = 1 + sum(map(count, parts))
        return counts[id(one)]

    if count(value) > MAX_CONFIG_VALUES:
        raise ValueError(f"it stands for more than {MAX_CONFIG_VALUES:,} values")


def _from_code(module: str, function: str) -> Any:
    def failed(reason: str) -> ModelError:
        return ModelError(
            f"The architecture {module}:{function} gives no model ({reason}); expected a function without "
            "required arguments that returns a built Keras model."
        )

    loaded = import_module(module, failed)
    try:
        model = getattr(loaded, function)()
    except Exception as error:  # the user's code may raise anything
        raise failed(f"{type(error).__name__}: {str(error)[:300]}") from error
    if not getattr(model, "built", False) or not hasattr(model, "layers"):
        raise ModelError(
            f"The architecture {module}:{function} returns {type(model).__name__}; expected a built "
            "Keras model "
            "(give its first layer an input shape)."
        )
    return model
