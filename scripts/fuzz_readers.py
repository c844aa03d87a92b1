"""Fuzz a reader of untrusted files with atheris (libFuzzer), started by hand, for example for an hour.

    python -m pip install atheris
    python scripts/fuzz_readers.py                        the names of the readers
    python scripts/fuzz_readers.py npz -max_total_time=3600 -rss_limit_mb=4096
    python scripts/fuzz_readers.py npz crash-0123abcd     one input again

A reader may raise its RobustnessError, or ValueError or OSError where its caller converts these. Any other
exception, a hang (-timeout=10) or more memory than -rss_limit_mb is a fault. The hypothesis tests use the
same `readers` (`tests/robustness/files/test_readers.py`).
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

_WATCHED = ["robustness", "zipfile", "csv", "tomllib", "json", "PIL", "numpy.lib"]


def _watching() -> contextlib.AbstractContextManager[object]:
    """If run as a script, instrument imports in this context, so that libFuzzer sees new branches."""
    if __name__ != "__main__" or len(sys.argv) < 2:
        return contextlib.nullcontext()
    import atheris  # not a dependency: installed by hand

    return atheris.instrument_imports(include=_WATCHED)


with _watching():
    import csv  # noqa: F401
    import tomllib  # noqa: F401

    from PIL import Image

    from robustness.configuration import toml
    from robustness.errors import RobustnessError
    from robustness.files import bounded, npy
    from robustness.images import open_source
    from robustness.images import png as pictures
    from robustness.images.decode import decode
    from robustness.images.entries import Unreadable
    from robustness.models import loading
    from robustness.models.scan import model_size
    from robustness.threat import mask

Reader = Callable[[bytes], object]
MODEL = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "name": "s",
        "layers": [
            {
                "module": "keras.layers",
                "class_name": "InputLayer",
                "config": {"batch_shape": [None, 8, 8, 3], "name": "i"},
            },
            {
                "module": "keras.layers",
                "class_name": "Conv2D",
                "config": {"name": "c", "filters": 4, "kernel_size": [3, 3]},
            },
            {"module": "keras.layers", "class_name": "Flatten", "config": {"name": "f"}},
            {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 2}},
        ],
    },
}


@contextlib.contextmanager
def _file(data: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path


def _source(suffix: str) -> Reader:
    def read(data: bytes) -> None:
        with _file(data, f"data{suffix}") as path:
            source = open_source(path)
            for entry in source.entries()[:5]:
                source.read(entry, (8, 8, 3))

    return read


def _scan(suffix: str) -> Reader:
    def read(data: bytes) -> None:
        with _file(data, f"model{suffix}") as path:
            loading.scan(path)

    return read


def _config(data: bytes) -> None:
    """The configuration of a model, in an archive that is sound otherwise."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", data)
        archive.writestr("model.weights.h5", _empty_h5())
    _scan(".keras")(buffer.getvalue())


def _walk(data: bytes) -> None:
    config_of = bounded.parse_json(data, max_bytes=1 << 20, finite=False)
    if isinstance(config_of, dict):
        model_size.measure(config_of, 1000)


def _empty_h5() -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("layers").create_dataset("kernel", data=np.zeros((3, 3), "float32"))
    return buffer.getvalue()


def _toml(data: bytes) -> None:
    with _file(data, "audit.toml") as path:
        toml.read(path)


def _mask(data: bytes) -> None:
    with _file(data, "mask.png") as path:
        mask.Mask.of(path, (8, 8, 3))


def _npy(data: bytes) -> None:
    npy.read_array(io.BytesIO(data), 1 << 24)


def _png(data: bytes) -> None:
    with contextlib.suppress(SyntaxError):
        pictures.from_png(data)


READERS: dict[str, Reader] = {
    "picture": lambda data: decode(data, "x.png", (8, 8, 3)),
    "png": _png,
    "mask": _mask,
    "npz": _source(".npz"),
    "npy": _npy,
    "csv": _source(".csv"),
    "zip": _source(".zip"),
    "toml": _toml,
    "json": lambda data: bounded.parse_json(data, max_bytes=1 << 20),
    "keras": _scan(".keras"),
    "h5": _scan(".h5"),
    "config": _config,
    "walk": _walk,
}


def read(name: str, data: bytes) -> bool:
    """Whether the reader `name` accepts `data`; errors that it must not raise propagate."""
    try:
        READERS[name](data)
    except (RobustnessError, Unreadable, ValueError, OSError):
        return False
    return True


def seeds(name: str) -> list[bytes]:
    """Valid inputs as the initial corpus."""

    def drawn(kind: str) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (9, 7), (201, 202, 203)).save(buffer, kind)
        return buffer.getvalue()

    def saved(save: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        save(buffer, *arrays, **named)
        return buffer.getvalue()

    def packed(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", how) as archive:
            for member, data in members:
                archive.writestr(member, data)
        return buffer.getvalue()

    png = drawn("PNG")
    images = np.arange(2 * 4 * 4 * 3, dtype="uint8").reshape(2, 4, 4, 3)
    told = {"images": images, "labels": np.array([0, 1]), "class_names": np.array(["a", "b"])}
    model = json.dumps(MODEL).encode()
    whole = packed(
        ("config.json", model), ("metadata.json", b"{}"), ("model.weights.h5", _empty_h5())
    )
    found = {
        "picture": [drawn(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")],
        "png": [png],
        "mask": [png],
        "npz": [saved(np.savez, **told), saved(np.savez_compressed, **told)],
        "npy": [saved(np.save, images), saved(np.save, np.asfortranarray(images))],
        "csv": [b"path,label\na.png,cat\nb.png,dog\n"],
        "zip": [packed(("cat/1.png", png), ("dog/2.png", png)), packed(("a.png", png), how=0)],
        "toml": [b'[model]\npath = "m.keras"\n[gate]\nfloor = 0.5\n[[a.b]]\nc = {d = [1, 2]}\n'],
        "json": [model],
        "keras": [whole],
        "h5": [_empty_h5()],
        "config": [model],
        "walk": [model],
    }
    return found[name]


def main(arguments: list[str]) -> None:
    """Fuzz the reader named by the first argument; the other arguments go to libFuzzer."""
    if not arguments or arguments[0] not in READERS:
        print("readers:", ", ".join(READERS))
        return
    name, *rest = arguments
    import atheris

    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, data in enumerate(seeds(name)):
        (corpus / str(number)).write_bytes(data)
    replays = any(not one.startswith("-") for one in rest)
    atheris.Setup(
        [sys.argv[0], *rest, *([] if replays else [str(corpus)])], lambda data: read(name, data)
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
