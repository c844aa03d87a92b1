"""States the versions of Keras that the scan of model files was tested with.

The scan's allow-list names modules and classes of Keras. A release can move them, which makes the scan refuse
good files, or add a class that runs code, which the allow-list does not know.
"""

from __future__ import annotations

import re
from importlib import metadata

OLDEST_SAFE = (3, 15, 1)
"""Older versions load files that run code although `safe_mode` is on."""
NEWEST_TESTED = (3, 15)
"""Newest minor version that `tests/robustness/models/scan/test_keras_range.py` passed with."""


def notes(version: str | None) -> tuple[str, ...]:
    """Return remarks about a version of Keras for the report of a scan; none for a tested version.

    Parameters
    ----------
    version : str or None
        Version number such as "3.15.1"; None if Keras is not installed.
    """
    if version is None:
        return ("Keras is not installed, so the file can be scanned but not loaded.",)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    oldest, newest = (".".join(map(str, one)) for one in (OLDEST_SAFE, NEWEST_TESTED))
    if numbers < OLDEST_SAFE:
        return (
            f"Keras {version} has known holes in loading models; upgrade to {oldest} or later.",
        )
    if numbers[:2] > NEWEST_TESTED:
        return (
            f"Keras {version} is newer than the versions this scan was tested with ({oldest} to {newest}.x): "
            "it may refuse a good file, or not know a new layer that runs code. Load only files that you "
            f"trust, or install 'keras<{newest.partition('.')[0]}.{NEWEST_TESTED[1] + 1}'.",
        )
    return ()


def installed() -> str | None:
    """Return the version of the installed Keras, without importing it; None if there is none."""
    try:
        return metadata.version("keras")
    except metadata.PackageNotFoundError:
        return None
