"""The lines of the cards on the page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A line of a card: a term and its value; `code` for hashes and the like."""

    term: str
    value: str
    code: bool = False


def hash_rows(*hashes: tuple[str, str | None]) -> Iterable[Row]:
    """A line for each hash that the manifest holds, from pairs of a term and the hash."""
    for term, digest in hashes:
        if digest:
            yield Row(term, digest, code=True)
