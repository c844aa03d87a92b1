"""Fixtures of the report tests: run folders with known numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.reports.folder import Folder
from tests.reports.hostile import fill


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty run folder to fill."""
    return Folder(tmp_path / "run")


@pytest.fixture
def mixed(folder: Folder) -> Path:
    """12 images: 5 flipped with pictures and steps, 3 robust, 2 misclassified, 1 failed, 1 unreadable."""
    rng = np.random.default_rng(1)
    for number in range(5):
        key = f"cats/cat.{number}.jpg"
        before, after = folder.flip(key, rng=rng, confidence_after=0.6 + number / 20)
        half = ((before.astype(int) + after) // 2).astype(np.uint8)
        for step, pixels in enumerate((before, half, after)):
            wrong = (0.1, 0.4, 0.6 + number / 20)[step]
            folder.strip(key, step, folder.picture(pixels), [1 - wrong, wrong])
    for number in range(3):
        folder.image(f"dogs/dog.{number}.jpg", label=1, clean_class=1)
        folder.outcome(f"dogs/dog.{number}.jpg", "robust")
    for number in range(2):
        folder.image(f"dogs/wrong.{number}.jpg", label=1, clean_class=0)
        folder.outcome(f"dogs/wrong.{number}.jpg", "misclassified")
    folder.image("dogs/hard.jpg", label=1, clean_class=1)
    folder.outcome("dogs/hard.jpg", "failed", reason="the loss is not finite")
    folder.image(
        "dogs/torn.jpg",
        label=1,
        clean_class=None,
        confidence=None,
        reason="The file ends too early.",
    )
    folder.outcome("dogs/torn.jpg", "unreadable", reason="The file ends too early.")
    return folder.write()


@pytest.fixture
def hostile(folder: Folder) -> Path:
    """A run with hostile names; see `tests.reports.hostile`."""
    return fill(folder)
