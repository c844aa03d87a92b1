"""The competition's photographs: which ones are held out, and as arrays to train on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from robustness.images import open_source
from robustness.model_zoo.dogs_vs_cats import CLASS_NAMES


def held_out(name: str) -> bool:
    """Whether the photo called `name` (`cat.17.jpg`) is in the tenth that is never trained on.

    A hash of the bare file name decides, so the split is the same on every machine, for every
    subset of the photographs, for good.
    """
    bare = name.rsplit("/", 1)[-1].lower()
    return int.from_bytes(hashlib.sha256(bare.encode()).digest()[:8], "big") % 10 == 0


def arrays(
    archive: Path, side: int, *, held: bool, cache: Path | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Photos (n, side, side, 3) uint8 and labels (n,), as the image reader sees them.

    `archive` is Kaggle's `dogs-vs-cats.zip`, its `train.zip`, or a folder of its photos. Decoding
    20,000 photographs takes minutes: with `cache`, a folder, the result is kept there and read back
    the next time.
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
