"""Continues a command in a child process where Ray may end that process without a word.

When Ray's own processes on this machine end (killed, or out of memory), its library ends the process that
uses it at once with exit code 1, which means here that the gate is broken or that a run has faults.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import NoReturn

import typer

from robustness.cli.terminal import stderr
from robustness.errors import BROKEN

RAY_ENDED = "Ray's processes on this machine have ended (killed, or out of memory), and the command with them"
_SENT = 0
"""The largest code of a signal that a process has sent (SI_USER); a terminal sends its own to both."""
_DIE_WITH_PARENT = 1
"""The number of Linux's PR_SET_PDEATHSIG."""


def continue_in_child(lost: Callable[[], str]) -> None:
    """Return in a child process; this one waits for it, and ends as it ended.

    Where the system is not Linux, or the process has threads already, the function returns in this process.

    Parameters
    ----------
    lost : callable
        Returns the error that is printed if the child was ended in the middle of its work.
    """
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return
    read, write = os.pipe()
    watched = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    with warnings.catch_warnings():
        # NumPy's threads wait for work, and are made again in the child.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        os.close(write)
        status = _ended(child, watched)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _end_as(status, read, lost)
    os.close(read)
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(BROKEN)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    atexit.register(os.write, write, b"ended by itself")


def _ended(child: int, watched: set[signal.Signals]) -> int:
    """Wait for the child, and forward the signals that only this process has got; return its status."""
    while True:
        got = signal.sigwaitinfo(watched)
        if got.si_signo == signal.SIGCHLD:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status
        elif got.si_code <= _SENT:
            os.kill(child, got.si_signo)


def _end_as(status: int, read: int, lost: Callable[[], str]) -> NoReturn:
    """End this process as the child has ended."""
    os.set_blocking(read, False)
    try:
        by_itself = bool(os.read(read, 1))
    except BlockingIOError:  # another process still holds the other end
        by_itself = False
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    if code and not by_itself:
        stderr().print(f"error: {lost()}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(BROKEN)
    raise typer.Exit(code)
