"""Reads untrusted `.npy` and `.npz` files: checks headers against the file size, unpickles nothing."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustness.files.bounded import open_regular, zip_directory_bytes

MAX_ARRAY_BYTES = 1 << 30
MAX_DIRECTORY_BYTES = 4 << 20
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Header:
    """The header of a `.npy` file; `start` is the offset of the first number in bytes."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int

    @property
    def size(self) -> int:
        """The size of the array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: Any) -> Header:
    """Read the header of a `.npy` file and check it against the size of the file.

    Parameters
    ----------
    file : file object
        A seekable file opened for reading bytes.

    Raises
    ------
    ValueError
        The header is broken, states more bytes than follow it, or describes objects or records.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"its version {version} is not read")
        shape, fortran, dtype = _HEADERS[version](file)
    except (ValueError, OSError) as error:
        raise ValueError(f"its header is broken: {str(error).splitlines()[0][:200]}") from error
    except (
        Exception
    ) as error:  # NumPy parses the header as a Python literal, with Python's tokenizer
        raise ValueError(f"its header is broken: {type(error).__name__}") from error
    header = Header(tuple(shape), bool(fortran), dtype, file.tell())
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError(
            f"it holds pickled objects or records ({dtype}); expected numbers or texts"
        )
    if not dtype.itemsize or any(type(n) is not int or n < 0 for n in header.shape):
        raise ValueError(f"it claims the shape {header.shape} and the type {dtype}")
    if header.size > end - header.start:
        raise ValueError(
            f"it is truncated: it claims {header.size:,} bytes (shape {header.shape}, {dtype}) and has "
            f"{end - header.start:,}"
        )
    return header


def read_array(file: Any, most: int = MAX_ARRAY_BYTES) -> np.ndarray:
    """Read the array of a `.npy` file, of at most `most` bytes; ValueError as `read_header`."""
    header = read_header(file)
    if header.size > most:
        raise ValueError(f"it has {header.size:,} bytes; at most {most:,} are read")
    file.seek(header.start)
    data = file.read(header.size)
    if len(data) < header.size:
        raise ValueError("it ends before its numbers do")
    flat = np.frombuffer(data, header.dtype)
    _expect_text(flat)
    return flat.reshape(header.shape, order="F" if header.fortran else "C").copy()


def _expect_text(flat: np.ndarray) -> None:
    """ValueError for a text array with code points that are not characters: Python fails on them."""
    if flat.dtype.kind != "U":
        return
    codes = flat.view(np.dtype(np.uint32).newbyteorder(flat.dtype.byteorder))
    if bool(((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any()):
        raise ValueError("it holds texts that are no Unicode")


def read_npy(path: str | Path) -> np.ndarray:
    """Read the array in the `.npy` file at `path`; OSError or ValueError if it cannot be read."""
    with open_regular(path) as file:
        return read_array(file)


def read_npz(path: str | Path, *names: str) -> dict[str, np.ndarray]:
    """Read the arrays called `names` from the `.npz` file at `path`.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        It is not a sound archive of plain arrays, or one of the arrays is missing.
    """
    with open_regular(path) as file:
        if zip_directory_bytes(file) > MAX_DIRECTORY_BYTES:
            raise ValueError("it has too many members")
        try:
            with zipfile.ZipFile(file) as archive:
                return {name: _member(archive, f"{name}.npy") for name in names}
        except (ValueError, OSError):
            raise
        # For a damaged file zipfile raises many types: BadZipFile, struct.error, zlib.error, ...
        except Exception as error:
            raise ValueError(f"it is no sound archive: {error}") from error


def read_npz_arrays(path: str | Path, most: int) -> dict[str, np.ndarray]:
    """Read all arrays of a small `.npz` file; no more than `most` bytes in all.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        It is not a sound archive of plain arrays, or larger than `most` bytes when unpacked.
    """
    with open_regular(path) as file:
        if zip_directory_bytes(file) > MAX_DIRECTORY_BYTES:
            raise ValueError("it has too many members")
        try:
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
                if sum(info.file_size for info in infos) > most:
                    raise ValueError(f"it is larger than {most:,} bytes, the most that is read")
                return {
                    info.filename.removesuffix(".npy"): _member(archive, info.filename)
                    for info in infos
                }
        except (ValueError, OSError):
            raise
        except Exception as error:
            raise ValueError(f"it is no sound archive: {error}") from error


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    infos = [info for info in archive.infolist() if info.filename == name]
    if len(infos) != 1:
        raise ValueError(f"it holds {len(infos)} arrays called {name}; expected one")
    if infos[0].file_size > MAX_ARRAY_BYTES:
        raise ValueError(f"{name} has more than {MAX_ARRAY_BYTES:,} bytes")
    with archive.open(infos[0]) as packed:
        return read_array(io.BytesIO(packed.read(MAX_ARRAY_BYTES + 1)))
