"""The result of one check before the attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    id : such as "P01-input".
    severity : "ok", "note", "warning" or "error".
    sentence : the result in words, with its numbers.
    """

    id: str
    severity: Severity
    sentence: str
