"""Downloads one file over HTTP, limited in size, and resumes after a broken connection.

The kaggle client's own `download_file` resumes too, but has no limit on the size, takes the file name from
the URL, and sends no body when it repeats a POST. Here a partial file is continued only if the server still
offers the same version of the file (by a strong ETag or the date of modification).
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from robustness.errors import FetchError

ATTEMPTS = 5
PAUSE = 1.0
"""Seconds before the second attempt; doubled before each further one."""
_CHUNK = 1 << 20
_CUT = (requests.RequestException, urllib3.exceptions.HTTPError)


class Patient(requests.adapters.HTTPAdapter):
    """An HTTP adapter with timeouts: 10 s for a connection, 60 s for the next byte."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send `request`, with a timeout if the caller gave none."""
        return super().send(request, stream, timeout or (10, 60), verify, cert, proxies)


@dataclass(frozen=True)
class Progress:
    """Progress of a download.

    Attributes
    ----------
    done : bytes received so far. total : bytes in all; None if unknown. note : what happened, such as a
    resumption; "" if nothing did.
    """

    done: int
    total: int | None
    note: str = ""


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class _Version:
    """The offered version of a file: its size, and the server's validator (ETag or date)."""

    total: int | None
    validator: str | None

    @classmethod
    def of(cls, response: requests.Response) -> _Version:
        headers = response.headers
        if headers.get("Content-Encoding", "identity") != "identity":
            return cls(None, None)  # sizes and ranges would refer to the encoded bytes
        length = headers.get("Content-Length", "")
        tag = headers.get("ETag", "")
        # A weak ETag does not guarantee the same bytes.
        strong = tag if tag.startswith('"') else headers.get("Last-Modified")
        return cls(int(length) if length.isdecimal() else None, strong)


def download(
    ask: Callable[[], requests.Response],
    part: Path,
    *,
    what: str,
    limit: int,
    report: Report | None = None,
) -> None:
    """Download a file to `part`, or continue a `part` that an earlier call left.

    Parameters
    ----------
    ask
        Sends the request for the whole file and returns the streamed response; called again at each attempt.
    part
        Path of the file.
    what
        The file in words, for messages.
    limit
        Most bytes.
    report
        Called with a `Progress` after every mebibyte.

    Raises
    ------
    FetchError
        The file is too large, or the connection breaks at every attempt; in the second case `part` is kept.
    """
    job = _Download(ask, part, what, limit, report or (lambda progress: None))
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        response = ask()
        try:
            job.receive(response)
        except _CUT:
            continue
        except OSError as error:
            raise FetchError(f"{part} cannot be written: {error.strerror or error}.") from error
        finally:
            response.close()
        part.with_suffix(".json").unlink(missing_ok=True)
        return
    raise FetchError(
        f"The download of {what} was interrupted {ATTEMPTS} times, the last time at {_size(part):,} bytes; "
        f"these are kept, and fetching again resumes from there."
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@dataclass(frozen=True)
class _Download:
    ask: Callable[[], requests.Response]
    part: Path
    what: str
    limit: int
    report: Report

    def receive(self, response: requests.Response) -> None:
        """Write the body of `response`, or the missing rest of it."""
        self._check(response)
        version = _Version.of(response)
        have = _size(self.part)
        if have and self._is_of(version):
            if have == version.total:
                return
            rest = _rest(response, have, version)
            if rest is not None:
                with rest:
                    self.report(Progress(have, version.total, f"resuming at byte {have:,}"))
                    self._write(rest, version, have)
                return
            response.close()
            with self.ask() as whole:
                self._anew(whole, "the server cannot resume a download; starting again")
        elif have:
            self._anew(response, "the partial file may be of another version; starting again")
        else:
            self._anew(response, "")

    def _anew(self, response: requests.Response, note: str) -> None:
        self._check(response)
        version = _Version.of(response)
        self.part.unlink(missing_ok=True)
        self.part.with_suffix(".json").write_text(json.dumps(asdict(version)), "utf-8")
        self.report(Progress(0, version.total, note))
        self._write(response, version, 0)

    def _is_of(self, version: _Version) -> bool:
        """Whether the partial file on disk belongs to the offered `version`."""
        try:
            marker = json.loads(self.part.with_suffix(".json").read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return version.validator is not None and marker == asdict(version)

    def _check(self, response: requests.Response) -> None:
        """Raise FetchError for a file that is too large, or an unencrypted connection."""
        address = urlsplit(response.url)
        if address.scheme != "https" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise FetchError(
                f"{self.what} is offered over an unencrypted connection; expected https."
            )
        total = _Version.of(response).total or 0
        if total > self.limit:
            self._too_large(f"is {total:,} bytes")
        free = shutil.disk_usage(self.part.parent).free + _size(self.part)
        if total > free:
            raise FetchError(
                f"{self.what} is {total:,} bytes, and {self.part.parent} has {free:,} bytes free; "
                f"free some space, or set ROBUSTNESS_CACHE to another folder."
            )

    def _write(self, response: requests.Response, version: _Version, start: int) -> None:
        done = start
        with self.part.open("ab" if start else "wb") as out:
            for chunk in response.iter_content(_CHUNK):
                done += len(chunk)
                if done > self.limit:
                    break
                out.write(chunk)
                self.report(Progress(done, version.total))
        if done > self.limit:
            self._too_large("is too large")
        if version.total is not None and done != version.total:
            raise requests.ConnectionError

    def _too_large(self, found: str) -> None:
        self.part.unlink(missing_ok=True)
        self.part.with_suffix(".json").unlink(missing_ok=True)
        raise FetchError(
            f"{self.what} {found}; the limit is {self.limit:,} bytes. Raise it with --max-mb (in Python "
            f"max_bytes) if this is the file that you want."
        )


def _rest(response: requests.Response, start: int, version: _Version) -> requests.Response | None:
    """The response to the same request for the bytes from `start`; None if the server sends others."""
    response.close()
    request = response.request.copy()
    request.headers["Range"] = f"bytes={start}-"
    request.headers["If-Range"] = version.validator or ""
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, Patient())
        settings = session.merge_environment_settings(request.url or "", {}, True, None, None)
        rest = session.send(request, **settings)
    given = re.fullmatch(rf"bytes {start}-\d+/(\d+|\*)", rest.headers.get("Content-Range", ""))
    if (
        rest.status_code == requests.codes.partial
        and given
        and given[1] in (str(version.total), "*")
    ):
        return rest
    rest.close()
    return None
