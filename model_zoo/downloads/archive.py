"""Inspects untrusted zip archives before they are used, and extracts them within limits."""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from robustness.errors import FetchError

_FLOOR = 64 << 20
"""Archives that unpack to at most this many bytes may have any ratio."""
_CHUNK = 1 << 20
# What the standard library raises for damaged members and unknown compression methods.
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, OSError)


@dataclass(frozen=True)
class Limits:
    """Limits on an archive.

    Attributes
    ----------
    files : most members. size : most bytes when unpacked. ratio : most unpacked bytes per packed byte;
    archives that unpack to at most 64 MiB are exempt.
    """

    files: int = 200_000
    size: int = 8 << 30
    ratio: float = 100.0


def members(path: Path, limits: Limits = Limits()) -> list[zipfile.ZipInfo]:
    """The regular files of the zip at `path`.

    Raises
    ------
    FetchError
        The archive is damaged, exceeds a limit, or has an unsafe member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise FetchError(
            f"{path.name} is not a valid zip archive ({error}); download it again."
        ) from error
    if len(infos) > limits.files:
        raise FetchError(
            f"{path.name} holds {len(infos):,} files; at most {limits.files:,} are accepted."
        )
    seen: set[str] = set()
    for info in infos:
        if fault := _fault(info, seen):
            raise FetchError(f"{path.name} is refused: its member {info.filename!r} {fault}.")
        seen.add(info.filename.casefold())
    total = sum(info.file_size for info in infos)
    if total > limits.size:
        raise FetchError(
            f"{path.name} would unpack to {total:,} bytes; at most {limits.size:,} are accepted."
        )
    packed = path.stat().st_size
    if total > max(_FLOOR, limits.ratio * packed):
        raise FetchError(
            f"{path.name} would unpack from {packed:,} to {total:,} bytes, more than "
            f"{limits.ratio:g} times its size; such archives are refused as harmful."
        )
    return [info for info in infos if not info.is_dir()]


def _fault(info: zipfile.ZipInfo, seen: set[str]) -> str:
    """What is wrong with a member, for messages; "" if nothing is."""
    name = info.orig_filename  # `filename` is cut at a NUL and has the system's separators
    kind = stat.S_IFMT(info.external_attr >> 16)
    faults = {
        "has a control character in its name": re.search(r"[\x00-\x1f\x7f]", name),
        "has an absolute path": re.match(r"[/\\]|[A-Za-z]:", name),
        "points outside the folder it is unpacked to": ".." in re.split(r"[/\\]", name),
        "has a backslash in its name": "\\" in name,
        "has no name": not PurePosixPath(name).name,
        "is a link or a device, not a file": kind not in (0, stat.S_IFREG, stat.S_IFDIR),
        "is encrypted": info.flag_bits & 1,
        "occurs twice": info.filename.casefold() in seen,
    }
    return next((words for words, wrong in faults.items() if wrong), "")


def extract(path: Path, folder: Path, limits: Limits = Limits()) -> list[Path]:
    """Unpack the zip at `path` into the new `folder`, which appears only when it is complete.

    Returns
    -------
    The paths of the files.

    Raises
    ------
    FetchError
        As in `members`; or `folder` exists, or a member is damaged.
    """
    infos = members(path, limits)
    if folder.exists():
        raise FetchError(
            f"{folder} exists; expected a new folder. Remove it or choose another one."
        )
    draft = folder.with_name(folder.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        with zipfile.ZipFile(path) as archive:
            for info in infos:
                _write(archive, info, draft / info.filename)
    except _DAMAGE as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise FetchError(f"{path.name} cannot be unpacked: {error}.") from error
    draft.rename(folder)
    return [folder / info.filename for info in infos]


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Unpack one member; never write more than its stated size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = info.file_size
    with archive.open(info) as source, target.open("xb") as out:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile(f"{info.filename!r} is longer than stated")
            out.write(chunk)
