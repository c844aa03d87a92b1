"""Calls a function of images in batches of two sizes: outputs do not depend on the number of images."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from keras import ops

from robustness import backend
from robustness.errors import ModelError, RobustnessError
from robustness.text import first_few, plural, shorten

GROUP = 6
"""Rows that a matrix kernel processes together, with AVX2. In a shorter last group of a batch the order of
summation differs, so that the last bits of a row depend on its place."""
SMALL_BATCH, LARGE_BATCH = 2 * GROUP, 6 * GROUP
"""Images per call of the model: one of these two sizes, filled up if there are fewer images. The large size
is not used if it does not fit into memory, or changes the outputs for the same images even in the last bit:
outputs for an image must not depend on the size of the batch, nor on the place in it."""

See = Callable[[np.ndarray], Any]


class CallError(ModelError):
    """The model raised an error on images.

    Attributes
    ----------
    cause : the line that names the error.
    places : the indices of the images on which the model fails alone; of all images of the call if it fails
        on none alone.
    alone : whether it fails on them alone.
    """

    def __init__(self, cause: str, places: Sequence[int], *, alone: bool) -> None:
        super().__init__(
            f"The model raised an error when it was called on images ({cause}). Expected outputs for every "
            "image of its input shape; call it on these images by itself, as model.predict(images), to find "
            "the layer."
        )
        self.cause, self.places, self.alone = cause, tuple(places), alone

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(CallError, alone=self.alone), (self.cause, self.places)

    def after(self, count: int) -> CallError:
        """Return the error for images of which `count` come before those of the call."""
        return CallError(self.cause, [count + place for place in self.places], alone=self.alone)

    def named(self, names: Sequence[str]) -> ModelError:
        """Return the error with the names of the images, given those of all images; at most three."""
        shown = first_few([names[place] for place in self.places])
        what = (
            "It fails on" if self.alone else "It fails on none of them alone, but on the batch of"
        )
        return ModelError(f"{self} {what} {plural(len(self.places), 'image')}: {shown}.")


@contextlib.contextmanager
def naming(names: Sequence[str]) -> Iterator[None]:
    """Name the images on which the model raises an error; `names` are those of all images of the call."""
    try:
        yield
    except CallError as error:
        raise error.named(names) from error.__cause__


class FixedSizeCalls:
    """Calls a function of images (n, height, width, channels) with one of two batch sizes."""

    def __init__(self) -> None:
        self._alike: bool | None = None

    def __call__(self, images: np.ndarray, see: See, outputs: int) -> np.ndarray:
        """Return the outputs of `see`, (n, outputs) float32, for any number of images."""
        parts, done = [np.zeros((0, outputs), "float32")], 0
        while done < len(images):
            try:
                parts.append(self._next(images[done:], see))
            except CallError as error:
                raise error.after(done) from error.__cause__
            done += len(parts[-1])
        return np.concatenate(parts)

    def _next(self, images: np.ndarray, see: See) -> np.ndarray:
        """The outputs of `see` for the first of `images`, as many as fit into one call."""
        # One large batch, filled up, takes less time than several small ones.
        if self._alike is False or len(images) <= LARGE_BATCH - SMALL_BATCH:
            return _outputs(images[:SMALL_BATCH], see, SMALL_BATCH)
        if self._alike:
            return _outputs(images[:LARGE_BATCH], see, LARGE_BATCH)
        return self._compared(images, see)

    def _compared(self, images: np.ndarray, see: See) -> np.ndarray:
        """The first call of `_next`: determines whether the large batch fits and gives equal outputs."""
        few = _outputs(images[:SMALL_BATCH], see, SMALL_BATCH)
        try:
            many = _outputs(images[:LARGE_BATCH], see, LARGE_BATCH)
        except backend.OutOfMemory:
            self._alike = False
            return few
        self._alike = np.array_equal(few, many[:SMALL_BATCH], equal_nan=True)
        return many if self._alike else few


def _outputs(some: np.ndarray, see: See, size: int) -> np.ndarray:
    """The outputs of `see` for at most `size` images; the batch is filled up to `size`."""
    try:
        return _called(some, see, size)
    except RobustnessError:
        raise
    except backend.OutOfMemory:
        raise
    except Exception as error:
        places = [place for place in range(len(some)) if _fails(some[place : place + 1], see, size)]
        alone = bool(places)
        raise CallError(_cause(error), places or range(len(some)), alone=alone) from error


def _called(some: np.ndarray, see: See, size: int) -> np.ndarray:
    spare = size - len(some)
    filled = np.concatenate([some, np.repeat(some[:1], spare, axis=0)]) if spare else some
    return np.asarray(ops.convert_to_numpy(see(filled)), "float32")[: len(some)]


def _fails(one: np.ndarray, see: See, size: int) -> bool:
    """Whether the model raises an error on copies of one image."""
    try:
        _called(one, see, size)
    except Exception:  # the code of a model may raise anything
        return True
    return False


_FRAMES = ("Exception encountered when calling", "Graph execution error", "Detected at node")


def _cause(error: Exception) -> str:
    """The line of an error that names its cause: frameworks put many around it."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in str(error).splitlines()]
    named = [line for line in lines if re.match(r"[A-Z]\w*(Error|Exception): ", line)]
    rest = [line for line in lines if line and not line.startswith(_FRAMES)]
    return shorten(named[-1] if named else ": ".join([type(error).__name__, *rest[:1]]), 300)
