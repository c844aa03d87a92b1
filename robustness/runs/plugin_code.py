"""Hashes the code of attacks and norms of other packages: a run is not continued with another one."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from robustness.contract.attack import Attack
from robustness.contract.foreign_code import with_inner
from robustness.models.identity import LIBRARIES, code_of, functions_of
from robustness.pipeline.imported_files import imported_files
from robustness.runs.schema import CodeEntry
from robustness.threat.norms import Norm

_TYPED = "__main__"
"""The module of a notebook or a script, whose file also holds the call that begins or resumes an audit."""


def plugin_code(part: Attack | Norm) -> CodeEntry | None:
    """Return the hash of the code of an attack or a norm; None for one of the toolkit.

    Parameters
    ----------
    part : Attack or Norm
        The attack or the norm. Of a wrapper the attack inside it counts too.

    Returns
    -------
    CodeEntry or None
        The hash of the files of its classes and of what they import from their own package or folder. Of a
        class of a notebook or a script it is that of the bytecode of its methods and of the functions there
        that these call, with their defaults and plain constants; it is valid for one version of Python.
    """
    classes = [
        kind
        for one in with_inner(part)
        for kind in type(one).__mro__
        if kind.__module__.partition(".")[0] not in LIBRARIES | sys.stdlib_module_names
    ]
    if not classes:
        return None
    files: set[str] = set()
    typed: list[str] = []
    read = {module: _files(module) for module in {kind.__module__ for kind in classes}}
    for kind in classes:
        found = read[kind.__module__]
        files |= found
        if not found:
            typed += [kind.__qualname__, *_of_class(kind)]
    text = json.dumps([sorted(files), typed])
    version = ".".join(platform.python_version_tuple()[:2]) if typed else None
    return CodeEntry(sha256=hashlib.sha256(text.encode()).hexdigest(), python=version)


def _files(module: str) -> set[str]:
    """The hashes of the file of a module and of what it imports; none if it has no file that can be read.

    Names of files do not count: a file that is imported in another way has another name.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        content = b"" if module == _TYPED else Path(file or "").read_bytes()
    except OSError:
        return set()
    if not content:
        return set()
    return {hashlib.sha256(content).hexdigest(), *imported_files(str(file), module).values()}


def _of_class(kind: type) -> Iterator[str]:
    """What a class of a notebook or a script is made of, as texts."""
    seen: set[int] = set()
    for name, member in sorted(vars(kind).items()):
        if not name.startswith("__") and _is_plain(member):
            yield f"{name} = {member!r}"
        for function in functions_of(member):
            yield f"{name} {code_of(function)}"
            yield from _reached(function, seen)


def _reached(function: FunctionType, seen: set[int]) -> Iterator[str]:
    """The defaults of a function, and the functions and plain constants of its module that it names."""
    if id(function) in seen:
        return
    seen.add(id(function))
    given = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
    yield f"defaults {[one for one in given if _is_plain(one)]!r}"
    for name in sorted(_names(function.__code__)):
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType) and value.__module__ == function.__module__:
            yield f"{name} {code_of(value)}"
            yield from _reached(value, seen)
        elif value is not None and _is_plain(value):
            yield f"{name} = {value!r}"


def _names(code: CodeType) -> set[str]:
    """The names that bytecode uses, that of functions within it included."""
    inner = (_names(one) for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*inner)


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a text or a tuple of these, whose text is the same in each process."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (int, float, complex, str, bytes, bool))
