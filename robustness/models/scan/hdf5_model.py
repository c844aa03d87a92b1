"""Inspects an HDF5 file with a model or weights of Keras without loading it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, Any

from robustness.errors import ModelError
from robustness.models.formats import ACCEPTED
from robustness.models.legacy.keras3_hdf5 import weights_of
from robustness.models.scan.config_safety import quote
from robustness.models.scan.configuration import damaged, judge_hdf5, parse_config
from robustness.models.scan.hdf5 import h5_facts

_TRUNCATED = re.compile(r"truncated file: eof = (\d+).*?stored_eof = (\d+)")


def scan_hdf5(stream: IO[bytes], size: int, name: str) -> dict[str, Any]:
    """Return the facts of a `ScanReport` for an open HDF5 file; arguments and errors as for `scan_zip`."""
    return with_hdf5(stream, name, lambda file: _facts(file, size, name))


def _facts(file: Any, size: int, name: str) -> dict[str, Any]:
    told = h5_facts(file, size)
    findings = tuple(told.findings)
    if not told.words:
        return {"format": "h5", "findings": findings, "file_findings": findings}
    version, backend = _word(file, "keras_version"), _word(file, "backend")
    facts: dict[str, Any] = {
        "format": "weights",
        "keras_version": version,
        "findings": findings,
        "file_findings": findings,
        "backend": backend,
    }
    if "model_config" in file.attrs:
        text = file.attrs["model_config"]
        if not isinstance(text, str | bytes):
            raise ModelError(f"The configuration in {quote(name)} is not text; save it again.")
        weights = {} if findings else weights_of(file)
        judged = judge_hdf5(parse_config(text, name), version, told.numbers, backend, weights)
        return facts | {
            "format": "h5",
            "findings": (*judged.findings, *findings),
            "trial": judged.trial,
            "conversion": judged.conversion,
            "unconverted": judged.unconverted,
        }
    if "layer_names" in file.attrs or "layer_names0" in file.attrs:
        return facts | {"layout": "keras2"}
    if {"layers", "vars", "_layer_checkpoint_dependencies"} & set(file):
        return facts | {"layout": "keras3"}
    if not findings:
        raise ModelError(
            f"{quote(name)} holds neither a Keras model nor Keras weights; expected {ACCEPTED}."
        )
    return facts


def _word(file: Any, key: str) -> str | None:
    """A short text among the attributes of a file; None if there is none."""
    value = file.attrs.get(key)
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return str(value)[:40] if value else None


def with_hdf5(stream: IO[bytes], name: str, look: Callable[[Any], Any]) -> Any:
    """Return what `look` returns for the HDF5 file in `stream`; ModelError if it is damaged or cut short."""
    import h5py  # noqa: PLC0415 - needed for HDF5 files only

    try:
        with h5py.File(stream, "r") as file:
            return look(file)
    except ModelError:
        raise
    # For a damaged file h5py raises OSError, KeyError, RuntimeError, ...
    except Exception as error:
        lengths = _TRUNCATED.search(str(error))
        if lengths:
            there, stated = (int(number) for number in lengths.groups())
            raise ModelError(
                f"{quote(name)} is cut short: {there:,} of {stated:,} bytes are there. Download or "
                "copy it again."
            ) from error
        raise damaged(name, error) from error
