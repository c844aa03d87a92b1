"""Ids of MITRE ATLAS, NIST and OWASP for each kind of weakness, severities and remedies.

All of it is in `taxonomy.json`, so that a new edition of a catalogue changes one file. A finding
"maps to" an id; this is not a statement of conformity.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from robustness.threat.norms import described


@dataclass(frozen=True)
class Id:
    """An entry of a catalogue (`scheme`)."""

    scheme: str
    id: str
    name: str


@dataclass(frozen=True)
class Fix:
    """A remedy, with its id in MITRE ATLAS."""

    id: str
    says: str


@dataclass(frozen=True)
class Remedy:
    """How a remedy is done: its id and name in MITRE ATLAS, and instructions."""

    id: str
    name: str
    how: str


@dataclass(frozen=True)
class Weakness:
    """A kind of finding: a stable `rule`, what it means, what it maps to, what to do."""

    rule: str
    title: str
    means: str
    maps: tuple[Id, ...]
    fix: tuple[Fix, ...]


@dataclass(frozen=True)
class Severity:
    """A word, and the number 0..10 by which code scanners sort."""

    name: str
    score: float


@cache
def _data() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "taxonomy.json").read_text(encoding="utf-8"))


def sources() -> dict[str, str]:
    """Return the catalogues with their editions, by scheme."""
    return dict(_data()["sources"])


@cache
def weaknesses() -> dict[str, Weakness]:
    """Return every kind of weakness, by its name in `taxonomy.json`."""
    return {
        name: Weakness(
            rule=entry["rule"],
            title=entry["title"],
            means=entry["means"],
            maps=tuple(Id(m["scheme"], m["id"], m["name"]) for m in entry["maps"]),
            fix=tuple(Fix(f["id"], f["says"]) for f in entry["fix"]),
        )
        for name, entry in _data()["weaknesses"].items()
    }


@cache
def remedies() -> dict[str, Remedy]:
    """Return how each remedy is done, by its id."""
    return {
        name: Remedy(name, entry["name"], entry["how"])
        for name, entry in _data()["remedies"].items()
    }


_WITH_OUTPUTS = ("white-box", "score")


def is_baseline(name: str, knowledge: str) -> bool:
    """Return whether an attack is a random baseline: it uses no output of the model, or is a kind of noise.

    An attack that uses gradients or probabilities is never one, whatever its name.
    """
    if knowledge in _WITH_OUTPUTS:
        return False
    return knowledge == "none" or _last_word(name) in _data()["chance"]


def kind(name: str, knowledge: str, *, surrogate: bool = False) -> str:
    """Return the weakness that a flip by this attack shows; `surrogate`: it ran on another model."""
    if is_baseline(name, knowledge):
        return "baseline"
    if surrogate or "transfer" in name.lower() or knowledge == "transfer":
        return "transfer"
    if knowledge != "score" and _last_word(name) in _data()["moves"]:
        return "spatial"
    if _last_word(name) in _data()["shared"]:
        return "shared"
    return knowledge if knowledge in weaknesses() else "white-box"


def _last_word(name: str) -> str:
    """The last word of a name, which says what kind of attack it is: `noise` of `gaussian-noise`."""
    return re.split(r"[^a-z]+", name.lower().partition("(")[0].strip())[-1]


def severity(low: float, norm: str, epsilon: float, shape: object) -> Severity:
    """Return the severity of a finding.

    Parameters
    ----------
    low
        The lower end of the interval of the flip rate, a share.
    norm, epsilon
        The budget; a visible one lowers the severity by one level.
    shape
        The input shape (height, width, channels), if known.
    """
    steps = [Severity(one["name"], one["score"]) for one in _data()["severities"]]
    place = next(i for i, one in enumerate(_data()["severities"]) if low >= one["least"])
    if not is_small(norm, epsilon, shape):
        place += 1
    return steps[min(place, len(steps) - 1)]


def is_small(norm: str, epsilon: float, shape: object) -> bool:
    """Return whether a change of this size is hard to see; l1 and unknown shapes count as small.

    Without a norm it is not: rotated and corrupted pictures are visibly changed.
    """
    if not (isinstance(shape, list | tuple) and len(shape) == 3):
        return described(norm).is_small(epsilon, None)
    return described(norm).is_small(epsilon, [float(side) for side in shape])
