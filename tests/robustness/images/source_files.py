"""The same pictures as files of every kind, for tests."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog")


def png(pixels: np.ndarray) -> bytes:
    """A PNG of pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def members(images: np.ndarray, labels: np.ndarray) -> dict[str, bytes]:
    """PNG files in a folder for each class."""
    return {
        f"{CLASSES[label]}/{number:04}.png": png(image)
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    }


def write_folder(files: dict[str, bytes], folder: Path) -> Path:
    """Write a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_zip(files: dict[str, bytes], path: Path) -> Path:
    """Write a zip."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tar(files: dict[str, bytes]) -> bytes:
    """The bytes of a tar file."""
    parts = []
    for name, data in files.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        parts.append(info.tobuf() + data + bytes(-len(data) % 512))
    return b"".join(parts) + bytes(1024)


def write_shards(files: dict[str, bytes], folder: Path, count: int = 3) -> Path:
    """Write tar shards in the way of WebDataset, with the class in `.cls`; return their range."""
    folder.mkdir()
    names = sorted(files)
    for shard in range(count):
        part: dict[str, bytes] = {}
        for name in names[shard::count]:
            part[name] = files[name]
            part[name.replace(".png", ".cls")] = str(CLASSES.index(name.split("/")[0])).encode()
        (folder / f"data-{shard:03}.tar").write_bytes(tar(part))
    return folder / f"data-{{000..{count - 1:03}}}.tar"


def write_list(files: dict[str, bytes], folder: Path) -> Path:
    """Write a CSV beside its pictures."""
    write_folder(files, folder)
    rows = [f"{name},{name.split('/')[0]}" for name in files]
    (folder / "list.csv").write_text("\n".join(["path,label", *rows]))
    return folder / "list.csv"
