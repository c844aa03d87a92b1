"""Lists and reads remote files: those of https by requests, others by fsspec (the extra `remote`)."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import IO, Any, Protocol
from urllib.parse import urljoin

from robustness.errors import FetchError, SettingError
from robustness.files.places import ChangedFileError
from robustness.files.remote.errors import Deadline, retried, status_of
from robustness.files.remote.urls import is_loopback, scheme_of, shown

PACKAGES = {
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
    "hf": "huggingface_hub",
}
"""The packages of schemes that the extra `remote` does not bring."""
_OPTIONS: dict[str, dict[str, Any]] = {
    # `retried` is the only one that tries again; three that do so within each other wait for minutes.
    "s3": {"config_kwargs": {"retries": {"total_max_attempts": 1, "mode": "standard"}}},
}
TIMEOUT = (10, 60)
"""Seconds to connect, and to wait for the next bytes."""
_CHUNK = 1 << 20
_FEW = 1 << 10
_LISTED = 128 << 20
"""The bytes of the listing of a large folder, from which its deadline follows."""
_REDIRECTIONS = 5
_SEEN_SECONDS = 5.0
_CHANGED = "it has changed since it was listed"
_NO_HEAD = {403, 405, 501}
"""The statuses of servers that answer no HEAD; they are asked by GET."""


@dataclass(frozen=True)
class Info:
    """What is at a URL: a folder, or a file with its size and version (ETag, checksum or time)."""

    url: str
    size: int = 0
    version: str = ""
    is_folder: bool = False


class Store(Protocol):
    """Reads what lies behind URLs of one scheme."""

    def stat(self, url: str) -> Info:
        """Return what is at a URL; FileNotFoundError if nothing is."""

    def children(self, url: str, *, deep: bool) -> list[Info]:
        """Return what is directly in a folder, or all files below it."""

    def read(self, info: Info, start: int, end: int) -> bytes:
        """Return the bytes of a file from `start` to `end`; ChangedFileError if it is another one now."""

    def download(self, info: Info, target: IO[bytes]) -> None:
        """Write a whole file into `target`; ChangedFileError if it is another one now."""

    def upload(self, url: str, data: bytes) -> None:
        """Write a file."""


@cache
def store_of(scheme: str) -> Store:
    """Return the store of a scheme; SettingError if a package that it needs is not installed."""
    return HttpStore() if scheme in ("http", "https") else FsspecStore(scheme)


class FsspecStore:
    """Files of a scheme that fsspec knows."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self._seen: dict[str, float] = {}
        """When the version of each file that is read in parts was looked at last."""
        package = PACKAGES.get(scheme)
        install = (
            f"pip install {package}" if package else "pip install 'robustness-toolkit[remote]'"
        )
        try:
            import fsspec  # noqa: PLC0415 - an extra

            self._system = fsspec.filesystem(
                scheme,
                use_listings_cache=False,
                skip_instance_cache=True,
                **_OPTIONS.get(scheme, {}),
            )
            if scheme == "s3":
                self._system.retries = 1
        except (ImportError, ValueError) as error:
            raise SettingError(
                f"{scheme}:// needs a package that is not installed ({str(error)[:200]}). Install it: "
                f"{install}"
            ) from error

    def stat(self, url: str) -> Info:
        """Return what is at a URL; FileNotFoundError if nothing is."""
        return _info(url, retried(lambda: self._system.info(url), url))

    def children(self, url: str, *, deep: bool) -> list[Info]:
        """Return what is directly in a folder, or all files below it."""
        root = url.partition("://")[2].strip("/")

        def listed() -> list[Mapping[str, Any]]:
            if deep:
                return list(self._system.find(url, detail=True).values())
            return list(self._system.ls(url, detail=True))

        found = []
        for details in retried(listed, url, deadline=Deadline(_LISTED)):
            name = str(details["name"]).strip("/")
            # A store must not lead out of the folder that was given.
            if name.startswith(f"{root}/"):
                found.append(_info(f"{url}/{name[len(root) + 1 :]}", details))
        return found

    def read(self, info: Info, start: int, end: int) -> bytes:
        """Return the bytes of a file from `start` to `end`."""
        if start >= (end := min(end, info.size)):
            return b""

        deadline = Deadline(end - start)

        def part() -> bytes:
            data = self._part(info, start, end, deadline)
            if len(data) < end - start:
                raise ConnectionError(f"{len(data):,} of {end - start:,} bytes came")
            return data

        return retried(part, info.url, deadline=deadline)

    def _part(self, info: Info, start: int, end: int, deadline: Deadline) -> bytes:
        """The bytes of a file from `start` to `end`; ChangedFileError if it is seen to be another."""
        if self._scheme == "s3" and info.version.startswith('"'):
            return _part_of_object(self._system, info, start, end, deadline)
        data = self._bytes(info, start, end, deadline)
        # Other stores give a part of what is there now; asking for each part would double the requests.
        if time.monotonic() - self._seen.get(info.url, -math.inf) > _SEEN_SECONDS:
            self._expect_same(info)
            self._seen[info.url] = time.monotonic()
        return data

    def _bytes(self, info: Info, start: int, end: int, deadline: Deadline) -> bytes:
        """The bytes of a file from `start` to `end`, within the deadline where the file system has one."""
        if not getattr(self._system, "async_impl", False):
            return bytes(self._system.cat_file(info.url, start=start, end=end))
        from fsspec.asyn import sync  # noqa: PLC0415 - an extra

        read, left = self._system._cat_file, max(0.001, deadline.left)
        return bytes(sync(self._system.loop, read, info.url, start=start, end=end, timeout=left))

    def _expect_same(self, info: Info) -> None:
        if info.version and self.stat(info.url).version != info.version:
            raise ChangedFileError(_CHANGED)

    def download(self, info: Info, target: IO[bytes]) -> None:
        """Write a whole file into `target`."""
        deadline = Deadline(info.size)

        def copied() -> None:
            target.seek(0)
            target.truncate()
            for start in range(0, info.size, 16 * _CHUNK):
                end = min(info.size, start + 16 * _CHUNK)
                data = self._bytes(info, start, end, deadline)
                if len(data) != end - start:
                    raise ChangedFileError("it is shorter than when it was listed")
                target.write(data)

        retried(copied, info.url, deadline=deadline)
        self._expect_same(info)

    def upload(self, url: str, data: bytes) -> None:
        """Write a file."""
        retried(
            lambda: self._system.pipe_file(url, data), url, "written", deadline=Deadline(len(data))
        )


