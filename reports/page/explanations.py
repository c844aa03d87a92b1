"""Explanations of the diagnostics for the page: the rule of each, and what to do if it warns or fails.

The texts are in `explanations.json`. `docs/diagnostics.md` has the same texts, which a test checks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Explanation:
    """When a diagnostic warns or fails (`rule`), and what to do then (`do`); options are in backticks."""

    rule: str
    do: str


@cache
def _all() -> dict[str, Explanation]:
    text = (Path(__file__).parent / "explanations.json").read_text(encoding="utf-8")
    return {name: Explanation(**texts) for name, texts in json.loads(text).items()}


def explained(name: str) -> Explanation | None:
    """Return the explanation of a diagnostic or preflight check (`D04`, `P02-scaling`), if known."""
    return _all().get(name.partition("-")[0])
