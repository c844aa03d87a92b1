"""Lets Keras build graphs of more operations in a row than Python's limit of recursion allows.

Keras follows a graph by one call per operation, so that models of some thousand layers in a row
(ResNet-RS-270 and deeper) cannot be built within Python's usual limit of 1,000 nested calls.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

MOST_CALLS = 10_000
"""Python's limit of nested calls while a graph is built; calls between Python functions take no C stack."""


@contextlib.contextmanager
def deep_graphs() -> Iterator[None]:
    """Raise Python's limit of recursion in the block, or in the function that it decorates."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, MOST_CALLS))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
