"""The competition's photographs: which ones are held out, and as arrays to train on."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from model_zoo.dogs_vs_cats.architecture import CLASS_NAMES

_NAME = re.compile(r"(?:^|/)((cat|dog)\.\d+\.jpe?g)$", re.IGNORECASE)


def held_out(name: str) -> bool:
    """Whether the photo called `name` (`cat.17.jpg`) is in the tenth that is never trained on.

    A hash of the bare file name decides, so the split is the same on every machine, for every
    subset of the photographs, for good.
    """
    bare = name.rsplit("/", 1)[-1].lower()
    return int.from_bytes(hashlib.sha256(bare.encode()).digest()[:8], "big") % 10 == 0


def photographs(archive: Path) -> Iterator[tuple[str, int, bytes]]:
    """(file name, class index, JPEG bytes) of each labelled photo in Kaggle's archive.

    `archive` is `dogs-vs-cats.zip` (with `train.zip` inside) or `train.zip` itself. Nothing is
    unpacked to disk.
    """
    with zipfile.ZipFile(archive) as outer:
        inner = [n for n in outer.namelist() if n.endswith("train.zip")]
        with zipfile.ZipFile(outer.open(inner[0])) if inner else outer as train:
            for member in sorted(train.namelist()):
                if match := _NAME.search(member):
                    yield match[1], CLASS_NAMES.index(match[2].lower()), train.read(member)


def arrays(
    archive: Path, side: int, *, held: bool, cache: Path | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Photos (n, side, side, 3) uint8 and labels (n,), resized as the image reader does.

    Decoding 20,000 photographs takes minutes: with `cache`, a folder, the result is kept there and
    read back the next time.
    """
    kept = cache and cache / f"photos-{side}-{'held' if held else 'train'}.npz"
    if kept and kept.exists():
        with np.load(kept, allow_pickle=False) as file:
            return file["images"], file["labels"]
    images, labels = [], []
    for name, label, data in photographs(archive):
        if held_out(name) == held:
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            images.append(
                np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), np.uint8)
            )
            labels.append(label)
    result = np.stack(images), np.asarray(labels)
    if kept:
        part = kept.with_suffix(".part.npz")
        np.savez(part, images=result[0], labels=result[1])
        part.replace(kept)
    return result
