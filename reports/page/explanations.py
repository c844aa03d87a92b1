"""Diagnostics explained, to be read on the page itself: a rule each, and what to do where it does not hold.

The texts are in `explanations.json`; `docs/diagnostics.md` says the same, and a test holds them together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Explanation:
    """What a diagnostic asks and when it warns or fails, and what to do then; names of options in ``."""

    rule: str
    do: str


@cache
def _all() -> dict[str, Explanation]:
    text = (Path(__file__).parent / "explanations.json").read_text(encoding="utf-8")
    return {name: Explanation(**said) for name, said in json.loads(text).items()}


def explained(name: str) -> Explanation | None:
    """The explanation of a diagnostic or a check before the attack (`D04`, `P02-scaling`), if known."""
    return _all().get(name.partition("-")[0])
