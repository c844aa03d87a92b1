"""Decides which files that a recorded run names may be loaded.

A run from another user can name any file, and a model file can run code. So a file that a run names is
loaded only if it comes with the toolkit, is in the run's own folder, or was given on this command line;
otherwise the error lists what would be loaded. A run that this user started on this machine
(`robustness.runs.seal`) names this user's own files. Permission to run code in a model is never taken from
a run or a configuration: `--trust-model` must be typed in the command that loads the model.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustness import plugins
from robustness.configuration.audit_config import AuditConfig
from robustness.configuration.audit_file import expect_typed
from robustness.configuration.recorded import recorded
from robustness.errors import RunError, SettingError
from robustness.files.open_folder import parts_of, within
from robustness.models.suffixes import APPLICATIONS
from robustness.runs import recorded_paths, seal
from robustness.runs.schema import Origin

ROLES = {
    "model": "--model",
    "architecture": "--architecture",
    "images": "--images",
    "surrogate": "--surrogate",
    "mask": "--mask",
}
"""The options of a run that name files, and the option of the command line that replaces each."""
_WORD = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|[a-z][a-z0-9_-]*|[0-9]+/[0-9]+", re.IGNORECASE)
MOST_NAMES = 1_000_000
"""The largest number of files in a folder of images within a run."""


def options_of(
    origin: Origin,
    where: Path,
    given: Mapping[str, Any],
    *,
    trust: bool,
    roles: tuple[str, ...] = tuple(ROLES),
) -> dict[str, Any]:
    """Return the options that a run was started with; the files they name are found, replaced or refused.

    Parameters
    ----------
    origin : origin of the run, read from its folder or from a report.
    where : the run's folder, or the report.
    given : the names on this command line, by role, `attack`, `imports` and `preprocess`; None for those
        not given.
    trust : whether the command line has `--trust-model`.
    roles : the roles whose files will be loaded.

    Returns
    -------
    dict
        Options in the form of `robustness.configuration.recorded`; empty if the run was not started from
        the command line.

    Raises
    ------
    SettingError
        The run names a file that may not be loaded, and this command line gives none; the message names
        the options to use.
    """
    options_then = origin.options.to_json() if origin.options else {}
    if not options_then:
        return {}
    defaults = recorded(AuditConfig())
    for role in ROLES:
        del defaults[role]
    options = defaults | {k: v for k, v in options_then.items() if v is not None}
    options |= {"trust_model": trust}
    typed = {role: name for role, name in given.items() if name}
    if options.get("preprocess"):
        expect_typed(options["preprocess"], trust or "preprocess" in typed, str(where))
    folder = where.parent if where.is_file() else where
    if seal.made_here(origin):
        return recorded_paths.resolve_options(options, origin, folder) | typed
    # A name of a module is code: one that a received run states is not imported.
    # And pictures are not sent to where it states, nor is a cluster of its choice asked for results.
    options |= {"imports": [], "evidence_to": None, "cluster": None} | typed
    refused: dict[str, str] = {}
    for role in roles:
        name = options.get(role)
        if name is None or given.get(role) or comes_with_the_toolkit(role, name):
            continue
        inside = _inside(folder, name)
        if inside is None:
            refused[role] = name
        else:
            options[role] = inside
    if refused:
        raise SettingError(_refusal(where, refused))
    if "images" in roles and not typed.get("attack"):
        _expect_plain_attacks(where, options["attack"])
    return options


def comes_with_the_toolkit(role: str, name: str) -> bool:
    """Whether a name means something that is installed: neither a file nor a download."""
    if role == "images":
        return re.fullmatch(r"pets(:\d+)?", name) is not None
    if role == "architecture":
        return name.startswith(APPLICATIONS)
    return role in ("model", "surrogate") and name in plugins.names(plugins.MODELS)


def again(folder: Path, options: Mapping[str, Any]) -> str:
    """Return the command that continues a run.

    Parameters
    ----------
    folder : the run's folder.
    options : the options of the audit, by the names of the command line.
    """
    words = ["robustness", "audit", "--resume", str(folder)]
    if options.get("trust_model"):
        words.append("--trust-model")
    if not _sealed(folder):
        for role, option in ROLES.items():
            name = options.get(role)
            if name and not comes_with_the_toolkit(role, name):
                words += [option, name]
    return shlex.join(words)


def _sealed(folder: Path) -> bool:
    from robustness.runs.store import Run

    try:
        with Run.open(folder) as run:
            return seal.made_here(run.manifest.origin)
    except RunError:
        return True


def _refusal(where: Path, refused: Mapping[str, str]) -> str:
    from robustness.text import visible

    def noun(role: str, name: str) -> str:
        download = " (a download)" if name.partition(":")[0].startswith("kaggle") else ""
        return f"the {role} {visible(name[:300])!r}{download}"

    *most, last = [noun(role, name) for role, name in refused.items()]
    named = f"{', '.join(most)} and {last}" if most else last
    options = " ".join(f"{ROLES[role]} ..." for role in refused)
    return (
        f"{where} would load {named}. You did not start this run on this machine, so the "
        f"files it names are not loaded. Give what to load: {options}, the same files or others."
    )


def _inside(folder: Path, name: str) -> str | None:
    """Return the path of a file or folder in the run's own folder; None if it is outside or has links."""
    root = folder.resolve()
    if not (root / "run.json").is_file():
        return None
    try:
        path = Path(name)
        relative = path.relative_to(root).as_posix() if path.is_absolute() else name
        *folders, last = parts_of(relative)
        with within(root, folders) as place:
            status = place.status(last)
    except (RunError, OSError, ValueError):
        return None
    target = root.joinpath(*folders, last)
    if status is None:
        return None
    if stat.S_ISDIR(status.st_mode):
        return str(target) if _plain_below(target) else None
    return str(target) if stat.S_ISREG(status.st_mode) else None


def _plain_below(folder: Path) -> bool:
    """Whether a folder holds only files and folders: no link that could lead to the user's own files."""
    count = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            mode = os.lstat(Path(place) / name).st_mode
            count += 1
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or count > MOST_NAMES:
                return False
    return True


def _expect_plain_attacks(where: Path, attacks: list[str]) -> None:
    """Raise SettingError if an attack of a received run has a parameter that can name a file."""
    for text in attacks:
        name, _, rest = text.partition(":")
        for part in filter(None, rest.split(",")):
            key, _, value = part.partition("=")
            if key.strip() == "file" or (value and not _WORD.fullmatch(value.strip())):
                raise SettingError(
                    f"{where} gives the attack {name[:60]!r} the parameter {part[:200]!r}, which can name a "
                    "file. You did not start this run on this machine, so the file is not read: "
                    "give the attacks with --attack, the same ones or others."
                )
