"""Text that hides nothing. Names come from files, models and plug-ins: they may be hostile."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches

# Controls, invisible formatting (right-to-left overrides), line separators, private, unassigned.
_HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Co", "Cn", "Cs"}
_STACKED = 3


def visible(text: str) -> str:
    """`text` with every character that hides, breaks or reorders text shown as its code.

    Piles of combining marks are shown so too from the fourth on: they paint over other lines.
    """
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        hidden = category in _HIDDEN or marks > _STACKED
        shown.append(f"⟨U+{ord(character):04X}⟩" if hidden else character)
    return "".join(shown)


def printable(text: str) -> str:
    """`text` for a terminal or a log, line by line `visible`; no line is a command of a workflow.

    GitHub takes a line of a step's output that begins with two colons for an order.
    """
    return "\n".join(_line(visible(line)) for line in text.split("\n"))


def _line(text: str) -> str:
    return text.replace("::", ": :", 1) if text.lstrip().startswith("::") else text


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of an error message about an unknown name.

    Parameters
    ----------
    name : the unknown name.
    known : the names that exist.
    cutoff : how similar a known name must be, 0..1.

    Returns
    -------
    " Did you mean NAME?" with the nearest known name; "" where none is near.
    """
    near = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" Did you mean {near[0]}?" if near else ""


def shown(value: object, longest: int = 200) -> str:
    """A value for an error message. The end of a long one is left out: it may be as long as its file."""
    text = value.isoformat() if isinstance(value, date) else repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."
