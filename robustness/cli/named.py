"""What a run may have loaded: what is typed now, what comes with the toolkit, what lies in the run's folder.

A run that somebody sent names files of its own choice, and a model file can run code. So nothing it names is
loaded because it says so: it is said what would be loaded, and the command line decides. A run that this
user started here (`robustness.runs.seal`) means this user's own files. Whether code in a model may run is
never taken from a run or a configuration: `--trust-model` is typed in the very command that loads it.
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
from robustness.errors import RunError, SettingError
from robustness.files.open_folder import parts_of, within
from robustness.runs import recorded_paths, seal
from robustness.runs.schema import Origin

ROLES = {"model": "--model", "images": "--images", "surrogate": "--surrogate", "mask": "--mask"}
"""What a run names, and the option that names it instead."""
_DEFAULTS: dict[str, Any] = {
    "attack": [], "epsilon": "", "steps": None, "step_size": None, "restarts": None, "norm": "linf",
    "target": None, "mask": None, "surrogate": None, "precision": "float32", "all_steps": False,
    "cascade": None, "limit": None, "per_class": None, "held_out": False, "seed": 0,
    "classes": None, "scaling": None, "trust_model": False, "evidence": "flips",
    "batch_size": None, "accuracy": None, "thorough": False, "report": ["html"], "gate": None,
}  # fmt: skip
_WORD = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|[a-z][a-z0-9_-]*|[0-9]+/[0-9]+", re.IGNORECASE)
MOST_NAMES = 1_000_000
"""Files looked at in a folder of pictures within a run."""


def options_of(
    origin: Origin,
    where: Path,
    given: Mapping[str, Any],
    *,
    trust: bool,
    roles: tuple[str, ...] = tuple(ROLES),
) -> dict[str, Any]:
    """The options a run was started with, what they name settled.

    Parameters
    ----------
    origin: the run's, read from a folder or from a report.
    where: the run's folder, or the report.
    given: what the command line names now, by role, and `attack`; None where it does not.
    trust: whether the command line says `--trust-model`.
    roles: what is going to be loaded.

    Returns
    -------
    Options as `robustness audit` has them; empty where the run was not started from the command line.

    Raises
    ------
    SettingError: the run would have something loaded that nobody here has named; it says what, and which
        options name it.
    """
    said = origin.options.to_json() if origin.options else {}
    if not said:
        return {}
    options = _DEFAULTS | {k: v for k, v in said.items() if v is not None}
    options |= {"trust_model": trust}
    typed = {role: name for role, name in given.items() if name}
    folder = where.parent if where.is_file() else where
    if seal.made_here(origin):
        return recorded_paths.resolve_options(options, origin, folder) | typed
    options |= typed
    unasked: dict[str, str] = {}
    for role in roles:
        name = options.get(role)
        if name is None or given.get(role) or comes_with_the_toolkit(role, name):
            continue
        inside = _inside(folder, name)
        if inside is None:
            unasked[role] = name
        else:
            options[role] = inside
    if unasked:
        raise SettingError(_said(where, unasked))
    if "images" in roles and not typed.get("attack"):
        _expect_plain_attacks(where, options["attack"])
    return options


def comes_with_the_toolkit(role: str, name: str) -> bool:
    """Whether a name means something that is installed, not a file and not a download."""
    if role == "images":
        return re.fullmatch(r"pets(:\d+)?", name) is not None
    return role in ("model", "surrogate") and name in plugins.names(plugins.MODELS)


def again(folder: Path, options: Mapping[str, Any]) -> str:
    """The command that goes on with a run that was started with these options.

    Parameters
    ----------
    folder: the run's.
    options: what it loads now.
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


def _said(where: Path, unasked: Mapping[str, str]) -> str:
    from robustness.text import visible

    def told(role: str, name: str) -> str:
        download = " (a download)" if name.partition(":")[0].startswith("kaggle") else ""
        return f"the {role} {visible(name[:300])!r}{download}"

    *most, last = [told(role, name) for role, name in unasked.items()]
    named = f"{', '.join(most)} and {last}" if most else last
    options = " ".join(f"{ROLES[role]} ..." for role in unasked)
    return (
        f"{where} would load {named}. You did not start this run on this machine, so what it names "
        f"is not loaded unasked. Say what to load: {options}, the same ones or others."
    )


def _inside(folder: Path, name: str) -> str | None:
    """The path of something that lies in a run's own folder; None if it does not, or holds links."""
    root = folder.resolve()
    if not (root / "run.json").is_file():
        return None
    try:
        path = Path(name)
        relative = path.relative_to(root).as_posix() if path.is_absolute() else name
        *folders, last = parts_of(relative)
        with within(root, folders) as place:
            found = place.status(last)
    except (RunError, OSError, ValueError):
        return None
    target = root.joinpath(*folders, last)
    if found is None:
        return None
    if stat.S_ISDIR(found.st_mode):
        return str(target) if _plain_below(target) else None
    return str(target) if stat.S_ISREG(found.st_mode) else None


def _plain_below(folder: Path) -> bool:
    """Whether there are only files and folders below, no link that could lead to the reader's own."""
    seen = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            mode = os.lstat(Path(place) / name).st_mode
            seen += 1
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or seen > MOST_NAMES:
                return False
    return True


def _expect_plain_attacks(where: Path, attacks: list[str]) -> None:
    """SettingError for an attack of a received run that reads a file."""
    for text in attacks:
        name, _, rest = text.partition(":")
        for part in filter(None, rest.split(",")):
            key, _, value = part.partition("=")
            if key.strip() == "file" or (value and not _WORD.fullmatch(value.strip())):
                raise SettingError(
                    f"{where} gives the attack {name[:60]!r} the parameter {part[:200]!r}, which can name a "
                    "file. You did not start this run on this machine, so it is not read unasked: say "
                    "which attacks you mean with --attack, the same ones or others."
                )
