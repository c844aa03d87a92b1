"""Cache of downloaded files: one folder per source, with a SHA-256 that is checked at each use.

::

    ROBUSTNESS_CACHE/kaggle-owner-slug-1f2e3d4c5b6a/
        content/model.h5    the file record.json         its source, size and SHA-256; written last
        download.part       the received bytes of an unfinished download download.json       the version of
        the remote file to which they belong
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robustness.errors import FetchError

try:
    import fcntl
except ImportError:  # Windows has no flock: there, parallel fetches of one source are not prevented
    fcntl = None  # type: ignore[assignment]


def root() -> Path:
    """The cache folder: `ROBUSTNESS_CACHE`, else `robustness` in the user's XDG cache folder."""
    if own := os.environ.get("ROBUSTNESS_CACHE"):
        return Path(own).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    # The XDG specification says to ignore a relative path.
    return (base if base.is_absolute() else Path.home() / ".cache") / "robustness"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_name(name: str) -> str:
    """Turn the untrusted `name` into a bare file name that is safe on every system."""
    bare = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^A-Za-z0-9._-]", "_", bare).lstrip(".")[-100:] or "file"


@dataclass(frozen=True)
class Slot:
    """The folder of one source in the cache."""

    source: str
    folder: Path

    @classmethod
    def of(cls, source: str) -> Slot:
        """The slot of `source`; its folder has a readable name."""
        readable = re.sub(r"[^A-Za-z0-9]+", "-", source).strip("-")[:60]
        key = hashlib.sha256(source.encode()).hexdigest()[:12]
        return cls(source, root() / f"{readable}-{key}")

    @property
    def part(self) -> Path:
        """The path of an unfinished download."""
        return self.folder / "download.part"

    def cached(self) -> Path | None:
        """The cached file, with its SHA-256 checked; None if there is none.

        Raises
        ------
        FetchError
            The file was changed, or its record cannot be read.
        """
        try:
            record = json.loads((self.folder / "record.json").read_text("utf-8"))
            name, expected = str(record["file"]), str(record["sha256"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise FetchError(
                f"The cache's record of {self.source} in {self.folder} cannot be read; "
                f"fetch the source again with force."
            ) from error
        path = self.folder / "content" / safe_name(name)
        if not path.is_file():
            return None
        if (found := sha256(path)) != expected:
            raise FetchError(
                f"The cached file {path} was changed since it was fetched: its SHA-256 is "
                f"{found[:16]}…, expected {expected[:16]}…. Fetch {self.source} again with force."
            )
        return path

    def keep(self, finished: Path, name: str) -> Path:
        """Move `finished` into the cache under `name`, record its SHA-256, and return the new path."""
        content = self.folder / "content"
        record = self.folder / "record.json"
        path = content / safe_name(name)
        facts = {"source": self.source, "file": path.name, "bytes": finished.stat().st_size}
        facts["sha256"] = sha256(finished)
        # Without a record the file counts as absent, so an interruption between these lines is harmless.
        record.unlink(missing_ok=True)
        if content.exists():
            shutil.rmtree(content)
        content.mkdir(parents=True)
        finished.replace(path)
        draft = record.with_suffix(".tmp")
        draft.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        draft.replace(record)
        return path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the slot against other processes, as a context manager.

        Raises
        ------
        FetchError
            Another process is fetching the same source.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise FetchError(
                        f"Another process is fetching {self.source} right now; wait for it, "
                        f"then try again."
                    ) from None
            yield
