"""Finds and loads plug-ins (attacks, models, norms, reports, ...) through Python entry points.

The toolkit's own parts are registered in the same way. Listing names must not load anything, so that a wrong
name does not cost an import of TensorFlow. An error of a plug-in is reported in one sentence and does not
affect other plug-ins.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import partial
from importlib.metadata import Distribution, EntryPoint, EntryPoints, distributions
from pathlib import Path
from typing import Any

from robustness.errors import RobustnessError, RunError, SettingError
from robustness.files.disk_errors import expect_named, expect_place
from robustness.text import did_you_mean, visible

ATTACKS, MODELS, REPORTS = "robustness.attacks", "robustness.models", "robustness.reports"
ENSEMBLES = "robustness.ensembles"
REPORT_SECTIONS = "robustness.report_sections"
NORMS = "robustness.norms"
INPUTS = "robustness.inputs"
"""The group of functions that load what a text names: a model, its classes, images, held-out images."""
TABLES = "robustness.tables"
"""The group of readers of those tables in audit.toml that are not options of the audit, such as [gate]."""
SOURCES = "robustness.sources"
"""The group of kinds of images: each entry is a `robustness.images.SourceKind`."""
PICTURES = "robustness.pictures"
"""The group of what draws a case of a run; `AuditResult.case` uses the entry `case`."""
OURS = "robustness-toolkit"
MAX_BYTES = 1 << 20
"""The largest size of a package's metadata file in bytes; the longest lists have a few thousand."""
_LISTS, _ABOUT = "entry_points.txt", ("METADATA", "PKG-INFO")
_WORDS = {
    ATTACKS: "attack",
    ENSEMBLES: "ensemble of attacks",
    INPUTS: "loader of inputs",
    MODELS: "model",
    NORMS: "norm",
    PICTURES: "picture of a case",
    REPORTS: "kind of report",
    REPORT_SECTIONS: "section of the report",
    SOURCES: "kind of images",
    TABLES: "table of audit.toml",
}

_COMMANDS = {ATTACKS: "robustness attacks"}
"""The commands that list the names of a group, where they are too many for a message."""


@dataclass(frozen=True)
class Broken:
    """A plug-in that cannot be used; `reason` is one sentence."""

    name: str
    reason: str


_told: set[str] = set()
_names: dict[str, str] = {}
"""By folder, the name of the package."""
_read: dict[str, tuple[tuple[int, ...], tuple[EntryPoint, ...]]] = {}
"""By folder: the list of entry points last read there, and the state of its file then."""


def entry_points(**asked: Any) -> EntryPoints:
    """Select entry points of all installed packages.

    A package whose list of entry points cannot be read is skipped, with one warning in the log that names it.

    Parameters
    ----------
    **asked
        The selection, as in `importlib.metadata.entry_points`: `group`, `name`, ...
    """
    seen: set[str] = set()
    found: list[EntryPoint] = []
    for package in distributions():
        try:
            known = _known_name(package)
            if known in seen:
                continue
            seen.add(known)
            found += _listed(package)
        except Exception as error:  # an untrusted file can make the parser raise anything
            _pass_over(package, error)
    return EntryPoints(found).select(**asked)


def _known_name(package: Distribution) -> str:
    """The name of a package in lower case; computed once for a folder that states it."""
    folder = str(getattr(package, "_path", ""))
    found = _names.get(folder)
    if found is None:
        found = str(getattr(package, "_normalized_name", None) or package.name)
        # Otherwise the name is in a file, which may change.
        if folder.endswith((".dist-info", ".egg-info")) and "-" in Path(folder).name[:-10]:
            _names[folder] = found
    return found


def _listed(package: Distribution) -> tuple[EntryPoint, ...]:
    """The entry points of a package; its file is read again only if it has changed."""
    status = _expect_plain(package, _LISTS)
    folder = getattr(package, "_path", None)
    if status is None:
        return () if isinstance(folder, Path) else tuple(package.entry_points)
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    kept = _read.get(str(folder))
    if kept is None or kept[0] != state:
        kept = _read[str(folder)] = (state, tuple(package.entry_points))
    return kept[1]


