"""Finds attacks by name, and makes them from parameters."""

from __future__ import annotations

from typing import Any

from robustness import plugins
from robustness.contract.attack import Attack
from robustness.errors import SettingError


def find(name: str) -> type[Attack]:
    """Return the class of an installed attack.

    Raises
    ------
    SettingError
        No attack has this name (the message suggests the nearest), or its plug-in cannot be imported or is
        not an attack.
    """
    loaded = plugins.load(plugins.ATTACKS, name)
    attack: type[Attack] = plugins.expect_class(
        loaded, Attack, name, ("name", "knowledge", "norms")
    )
    if attack.name != name:
        raise SettingError(
            f"The attack that is installed as {name!r} has the name {attack.name[:100]!r}; expected the same "
            "name. Correct the entry point, or remove the package that brings it."
        )
    return attack


def make(attack: str | Attack, **parameters: Any) -> Attack:
    """Make an attack from its name and parameters; an attack object is returned unchanged."""
    if isinstance(attack, Attack):
        return attack
    return create(find(attack), parameters)


def create(cls: type[Attack], parameters: dict[str, Any]) -> Attack:
    """Make an attack from its class and its parameters (values, or strings from a command line)."""
    return cls.from_parameters(parameters)
