"""How many rows advance together, from the memory there is."""

from __future__ import annotations

import math
import os

from robustness import backend
from robustness.models.classifier import GROUP, Classifier
from robustness.models.layers import leaves
from robustness.models.scan import limited_process

PROCESSOR_ROWS, ACCELERATOR_ROWS = 48, 252
"""More rows than these gain no speed; on an accelerator the engine halves them if they do not fit."""
SMALL, SMALL_ROWS = 32 << 20, 510
"""Bytes below which rows cost a processor less than calling TensorFlow does: of small ones more, up to so
many."""
SHARE = 0.25
"""Of the free memory that activations may take."""
CALL = 1.6
"""What a pass costs whatever its rows, in rows; measured with the Dogs-vs-Cats CNN."""


def row_bytes(classifier: Classifier) -> int:
    """An estimate of the memory one row needs: activations and their gradients, and a few images."""
    numbers = 12 * math.prod(classifier.input_shape)
    for layer in leaves(classifier.model):
        shape = getattr(getattr(layer, "output", None), "shape", None)
        numbers += 3 * math.prod(n or 1 for n in shape[1:]) if shape else 0
    return 4 * numbers


def free_bytes() -> int:
    """Memory of this machine that is free now."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2 << 30


def batch_size_for(classifier: Classifier) -> int:
    """Rows that fit and gain speed."""
    if backend.accelerated():
        return whole(ACCELERATOR_ROWS)
    each = row_bytes(classifier)
    gain = min(max(SMALL // each, PROCESSOR_ROWS), SMALL_ROWS)
    return whole(max(1, min(gain, int(SHARE * free_bytes() / each))))


def bounded(asked: int, classifier: Classifier) -> int:
    """`asked` rows, where all the memory there is holds them; else as many as it holds.

    Never fewer than `batch_size_for` chooses: a received run may name a batch that would take all memory.
    """
    room = max(free_bytes(), limited_process.available() or 0)
    if asked * (each := row_bytes(classifier)) <= room:
        return asked
    return min(asked, max(batch_size_for(classifier), whole(room // each)))


def whole(rows: int) -> int:
    """At most `rows`, in whole groups of a kernel: a row's last bits do not depend on its slot then."""
    return rows - rows % GROUP if rows > GROUP else rows


def waves(most: int, count: int) -> int:
    """Slots, at most `most`, for `count` rows that take all their steps: wave after wave, few empty.

    60 of them in 36 slots leave a third of the second wave empty; in 30 they leave nothing.
    """
    most, count = whole(max(1, most)), max(1, count)
    costs = {
        slots: math.ceil(count / slots) * (slots + CALL)
        for slots in range(min(GROUP, most), most + 1, GROUP)
    }
    return min(reversed(costs), key=lambda slots: costs[slots])
