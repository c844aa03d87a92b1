"""Hashes the code of attacks and norms of other packages: a run is not continued with another one."""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path

from robustness.contract.attack import Attack
from robustness.contract.foreign_code import with_inner
from robustness.models.identity import LIBRARIES, code_of_class
from robustness.pipeline.imported_files import digest_of, imported_files
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
        The hash of the files of its classes and of what they import from their own package or folder; of a
        class of a notebook or a script, that of the bytecode of its methods, valid for one version of Python.
    """
    classes = [
        kind
        for one in with_inner(part)
        for kind in type(one).__mro__
        if kind.__module__.partition(".")[0] not in LIBRARIES
    ]
    if not classes:
        return None
    files: dict[str, str] = {}
    typed: list[str] = []
    for kind in classes:
        found = {} if kind.__module__ == _TYPED else _files(kind.__module__)
        files |= found
        if not found:
            typed += [f"{kind.__qualname__} {code}" for code in code_of_class(kind)]
    lines = {f"code {number}": code for number, code in enumerate(typed)}
    version = ".".join(platform.python_version_tuple()[:2]) if typed else None
    return CodeEntry(sha256=digest_of(files | lines), python=version)


def _files(module: str) -> dict[str, str]:
    """The hashes of the file of a module and of what it imports; none if it has no file that can be read."""
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        content = Path(file or "").read_bytes()
    except OSError:
        return {}
    own = {module: hashlib.sha256(content).hexdigest()}
    return own | imported_files(str(file), module)
