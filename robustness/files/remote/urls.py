"""Recognises the URLs that are opened, and refuses those that would leak a secret or lead elsewhere."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from robustness.errors import SettingError

SCHEMES = {"s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "https", "http"}
"""The schemes that are opened; http only from this machine."""
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def is_remote(given: object) -> bool:
    """Return whether a text is a URL of a scheme that is opened; a `Path` is none."""
    return isinstance(given, str) and scheme_of(given) in SCHEMES


def scheme_of(text: str) -> str:
    """Return the scheme of a URL in lower case; "" if the text is none."""
    match = _URL.match(text)
    return match[1].lower() if match else ""


def expect_plain(url: str) -> str:
    """Return the URL with its scheme in lower case, without slashes at its end.

    Raises
    ------
    SettingError
        It has a user name, a query or a fragment, which would be recorded in the run; it chains several URLs;
        it is http and leads to another machine; or it names nothing.
    """
    parts = urlsplit(url)
    if parts.username or parts.password or (parts.query and scheme_of(url) in ("http", "https")):
        raise SettingError(
            f"{shown(url)} has a user name, password or query, which would be recorded in the run and its "
            "report; expected a URL without. Set credentials in the environment, or fetch the file first."
        )
    if "::" in url.replace("[::1]", "") or set(url) & set("\\\n\r\t\0#?") or ".." in url.split("/"):
        raise SettingError(
            f"{shown(url)} is no plain URL; expected one as SCHEME://PLACE/PATH, without '..', '::', '?' and "
            "'#'."
        )
    if scheme_of(url) == "http" and not is_loopback(url):
        raise SettingError(
            f"{shown(url)} is not protected against changes on the way; expected https:// (http:// is only "
            "opened from this machine)."
        )
    if not parts.netloc:
        raise SettingError(f"{shown(url)} names nothing; expected SCHEME://PLACE/PATH.")
    return f"{scheme_of(url)}://{url.partition('://')[2]}".rstrip("/")


def is_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def shown(url: str) -> str:
    """Return a URL for messages, without user name and query."""
    bare = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = bare.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"[:300]


def name_of(url: str) -> str:
    """Return the last part of a URL."""
    return PurePosixPath(shown(url).partition("://")[2]).name


def below(url: str, path: str) -> str | None:
    """Return the URL of a path below `url`; None if the path leads elsewhere."""
    path = path.replace("\\", "/")
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "::" in path or _URL.match(path):
        return None
    if set(path) & set("?#\0\n\r\t") or re.match(r"[A-Za-z]:", path):
        return None
    return "/".join([url.rstrip("/"), *(part for part in parts if part not in ("", "."))])
