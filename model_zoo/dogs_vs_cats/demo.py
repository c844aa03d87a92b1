"""Pictures that need no account: a real cat, and rendered cats and dogs."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from robustness.errors import SettingError
from robustness.images import Entry, Picture
from robustness.images.entries import readable, unreadable
from robustness.model_zoo.dogs_vs_cats.renderings import KINDS, render

CHELSEA = "chelsea.png"
COUNT = 128
_SPEC = re.compile(r"pets(?::(\d+))?")


class Pets:
    """Chelsea, the cat of scikit-image, and `count` renderings that no training saw."""

    class_names = KINDS

    def __init__(self, count: int = COUNT, seed: int = 0) -> None:
        self._count, self._seed = count, seed

    @property
    def description(self) -> str:
        """One line for the report."""
        return f"one photograph (Chelsea) and {self._count} rendered cats and dogs"

    def entries(self) -> list[Entry]:
        """Chelsea first, then the renderings by number."""
        drawn = [
            Entry(f"rendered/{self._seed}/{n}", f"{KINDS[n % 2]}.rendered.{n:05d}.png", n % 2)
            for n in range(self._count)
        ]
        return [Entry(CHELSEA, CHELSEA, KINDS.index("cat")), *drawn]

    def read(self, entry: Entry, shape: tuple[int, int, int]) -> Picture:
        """The picture at the size of `shape`."""
        if shape[2] != 3:
            return unreadable(
                entry, "the rendered pets are in colour; the model takes grey pictures"
            )
        pixels = _chelsea() if entry.key == CHELSEA else self._render(entry)
        size = (shape[1], shape[0])
        if pixels.shape[:2] == shape[:2]:
            return readable(entry, pixels)
        resized = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
        note = f"resized from {pixels.shape[1]}x{pixels.shape[0]}"
        return readable(entry, np.asarray(resized, np.uint8), note)

    def _render(self, entry: Entry) -> np.ndarray:
        number = int(entry.key.rsplit("/", 1)[-1])
        return render(KINDS[number % 2], self._seed * 1_000_000 + number)


def _chelsea() -> np.ndarray:
    """The middle square of Chelsea, whose face fills the picture."""
    from skimage import data  # noqa: PLC0415 - slow to import, and only for this one picture

    photo = data.chelsea()
    height, width = photo.shape[:2]
    left = (width - height) // 2
    return np.asarray(photo[:, left : left + height])


def pets_from(spec: str) -> Pets | None:
    """The source meant by `pets` or `pets:N`; None if the words mean something else."""
    match = _SPEC.fullmatch(spec)
    if not match:
        return None
    count = int(match[1]) if match[1] else COUNT
    if not 1 <= count <= 1_000_000:
        raise SettingError(f"pets:{count} is not a number of pictures; expected 1 to 1000000.")
    return Pets(count)
