"""Inspects a zip archive of Keras (`.keras`) without loading it."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from pathlib import PurePosixPath
from typing import IO, Any

from robustness.errors import ModelError
from robustness.files import bounded
from robustness.models.formats import ACCEPTED
from robustness.models.scan.config_safety import quote
from robustness.models.scan.configuration import (
    MAX_CONFIG_BYTES,
    damaged,
    judge_config,
    parse_config,
)
from robustness.models.scan.hdf5 import MAX_EXPANSION, H5Facts, h5_facts
from robustness.models.scan.hdf5_model import with_hdf5

MAX_MEMBERS = 10_000
MAX_DIRECTORY_BYTES = 4 << 20
MAX_MEMBER_BYTES = 16 << 30


def scan_zip(stream: IO[bytes], size: int, name: str) -> dict[str, Any]:
    """Return the facts of a `ScanReport` for an open zip archive.

    Parameters
    ----------
    stream : the open file.
    size : its size in bytes.
    name : its name, for messages.

    Raises
    ------
    ModelError
        It is damaged, or no model of Keras.
    """
    try:
        if bounded.zip_directory_bytes(stream) > MAX_DIRECTORY_BYTES:
            raise ModelError(
                f"The archive {quote(name)} lists more members than a model has; save the model again."
            )
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            _expect_model({member.filename for member in members[:MAX_MEMBERS]}, name)
            findings = _member_findings(members, size)
            if findings:
                return {
                    "format": "keras",
                    "findings": tuple(findings),
                    "file_findings": tuple(findings),
                }
            config = parse_config(_read(archive, "config.json", name), name)
            facts = bounded.parse_json(_read(archive, "metadata.json", name, False) or b"{}")
            weights = _archived_weights(archive, name)
            version = facts.get("keras_version") if isinstance(facts, dict) else None
            version = str(version)[:40] if version else None
            judged = judge_config(config, version or "3", weights.numbers)
    except ModelError:
        raise
    except zipfile.BadZipFile as error:
        raise ModelError(
            f"{quote(name)} begins as a zip archive but has no list of members at its end, so it is "
            "damaged or "
            f"cut short ({size:,} bytes are there). Download or copy the file again."
        ) from error
    # For a damaged file zipfile raises zlib.error, struct.error, IndexError, ...
    except Exception as error:
        raise damaged(name, error) from error
    known = ("config.json", "metadata.json", "model.weights.h5")
    notes = [f"carries {quote(m.filename)}" for m in members if m.filename not in known]
    return {
        "format": "keras",
        "findings": (*weights.findings, *judged.findings),
        "file_findings": tuple(weights.findings),
        "notes": tuple(notes[:20]),
        "keras_version": version,
        "trial": judged.trial,
        "conversion": judged.conversion,
        "unconverted": judged.unconverted,
    }


def _expect_model(names: set[str], name: str) -> None:
    """Raise ModelError, with the kind and what to do, for an archive of something else."""
    if "config.json" in names or not names:
        return
    models = sorted(n for n in names if n.lower().endswith((".h5", ".keras", ".hdf5")))
    if any(n.endswith("data.pkl") for n in names):
        kind, step = "a PyTorch file", "rebuild the architecture in Keras and copy the weights"
    elif any(n.endswith("saved_model.pb") for n in names):
        kind, step = (
            "a zipped SavedModel",
            "load it where it was made and save it with model.save('model.keras')",
        )
    elif all(n.endswith(".npy") for n in names):
        kind, step = (
            "a NumPy archive",
            "build the model in Keras, set its weights from it, and save it",
        )
    elif any(n.endswith("model.json") for n in names):
        kind, step = "a zipped TensorFlow.js model", "audit the Keras model it was made from"
    elif models:
        kind, step = f"a zip archive that holds {quote(models[0])}", "unpack it and give that file"
    else:
        return
    raise ModelError(f"{quote(name)} is {kind}; expected {ACCEPTED}. Next: {step}.")


def _member_findings(members: list[zipfile.ZipInfo], size: int) -> list[str]:
    if len(members) > MAX_MEMBERS:
        return [f"the archive has {len(members)} members; at most {MAX_MEMBERS} are read"]
    found = []
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        found.append("the archive has several members of one name, so readers may disagree")
    for member in members:
        place = f"member {quote(member.filename)}"
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            found.append(f"{place} points outside the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            found.append(f"{place} is a symbolic link")
        cap = MAX_CONFIG_BYTES if path.suffix == ".json" else MAX_MEMBER_BYTES
        bomb = member.file_size > max(1 << 20, MAX_EXPANSION * member.compress_size)
        if bomb or member.file_size > cap:
            found.append(
                f"{place} claims {member.file_size} bytes from {member.compress_size} stored; "
                f"at most {cap} bytes and {MAX_EXPANSION} times its stored size are read"
            )
    if sum(member.compress_size for member in members) > size:
        found.append("the members of the archive lie upon one another, as only bombs do")
    if sum(member.file_size for member in members) > MAX_MEMBER_BYTES:
        found.append(f"the archive unpacks to more than {MAX_MEMBER_BYTES} bytes")
    if "model.weights.npz" in names:
        found.append("the weights are a .npz archive, which is not checked; save them as HDF5")
    return found


def _read(archive: zipfile.ZipFile, member: str, name: str, required: bool = True) -> bytes:
    if member not in archive.namelist():
        if not required:
            return b""
        raise ModelError(f"{quote(name)} has no {member}, so it is no Keras model. Save it again.")
    with archive.open(member) as stream:
        data = stream.read(MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise ModelError(f"The {member} of {quote(name)} is larger than {MAX_CONFIG_BYTES} bytes.")
    return data


def _archived_weights(archive: zipfile.ZipFile, name: str) -> H5Facts:
    if "model.weights.h5" not in archive.namelist():
        raise ModelError(f"{quote(name)} has no weights inside; save the model again.")
    # Copied to a file, since HDF5 needs random access, which a compressed member does not offer.
    with archive.open("model.weights.h5") as member, tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(member, copy, 1 << 20)
        size = copy.tell()
        copy.seek(0)
        return with_hdf5(copy, name, lambda file: h5_facts(file, size))