def _expect_plain(package: Distribution, name: str) -> os.stat_result | None:
    """The status of a metadata file; None for one that is missing or in a zip.

    Raises
    ------
    ValueError
        The file is not regular or too large.
    """
    folder = getattr(package, "_path", None)
    if not isinstance(folder, Path):
        return None
    try:
        status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - joining paths takes longer
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes, the most that is read")
    return status


def _pass_over(package: Distribution, error: Exception) -> None:
    where = str(getattr(package, "_path", "a package"))
    if where in _told:
        return
    _told.add(where)
    reason = "a line has no =" if isinstance(error, TypeError) else str(error)[:200]
    logging.getLogger("robustness").warning(
        "warning: the package %s is passed over: its %s in %s cannot be read (%s). Reinstall or remove it.",
        *map(visible, (_name(package), _LISTS, where[:300], reason)),
    )


def _name(package: Distribution) -> str:
    """The name in a package's metadata; the name of its folder if that cannot be read."""
    try:
        for file in _ABOUT:
            _expect_plain(package, file)
        if package.name:
            return str(package.name)
    except Exception:  # noqa: S110 - an untrusted file can make the parser raise anything
        pass
    return Path(str(getattr(package, "_path", "an unknown package"))).name


def names(group: str) -> list[str]:
    """Return the installed names of a group, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


def expect(group: str, name: str, *others: str) -> None:
    """Raise SettingError, with the nearest name, unless `name` is installed in one of these groups."""
    known = sorted({name for each in (group, *others) for name in names(each)})
    if name in known:
        return
    near = did_you_mean(name, known)
    listed = f"Installed: {', '.join(known) or 'none'}."
    if group in _COMMANDS:
        listed = f"`{_COMMANDS[group]}` lists the {len(known)} that are installed."
    raise SettingError(f"Unknown {_WORDS[group]} {name!r}.{near} {listed}")


def point(group: str, name: str) -> EntryPoint:
    """Return the entry point called `name`; the toolkit's own has precedence over one of another package.

    Raises
    ------
    SettingError
        Nothing is installed under the name, or several packages provide it and none of them is the toolkit.
    """
    found = _points(group, name)
    if not found:
        expect(group, name)
    ours = [one for one in found if _package(one) == OURS]
    if not ours and len(found) > 1:
        brought = ", ".join(sorted(f"{_package(one)} ({one.value})" for one in found))
        raise SettingError(
            f"Several packages bring the {_WORDS[group]} {name!r}: {brought}. Remove all but one."
        )
    return (ours or found)[0]


def load(group: str, name: str) -> Any:
    """Import the plug-in called `name`; SettingError if it is not installed or cannot be imported."""
    return imported(point(group, name), group)


def writer(kind: str) -> Callable[..., Any]:
    """Return the function that writes a kind of report.

    Returns
    -------
    callable
        Takes a run folder, and a path or None. It raises SettingError for a path that cannot be written
        (`disk_errors.expect_place`), and RunError if the plug-in fails.

    Raises
    ------
    SettingError
        No installed plug-in writes this kind, or it cannot be imported or is not callable.
    """
    one = point(REPORTS, kind)
    found = imported(one, REPORTS)
    if not callable(found):
        raise SettingError(
            f"The kind of report {kind!r} is {type(found).__name__}; expected a function of a run folder "
            "and a path."
        )
    return partial(_written, one, found)


def _written(
    one: EntryPoint, write: Callable[..., Any], run: str | Path, path: str | Path | None = None
) -> Any:
    """Write a report; RunError, one sentence that names the plug-in, whatever it raises."""
    if path is not None:
        expect_named(path, "The path of the report")
        expect_place(Path(path))
    try:
        written = write(run, path)
    except (KeyboardInterrupt, RobustnessError):
        raise
    except BaseException as error:  # a plug-in may raise anything, SystemExit included
        if isinstance(error, OSError) and _package(one) == OURS:
            raise  # such as a full disk, which `disk_errors.sentence` explains better
        raise RunError(
            f"The plug-in of the kind of report {one.name!r} ({one.value}) failed: {first_line(error)}. "
            "The run is kept; leave that kind out, or reinstall or remove the package that brings it."
        ) from error
    if _package(one) != OURS and not (isinstance(written, (str, Path)) and Path(written).exists()):
        raise RunError(
            f"The plug-in of the kind of report {one.name!r} ({one.value}) returned "
            f"{visible(repr(written)[:200])}; expected the path of the file that it wrote. The run is kept; "
            "leave that kind out, or reinstall or remove the package that brings it."
        )
    return written


def first_line(error: BaseException) -> str:
    """Return the type of an exception and the first line of its message."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {lines[0][:300]}"


