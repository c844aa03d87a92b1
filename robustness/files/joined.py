"""Files and ranges whose names are joined by `::`, as WebDataset joins them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from robustness.files.places import ByteFile, Place, SeveralFiles
from robustness.files.remote.places import RemoteFile

_LOOPBACK = "[::1]"


def parts_of(text: str) -> list[str]:
    """Return the parts of names joined by `::`, as WebDataset joins them; the text alone if it joins none."""
    parts = text.replace(_LOOPBACK, "\0").split("::")
    return [part.replace("\0", _LOOPBACK) for part in parts]


@dataclass(frozen=True)
class JoinedPlace(SeveralFiles):
    """Files and ranges joined by `::`, in the order in which they were typed."""

    parts: tuple[Place, ...]

    @property
    def text(self) -> str:
        """The text as it was typed."""
        return "::".join(part.text for part in self.parts)

    @property
    def name(self) -> str:
        """The last parts of the names."""
        return "::".join(part.name for part in self.parts)

    def names(self) -> tuple[list[str], tuple[str, ...]]:
        """Return the names of all files, and no folders."""
        return [
            one for part in self.parts for one in ([part.name] if part.is_file else part.names()[0])
        ], ()

    def files(self, names: Sequence[str] = ()) -> list[ByteFile]:
        """Return the files of all parts; remote ones are copied to this machine if there is room for all."""
        files = [file for part in self.parts for file in part.files()]
        remote = [file for file in files if isinstance(file, RemoteFile)]
        # They are copied only if all fit, those of all parts together.
        if sum(file.size for file in remote) <= min(
            (file.cache.most for file in remote), default=0
        ):
            return files
        return [
            replace(file, whole=False) if isinstance(file, RemoteFile) else file for file in files
        ]

    def path(self) -> Path:
        """Return the text as a path, which is no file."""
        return Path(self.text)
