"""Registry of norms: built-in ones, those registered in this process, and those of installed packages.

To add a norm, write its class (`norm.Norm`) in one file and register an instance: in `BUILT_IN` here, with
`register(MyNorm())` in a script, or as an entry point in the group ``robustness.norms`` of a package. The
entry point names the class or an instance, under the norm's own name.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from robustness import plugins
from robustness.configuration import choices
from robustness.errors import SettingError
from robustness.text import did_you_mean, visible
from robustness.threat.norms.l0 import L0
from robustness.threat.norms.l1 import L1
from robustness.threat.norms.l2 import L2
from robustness.threat.norms.linf import Linf
from robustness.threat.norms.norm import Norm
from robustness.threat.norms.unmeasured import Free, Unregistered

NORMS: dict[str, Norm] = {norm.name: norm for norm in (Linf(), L2(), L1(), L0())}
"""The norms in which every run measures its flips, by name: their columns are part of the format of runs."""

BUILT_IN: tuple[Norm, ...] = (*NORMS.values(), Free())
"""All norms of the toolkit. Add a further one here; its distances go into a separate table."""

KNOWN: dict[str, Norm] = {norm.name: norm for norm in BUILT_IN}
"""The built-in and registered norms, by name; `names` and `parse` include those of installed packages."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_COLUMNS = {*NORMS, "components"}
COLUMNS_OF_TABLES = frozenset(
    {
        *("attack", "backward", "components", "confidence", "digest", "entry", "epsilon", "float"),
        *("forward", "height", "image", "key", "label", "name", "note", "norm", "png", "position"),
        *("reached", "reason", "restart", "side", "status", "step", "upload", "width"),
    }
)
"""Words that no norm has for a name: the tables of a run and `outcomes.csv` have columns of these names."""
_reported: set[str] = set()


def register(norm: Norm) -> Norm:
    """Make a norm known in this process, under its name.

    Parameters
    ----------
    norm
        An instance; it must have no state that changes.

    Returns
    -------
    The norm.

    Raises
    ------
    SettingError
        It is not a `Norm`, its name is not made of lower-case words, digits and hyphens or is that of another
        column of the tables, or another class is registered under the name.
    """
    if not isinstance(norm, Norm):
        raise SettingError(
            f"A norm is an instance of robustness.threat.norms.Norm; got {type(norm).__name__} "
            f"{str(norm)[:100]!r}."
        )
    name = norm.name
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise SettingError(
            f"The norm {type(norm).__name__} has the name {str(name)[:100]!r}; expected lower-case words, "
            'digits and hyphens, such as "l2-luma".'
        )
    if name in COLUMNS_OF_TABLES:
        raise SettingError(
            f"The norm {type(norm).__name__} has the name {name!r}, which is that of another column of the "
            "tables; give it another name."
        )
    known = KNOWN.get(name)
    if known is not None and type(known) is not type(norm):
        raise SettingError(
            f"The norm {name!r} is registered already, as {type(known).__name__}; give "
            f"{type(norm).__name__} another name."
        )
    choices.REGISTERED_NORMS.add(name)
    return KNOWN.setdefault(name, norm)


def names() -> tuple[str, ...]:
    """Return the names that `parse` knows, the built-in ones first; no package is imported."""
    return tuple(dict.fromkeys([*KNOWN, *plugins.names(plugins.NORMS)]))


def parse(name: str) -> Norm:
    """Return the norm called `name`.

    Raises
    ------
    SettingError
        No norm has the name; or the plug-in of that name cannot be imported, or is not such a norm.
    """
    if name in KNOWN:
        return KNOWN[name]
    known = names()
    if name not in known:
        raise SettingError(
            f"Unknown norm {name!r}; expected one of {', '.join(known)}.{did_you_mean(name, known)}"
        )
    found = plugins.load(plugins.NORMS, name)
    norm = register(_made(found, name) if isinstance(found, type) else found)
    if norm.name != name:
        raise SettingError(
            f"The norm that is installed as {name!r} has the name {norm.name!r}; expected the same name. "
            "Correct the entry point, or remove the package that brings it."
        )
    return norm


def _made(kind: type, name: str) -> Any:
    """An object of a plug-in's class; SettingError if its constructor fails."""
    try:
        return kind()
    except Exception as error:
        raise SettingError(
            f"The plug-in of the norm {name!r} cannot be made: {type(error).__name__}: {error}. Reinstall or "
            "remove the package that brings it."
        ) from error


def described(name: str) -> Norm:
    """Return the norm of a finished run, for a report.

    Returns
    -------
    The norm, or `Unregistered` where its package is not installed or cannot be used. If it is installed and
    cannot be used, one warning in the log for each name gives the error.
    """
    try:
        return parse(name)
    except SettingError as error:
        if name in names() and name not in _reported:
            _reported.add(name)
            logging.getLogger("robustness").warning(
                "warning: the norm %s is installed but failed, so the report has only its name. %s",
                *map(visible, (name, str(error))),
            )
        return Unregistered(name)


def has_own_column(norm: Norm) -> bool:
    """Whether the distances of a norm get a column of their own, since the tables of every run have none."""
    return norm.measures and bool(norm.column) and norm.column not in _COLUMNS
