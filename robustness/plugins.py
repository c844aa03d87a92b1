"""The door by which attacks, models and reports come in: entry points, ours and strangers' alike.

Listing names loads nothing, so that a wrong name costs no import of TensorFlow. Whatever a plug-in
does wrong is one sentence, and takes nothing else down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from robustness.errors import SettingError

ATTACKS, MODELS, REPORTS = "robustness.attacks", "robustness.models", "robustness.reports"
ENSEMBLES = "robustness.ensembles"
REPORT_SECTIONS = "robustness.report_sections"
OURS = "robustness-toolkit"
_WORDS = {
    ATTACKS: "attack",
    ENSEMBLES: "ensemble of attacks",
    MODELS: "model",
    REPORTS: "kind of report",
    REPORT_SECTIONS: "section of the report",
}


@dataclass(frozen=True)
class Broken:
    """A plug-in that cannot be used, and why, one sentence."""

    name: str
    reason: str


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


def point(group: str, name: str) -> EntryPoint:
    """The entry point called `name`; ours where others call theirs the same.

    Raises
    ------
    SettingError: nothing is installed under the name, or several packages bring it, none of them ours.
    """
    expect(group, name)
    found = _points(group, name)
    ours = [one for one in found if _package(one) == OURS]
    if not ours and len(found) > 1:
        brought = ", ".join(sorted(f"{_package(one)} ({one.value})" for one in found))
        raise SettingError(
            f"Several packages bring the {_WORDS[group]} {name!r}: {brought}. Remove all but one."
        )
    return (ours or found)[0]


def load(group: str, name: str) -> Any:
    """What is installed under `name`; SettingError if nothing is, or if it cannot be imported."""
    return imported(point(group, name), group)


def writer(kind: str) -> Callable[..., Any]:
    """What writes a kind of report; SettingError if nothing installed does."""
    found = load(REPORTS, kind)
    if not callable(found):
        raise SettingError(
            f"The kind of report {kind!r} is {type(found).__name__}; expected a function of a run folder "
            "and a path."
        )
    return found


def imported(one: EntryPoint, group: str) -> Any:
    """What an entry point names; SettingError if it cannot be imported, whatever it raises."""
    try:
        return one.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit: a stranger's module may raise anything
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise SettingError(
            f"The plug-in of the {_WORDS[group]} {one.name!r} ({one.value}) cannot be imported: "
            f"{type(error).__name__}: {lines[0][:300]}. Reinstall or remove the package that brings it."
        ) from error


def expect_class(found: Any, base: type, name: str, told: tuple[str, ...]) -> Any:
    """`found`, if it is a dataclass derived from `base` that says in texts what it is `told` to say."""
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
    """All of a group by `find(name)`, in order of name, and those that cannot be used.

    Parameters
    ----------
    find: gives what is installed under a name, or raises SettingError.
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
    """Plug-ins that take a name of ours, and are not used."""
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


def _points(group: str, name: str) -> list[EntryPoint]:
    """The entry points of a name, each value of a package once."""
    found = {(_package(one), one.value): one for one in entry_points(group=group, name=name)}
    return list(found.values())


def _package(one: EntryPoint) -> str:
    return str(one.dist.name) if one.dist is not None else "an unknown package"
