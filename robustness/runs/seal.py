"""Whether a run was started here, by this user: a seal that nobody else can make.

A run says which files it was made of. Whoever goes on with a run of theirs means those files; in a run that
came from somebody else the same words are a stranger's, and could name any file of the reader's. The two
look alike, so a run that is started from the command line is sealed: an HMAC over all it says of its origin
(what was typed, and the directory it was typed in), with a secret that is kept outside of every run, readable
by the user only. Where that was altered, or another user or machine reads it, the files are named again.
Whoever copies a seal copies what this user has typed with it, to the letter: it opens nothing else.
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
    """The folder of the user's state: `ROBUSTNESS_STATE`, else `robustness` in XDG's state folder."""
    if own := os.environ.get("ROBUSTNESS_STATE"):
        return Path(own).expanduser().absolute()
    base = Path(os.environ.get("XDG_STATE_HOME") or "")
    # The XDG specification says to ignore a relative path.
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "robustness"


def sealed(origin: Origin) -> Origin:
    """Return the origin of a run with its seal; without one where no secret can be kept."""
    secret, bare = _secret(make=True), origin.without("seal")
    return bare.with_changes(seal=_seal(secret, bare)) if secret else bare


def made_here(origin: Origin) -> bool:
    """Whether a run with this origin was started by this user on this machine.

    Parameters
    ----------
    origin : Origin
        That of its `run.json`.

    Returns
    -------
    bool
        True if the seal is right; False for any other, and where there is no secret.
    """
    secret = _secret(make=False)
    if secret is None or origin.seal is None:
        return False
    return hmac.compare_digest(_seal(secret, origin.without("seal")).encode(), origin.seal.encode())


def _seal(secret: bytes, origin: Origin) -> str:
    text = json.dumps(origin.to_json(), sort_keys=True)
    return hmac.new(secret, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _secret(*, make: bool) -> bytes | None:
    """The user's secret; None where there is none and none is made, or others could have read it."""
    try:
        folder = state()
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                _written(folder / _NAME)
        return _read(folder / _NAME)
    except (OSError, RuntimeError):
        # No home, or none that can be written to: then nothing is sealed.
        return None


def _written(path: Path) -> None:
    """A new secret, whole from the first moment: it is linked into place."""
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
