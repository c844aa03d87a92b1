"""What others call what we find: ids of MITRE ATLAS, NIST and OWASP, severities, remedies.

All of it is in `taxonomy.json`, so that a new edition of a catalogue changes one file. A finding
"maps to" an id; it says nothing about conformity.
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
    """An entry of somebody's catalogue."""

    scheme: str
    id: str
    name: str


@dataclass(frozen=True)
class Fix:
    """A remedy, with its id in MITRE ATLAS."""

    id: str
    says: str


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
    """A word and the number 0..10 that code scanners sort by."""

    name: str
    score: float


@cache
def _data() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "taxonomy.json").read_text(encoding="utf-8"))


def sources() -> dict[str, str]:
    """The catalogues, by scheme, with their editions."""
    return dict(_data()["sources"])


@cache
def weaknesses() -> dict[str, Weakness]:
    """Every kind of finding, by its name here."""
    return {
        name: Weakness(
            rule=one["rule"],
            title=one["title"],
            means=one["means"],
            maps=tuple(Id(m["scheme"], m["id"], m["name"]) for m in one["maps"]),
            fix=tuple(Fix(f["id"], f["says"]) for f in one["fix"]),
        )
        for name, one in _data()["weaknesses"].items()
    }


_LOOKING = ("white-box", "score")


def is_baseline(name: str, knowledge: str) -> bool:
    """Whether an attack is chance rather than an attacker: it knows nothing, or is a kind of noise.

    What looks at gradients or probabilities aims, whatever its name.
    """
    if knowledge in _LOOKING:
        return False
    return knowledge == "none" or _last_word(name) in _data()["chance"]


def kind(name: str, knowledge: str, *, surrogate: bool = False) -> str:
    """The weakness that a flip by this attack shows; `surrogate` says that it looked at another model."""
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
    """`noise` of `gaussian-noise`: of a name's words the last says what kind of thing it is."""
    return re.split(r"[^a-z]+", name.lower().partition("(")[0].strip())[-1]


def severity(low: float, norm: str, epsilon: float, shape: Any) -> Severity:
    """How grave: by the lower end of the flip rate's interval, one step less for a visible budget."""
    steps = [Severity(one["name"], one["score"]) for one in _data()["severities"]]
    place = next(i for i, one in enumerate(_data()["severities"]) if low >= one["least"])
    if not is_small(norm, epsilon, shape):
        place += 1
    return steps[min(place, len(steps) - 1)]


def is_small(norm: str, epsilon: float, shape: Any) -> bool:
    """Whether a change of this size is hard to see; l1 and unknown shapes count as small.

    Without a norm it is not: pictures are turned, or corrupted for all to see.
    """
    known = isinstance(shape, list | tuple) and len(shape) == 3
    return described(norm).is_small(epsilon, [float(side) for side in shape] if known else None)
