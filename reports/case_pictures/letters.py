"""Spells names with the letters that Pillow's own font has, which are those of ASCII."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from robustness.reports.wording import visible

_PLAIN = str.maketrans(
    {
        **{"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l"},
        **{"Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "þ": "th", "Þ": "Th", "ı": "i", "…": "..."},
        **{"−": "-", "–": "-", "—": "-", "×": "x", "’": "'", "‘": "'", "“": '"', "”": '"'},
        **{"⟨": "<", "⟩": ">", "\N{NO-BREAK SPACE}": " "},
    }
)
UNKNOWN = "?"


def plain(text: str) -> str:
    """Return text in ASCII: letters without accents, and `?` for each letter of another script.

    Characters that hide or reorder text are shown as codes first (`visible`).
    """
    apart = unicodedata.normalize("NFKD", visible(text).translate(_PLAIN))
    bare = "".join(c for c in apart if not unicodedata.combining(c))
    return "".join(c if c.isascii() else UNKNOWN for c in bare.translate(_PLAIN))


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return class names in ASCII; `class 3` for one in another script, or that would be like another one."""
    spelled = [plain(name) for name in names]
    times = Counter(spelled)
    return tuple(
        name if name == one or (UNKNOWN not in one and times[one] == 1) else f"class {number}"
        for number, (name, one) in enumerate(zip(names, spelled, strict=True))
    )
