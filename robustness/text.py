"""Formats text for display: shows hidden characters as codes, cuts long names, puts counts before nouns.

Names come from files, models and plug-ins, and are untrusted. This module must not import any other module
of the toolkit.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches

# Controls, invisible formatting (right-to-left overrides), line separators, private, unassigned.
_HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Co", "Cn", "Cs"}
_MOST_MARKS = 3


def visible(text: str) -> str:
    """Replace every character that hides, breaks or reorders text by its code, such as ⟨U+202E⟩.

    Of consecutive combining marks, all after the third are replaced too: they would cover the lines above
    and below.
    """
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        hidden = category in _HIDDEN or marks > _MOST_MARKS
        shown.append(f"⟨U+{ord(character):04X}⟩" if hidden else character)
    return "".join(shown)


def printable(text: str) -> str:
    """Make text safe for a terminal or a log, line by line.

    Every line is made `visible`. GitHub interprets a line of a step's output that begins with two colons as
    a workflow command, so a space is inserted between them.
    """
    return "\n".join(_line(visible(line)) for line in text.split("\n"))


def _line(text: str) -> str:
    return text.replace("::", ": :", 1) if text.lstrip().startswith("::") else text


def shorten(text: str, most: int = 48) -> str:
    """Make text `visible`, and cut it in the middle to at most `most` characters."""
    text = visible(text)
    if len(text) <= most:
        return text
    tail = most // 2 - 1
    # No part of a code is left on either side.
    before = re.sub(r"⟨[U+0-9A-F]*$", "", text[: most - tail - 1])
    after = re.sub(r"^[U+0-9A-F]*⟩", "", text[-tail:])
    return f"{before}…{after}"


def listed(names: Iterable[str]) -> str:
    """Join names with commas, each cut to 60 characters: `fgsm, pgd(steps=40)`."""
    return ", ".join(shorten(name, 60) for name in names)


def first_few(names: Iterable[str], most: int = 3) -> str:
    """Join the first `most` names with commas: `a.jpg, b.jpg, c.jpg, ...`."""
    every = list(names)
    return ", ".join(map(shorten, every[:most])) + (", ..." if len(every) > most else "")


def plural(count: int, singular: str, plural_form: str | None = None) -> str:
    """Put a count before its noun: `1 image`, `2,000 images`.

    Parameters
    ----------
    count : the number.
    singular : the noun for a count of one.
    plural_form : the noun for all other counts; by default `singular` with an s.
    """
    return f"{count:,} {singular if count == 1 else plural_form or singular + 's'}"


def percent(share: float | None) -> str:
    """Return a share as `97.0 %`; a dash for None and NaN. `0 %` and `100 %` appear only if exact."""
    return "–" if share is None or math.isnan(share) else f"{_hundred(share)} %"


def _hundred(share: float) -> str:
    if share in (0, 1):
        return f"{100 * share:.0f}"
    return f"{min(99.9, max(0.1, 100 * share)):.1f}"


def percent_range(low: float | None, high: float | None, dash: str = "–") -> str:
    """Return two shares as `97.0–100 %`; a dash if one is missing."""
    if low is None or high is None:
        return "–"
    return f"{_hundred(low)}{dash}{_hundred(high)} %"


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Suggest a known name at the end of an error message about an unknown one.

    Parameters
    ----------
    name : the unknown name.
    known : the names that exist.
    cutoff : how similar a known name must be, 0..1.

    Returns
    -------
    str
        " Did you mean NAME?" with the nearest known name; "" if none is similar enough.
    """
    near = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" Did you mean {near[0]}?" if near else ""


def shown(value: object, longest: int = 200) -> str:
    """Format a value for an error message, cut to `longest` characters: it may be as long as its file."""
    text = value.isoformat() if isinstance(value, date) else repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."
