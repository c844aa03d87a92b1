"""Turns the errors of remote stores into one sentence, and tries again what may pass."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar

from robustness.errors import FetchError, RobustnessError
from robustness.files.places import ChangedFileError
from robustness.files.remote.urls import scheme_of, shown

Result = TypeVar("Result")
TRIES = 5
PAUSE = 0.5
"""Seconds before the second try; each further one waits twice as long, up to 8 s."""
MOST_PAUSE = 120.0
"""The most seconds that are waited where a server says when to come again (Retry-After)."""
READ_SECONDS, LEAST_RATE = 120.0, 16 << 10
"""All tries of one read together may take so many seconds, and one more for each so many bytes."""
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_BUSY = {errno.EBUSY, errno.EIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE, errno.EAGAIN}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or `aws configure`",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or _SAS_TOKEN",
    "hf": "HF_TOKEN, or `hf auth login`",
}
_HALF = {
    "aiohttp.ClientPayloadError",
    "requests.ChunkedEncodingError",
    "botocore.ResponseStreamingError",
}
"""Errors of answers that end before they are complete."""
_ALIASES = {"gcs": "gs", "abfs": "az", "abfss": "az"}


class Deadline:
    """The time until which a read of some bytes may take, all its tries together."""

    def __init__(self, size: int = 0) -> None:
        self._end = time.monotonic() + READ_SECONDS + size / LEAST_RATE

    @property
    def left(self) -> float:
        """The seconds that are left; below zero when it has passed."""
        return self._end - time.monotonic()

    def later(self, seconds: float) -> None:
        """Move it by a pause for which the server has asked."""
        self._end += seconds

    def expect_time(self) -> None:
        """Raise TimeoutError if it has passed."""
        if self.left < 0:
            raise TimeoutError("the server sends too slowly")


def retried(
    action: Callable[[], Result], url: str, doing: str = "read", deadline: Deadline | None = None
) -> Result:
    """Call `action`, again after a pause where its error may pass, until the deadline.

    The pause is that which the server states in `Retry-After`, at most `MOST_PAUSE`, if it is longer.

    Raises
    ------
    FileNotFoundError
        There is nothing at the URL.
    ChangedFileError
        The file is another one than when it was listed.
    FetchError
        Access is denied, there are no credentials, or every try has failed.
    """
    pause, deadline = PAUSE, deadline or Deadline()
    for attempt in range(1, TRIES + 1):
        try:
            return action()
        except (FileNotFoundError, ChangedFileError, KeyboardInterrupt, RobustnessError):
            raise
        except Exception as error:
            stated = min(_stated_pause(error), MOST_PAUSE)
            wait = max(stated, pause * random.uniform(0.75, 1.25))  # noqa: S311 - spreads retries
            deadline.later(stated)
            if attempt == TRIES or not _may_pass(error) or wait > deadline.left:
                raise _explained(error, url, attempt, doing) from error
        time.sleep(wait)
        pause = min(8.0, 2 * pause)
    raise AssertionError("unreachable")


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an error of a library states; None if it states none."""
    for one in (error, error.__cause__):
        for name in ("status", "status_code", "code"):
            if isinstance(found := getattr(one, name, None), int):
                return found
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            found = getattr(response, "status_code", None)
        if isinstance(found, int):
            return found
    return None


def _stated_pause(error: BaseException) -> float:
    """The seconds that the server of an answer asks to wait (Retry-After, RFC 9110, 10.2.3); 0 for none."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        else:
            headers = getattr(response if response is not None else one, "headers", None) or {}
        lower = {str(name).lower(): value for name, value in dict(headers).items()}
        if stated := str(lower.get("retry-after", "")).strip():
            return _seconds(stated)
    return 0.0


def _seconds(stated: str) -> float:
    """Seconds from a number of them, or until a date; 0 for other texts."""
    if stated.isascii() and stated.isdigit():
        return float(stated[:9])
    try:
        return max(0.0, parsedate_to_datetime(stated).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _names(error: BaseException) -> set[str]:
    """The names of the classes of an error and of its cause, with their packages."""
    chain = [error] if error.__cause__ is None else [error, error.__cause__]
    return {
        f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        for one in chain
        for kind in type(one).__mro__
    }


def _lacks_credentials(error: BaseException) -> bool:
    words = ("NoCredential", "CredentialRetrieval", "DefaultCredentials", "ClientAuthentication")
    return any(word in name for name in _names(error) for word in words)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, PermissionError) or _lacks_credentials(error):
        return False
    if _names(error) & _HALF:  # aiohttp gives it the status 400
        return True
    status = status_of(error)
    if status is not None:
        return status in _PASSING
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, OSError) and error.errno in _BUSY:
        return True
    passing = (
        *("requests.ConnectionError", "requests.Timeout", "requests.ChunkedEncodingError"),
        *(
            "aiohttp.ClientConnectionError",
            "aiohttp.ClientPayloadError",
            "botocore.HTTPClientError",
        ),
        *("botocore.ConnectionError", "botocore.ResponseStreamingError", "urllib3.HTTPError"),
        *("httpx.TransportError", "gcsfs.HttpError", "fsspec.FSTimeoutError"),
    )
    return bool(_names(error) & set(passing))


def _explained(error: BaseException, url: str, attempts: int, doing: str) -> FetchError:
    scheme = _ALIASES.get(scheme_of(url), scheme_of(url))
    ways = _CREDENTIALS.get(scheme)
    advice = f" Set credentials in the environment: {ways}." if ways else ""
    if _lacks_credentials(error):
        return FetchError(f"{shown(url)} cannot be {doing}: no credentials were found.{advice}")
    if isinstance(error, PermissionError) or status_of(error) in (401, 403):
        return FetchError(
            f"{shown(url)} cannot be {doing}: access is denied ({_first_line(error)}). Check the URL, and "
            f"whether your credentials allow that.{advice}"
        )
    tries = f" after {attempts} tries" if attempts > 1 else ""
    return FetchError(
        f"{shown(url)} cannot be {doing}{tries} ({_first_line(error)}). Check the network, then go on with "
        "--resume where a run has begun."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    text = " ".join(shown(word) if "://" in word else word for word in lines[0].split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
