"""The result of one check before the attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "note", "warning", "error"]
NO_CLASSES = {
    "logits": ", or its linear outputs are no classes but other numbers (a box, an angle)"
}
"""A further cause of an accuracy by chance, by the kind of the head."""


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
