"""Attacks by name, with their parameters."""

from __future__ import annotations

from typing import Any

from robustness import plugins
from robustness.contract.attack import Attack


def find(name: str) -> type[Attack]:
    """The installed attack `name`; SettingError for an unknown name, with the nearest, or no attack."""
    found = plugins.load(plugins.ATTACKS, name)
    return plugins.expect_class(found, Attack, name, ("name", "knowledge", "norms"))


def make(attack: str | Attack, **parameters: Any) -> Attack:
    """An attack from its name and parameters; an attack object is handed through."""
    if isinstance(attack, Attack):
        return attack
    return create(find(attack), parameters)


def create(cls: type[Attack], parameters: dict[str, Any]) -> Attack:
    """`cls` with `parameters` (values, or texts as they come from a command line)."""
    return cls.from_parameters(parameters)
