"""Continues a command in a child process where Ray may end that process without a word.

When Ray's own processes on this machine end (killed, or out of memory), its library ends the process that
uses it at once with exit code 1, which means here that the gate is broken or that a run has faults.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import NoReturn

import typer

from robustness.cli.terminal import stderr
from robustness.environment import end_with
from robustness.errors import BROKEN

RAY_ENDED = "Ray's processes on this machine have ended (killed, or out of memory), and the command with them"

_ALLOWED: list[bool] = []
"""Not empty in a process of the command line: no other one is forked."""


def allow() -> None:
    """Say that this process is one of the command line, and no program that calls it."""
    _ALLOWED.append(True)


def continue_in_child(lost: Callable[[], str]) -> None:
    """Return in a child process; this one waits for it, and ends as it ended.

    The function returns in this process if it is a program that calls the command line, if it has threads, if
    the system is not Linux, or if it makes no process.

    Parameters
    ----------
    lost : callable
        Returns the error that is printed if the child was ended in the middle of its work.
    """
    linux = sys.platform.startswith("linux")
    if not (_ALLOWED and linux) or threading.active_count() > 1:
        return
    forwarded = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    watched = forwarded | {signal.SIGCHLD, signal.SIGTSTP}
    sys.stdout.flush()
    sys.stderr.flush()
    # If it is ignored, the system does not tell that a child has ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    parent, (read, write) = os.getpid(), os.pipe()
    try:
        with warnings.catch_warnings():
            # NumPy's threads wait for work, and are made again in the child.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError:
        os.close(read)
        os.close(write)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    if child:
        os.close(write)
        status = _ended(child, watched)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _end_as(status, read, lost)
    os.close(read)
    # A group of its own: each signal, be it of the terminal or to the parent's group, comes once.
    os.setpgid(0, 0)
    end_with(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    atexit.register(os.write, write, b"ended by itself")


def _ended(child: int, watched: set[signal.Signals]) -> int:
    """Wait for the child, and forward the signals of this process to it; return its status."""
    while True:
        got = signal.sigwait(watched)
        if got == signal.SIGCHLD:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status
        elif got == signal.SIGTSTP:
            os.kill(child, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(child, signal.SIGCONT)
        else:
            os.kill(child, got)


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
        # The first process of a container is not ended by its own signal.
        os._exit(128 - code)
    if code and not by_itself:
        stderr().print(f"error: {lost()}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(BROKEN)
    raise typer.Exit(code)
