"""How many rows advance together, by the free memory."""

from __future__ import annotations

import math
import os

from robustness import backend
from robustness.models.classifier import GROUP, Classifier
from robustness.models.layers import leaves
from robustness.models.scan import limited_process

PROCESSOR_ROWS, ACCELERATOR_ROWS = 48, 252
"""Batch sizes beyond which speed no longer grows; the auditor halves one that does not fit."""
SMALL, SMALL_ROWS = 32 << 20, 510
"""Bytes of a batch below which calling TensorFlow costs a processor more than the rows do: small rows get a
larger batch, at most of this size."""
SHARE = 0.25
"""Share of the free memory that activations may use."""
CALL = 1.6
"""Fixed cost of a pass, in rows; measured with the Dogs-vs-Cats CNN."""


def row_bytes(classifier: Classifier) -> int:
    """Estimate the memory of one row in bytes: activations, their gradients, and a few images."""
    numbers = 12 * math.prod(classifier.input_shape)
    for layer in leaves(classifier.model):
        shape = getattr(getattr(layer, "output", None), "shape", None)
        numbers += 3 * math.prod(n or 1 for n in shape[1:]) if shape else 0
    return 4 * numbers


def free_bytes() -> int:
    """The free memory of this machine in bytes; 2 GiB where it cannot be read."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2 << 30


def batch_size_for(classifier: Classifier) -> int:
    """The batch size that fits into the memory and is fast."""
    if backend.accelerated():
        return whole_groups(ACCELERATOR_ROWS)
    each = row_bytes(classifier)
    gain = min(max(SMALL // each, PROCESSOR_ROWS), SMALL_ROWS)
    return whole_groups(max(1, min(gain, int(SHARE * free_bytes() / each))))


def bounded(requested: int, classifier: Classifier) -> int:
    """The largest batch size up to `requested` that the memory holds.

    Never fewer than `batch_size_for` chooses: a received run may name a batch that would take all memory.
    """
    room = max(free_bytes(), limited_process.available() or 0)
    if requested * (each := row_bytes(classifier)) <= room:
        return requested
    return min(requested, max(batch_size_for(classifier), whole_groups(room // each)))


def whole_groups(rows: int) -> int:
    """The largest multiple of a kernel's group within `rows`.

    A row's last bits then do not depend on its slot.
    """
    return rows - rows % GROUP if rows > GROUP else rows


def even_batches(most: int, count: int) -> int:
    """The batch size, at most `most`, that runs `count` rows in batches with few empty slots.

    Notes
    -----
    60 rows in batches of 36 leave a third of the second batch empty; in batches of 30 nothing is empty.
    """
    most, count = whole_groups(max(1, most)), max(1, count)
    costs = {
        size: math.ceil(count / size) * (size + CALL)
        for size in range(min(GROUP, most), most + 1, GROUP)
    }
    return min(reversed(costs), key=lambda size: costs[size])
