"""Sends the file of a model to workers on whose machine it does not exist."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

MOST_MODEL = 2 << 30
"""The largest model file in bytes that is sent to the workers."""

SentModel = tuple[str, bytes]
"""Name and content of a model's file."""


def sent_model(named: str) -> SentModel | None:
    """Return the file of a model to be sent; None for a name, a folder, or a file above `MOST_MODEL`."""
    file = Path(named)
    if not file.is_file() or file.stat().st_size > MOST_MODEL:
        return None
    return file.name, file.read_bytes()


@contextlib.contextmanager
def model_here(named: str, sent: SentModel | None) -> Iterator[str]:
    """Yield the name or the path of a model; that of the sent file if there is none of this path here.

    Parameters
    ----------
    named : the name or path that the driver uses.
    sent : the file, from `sent_model`.
    """
    if sent is None or Path(named).exists():
        yield named
        return
    name, content = sent
    with tempfile.TemporaryDirectory(prefix="robustness-model-") as folder:
        file = Path(folder) / Path(name).name
        file.write_bytes(content)
        yield str(file)
