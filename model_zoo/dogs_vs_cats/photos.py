"""The photographs of the competition as arrays, divided into training and held-out ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from robustness.images import open_source
from robustness.model_zoo.dogs_vs_cats import CLASS_NAMES


def held_out(name: str) -> bool:
    """Whether the photo called `name` (`cat.17.jpg`) belongs to the tenth that is never used for training.

    A hash of the bare file name decides, so that the split is the same on every machine and for every subset
    of the photographs.
    """
    bare = name.rsplit("/", 1)[-1].lower()
    return int.from_bytes(hashlib.sha256(bare.encode()).digest()[:8], "big") % 10 == 0


def arrays(
    archive: Path, side: int, *, held: bool, cache: Path | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read photos and their labels as the image reader decodes them.

    Parameters
    ----------
    archive
        Kaggle's `dogs-vs-cats.zip`, its `train.zip`, or a folder of its photos.
    side
        Height and width of the result in pixels.
    held
        Whether to read the held-out photos instead of the others.
    cache
        A folder in which the result is kept for the next call, since decoding 20,000 photos takes minutes.

    Returns
    -------
    Photos (n, side, side, 3) uint8 and labels (n,).
    """
    kept = cache and cache / f"photos-{side}-{'held' if held else 'train'}.npz"
    if kept and kept.exists():
        with np.load(kept, allow_pickle=False) as file:
            return file["images"], file["labels"]
    source = open_source(archive, CLASS_NAMES)
    wanted = [e for e in source.entries() if e.label is not None and held_out(e.name) == held]
    pictures = [source.read(entry, (side, side, 3)) for entry in wanted]
    images = np.stack([p.pixels for p in pictures if p.pixels is not None])
    labels = np.array([p.entry.label for p in pictures if p.pixels is not None])
    if kept:
        part = kept.with_suffix(".part.npz")
        np.savez(part, images=images, labels=labels)
        part.replace(kept)
    return images, labels
