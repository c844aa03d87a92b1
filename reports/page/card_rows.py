"""The lines of the cards on the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A line of a card: a term and its value; `code` for hashes and the like."""

    term: str
    value: str
    code: bool = False


def hash_rows(part: Mapping[str, object], **terms: str) -> Iterable[Row]:
    """A line for each hash that a part of the manifest holds, by key: the term before it."""
    for key, term in terms.items():
        if part.get(key):
            yield Row(term, str(part[key]), code=True)
