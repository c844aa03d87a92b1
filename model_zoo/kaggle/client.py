"""A client of Kaggle's API that signs in with the user's credentials and reports failures as FetchError.

It uses `kagglesdk`, the layer of the `kaggle` package that signs and sends requests, and not the layer
above: importing `kaggle` signs in at once (over the network, to the production server whatever
`KAGGLE_API_ENVIRONMENT` says), may print and exit, and creates `~/.kaggle`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests

from robustness.errors import FetchError
from robustness.model_zoo.downloads.download import Patient

T = TypeVar("T")

EXTRA = "robustness-toolkit[kaggle]"
"""The requirement that installs the kaggle package, which is optional."""
HELP = (
    "To get credentials: sign in at kaggle.com, open Settings, API, and create a token; put it in "
    "the environment variable KAGGLE_API_TOKEN or the file ~/.kaggle/access_token (an older "
    "kaggle.json goes to ~/.kaggle/kaggle.json, or its two values to KAGGLE_USERNAME and "
    "KAGGLE_KEY)."
)


@dataclass(frozen=True)
class Credentials:
    """A token, or a user name and a key. Neither is ever displayed or stored."""

    token: str | None = field(default=None, repr=False)
    username: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)

    def hidden_in(self, text: str) -> str:
        """Return `text` with every secret in it replaced by three stars."""
        for secret in (self.token, self.key):
            text = text.replace(secret, "***") if secret else text
        return text


@dataclass(frozen=True)
class Subject:
    """The requested object.

    Attributes
    ----------
    words : its description in messages. page : its page on kaggle.com. refusal : what to do if Kaggle
    refuses access (HTTP 403).
    """

    words: str
    page: str
    refusal: str

    @property
    def by_hand(self) -> str:
        """A sentence for messages: how to continue without credentials."""
        return f"Or download the file by hand from {self.page} and give its path instead."


@dataclass(frozen=True)
class Connection:
    """A signed-in client for requests about one subject."""

    client: Any  # kagglesdk.KaggleClient
    credentials: Credentials
    subject: Subject

    def ask(self, question: Callable[[Any], T]) -> T:
        """Return the client's answer to `question`, a function of the client.

        Raises
        ------
        FetchError
            Kaggle cannot be reached, refuses the request, or its answer cannot be read.
        """
        try:
            with _quiet():
                return question(self.client)
        except requests.HTTPError as error:
            sentence = explained(error.response, self.subject)
        except (ValueError, TypeError, KeyError, AttributeError, SystemExit) as error:
            sentence = (
                f"Kaggle's answer about {self.subject.words} could not be read "
                f"({type(error).__name__}); a newer kaggle package may help. "
                f"{self.subject.by_hand}"
            )
        except requests.RequestException as error:
            sentence = (
                f"Kaggle cannot be reached ({type(error).__name__}): is this machine online? "
                f"{self.subject.by_hand}"
            )
        # The client's own errors quote signed addresses, so they are not chained.
        raise FetchError(self.credentials.hidden_in(sentence))


@contextlib.contextmanager
def connect(subject: Subject) -> Iterator[Connection]:
    """Sign in with the user's credentials, as a context manager.

    Raises
    ------
    FetchError
        The kaggle package is missing or broken, or there are no credentials; the message says what to do.
    """
    try:
        from kagglesdk import KaggleClient, KaggleCredentials  # noqa: PLC0415 (slow, rarely used)
    except ModuleNotFoundError as error:
        if error.name not in ("kagglesdk", "kaggle"):
            raise _unusable(error, subject) from error
        raise FetchError(
            f"Fetching {subject.words} needs the kaggle package, which is not installed: "
            f"`pip install '{EXTRA}'`. {subject.by_hand}"
        ) from None
    except ImportError as error:
        raise _unusable(error, subject) from error
    found = _credentials()
    if found is None:
        with KaggleClient() as client:
            login = Connection(client, Credentials(), subject)
            token = login.ask(lambda client: _oauth_token(KaggleCredentials, client))
        if token is None:
            raise FetchError(
                f"Fetching {subject.words} needs a Kaggle account, and no credentials were found. "
                f"{HELP} "
                f"{subject.by_hand}"
            )
        found = Credentials(token=token)
    with KaggleClient(username=found.username, password=found.key, api_token=found.token) as client:
        session = getattr(client.http_client(), "_session", None)
        if session is not None:
            # The client sets no timeouts, and the download of a compressed body could not be resumed.
            session.headers["Accept-Encoding"] = "identity"
            for scheme in ("https://", "http://"):
                session.mount(scheme, Patient())
        yield Connection(client, found, subject)


def _unusable(error: ImportError, subject: Subject) -> FetchError:
    """The error for a kaggle package that is installed but cannot be imported."""
    return FetchError(
        f"The kaggle package is installed but cannot be imported ({error}); repair it with "
        f"`pip install --force-reinstall '{EXTRA}'`. {subject.by_hand}"
    )


def explained(response: requests.Response | None, subject: Subject) -> str:
    """The cause of an error response and the remedy, for messages."""
    status = response.status_code if response is not None else 0
    said = _said(response)
    if status == 401:
        cause = f"Kaggle does not accept the credentials (HTTP 401). {HELP}"
    elif status == 403:
        cause = (
            f"Kaggle denies this account access to {subject.words} (HTTP 403): {subject.refusal}"
        )
    elif status == 404:
        cause = (
            f"Kaggle does not know {subject.words} (HTTP 404): check the spelling against "
            f"{subject.page}. Private objects of other users are reported in the same way."
        )
    elif status == 429:
        wait = response.headers.get("Retry-After", "") if response is not None else ""
        cause = (
            f"Kaggle limits the number of requests (HTTP 429): wait "
            f"{f'{wait} seconds' if wait.isdecimal() else 'some minutes'}, then try again."
        )
    elif status >= 500:
        cause = (
            f"Kaggle reports an internal error (HTTP {status}): try again later. {subject.by_hand}"
        )
    else:
        cause = f"Kaggle refused the request for {subject.words} (HTTP {status})."
    return f"{cause} Kaggle says: {said!r}." if said else cause


def _said(response: requests.Response | None) -> str:
    """The server's message as short plain text, "" if there is none."""
    if response is None or "json" not in response.headers.get("Content-Type", ""):
        return ""
    try:
        body = response.json()
    except (ValueError, requests.RequestException):
        return ""
    message = body.get("message") if isinstance(body, dict) else None
    # `explained` shows it by `repr`, which escapes control characters.
    return message[:200].strip() if isinstance(message, str) else ""


def _credentials() -> Credentials | None:
    """A token, or else a user name and key, from the places that the kaggle package reads."""
    from kagglesdk import get_access_token_from_env  # noqa: PLC0415

    if token := get_access_token_from_env()[0]:
        return Credentials(token=token)
    username, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if username and key:
        return Credentials(username=username, key=key)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "kaggle"
    for folder in (os.environ.get("KAGGLE_CONFIG_DIR"), "~/.kaggle", config):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads(
                (Path(folder or "").expanduser() / "kaggle.json").read_text("utf-8")
            )
            return Credentials(username=str(values["username"]), key=str(values["key"]))
    return None


def _oauth_token(credentials: Any, client: Any) -> str | None:
    """The token of an earlier `kaggle auth login`, renewed if it has expired; None without one."""
    login = credentials.load(client)
    return login.get_access_token() if login else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Redirect what the client prints to stderr, since stdout is for the toolkit's output."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
