"""Demo images that need no account: a photograph of a cat, and rendered cats and dogs."""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
from PIL import Image

from robustness.errors import SettingError
from robustness.images import Entry, Picture
from robustness.images.entries import Shape, readable, unreadable
from robustness.model_zoo.dogs_vs_cats.renderings import KINDS, render

CHELSEA = "chelsea.png"
COUNT = 128
_SPEC = re.compile(r"pets(?::(\d+))?")


class Pets:
    """A source of images: Chelsea, the cat of scikit-image, and `count` renderings not used in training."""

    access: ClassVar[str] = "random"
    class_names = KINDS

    def __init__(self, count: int = COUNT, seed: int = 0, first: int = 0) -> None:
        self._count, self._seed, self._first = count, seed, first

    @property
    def description(self) -> str:
        """A line for the report."""
        rendered = f" and {self._count} rendered cats and dogs" if self._count else ""
        return f"one photograph (Chelsea){rendered}"

    def entries(self) -> list[Entry]:
        """List Chelsea first, then the renderings by number."""
        drawn = [
            Entry(f"rendered/{self._seed}/{n}", f"{KINDS[n % 2]}.rendered.{n:05d}.png", n % 2)
            for n in range(self._first, self._first + self._count)
        ]
        return [Entry(CHELSEA, CHELSEA, KINDS.index("cat")), *drawn]

    def read(self, entry: Entry, shape: Shape) -> Picture:
        """Return the picture, resized to `shape` if need be; unreadable for grey models."""
        if shape[2] != 3:
            return unreadable(
                entry, "the rendered pets are in colour, but the model takes grey pictures"
            )
        pixels = _chelsea() if entry.key == CHELSEA else self._render(entry)
        height, width, _ = shape
        if height is None or width is None or pixels.shape[:2] == (height, width):
            return readable(entry, pixels)
        resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        note = f"resized from {pixels.shape[1]}x{pixels.shape[0]}"
        return readable(entry, np.asarray(resized, np.uint8), note)

    def _render(self, entry: Entry) -> np.ndarray:
        number = int(entry.key.rsplit("/", 1)[-1])
        return render(KINDS[number % 2], self._seed * 1_000_000 + number)


def _chelsea() -> np.ndarray:
    """The middle square of Chelsea, with the face."""
    from skimage import data  # noqa: PLC0415 - slow to import, and only for this one picture

    photo = data.chelsea()
    height, width = photo.shape[:2]
    left = (width - height) // 2
    return np.asarray(photo[:, left : left + height])


def pets_from(spec: str) -> Pets | None:
    """Parse `pets` or `pets:N`.

    Returns
    -------
    The source; None if `spec` has another form.

    Raises
    ------
    SettingError
        N is not from 1 to 1000000.
    """
    match = _SPEC.fullmatch(spec)
    if not match:
        return None
    if not match[1]:
        return Pets()
    # Python refuses to convert thousands of digits.
    count = int(match[1]) if len(match[1]) < 10 else 0
    if not 1 <= count <= 1_000_000:
        raise SettingError(f"pets:{match[1]:.20} is not a number of images; expected 1 to 1000000.")
    return Pets(count - 1, first=1)
