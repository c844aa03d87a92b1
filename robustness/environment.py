"""Sets what must be set before TensorFlow is imported, and restores it afterwards.

This is the variable of oneDNN, and in a notebook the level of TensorFlow's log.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
"""Turns on the kernels of oneDNN. TensorFlow does not use them by default on processors without AVX512, where
they also halve the time of a gradient of a convolution. It reads this variable once, during its import."""
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
"""The least severe message that TensorFlow logs. It reads this variable once, during its import."""
FATAL_ONLY = "3"

_set_here: dict[str, str] = {}


def use_onednn() -> None:
    """Set the variable of oneDNN, unless the user has set it."""
    _set(ONEDNN, "1")


def silence_notebook() -> None:
    """In a notebook, which shows log lines in red below the cell, let TensorFlow log only fatal errors."""
    if in_notebook():
        _set(LOG_LEVEL, FATAL_ONLY)


def restore() -> None:
    """Remove the variables that this module set and that are unchanged; TensorFlow has read them by then."""
    for name, value in _set_here.items():
        if os.environ.get(name) == value:
            del os.environ[name]
    _set_here.clear()


def _set(name: str, value: str) -> None:
    if name not in os.environ:
        os.environ[name] = value
        _set_here[name] = value


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, Colab, Kaggle, an editor)."""
    find_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return find_shell is not None and hasattr(find_shell(), "kernel")


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """In a notebook, hide what TensorFlow writes to the process' standard error while it is first imported.

    The first lines come before TensorFlow reads its log level. Python's own warnings are not hidden.
    """
    if not in_notebook() or "tensorflow" in sys.modules or os.environ.get(LOG_LEVEL) != FATAL_ONLY:
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
