"""Searches the configuration of a model file for objects that run code or read other files.

A model file is code: it names classes and functions that the loader imports and calls. The rules are an
allow-list (the modules that Keras itself writes), so that unknown objects are refused too. Each broken rule
becomes a *finding*, a sentence that names the place. Must not import anything that a configuration names.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from typing import Any

# Layers that carry code or load another file, whichever module they are registered in.
CODE_LAYERS = {
    "Lambda": "carries Python code",
    "TFSMLayer": "loads another SavedModel from disk",
    "TorchModuleWrapper": "unpickles a torch module, which runs code",
    "JaxLayer": "carries Python code",
    "FlaxLayer": "carries Python code",
}
LOOKUP_LAYERS = {"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup"}

# Modules of Keras with the objects that models consist of, below `keras.` or `keras.src.`.
_FUNCTION_MODULES = {
    *("activations", "constraints", "initializers", "losses", "metrics", "ops", "optimizers"),
    "regularizers",
}
_OBJECT_MODULES = _FUNCTION_MODULES | {
    *("dtype_policies", "engine", "layers", "legacy.losses", "mixed_precision", "models"),
    *("quantizers", "random", "trainers"),
}
_TOP_LEVEL = {
    *("Model", "Sequential", "Functional", "Variable", "KerasTensor", "Initializer"),
    *("DTypePolicy", "FloatDTypePolicy", "QuantizedDTypePolicy", "SeedGenerator"),
}
# Layers defined in `keras.applications`. Nothing else there is allowed: its functions download weights.
APPLICATION_LAYERS = {
    ("keras.src.applications.convnext", "LayerScale"),
    ("keras.src.applications.inception_resnet_v2", "CustomScaleLayer"),
}
# Keras 2 had one more, and its modules began with `keras.` or `tf_keras.`.
_APPLIED_BEFORE = APPLICATION_LAYERS | {("keras.src.applications.convnext", "StochasticDepth")}
# Plain values that Keras serializes as objects.
_VALUES = {
    *("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__tuple__", "__ellipsis__"),
    *("__slice__", "TensorShape"),
}
_PATH_FIELDS = {
    *("vocabulary", "vocabulary_path", "vocab_file", "idf_weights", "sparse_vocabulary", "path"),
    *("filepath", "file_path", "filename", "fname", "origin", "url", "cache_dir", "directory"),
}
_NUMERIC = re.compile(r"(bool|u?int|float|bfloat|complex)\d{0,3}(_e\dm\d\w*)?")
_REMOTE = re.compile(r"^[a-z][a-z0-9+.\-]*://", re.IGNORECASE)
_ABSOLUTE = re.compile(r"^(/|\\|~|[A-Za-z]:[\\/])")

MAX_OBJECTS = 200_000


def quote(text: object, limit: int = 60) -> str:
    """Return untrusted text for one line of a terminal: control characters escaped, shortened to `limit`."""
    shown = repr(str(text))
    return shown if len(shown) <= limit else f"{shown[: limit - 4]}...'"


def is_remote(path: object) -> bool:
    """Return whether `path` is a URL instead of a local path (http, gs, s3, hf, file, ...)."""
    return bool(_REMOTE.match(str(path)))


def config_findings(config: Any) -> list[str]:
    """Return the findings in a model's configuration, already parsed from JSON. Nothing is imported."""
    if isinstance(config, dict):
        # Models are loaded with compile=False, which ignores the training configuration.
        config = {key: value for key, value in config.items() if key != "compile_config"}
    found: list[str] = []
    pending: list[tuple[Any, str]] = [(config, "the model")]
    for count, (value, place) in enumerate(_walk(pending)):
        if count > MAX_OBJECTS:
            return [*found, f"the configuration holds more than {MAX_OBJECTS} values"]
        if isinstance(value, dict):
            found += _object_findings(value, place)
            found += _path_findings(value, place)
        elif isinstance(value, str) and is_remote(value):
            found.append(f"{place} names a remote address: {quote(value)}")
    return list(dict.fromkeys(found))


