"""Attacks by name, with their parameters."""

from __future__ import annotations

from typing import Any

from robustness import plugins
from robustness.contract.attack import Attack


def find(name: str) -> type[Attack]:
    """The class of an installed attack.

    Raises
    ------
    SettingError
        No attack has this name (the message suggests the nearest), or what has it is no attack.
    """
    loaded = plugins.load(plugins.ATTACKS, name)
    return plugins.expect_class(loaded, Attack, name, ("name", "knowledge", "norms"))


def make(attack: str | Attack, **parameters: Any) -> Attack:
    """Make an attack from its name and parameters; an attack object is returned unchanged."""
    if isinstance(attack, Attack):
        return attack
    return create(find(attack), parameters)


def create(cls: type[Attack], parameters: dict[str, Any]) -> Attack:
    """Make an attack from its class and parameters (values, or strings from a command line)."""
    return cls.from_parameters(parameters)
