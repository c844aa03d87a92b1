"""Seals a run with an HMAC, which proves that this user started it on this machine.

A run records the files that it was made from. A user who resumes a run of their own means these files; a run
that was received from somebody else is untrusted, and could name any file of the reader's. To tell the two
apart, a run that is started from the command line is sealed: with an HMAC over its recorded origin (the
options as typed, and the directory in which they were typed), whose secret is stored outside of every run and
readable by the user only. If the origin was altered, or another user or machine reads it, the files must be
named again. A copied seal is valid only with exactly the options that this user typed, so it gives access to
no other file.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
from pathlib import Path

from robustness.runs.schema import Origin

_BYTES = 32
_NAME = "secret"


def state() -> Path:
    """Return the folder of the secret: `ROBUSTNESS_STATE`, else `robustness` in XDG's state folder."""
    if own := os.environ.get("ROBUSTNESS_STATE"):
        return Path(own).expanduser().absolute()
    base = Path(os.environ.get("XDG_STATE_HOME") or "")
    # The XDG specification says to ignore a relative path.
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "robustness"


def sealed(origin: Origin) -> Origin:
    """Return the origin of a run with its seal; without a seal if no secret can be stored."""
    secret, bare = _secret(make=True), origin.without("seal")
    return bare.with_changes(seal=_seal(secret, bare)) if secret else bare


def made_here(origin: Origin) -> bool:
    """Whether a run with this origin was started by this user on this machine.

    Parameters
    ----------
    origin : Origin
        The origin in its `run.json`.

    Returns
    -------
    bool
        True if the seal is valid; False if it is not, or if there is no secret.
    """
    secret = _secret(make=False)
    if secret is None or origin.seal is None:
        return False
    return hmac.compare_digest(_seal(secret, origin.without("seal")).encode(), origin.seal.encode())


def _seal(secret: bytes, origin: Origin) -> str:
    text = json.dumps(origin.to_json(), sort_keys=True)
    return hmac.new(secret, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _secret(*, make: bool) -> bytes | None:
    """The user's secret; None if it cannot be read or created, or other users could have read it."""
    try:
        folder = state()
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                _written(folder / _NAME)
        return _read(folder / _NAME)
    except (OSError, RuntimeError):
        # Without a writable home, runs are not sealed.
        return None


def _written(path: Path) -> None:
    """Create the secret in one step: a complete file is linked to its path."""
    draft = path.with_name(f".{secrets.token_hex(16)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
        file.write(secrets.token_bytes(_BYTES))
    try:
        os.link(draft, path)
    finally:
        draft.unlink()


def _read(path: Path) -> bytes | None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        mine = not hasattr(os, "geteuid") or (
            found.st_uid == os.geteuid() and not found.st_mode & 0o077
        )
        if not stat.S_ISREG(found.st_mode) or not mine:
            return None
        data = file.read(_BYTES + 1)
    return data if len(data) == _BYTES else None
