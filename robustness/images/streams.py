"""Copies a stream of images, which come once and in order, to the disk; then they are read in any order.

A `Source` is read in any order. Data sets that only give one image after the other are a `Stream`. Its images
are numbered by their position, so the order must be the same each time: the first images are read twice, and
a stream that shuffles or changes them is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from robustness.environment import collecting_garbage
from robustness.errors import ImagesError
from robustness.images import label_arrays
from robustness.images.arrays import fitted
from robustness.images.decode import decode
from robustness.images.entries import MAX_ENTRIES, Entry, Library, Shape, Source, Unreadable
from robustness.images.labels import Labelling
from robustness.images.png import MAX_BYTES, MAX_PIXELS
from robustness.images.spool import Spool
from robustness.images.value_range import ValueRange, to_counts

TWICE = 256
"""The number of images that are read a second time, to see whether the order and the images are the same."""


@dataclass(frozen=True)
class Sample:
    """One image of a stream.

    Parameters
    ----------
    content : bytes or ndarray
        A picture file; or the pixels (height, width, channels), counts 0..255 or floats 0..1.
    label : object
        A class number from 0, a class name, a one-hot row, or None.
    fault : str
        Why there is no image, a sentence; "" if there is one.
    """

    content: bytes | np.ndarray
    label: Any = None
    fault: str = ""


@dataclass(frozen=True)
class Stream:
    """Images that come one after the other.

    Parameters
    ----------
    what : str
        What it is, for the report, such as "tf.data.Dataset".
    samples : callable
        `samples()` begins a new pass and returns an iterator over the images.
    class_names : tuple of str or None
        The class names by label, if the stream states them.
    advice : str
        How to make the stream give the same images each time, for the message.
    """

    what: str
    samples: Callable[[], Iterator[Sample]]
    class_names: tuple[str, ...] | None = None
    advice: str = "Give it without shuffling and without random changes."
    access: ClassVar[str] = "stream"


@dataclass(frozen=True)
class _Slot:
    """Where a copy lies: its offset, number of bytes, and the shape and type of pixels (None for files)."""

    start: int
    size: int
    shape: tuple[int, ...] | None = None
    dtype: np.dtype | None = None


def spooled(stream: Stream, class_names: Sequence[str] | None, most: int) -> Source:
    """Copy a stream to the disk and return it as a source whose keys are positions, "row 17".

    Parameters
    ----------
    stream : the images.
    class_names : the names that the user states; None for those of the stream.
    most : the most bytes on the disk.

    Raises
    ------
    ImagesError
        It holds no images or too many, is larger than `most`, gives other images in a second pass, or its
        values are neither counts nor fractions.
    """
    spool, values = Spool(stream.what, most), ValueRange()
    slots: list[_Slot | None] = []
    faults: dict[int, str] = {}
    labels: list[Any] = []
    digests: list[bytes] = []
    # The garbage of the code that gives the images is collected, also in a pause.
    with collecting_garbage():
        for number, sample in enumerate(stream.samples()):
            if number >= MAX_ENTRIES:
                raise ImagesError(
                    f"{stream.what} gives more than {MAX_ENTRIES:,} images; expected an end. Give fewer, "
                    "such as dataset.take(1000)."
                )
            if number < TWICE:
                digests.append(_digest(sample))
            labels.append(sample.label)
            try:
                slots.append(_copied(sample, spool, values))
            except Unreadable as problem:
                slots.append(None)
                faults[number] = str(problem)
    if not slots:
        raise ImagesError(f"{stream.what} gives no images; expected at least one.")
    _expect_the_same(stream, digests)
    factor = values.factor(stream.what)
    names = class_names or stream.class_names
    labelling = _labelling(stream.what, labels, names)
    items = (
        (
            Entry(key := f"row {number}", key, labelling.labels[number]),
            number,
            faults.get(number, ""),
        )
        for number in range(len(slots))
    )

    def load(number: int, entry: Entry, shape: Shape) -> tuple[np.ndarray, str]:
        slot = slots[number]
        if slot is None:
            raise Unreadable("It was not copied.")
        data = spool.get(slot.start, slot.size)
        if slot.shape is None:
            return decode(data, entry.name, shape)
        pixels, note = to_counts(np.frombuffer(data, slot.dtype).reshape(slot.shape), factor)
        pixels, fit = fitted(pixels, shape)
        return pixels, "; ".join(filter(None, (note, fit)))

    scale = ", floats 0..1 times 255" if factor > 1 else ""
    description = labelling.describe(stream.what) + scale
    return Library(description, labelling.class_names, items, load)


def _copied(sample: Sample, spool: Spool, values: ValueRange) -> _Slot:
    if sample.fault:
        raise Unreadable(sample.fault)
    content = sample.content
    if isinstance(content, bytes):
        if len(content) > MAX_BYTES:
            raise Unreadable(f"It is larger than {MAX_BYTES >> 20} MiB, the most that is read.")
        return _Slot(spool.put(content), len(content))
    if content.ndim != 3 or min(content.shape) < 1:
        raise Unreadable(f"It has the shape {content.shape}; expected (height, width, channels).")
    if content.shape[0] * content.shape[1] > MAX_PIXELS or content.shape[2] > 64:
        raise Unreadable(f"It has more than {MAX_PIXELS:,} pixels, the most that is read.")
    values.see(content)
    data = np.ascontiguousarray(content).tobytes()
    return _Slot(spool.put(data), len(data), content.shape, content.dtype)


def _expect_the_same(stream: Stream, digests: Sequence[bytes]) -> None:
    """ImagesError unless a second pass gives the same first images."""
    again = [_digest(sample) for sample in islice(stream.samples(), len(digests))]
    if again == digests:
        return
    if not again:
        raise ImagesError(
            f"{stream.what} can be read only once, so whether it gives the same images each time is not "
            f"known. {stream.advice}"
        )
    moved = len(set(again) & set(digests))
    cause = (
        "the same images in another order: it shuffles"
        if moved > len(digests) // 2
        else "other images: it shuffles, or changes them at random"
    )
    raise ImagesError(
        f"{stream.what} gives {cause}. Images are known by their position, so a resumed or repeated audit "
        f"would mix them up. {stream.advice}"
    )


def _digest(sample: Sample) -> bytes:
    sha = hashlib.sha256(repr(sample.label).encode("utf-8", "backslashreplace"))
    if isinstance(sample.content, bytes):
        sha.update(sample.content)
    else:
        sha.update(f"{sample.content.shape}{sample.content.dtype}".encode())
        sha.update(np.ascontiguousarray(sample.content).tobytes())
    return sha.digest()


def _labelling(what: str, labels: list[Any], names: Sequence[str] | None) -> Labelling:
    if all(label is None for label in labels):
        return Labelling(None if names is None else tuple(names), list(labels))
    rows = [np.asarray(one) for one in labels if one is not None]
    flat: Any = labels
    if all(row.ndim == 1 and row.size > 1 for row in rows) and len(rows) == len(labels):
        flat = np.stack(rows) if len({row.shape for row in rows}) == 1 else labels
    elif all(row.size == 1 for row in rows):
        flat = np.empty(len(labels), object)
        for number, one in enumerate(labels):
            flat[number] = None if one is None else np.asarray(one).reshape(()).item()
    try:
        return label_arrays.by_array(flat, len(labels), names)
    except ImagesError as error:
        raise ImagesError(f"{what}: {error}") from error
