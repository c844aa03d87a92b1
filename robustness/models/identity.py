"""Hashes what determines a model's outputs besides its weights: layer configurations, connections and code.

Models with the same weights can differ: another activation, stride or epsilon gives other outputs. Names are
excluded, since Keras renames layers when a model is built twice in one process, and so are settings that only
training uses.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import platform
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

import keras
import numpy as np

from robustness.backend import _private

_NAMES = {"name", "module", "registered_name", "shared_object_id"}
_TRAINING = {"trainable", "seed", "build_config", "compile_config", "activity_regularizer"}
_TRAINING_ENDS = ("_initializer", "_regularizer", "_constraint")
_ABSENT = {"momentum": "BatchNormalization"}
"""Settings that a layer class uses in training only."""
LIBRARIES = frozenset(
    {
        "keras",
        "tensorflow",
        "jax",
        "torch",
        "numpy",
        "builtins",
        "abc",
        "typing",
        "collections",
        "robustness",
    }
)
"""Packages whose code is known by their version."""
PROBES = 8
SHOWN = 6
"""Most classes kept for each probe."""


def identity(model: Any) -> dict[str, Any]:
    """Return hashes of the configuration and the code of a Keras model, as JSON values.

    Parameters
    ----------
    model : a built Keras model of any kind.

    Returns
    -------
    `layers` : class and hash of each layer, in the model's order. `graph` : hash of the connections and of
    the model's own settings, "" if it has no configuration. `code` : hash of the code of custom layers and
    functions, "" if there are none. `keras`, `python` : the versions for which these hashes are valid.
    """
    _, *layers = _private.every_layer(model)
    code = [text for one in (model, *layers) for text in _codes(one)]
    return {
        "layers": [f"{type(one).__name__} {_hash(_settings(one))[:16]}" for one in layers],
        "graph": _graph(model),
        "code": _hash(code) if code else "",
        "keras": keras.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def probes(shape: tuple[int, int, int]) -> np.ndarray:
    """Return pictures to compare models by, the same on every machine: uint8 (PROBES, *shape).

    Flat pictures, ramps, and noise from coarse to fine, computed in integers to avoid rounding.
    """
    height, width, channels = shape
    rows, columns = np.indices((height, width))
    ramps = [255 * rows // max(1, height - 1), 255 * columns // max(1, width - 1)]
    flat = [np.full((height, width), value) for value in (0, 255, 96)]
    pictures = [np.repeat(one[..., None], channels, axis=2) for one in (*flat, *ramps)]
    for number, cells in enumerate((4, 16, max(height, width))):
        noise = np.frombuffer(
            hashlib.shake_256(f"probe {number}".encode()).digest(cells * cells * channels), np.uint8
        ).reshape(cells, cells, channels)
        pictures.append(noise[rows * cells // height, columns * cells // width])
    return np.stack(pictures).astype(np.uint8)


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[bool]:
    """Restore the variables of a model that are not weights (states of random numbers) after the context.

    Yields
    ------
    Whether the model has such variables.
    """
    weights = {id(weight) for weight in model.weights}
    kept = [
        (one, keras.ops.convert_to_numpy(one)) for one in model.variables if id(one) not in weights
    ]
    try:
        yield bool(kept)
    finally:
        for variable, value in kept:
            variable.assign(value)


def answers(first: np.ndarray, second: np.ndarray) -> list[dict[str, float]] | None:
    """Return the most probable classes of each probe with the logarithms of their probabilities.

    Parameters
    ----------
    first, second : probabilities (n, classes) of the probes from two runs of the model.

    Returns
    -------
    For each probe a table from class to logarithm; None if the runs differ or are not finite.
    """
    if not np.isfinite(first).all() or not np.array_equal(first, second):
        return None
    told = np.log(np.maximum(first.astype("float64"), 1e-30))
    order = np.argsort(-told, axis=1, kind="stable")[:, :SHOWN]
    return [
        {str(int(c)): round(float(row[c]), 4) for c in best}
        for row, best in zip(told, order, strict=True)
    ]


def _settings(layer: Any) -> Any:
    """The canonical configuration of one layer; None for a Sequential model or if it has none."""
    if isinstance(layer, keras.Sequential):
        return None
    try:
        config = layer.get_config()
    # Custom layers that cannot be serialized may raise any exception.
    except Exception:
        return None
    return _canonical({"class_name": type(layer).__name__, "config": config}, {})


def _graph(model: Any) -> str:
    """The hash of the connections of layers, and of the settings of a custom model."""
    try:
        config = model.get_config()
    except Exception:
        return ""
    return _hash(_canonical(config, {}))


def _canonical(value: Any, scope: Mapping[str, int]) -> Any:
    """A configuration without names and training settings; layers are identified by their position."""
    if isinstance(value, Mapping):
        layers = value.get("layers")
        if isinstance(layers, list | tuple):
            scope = {_name(layer): place for place, layer in enumerate(layers)}
        kind = value.get("class_name")
        config = value.get("config")
        if str(kind).endswith("Policy"):
            # The name of a policy defines it, so it is kept.
            return f"{kind} {json.dumps(config, sort_keys=True, default=str)}"
        if kind == "Lambda" and isinstance(config, Mapping):
            # `_codes` hashes its function without file and line.
            value = {**value, "config": {k: v for k, v in config.items() if k != "function"}}
        if isinstance(config, Mapping):
            idle = {key for key, of in _ABSENT.items() if of == kind}
            value = {**value, "config": {k: v for k, v in value["config"].items() if k not in idle}}
        return {
            str(key): _placed(one, scope)
            if key in ("keras_history", "input_layers", "output_layers")
            else _canonical(one, scope)
            for key, one in value.items()
            if key not in _NAMES | _TRAINING and not str(key).endswith(_TRAINING_ENDS)
        }
    if isinstance(value, list | tuple):
        return [_canonical(one, scope) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__


def _placed(value: Any, scope: Mapping[str, int]) -> Any:
    """References to layers by position instead of name."""
    if isinstance(value, list | tuple):
        return [_placed(one, scope) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _placed(one, scope) for key, one in sorted(value.items())}
    return scope.get(value, value) if isinstance(value, str) else value


def _name(layer: Any) -> str:
    config = layer.get("config") if isinstance(layer, Mapping) else None
    inner = config.get("name") if isinstance(config, Mapping) else None
    return str(inner or (layer.get("name") if isinstance(layer, Mapping) else ""))


def _codes(layer: Any) -> Iterator[str]:
    """The hashed code of a custom layer, and of the user's functions among its attributes."""
    for kind in type(layer).__mro__:
        if kind.__module__.partition(".")[0] not in LIBRARIES:
            for name, member in sorted(vars(kind).items()):
                for function in functions_of(member):
                    yield f"{name} {code_of(function)}"
    held = (one for _, one in sorted(_attributes(layer), key=lambda pair: pair[0]))
    for one in held:
        if isinstance(one, FunctionType) and (
            isinstance(layer, keras.layers.Lambda)
            or one.__module__.partition(".")[0] not in LIBRARIES
        ):
            yield code_of(one)


