"""Changes settings of the process for a while, and restores them afterwards.

These are the variable of oneDNN and the level of TensorFlow's log, which TensorFlow reads while it is
imported, and Python's collection of cyclic garbage.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

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
    for name in list(_set_here):
        _remove(name)


def _remove(name: str) -> None:
    """Remove a variable that this module set, unless it was changed since."""
    value = _set_here.pop(name, None)
    if value is not None and os.environ.get(name) == value:
        del os.environ[name]


def _set(name: str, value: str) -> None:
    if name not in os.environ:
        os.environ[name] = value
        _set_here[name] = value


def child_environment() -> dict[str, str]:
    """Return the environment of a process of ours: that of this one, with this toolkit on Python's path."""
    root = str(Path(__file__).resolve().parents[1])
    paths = (root, os.environ.get("PYTHONPATH"))
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


_DIE_WITH_PARENT = 1
"""The number of Linux's PR_SET_PDEATHSIG."""


def end_with(parent: int) -> None:
    """Let this process be killed when its parent, the process of this number, ends; on Linux only."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, Colab, Kaggle, an editor)."""
    find_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return find_shell is not None and hasattr(find_shell(), "kernel")


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Hide the log of TensorFlow, if it is first imported in the block, lines before it reads its level too.

    Nothing is hidden if the user has set `TF_CPP_MIN_LOG_LEVEL` or has imported TensorFlow already. What
    Python writes to `sys.stderr` in the block is not hidden.
    """
    ours = LOG_LEVEL not in os.environ or LOG_LEVEL in _set_here
    if "tensorflow" in sys.modules:
        yield
        return
    # The collections cost a sixth of the time of the import, and find nothing.
    with without_garbage_collection(), _quiet() if ours else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the log of TensorFlow, which is first imported in the block."""
    _set(LOG_LEVEL, FATAL_ONLY)
    try:
        with _hidden_stderr():
            yield
    finally:
        # In a notebook the level holds until TensorFlow is imported, by whatever.
        if not in_notebook():
            _remove(LOG_LEVEL)


@contextlib.contextmanager
def _hidden_stderr() -> Iterator[None]:
    """Hide what C code writes to the process' standard error; Python's `sys.stderr` goes where it went."""
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, kept)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        python = sys.stderr
        if python is sys.__stderr__ and python is not None:
            python.flush()
            again = stack.enter_context(
                os.fdopen(os.dup(kept), "w", encoding=python.encoding, errors="backslashreplace")
            )
            stack.enter_context(contextlib.redirect_stderr(again))
        os.dup2(nowhere, 2)
        stack.callback(os.dup2, kept, 2)
        yield


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pause Python's collection of cyclic garbage while many objects are made that are all kept.

    Each collection visits all of them: resuming a run of a million images spent a third of its time on that.
    Also usable as a decorator.
    """
    on = gc.isenabled()
    if not on:
        yield
        return
    gc.disable()
    _PAUSES.append(True)
    try:
        yield
    finally:
        _PAUSES.pop()
        gc.enable()


_PAUSES: list[bool] = []
"""Not empty while `without_garbage_collection` pauses the collection."""


@contextlib.contextmanager
def collecting_garbage() -> Iterator[None]:
    """Continue the collection in a pause of `without_garbage_collection`, for code that may take minutes."""
    if not _PAUSES or gc.isenabled():
        yield
        return
    gc.enable()
    try:
        yield
    finally:
        gc.disable()
