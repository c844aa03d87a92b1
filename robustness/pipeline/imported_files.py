"""Finds and hashes what a Python file imports from its own folder or package, without running it."""

from __future__ import annotations

import ast
import glob
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from robustness.models.identity import LIBRARIES

MOST_FILES, MOST_BYTES = 1000, 1 << 22
"""The number of files that are followed, and the size of each that is read."""
_INSTALLED = ("site-packages", "dist-packages")
_LIBRARIES = frozenset(sys.stdlib_module_names) | LIBRARIES


def imported_files(file: str, module: str) -> dict[str, str]:
    """Return the SHA-256 of each file that a module of the user imports, by path from its top folder.

    Imports within functions count, whether or not they have run. Files elsewhere, and libraries that are
    installed there or beside the module (`pip install --target`), do not; of an installed package its own
    files do. No code runs.

    Parameters
    ----------
    file : path of the module; "" gives nothing.
    module : its name, whose dots say how deep the file lies below the top folder.
    """
    if not file:
        return {}
    start = Path(file).resolve()
    parts = module.split(".")
    depth = len(parts) if start.stem == "__init__" != parts[-1] else len(parts) - 1
    top = start.parents[min(depth, len(start.parents) - 1)]
    # Beside an installed package lie the packages of others.
    within = parts[0] if top.name in _INSTALLED else ""
    found: dict[Path, str] = {}
    waiting, seen = [start], {start}
    while waiting and len(seen) <= MOST_FILES:
        path = waiting.pop()
        content = _content(path)
        if path != start:
            found[path] = hashlib.sha256(content).hexdigest()
        for name in _imports(content, path.relative_to(top)):
            other = _file_of(top, name)
            if other is None or other in seen or (within and name[0] != within):
                continue
            if name[0] != parts[0] and _is_library(top, name[0]):
                continue
            seen.add(other)
            waiting.append(other)
    return {str(PurePosixPath(path.relative_to(top))): found[path] for path in sorted(found)}


def _is_library(top: Path, name: str) -> bool:
    """Whether a package is known by its version: of Python, of the toolkit, or installed into the folder."""
    return name in _LIBRARIES or any(top.glob(f"{glob.escape(name)}-*.dist-info"))


def digest_of(files: dict[str, str]) -> str:
    """Return one SHA-256 of `imported_files`; "" if there are none."""
    lines = "".join(f"{name}\0{sha}\n" for name, sha in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest() if files else ""


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            return opened.read(MOST_BYTES)
    except OSError:
        return b""


def _imports(content: bytes, place: Path) -> Iterator[tuple[str, ...]]:
    """The dotted names that a file may import: modules, their packages, and names within them."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    package = place.parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level > len(package) + 1:
                continue
            outer = package[: len(package) + 1 - node.level] if node.level else ()
            whole = (*outer, *(node.module.split(".") if node.module else ()))
            names = [(*whole, alias.name) for alias in node.names]
        else:
            continue
        for name in names:
            # `import a.b.c` runs the files of a and of a.b, too.
            yield from (name[: count + 1] for count in range(len(name)))


def _file_of(top: Path, name: tuple[str, ...]) -> Path | None:
    """The file of a module below the top folder; None for what is none."""
    if not all(part.isidentifier() for part in name):
        return None
    place = top.joinpath(*name)
    for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if path.is_file():
            resolved = path.resolve()
            return resolved if resolved.is_relative_to(top) else None
    return None