def _attributes(layer: Any) -> list[tuple[str, Any]]:
    return [pair for pair in vars(layer).items() if isinstance(pair[1], FunctionType)]


def functions_of(member: Any) -> Iterator[FunctionType]:
    """Yield the functions behind a member of a class: a method, a property, a class method."""
    parts: tuple[Any, ...] = (member,)
    if isinstance(member, property):
        parts = (member.fget, member.fset)
    for part in parts:
        bare = getattr(part, "__func__", part)
        found = inspect.unwrap(bare) if callable(bare) else None
        if isinstance(found, FunctionType):
            yield found


def code_of(function: FunctionType) -> str:
    """Return the hash of bytecode, defaults and closure of a function, without location and docstring."""
    defaults = [repr(d) for d in function.__defaults__ or () if isinstance(d, _SIMPLE)]
    cells = [c.cell_contents for c in function.__closure__ or () if _filled(c)]
    closed = [repr(c) for c in cells if isinstance(c, _SIMPLE)]
    return _hash([_bytes(function.__code__, function.__doc__), defaults, closed])


_SIMPLE = (int, float, str, bool, type(None))


def _filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _bytes(code: CodeType, documentation: str | None) -> list[Any]:
    constants = [
        _bytes(one, None) if isinstance(one, CodeType) else _constant(one)
        for one in code.co_consts
        if documentation is None or one != documentation
    ]
    return [code.co_code.hex(), constants, list(code.co_names), list(code.co_freevars)]


def _constant(value: Any) -> str:
    """As `repr`, but with sets in order: that of `x in {"a", "b"}` is another in each process."""
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, value))})"
    if isinstance(value, tuple):
        inner = ", ".join(map(_constant, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
