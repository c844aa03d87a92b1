"""Finds attacks by name, and makes them from parameters."""

from __future__ import annotations

from typing import Any

from robustness import plugins
from robustness.contract.attack import Attack


def find(name: str) -> type[Attack]:
    """Return the class of an installed attack.

    Raises
    ------
    SettingError
        No attack has this name (the message suggests the nearest), or its plug-in cannot be imported or is
        not an attack.
    """
    loaded = plugins.load(plugins.ATTACKS, name)
    return plugins.expect_class(loaded, Attack, name, ("name", "knowledge", "norms"))


def make(attack: str | Attack, **parameters: Any) -> Attack:
    """Make an attack from its name and parameters; an attack object is returned unchanged."""
    if isinstance(attack, Attack):
        return attack
    return create(find(attack), parameters)


def create(cls: type[Attack], parameters: dict[str, Any]) -> Attack:
    """Make an attack from its class and its parameters (values, or strings from a command line)."""
    return cls.from_parameters(parameters)
