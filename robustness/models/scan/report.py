"""Inspects a model file of any kind: `scan` returns a `ScanReport`, and loads nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from robustness.errors import ModelError
from robustness.files.disk_errors import expect_named
from robustness.models.formats import (
    ACCEPTED,
    H5,
    HEAD_BYTES,
    KERAS,
    file_kind,
    folder_kind,
    unknown_kind,
)
from robustness.models.legacy.conversion import Conversion
from robustness.models.scan import keras_range
from robustness.models.scan.config_safety import is_remote, quote
from robustness.models.scan.hdf5_model import scan_hdf5
from robustness.models.scan.keras_zip import scan_zip

_SCANNERS = {KERAS.name: scan_zip, H5.name: scan_hdf5}


@dataclass(frozen=True)
class ScanReport:
    """The result of a scan of a model file.

    Attributes
    ----------
    name : file name without its folder.
    format : `keras` or `h5` for a whole model, `weights` for weights only.
    sha256 : SHA-256 of the file.
    size : size of the file in bytes.
    findings : reasons not to load the file, each a sentence part that names the place.
    notes : remarks that do not prevent loading.
    keras_version : the version of Keras that wrote the file, if stated.
    trial : why the model must first be loaded in a process with limits; "" if it need not be.
    layout : of a weights file, `keras3` or `keras2`.
    conversion : the converted configuration of a file that Keras 1 or 2 has written, or the completed one of
        an HDF5 file of Keras 3.
    file_findings : those of the findings that concern the file, not the configuration in it.
    backend : the backend that the file states.
    unconverted : why such a configuration could not be converted; "" if it was or need not be.
    """

    name: str
    format: str
    sha256: str
    size: int
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    keras_version: str | None = None
    trial: str = ""
    layout: str = field(default="", repr=False)
    conversion: Conversion | None = field(default=None, repr=False, compare=False)
    unconverted: str = ""
    file_findings: tuple[str, ...] = field(default=(), repr=False)
    backend: str | None = field(default=None, repr=False)

    @property
    def safe(self) -> bool:
        """Whether the scan has no findings."""
        return not self.findings


def scan(path: str | Path) -> ScanReport:
    """Inspect a model file without loading it, without Keras or TensorFlow, and without running its code.

    Its first bytes decide what it is, not its suffix.

    Raises
    ------
    ModelError
        The file is missing, damaged, or of another kind.
    """
    file = _local_file(path)
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        kind = file_kind(head)
        if kind is None:
            raise ModelError(unknown_kind(file, head))
        if kind.name not in _SCANNERS:
            raise ModelError(kind.refusal(file))
        stream.seek(0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
        stream.seek(0)
        facts = _SCANNERS[kind.name](stream, size, file.name)
    conversion = facts.get("conversion")
    converted = conversion.notes if conversion else ()
    notes = (*converted, *facts.pop("notes", ()), *keras_range.notes(keras_range.installed()))
    return ScanReport(file.name, sha256=sha256, size=size, notes=notes, **facts)


def _local_file(path: str | Path) -> Path:
    if is_remote(path):
        raise ModelError(
            f"{quote(path)} is a remote address; expected a local file. Download it, look at where "
            "it comes from, and give the path of the copy."
        )
    expect_named(path, "The path of the model")
    file = Path(path)
    if file.is_dir():
        raise ModelError(folder_kind(file))
    if not file.is_file():
        raise ModelError(f"There is no model file {quote(path, 200)}; expected {ACCEPTED}.")
    return file
