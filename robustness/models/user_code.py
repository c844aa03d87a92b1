"""Imports the user's own layers, so that model files which only name them can be loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import Any

from robustness.errors import ModelError, SettingError
from robustness.models.user_modules import import_module

_MISSING = re.compile(
    r"(?:Could not locate|Unknown) (?:class|function|layer|object)[^'\"]{0,20}['\"]([^'\"]{1,100})['\"]"
)


_OF_KERAS_2 = {
    *("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"),
}
"""Layers that Keras 2 has written for operations of TensorFlow."""


def custom_objects(modules: Sequence[str], trust: bool) -> dict[str, Any]:
    """Import modules and return the classes and functions that they define, by name.

    Parameters
    ----------
    modules : paths of Python files, or names of modules in the current folder or installed.
    trust : whether the user trusts code in this very command.

    Raises
    ------
    SettingError
        There are modules and `trust` is False, or one does not exist.
    ModelError
        A module cannot be imported.
    """
    if modules and not trust:
        raise SettingError(
            f"--import {modules[0]} runs that code, which only the command line can trust. Type "
            "--trust-model (in Python trust_model=True) if you trust who made it."
        )
    objects: dict[str, Any] = {}
    for name in modules:
        objects |= _defined(_imported(name))
    return objects


def missing_names(error: object) -> list[str]:
    """Return the names of classes and functions that Keras could not find, by its message."""
    return sorted(set(_MISSING.findall(str(error))))


def advice(missing: Sequence[str]) -> str:
    """Return what to do about classes that a file only names, a sentence without its full stop."""
    if _OF_KERAS_2 & set(missing):
        return (
            "It was saved by Keras 2 with operations of TensorFlow, which Keras 3 does not load. tf_keras "
            "does, in a process of its own: pip install 'robustness-toolkit[old-keras]', then try again"
        )
    named = " and ".join(map(repr, missing[:3])) if missing else "layers or functions"
    return (
        f"It uses layers or functions that the file only names: {named}. Give the Python file that defines "
        "them: --import FILE.py --trust-model, which runs that file (in Python imports=['FILE.py'], "
        "trust_model=True); or build the model in Python, own layers registered by "
        "keras.saving.register_keras_serializable, and hand it to Classifier"
    )


def _imported(name: str) -> ModuleType:
    return import_module(
        name,
        lambda reason: ModelError(
            f"--import {name} failed: {reason}. Expected a Python file, or a module in the current folder or "
            "installed, that defines the model's own layers and runs without arguments."
        ),
    )


def _defined(module: ModuleType) -> dict[str, Any]:
    """The classes and functions of a module that are not those of a framework."""
    foreign = ("keras", "tensorflow", "numpy", "builtins", "typing", "jax", "torch")
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type | FunctionType)
        and str(value.__module__).partition(".")[0] not in foreign
    }
