"""Imports the user's own layers, so that model files which only name them can be loaded."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from robustness.errors import ModelError, SettingError

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
    path = Path(name)
    if path.suffix == ".py" or len(path.parts) > 1:
        if not path.is_file():
            raise SettingError(
                f"There is no file {name!r} to import; expected a Python file such as my_layers.py."
            )
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise SettingError(f"{name!r} is no Python file; expected one such as my_layers.py.")
        module = importlib.util.module_from_spec(spec)
        # A model file names the classes by this module.
        sys.modules.setdefault(path.stem, module)
        return _run(name, lambda: _executed(spec.loader, module), path.parent)
    if not all(part.isidentifier() for part in name.split(".")):
        raise SettingError(
            f"{name!r} is no name of a module; expected one such as my_layers, or a file my_layers.py."
        )
    return _run(name, lambda: importlib.import_module(name), Path())


def _executed(loader: Any, module: ModuleType) -> ModuleType:
    loader.exec_module(module)
    return module


def _run(name: str, load: Any, folder: Path) -> ModuleType:
    """Import with `folder` on the path for as long as that takes."""
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        module: ModuleType = load()
    except KeyboardInterrupt:
        raise
    # Code of the user may raise anything, SystemExit too.
    except BaseException as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise ModelError(
            f"--import {name} failed: {type(error).__name__}: {lines[0][:300]}. Expected a Python file, or a "
            "module in the current folder or installed, that defines the model's own layers and runs "
            "without arguments."
        ) from error
    finally:
        sys.path.remove(place)
    return module


def _defined(module: ModuleType) -> dict[str, Any]:
    """The classes and functions of a module that are not those of a framework."""
    foreign = ("keras", "tensorflow", "numpy", "builtins", "typing", "jax", "torch")
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type | FunctionType)
        and str(value.__module__).partition(".")[0] not in foreign
    }
