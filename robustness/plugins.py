"""The door by which attacks, models and reports come in: entry points, ours and strangers' alike.

Listing names loads nothing, so that a wrong name costs no import of TensorFlow.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from robustness.errors import SettingError

ATTACKS, MODELS, REPORTS = "robustness.attacks", "robustness.models", "robustness.reports"
ENSEMBLES = "robustness.ensembles"
_WORDS = {
    ATTACKS: "attack",
    ENSEMBLES: "ensemble of attacks",
    MODELS: "model",
    REPORTS: "kind of report",
}


def names(group: str) -> list[str]:
    """The installed names of a group, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


def expect(group: str, name: str, *others: str) -> None:
    """SettingError, with the nearest name, unless `name` is installed in one of these groups."""
    known = sorted({name for each in (group, *others) for name in names(each)})
    if name in known:
        return
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise SettingError(
        f"Unknown {_WORDS[group]} {name!r}; installed: {', '.join(known) or 'none'}.{hint}"
    )


def load(group: str, name: str) -> Any:
    """What is installed under `name`; SettingError if nothing is, or if it cannot be imported."""
    expect(group, name)
    point = next(iter(entry_points(group=group, name=name)))
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise SettingError(
            f"The {_WORDS[group]} {name!r} ({point.value}) cannot be imported: {error}. Reinstall or "
            "remove the package that brings it."
        ) from error