def imported(one: EntryPoint, group: str) -> Any:
    """Import the object of an entry point; SettingError if that fails, whatever the import raises."""
    try:
        return one.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything, SystemExit included
        raise SettingError(
            f"The plug-in of the {_WORDS[group]} {one.name!r} ({one.value}) cannot be imported: "
            f"{first_line(error)}. Reinstall or remove the package that brings it."
        ) from error


def expect_class(found: Any, base: type, name: str, told: tuple[str, ...]) -> Any:
    """Return `found` if it is a dataclass derived from `base` with text in the required attributes.

    Parameters
    ----------
    found : object
        The object installed as a plug-in.
    base : type
        The class that it must derive from.
    name : str
        The name of the plug-in, for the message.
    told : tuple of str
        The names of the attributes that must be a text or a tuple of texts.

    Raises
    ------
    SettingError
        `found` is not such a class, or an attribute is missing or not text.
    """
    kind = base.__name__
    if not (isinstance(found, type) and issubclass(found, base) and is_dataclass(found)):
        raise SettingError(
            f"What is installed as {name!r} is {type(found).__name__} {str(found)[:100]!r}; expected a "
            f"dataclass derived from {kind}."
        )
    for one in told:
        said = getattr(found, one, None)
        words = said if isinstance(said, tuple) else (said,)
        if not all(isinstance(word, str) for word in words):
            raise SettingError(
                f"The {kind.lower()} {name!r} has the {one} {str(said)[:100]!r}; expected text."
            )
    return found


def survey(group: str, find: Callable[[str], Any]) -> tuple[list[Any], list[Broken]]:
    """Load all plug-ins of a group.

    Parameters
    ----------
    group : str
        The group of entry points.
    find : callable
        Returns the plug-in installed under a name, or raises SettingError.

    Returns
    -------
    tuple of two lists
        The usable plug-ins in the order of their names, and those that cannot be used.
    """
    good, broken = [], []
    for name in names(group):
        try:
            good.append(find(name))
        except SettingError as error:
            broken.append(Broken(name, str(error)))
        broken += passed_over(group, name)
    return good, broken


def passed_over(group: str, name: str) -> list[Broken]:
    """Return the plug-ins that are not used because the toolkit has the same name."""
    found = _points(group, name)
    if not any(_package(one) == OURS for one in found):
        return []
    return [
        Broken(
            name, f"{_package(one)} ({one.value}) takes a name of the toolkit's; it is not used."
        )
        for one in found
        if _package(one) != OURS
    ]


def is_foreign(part: object) -> bool:
    """Return whether the class of an object, such as an attack or a norm, is not the toolkit's own."""
    return type(part).__module__.partition(".")[0] != __package__


def is_own(group: str, name: str) -> bool:
    """Return whether the toolkit itself brings the plug-in of this name."""
    return any(_package(one) == OURS for one in _points(group, name))


def _points(group: str, name: str) -> list[EntryPoint]:
    """The entry points of a name, without duplicates of the same package and value."""
    found = {(_package(one), one.value): one for one in entry_points(group=group, name=name)}
    return list(found.values())


def _package(one: EntryPoint) -> str:
    return _name(one.dist) if one.dist is not None else "an unknown package"
