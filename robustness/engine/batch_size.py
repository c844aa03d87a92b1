"""Chooses the batch size, the number of rows that advance together, by the free memory."""

from __future__ import annotations

import math
import os

from robustness import backend
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import GROUP
from robustness.models.layers import leaves
from robustness.models.scan import memory

PROCESSOR_ROWS, ACCELERATOR_ROWS = 48, 252
"""Batch sizes above which speed no longer increases; the auditor halves a batch that does not fit."""
SMALL, SMALL_ROWS = 32 << 20, 510
"""Bytes of a batch below which a call of TensorFlow costs a processor more than the rows do; and the largest
batch size for such small rows."""
CANVAS_BYTES = 512 << 20
"""The memory of a batch of pictures at their own size, in bytes: speed no longer increases above it."""
SHARE = 0.75
"""The share of the free memory that the rows of a batch may use by the estimate of `row_bytes`. TensorFlow
takes a seventh of it (a row of ResNet-50 60 MB, of MobileNetV2 41 MB): it frees what no gradient needs."""
CALL = 1.6
"""The fixed cost of a pass, in rows; measured with the Dogs-vs-Cats CNN."""


def row_bytes(classifier: Classifier, shape: tuple[int, int, int] | None = None) -> int:
    """Estimate the memory of one row in bytes: activations, their gradients, and a few images.

    Parameters
    ----------
    classifier : the attacked model.
    shape : of the points; that of the model's images if None.
    """
    numbers = 12 * math.prod(shape or classifier.input_shape)
    for layer in leaves(classifier.model):
        shape = getattr(getattr(layer, "output", None), "shape", None)
        numbers += 3 * math.prod(n or 1 for n in shape[1:]) if shape else 0
    return 4 * numbers


def free_bytes() -> int:
    """Return the free memory in bytes, of this machine or its container; 2 GiB where it cannot be read."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        free = 2 << 30
    return memory.within_container(free)


def batch_size_for(classifier: Classifier) -> int:
    """Return a batch size that is fast and fits into the free memory."""
    if backend.accelerated():
        return whole_groups(ACCELERATOR_ROWS)
    each = row_bytes(classifier)
    gain = min(max(SMALL // each, PROCESSOR_ROWS), SMALL_ROWS)
    return whole_groups(max(1, min(gain, int(SHARE * free_bytes() / each))))


def bounded(requested: int, classifier: Classifier) -> int:
    """Return the largest batch size up to `requested` that fits into the free memory, caches included.

    A run from another source may name a batch that would use all memory. The result is at least what
    `batch_size_for` chooses, unless `requested` is less.
    """
    room = max(free_bytes(), memory.available() or 0)
    if requested * (each := row_bytes(classifier)) <= room:
        return requested
    return min(requested, max(batch_size_for(classifier), whole_groups(room // each)))


def rows_on_canvas(classifier: Classifier, canvas: tuple[int, int, int]) -> int:
    """Return the number of rows whose pictures on a canvas take `CANVAS_BYTES`, at least 1."""
    return whole_groups(max(1, CANVAS_BYTES // row_bytes(classifier, canvas)))


def whole_groups(rows: int) -> int:
    """Return the largest multiple of a kernel's group up to `rows`; `rows` if it is less than a group.

    In whole groups the last bits of a row do not depend on its slot.
    """
    return rows - rows % GROUP if rows > GROUP else rows


def even_batches(most: int, count: int) -> int:
    """Return the batch size, at most `most`, that runs `count` rows in batches with few empty slots.

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
