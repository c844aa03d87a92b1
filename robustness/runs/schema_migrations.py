"""Converts older schemas of `run.json` to the newest: one function per version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from robustness.runs.schema import SCHEMA, TARGETED


def _from_1(plain: dict[str, Any]) -> dict[str, Any]:
    """Schema 1: `config.goal` is the phrase "untargeted" or "targeted at CLASS"."""
    config = plain.get("config")
    phrase = config.get("goal") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(phrase, str):
        return plain | {"schema": 2}
    names = plain.get("class_names")
    name = phrase.removeprefix(TARGETED)
    goal: dict[str, Any] | str
    if phrase == "untargeted":
        goal = {"target": None, "class_name": None}
    elif name == phrase:
        # An audit writes no such phrase; the validation that follows rejects it.
        goal = phrase
    else:
        known = names if isinstance(names, list) else []
        goal = {"target": known.index(name) if name in known else None, "class_name": name}
    return plain | {"schema": 2, "config": config | {"goal": goal}}


MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
"""By schema version, the function that converts a manifest to the next version."""


def migrate(plain: dict[str, Any]) -> dict[str, Any] | None:
    """Convert a manifest of any earlier schema to the newest.

    Parameters
    ----------
    plain : dict
        The JSON of a `run.json`, not validated.

    Returns
    -------
    dict or None
        The manifest in the newest schema; None for an unknown version.
    """
    version = plain.get("schema")
    if isinstance(version, bool) or not isinstance(version, int | float):
        return None
    while version != SCHEMA:
        if version not in MIGRATIONS:
            return None
        plain = MIGRATIONS[int(version)](plain)
        version = plain["schema"]
    return plain | {"schema": SCHEMA}
