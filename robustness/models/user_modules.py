"""Imports a module of the user's own: a Python file, or a module by its name."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from robustness.errors import RobustnessError, SettingError


def import_module(name: str, failed: Callable[[str], RobustnessError]) -> ModuleType:
    """Run a module's code and return the module.

    Parameters
    ----------
    name : path of a Python file, or name of a module in the current folder or installed.
    failed : makes the error for code that cannot be imported, of one line that says why.

    Raises
    ------
    SettingError
        There is no such file, or the name is none of a module.
    """
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
        return _run(lambda: _executed(spec.loader, module), path.parent, failed)
    if not all(part.isidentifier() for part in name.split(".")):
        raise SettingError(
            f"{name!r} is no name of a module; expected one such as my_layers, or a file my_layers.py."
        )
    return _run(lambda: importlib.import_module(name), Path(), failed)


@contextlib.contextmanager
def importable(folder: str | Path) -> Iterator[None]:
    """Put a folder first on the path of imports, for the block."""
    place = str(Path(folder).resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)


def _executed(loader: Any, module: ModuleType) -> ModuleType:
    loader.exec_module(module)
    return module


def _run(
    load: Callable[[], ModuleType], folder: Path, failed: Callable[[str], RobustnessError]
) -> ModuleType:
    with importable(folder):
        try:
            return load()
        except KeyboardInterrupt:
            raise
        # Code of the user may raise anything, SystemExit too.
        except BaseException as error:
            lines = str(error).strip().splitlines() or ["no reason given"]
            raise failed(f"{type(error).__name__}: {lines[0][:300]}") from error