def _part_of_object(system: Any, info: Info, start: int, end: int, deadline: Deadline) -> bytes:
    """A part of an S3 object, if it still has the tag that it had when it was listed."""
    from fsspec.asyn import sync  # noqa: PLC0415 - an extra

    bucket, _, key = info.url.partition("://")[2].partition("/")

    try:
        answer = system.call_s3(
            "get_object",
            Bucket=bucket,
            Key=key,
            Range=f"bytes={start}-{end - 1}",
            IfMatch=info.version,
            **system.req_kw,
        )
        with contextlib.closing(answer["Body"]) as body:
            return bytes(sync(system.loop, body.read, timeout=max(0.001, deadline.left)))
    except OSError as error:
        if status_of(error) in (412, 416):
            raise ChangedFileError(_CHANGED) from error
        raise


def _info(url: str, details: Mapping[str, Any]) -> Info:
    if details.get("type") == "directory":
        return Info(url, is_folder=True)
    names = (
        "ETag",
        "etag",
        "md5Hash",
        "content_md5",
        "sha256",
        "blob_id",
        "generation",
        "checksum",
    )
    version = next((str(details[name]) for name in names if details.get(name)), "")
    if not version:
        times = ("LastModified", "last_modified", "updated", "mtime", "created")
        version = next((str(details[name]) for name in times if details.get(name)), "")
    return Info(url, int(details.get("size") or 0), version)


