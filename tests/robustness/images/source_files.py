"""The same pictures as files of every kind, for tests."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robustness.images.crc32c import masked

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


def varint(value: int) -> bytes:
    """A number as protocol buffers write it."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _part(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def example(features: dict[str, Any]) -> bytes:
    """A serialized `tf.train.Example` of bytes, whole numbers, floats, or lists of one of these."""
    entries = b""
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], bytes):
            kind = _part(1, b"".join(_part(1, one) for one in values))
        elif isinstance(values[0], float):
            kind = _part(2, _part(1, struct.pack(f"<{len(values)}f", *values)))
        else:
            kind = _part(3, _part(1, b"".join(map(varint, values))))
        entries += _part(1, _part(1, name.encode()) + _part(2, kind))
    return _part(1, entries)


def framed(record: bytes) -> bytes:
    """A record with its length and checksums."""
    length = struct.pack("<Q", len(record))
    checks = struct.pack("<I", masked(length)), struct.pack("<I", masked(record))
    return length + checks[0] + record + checks[1]


def write_records(files: dict[str, bytes], path: Path) -> Path:
    """Write a TFRecord file."""
    path.write_bytes(
        b"".join(
            framed(
                example(
                    {"image/encoded": data, "image/filename": name.encode(),
                     "image/class/label": CLASSES.index(name.split("/")[0]),
                     "image/class/text": name.split("/")[0].encode()}
                )
            )
            for name, data in files.items()
        )
    )  # fmt: skip
    return path


def write_parquet(files: dict[str, bytes], path: Path, rows: int = 5) -> Path:
    """Write a Parquet file as Hugging Face does: bytes and paths, and a ClassLabel."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(CLASSES), "_type": "ClassLabel"},
    }
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    values = {
        "image": [{"bytes": data, "path": name} for name, data in files.items()],
        "label": [CLASSES.index(name.split("/")[0]) for name in files],
    }
    pq.write_table(pa.table(values, schema), path, row_group_size=rows)
    return path