def _walk(pending: list[tuple[Any, str]]) -> Iterator[tuple[Any, str]]:
    # Iterative: an untrusted file may nest deeper than the recursion limit of Python.
    while pending:
        value, place = pending.pop()
        if isinstance(value, dict):
            place = _place(value, place)
        yield value, place
        if isinstance(value, dict):
            pending += [(child, place) for child in value.values()]
        elif isinstance(value, list):
            pending += [(child, place) for child in value]


def _place(value: dict[str, Any], outer: str) -> str:
    config = value.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    if "class_name" not in value or not isinstance(name, str):
        return outer
    return f"layer {quote(name)} ({quote(value['class_name'])[1:-1]})"


def _object_findings(value: dict[str, Any], place: str) -> list[str]:
    problem = _object_problem(value) if "class_name" in value else ""
    return [f"{place} {problem}"] if problem else []


def _object_problem(value: dict[str, Any]) -> str:
    name, module, registered = (value.get(k) for k in ("class_name", "module", "registered_name"))
    if not isinstance(name, str) or not isinstance(module, str | None):
        return f"has a class or module that is not text: {quote((module, name))}"
    names = {re.split(r"[>.]", text)[-1] for text in (name, registered) if isinstance(text, str)}
    problem = ""
    if code := sorted(names & set(CODE_LAYERS)):
        problem = f"is a {code[0]} layer, which {CODE_LAYERS[code[0]]}"
    elif name == "__lambda__":
        problem = "holds a lambda function, which carries Python code"
    elif name in _VALUES:
        problem = _value_problem(value.get("config"))
    elif name.startswith("__") or name in ("TypeSpec", "CompositeTensor"):
        problem = f"holds a {quote(name)} object, which no image classifier needs"
    elif name == "function":
        problem = _function_problem(value.get("config"), module)
    # Without a module Keras resolves names only among its own layers and those registered in this process.
    elif module is not None and not _allowed_class(module, name):
        problem = f"asks for {quote(f'{module}.{name}')}, which is not a Keras layer or helper"
    return problem


def _value_problem(config: Any) -> str:
    """The problem with a serialized array: one word in a file can declare strings of a gigabyte each."""
    dtype = config.get("dtype") if isinstance(config, dict) else None
    if dtype is None or (isinstance(dtype, str) and _NUMERIC.fullmatch(dtype)):
        return ""
    return f"holds an array of the type {quote(dtype)}, not of numbers"


def _function_problem(name: object, module: str | None) -> str:
    if not isinstance(name, str):
        return f"names a function that is not text: {quote(name)}"
    if module is None or (module == "builtins" and not hasattr(builtins, name)):
        return ""
    if _inside(module, _FUNCTION_MODULES):
        return ""
    return f"asks for the function {quote(f'{module}.{name}')}, which is not one of Keras' own"


def _allowed_class(module: str, name: str) -> bool:
    if module in ("keras", "keras.src"):
        return name in _TOP_LEVEL
    if (re.sub(r"^(tf_)?keras\.(src\.)?", "keras.src.", module), name) in _APPLIED_BEFORE:
        return True
    # Class names start with a capital; functions such as keras.models.load_model do not.
    return name[:1].isupper() and _inside(module, _OBJECT_MODULES)


def _inside(module: str, allowed: set[str]) -> bool:
    head, _, rest = module.partition(".")
    if head not in ("keras", "tf_keras"):
        return False
    rest = rest.removeprefix("src.")
    return any(rest == one or rest.startswith(f"{one}.") for one in allowed)


def _path_findings(value: dict[str, Any], place: str) -> list[str]:
    found = []
    lookup = value.get("class_name") in LOOKUP_LAYERS
    config = value.get("config") if lookup else None
    if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        found.append(f"{place} reads its vocabulary from a file: {quote(config['vocabulary'])}")
    for key in sorted(_PATH_FIELDS & value.keys()):
        text = value[key]
        if isinstance(text, str) and (_ABSOLUTE.match(text) or ".." in re.split(r"[\\/]", text)):
            found.append(f"{place} reads another file: {key} = {quote(text)}")
    return found