class HttpStore:
    """Files behind https; http on this machine. It lists nothing: there are no folders."""

    def __init__(self) -> None:
        import requests  # noqa: PLC0415 - takes half a second

        self._http = requests.Session()
        self._http.headers["Accept-Encoding"] = "identity"

    def stat(self, url: str) -> Info:
        """Return what is at a URL; FileNotFoundError if nothing is."""
        with self._asked(url, "HEAD") as response:
            size = response.headers.get("Content-Length", "")
        if not size.isdigit():
            raise FetchError(
                f"{shown(url)} does not state its size, as a page does and a file rarely; expected a file. "
                "Fetch it yourself, and give its path."
            )
        return Info(url, int(size), _version(response))

    def children(self, url: str, *, deep: bool) -> list[Info]:
        """Return nothing: a web server has no folders."""
        return []

    def read(self, info: Info, start: int, end: int) -> bytes:
        """Return the bytes of a file from `start` to `end`."""
        end = min(end, info.size)
        if start >= end:
            return b""

        deadline = Deadline(end - start)

        def part() -> bytes:
            headers = {"Range": f"bytes={start}-{end - 1}"}
            with self._asked(info.url, "GET", headers, once=True) as response:
                if response.status_code == 200 and start:
                    raise FetchError(
                        f"{shown(info.url)} cannot be read in parts: its server knows no ranges. Raise "
                        "--cache-bytes (cache_bytes= in Python), so that it is fetched as a whole."
                    )
                self._expect_same(info, response)
                if response.status_code == 206:
                    _expect_range(info, response, start)
                data = b"".join(_body(response, end - start, deadline))
            if len(data) < end - start:
                raise ConnectionError(f"{len(data):,} of {end - start:,} bytes came")
            return data

        return retried(part, info.url, deadline=deadline)

    def download(self, info: Info, target: IO[bytes]) -> None:
        """Write a whole file into `target`."""
        deadline = Deadline(info.size)

        def copied() -> None:
            target.seek(0)
            target.truncate()
            with self._asked(info.url, "GET", once=True) as response:
                self._expect_same(info, response)
                # One byte more, to see whether the file is longer.
                for data in _body(response, info.size + 1, deadline):
                    target.write(data)
            if target.tell() != info.size:
                raise ConnectionError(f"{target.tell():,} of {info.size:,} bytes came")

        retried(copied, info.url, deadline=deadline)

    def upload(self, url: str, data: bytes) -> None:
        """Refuse: web servers take no files."""
        raise SettingError(
            f"{shown(url)} cannot be written; expected s3://, gs://, az:// or hf://."
        )

    def _expect_same(self, info: Info, response: Any) -> None:
        now = _version(response)
        comparable = now and info.version and now.startswith('"') == info.version.startswith('"')
        if response.status_code == 416 or (comparable and now != info.version):
            raise ChangedFileError(_CHANGED)

    def _asked(
        self, url: str, method: str, headers: Mapping[str, str] | None = None, *, once: bool = False
    ) -> Any:
        def asked() -> Any:
            response = self._followed(url, method, headers)
            if method == "HEAD" and response.status_code in _NO_HEAD:
                response.close()
                response = self._followed(url, "GET", headers)  # closed before its body is read
            if response.status_code in (404, 410):
                response.close()
                raise FileNotFoundError(shown(url))
            if response.status_code != 416:  # beyond the end of a file that is shorter now
                response.raise_for_status()
            if (packed := response.headers.get("Content-Encoding", "identity")) != "identity":
                response.close()
                raise FetchError(
                    f"{shown(url)} is sent packed ({packed[:40]}), which was not asked for, so its bytes and "
                    "size are not those of the file. Fetch it yourself, and give its path."
                )
            return response

        return asked() if once else retried(asked, url)

    def _followed(self, url: str, method: str, headers: Mapping[str, str] | None) -> Any:
        """The response at the end of redirections; FetchError if one leads away from https."""
        at = url
        for _ in range(_REDIRECTIONS + 1):
            response = self._http.request(
                method, at, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False
            )
            if not response.is_redirect:
                return response
            at = urljoin(at, response.headers["Location"])
            response.close()
            here = is_loopback(url) and is_loopback(at) and scheme_of(at) == "http"
            if scheme_of(at) != "https" and not here:
                raise FetchError(
                    f"{shown(url)} leads to {shown(at)}, which is not https; it is not read."
                )
        raise FetchError(
            f"{shown(url)} leads from one address to another more than {_REDIRECTIONS} times; it is not "
            "read. Check the URL."
        )


def _body(response: Any, size: int, deadline: Deadline) -> Iterator[bytes]:
    """Yield at most `size` bytes of an answer as they come; TimeoutError where they come too slowly."""
    # `read` waits until all bytes are there, however slowly they come.
    read = getattr(response.raw, "read1", None) or (lambda _: response.raw.read(_FEW))
    while size and (data := read(min(size, _CHUNK))):
        data = bytes(data[:size])
        size -= len(data)
        yield data
        deadline.expect_time()


def _version(response: Any) -> str:
    """The ETag, else the time of the last change; "" for neither."""
    time = response.headers.get("Last-Modified", "")
    try:
        time = parsedate_to_datetime(time).isoformat() if time else ""
    except ValueError:
        time = ""
    return str(response.headers.get("ETag", "").removeprefix("W/") or time)


def _expect_range(info: Info, response: Any, start: int) -> None:
    """Check that a part of a file is the one that was asked for, of a file that is as large as it was."""
    stated = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", stated.strip())
    if found is None or int(found[1]) != start:
        raise FetchError(
            f"{shown(info.url)} cannot be read in parts: its server gives other bytes than it is asked for "
            f"({stated[:60]!r}). Raise --cache-bytes (cache_bytes= in Python), so that it is fetched as a "
            "whole."
        )
    if found[2] not in ("*", str(info.size)):
        raise ChangedFileError(_CHANGED)


def store_for(url: str) -> Store:
    """Return the store of a URL's scheme."""
    return store_of(scheme_of(url))
