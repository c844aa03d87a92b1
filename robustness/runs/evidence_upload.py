"""Copies the pictures of a run to a bucket while it is written; the run folder itself stays on this machine.

The name of a picture is the hash of its bytes, so one that is there need not be written again: what is
missing is uploaded when the audit ends, or when it is resumed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from robustness.errors import RobustnessError, SettingError, StorageError
from robustness.files import disk_errors
from robustness.files.reading import MOST_PICTURE, read_within
from robustness.files.remote.stores import store_for
from robustness.files.remote.urls import expect_plain, is_remote, scheme_of, shown
from robustness.runs import run_folder

SECONDS = 5.0
"""The time between two looks for new pictures."""
THREADS = 8
_NOTE = "evidence.txt"
_TEXT = b"Pictures of a run of robustness-toolkit. The name of each is the SHA-256 of its bytes.\n"


@contextlib.contextmanager
def evidence_upload(folder: Path, url: str | None) -> Iterator[None]:
    """Upload the pictures of the run in `folder` within the block; without a URL nothing is done.

    Parameters
    ----------
    folder : the run folder.
    url : where the pictures go; `images/...` is appended.

    Raises
    ------
    SettingError, FetchError
        Nothing can be written to the URL; raised before the block.
    StorageError
        Some pictures could not be uploaded; raised after the block. The run itself is complete.
    """
    if url is None:
        yield
        return
    upload = EvidenceUpload(folder, url)
    upload.begin()
    try:
        yield
    except BaseException:
        upload.stop()
        raise
    upload.stop()
    upload.finish()


def expect_evidence_url(url: str) -> str:
    """Return the URL without slashes at its end; SettingError if no pictures can be written there."""
    if not is_remote(url) or scheme_of(url) in ("http", "https"):
        raise SettingError(
            f"Evidence cannot go to {shown(url) or 'an empty URL'}; expected a URL as s3://BUCKET/FOLDER, "
            "gs://, az:// or hf://."
        )
    return expect_plain(url)


def expect_apart(url: str | None, images: object) -> None:
    """Raise SettingError if evidence goes where the images lie: the next audit would take it for images."""
    if url is None or not isinstance(images, str) or not is_remote(images):
        return
    if f"{expect_evidence_url(url)}/".startswith(f"{images.rstrip('/')}/"):
        raise SettingError(
            f"The evidence would go to {shown(url)}, where the images lie ({shown(images)}), and the next "
            "audit would take it for images; expected another folder."
        )


class EvidenceUpload:
    """The upload of one run.

    Parameters
    ----------
    folder : the run folder.
    url : where the pictures go.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, expect_evidence_url(url)
        self._store = store_for(self._url)
        self._there: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    def begin(self) -> None:
        """Check that the place can be written, note what is there, and start the thread."""
        self._store.upload(f"{self._url}/{_NOTE}", _TEXT)
        place = f"{self._url}/{run_folder.PICTURES}"
        with contextlib.suppress(FileNotFoundError):
            for info in self._store.children(place, deep=True):
                name = f"{run_folder.PICTURES}/{info.url.removeprefix(f'{place}/')}"
                if self._size(name) == info.size:  # half a file is uploaded again
                    self._there.add(name)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the pictures that it is uploading."""
        self._end.set()
        self._thread.join()

    def finish(self) -> None:
        """Upload what is missing; StorageError if that fails."""
        failed = self._upload()
        if failed:
            raise StorageError(
                f"{len(failed):,} pictures could not be uploaded to {shown(self._url)} ({failed[0]}). The "
                f"run in {self._folder} is complete; send the rest with "
                f"`{disk_errors.resuming(self._folder)}`."
            )

    def _run(self) -> None:
        while not self._end.wait(SECONDS):
            self._upload()  # what fails is tried again, and told at the end

    def _upload(self) -> list[str]:
        """Upload the pictures that are not there, and return why some could not be."""
        missing = [name for name in self._names() if name not in self._there]
        with ThreadPoolExecutor(THREADS, thread_name_prefix="evidence") as pool:
            return [reason for reason in pool.map(self._put, missing) if reason]

    def _put(self, name: str) -> str:
        if self._end.is_set() and self._thread.is_alive():
            return "stopped"
        try:
            data = read_within(self._folder, name, MOST_PICTURE)
            self._store.upload(f"{self._url}/{name}", data)
        except (RobustnessError, OSError) as error:
            return str(error)
        self._there.add(name)
        return ""

    def _names(self) -> list[str]:
        """The pictures of the run, without drafts and links."""
        found = []
        for place, _, names in os.walk(self._folder / run_folder.PICTURES):
            for name in names:
                path = Path(place) / name
                if not name.startswith(".") and not path.is_symlink():
                    found.append(path.relative_to(self._folder).as_posix())
        return found

    def _size(self, name: str) -> int | None:
        try:
            return (self._folder / name).lstat().st_size
        except (OSError, ValueError):
            return None
