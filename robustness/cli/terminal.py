"""Provides the consoles for results and errors, and the progress display with the time left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Column

from robustness.text import printable, visible

if TYPE_CHECKING:
    from robustness.runs.progress import Progress as Report

PLAIN_SECONDS = 10.0


class Plain(Console):
    """A console that prints text as it is: no markup, no control sequences, no workflow commands."""

    def print(self, *objects: Any, **how: Any) -> None:
        """Print the objects. Strings are made printable; tables and texts must be printable already."""
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **how)


def stdout() -> Console:
    """Return the console for results."""
    return Plain(highlight=False, emoji=False, force_terminal=_terminal())


def _terminal() -> bool | None:
    """Return False in continuous integration: a log shows no colours and keeps every redrawn line."""
    return False if os.environ.get("CI") else None


def stderr() -> Console:
    """Return the console for progress and errors."""
    return Plain(stderr=True, highlight=False, emoji=False, force_terminal=_terminal())


def wake_backend() -> None:
    """Import TensorFlow without the messages that it prints at import. Takes seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import_module("robustness.backend").accelerated()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


INSISTENCE = 5.0
"""Seconds after which a Ctrl-C that had no effect is raised again."""


@contextlib.contextmanager
def insisting() -> Iterator[None]:
    """Raise a Ctrl-C again until it has an effect: Python drops one that arrives in a destructor."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, INSISTENCE)
        raise KeyboardInterrupt

    try:
        before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGALRM)}
    except (ValueError, AttributeError):  # not the main thread, or no alarms on this system
        yield
        return
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def duration(seconds: float) -> str:
    """Return a time in words: 75 as `1 min 15 s`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Clock:
    """Estimates the time left in a stage from the images since its first result.

    The time before the first result does not count: it is spent on compiling, which is done once.
    """

    def __init__(self) -> None:
        self._stage, self._from = "", 0
        self._first: float | None = None

    def left(self, report: Report) -> str:
        """Return the time left in words; "" while it cannot be estimated."""
        now = time.monotonic()
        if report.stage != self._stage:
            self._stage, self._from, self._first = report.stage, report.done, None
        elif self._first is None and report.done > self._from:
            self._from, self._first = report.done, now
        gained = report.done - self._from
        if self._first is None or not gained or report.done >= report.total:
            return ""
        return f"{duration((now - self._first) / gained * (report.total - report.done))} left"


def sentence(report: Report) -> str:
    """Return the flips of a stage and an upper bound of the robust accuracy, for the progress display.

    Robust images take longest, so every image that has not flipped yet counts as robust while a stage runs.
    """
    if not report.flipped + report.robust:
        return ""
    lost = report.flipped + report.settled + report.wrong
    if report.done < report.total:
        running = (report.total - lost) / report.total
        return f"{report.flipped} flipped, robust at most {100 * running:.0f} %"
    share = report.robust / (report.robust + lost)
    if not report.labelled:
        return f"{report.flipped} flipped, at most {100 * share:.0f} % kept their class"
    # An upper bound: it is one attack only, which may not use all of epsilon.
    return f"{report.flipped} flipped, robust at most {100 * share:.0f} %"


class Display:
    """One live bar per stage on a terminal; in a log, one line every few seconds."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._clock = Clock()
        self._tasks: dict[str, TaskID] = {}
        self._printed = 0.0
        self._last: tuple[str, int] = ("", -1)
        self._live: Progress | None = None
        if console.is_terminal and console.is_interactive and not quiet:
            self._live = Progress(
                # In 80 columns the description is cut before the counts.
                TextColumn(
                    "{task.description}",
                    markup=False,
                    table_column=Column(no_wrap=True, overflow="ellipsis", max_width=24),
                ),
                SpinnerColumn("line", style="none", finished_text=" "),
                BarColumn(bar_width=10),
                TextColumn("{task.completed}/{task.total}", table_column=Column(no_wrap=True)),
                TextColumn(
                    "{task.fields[status]}",
                    markup=False,
                    table_column=Column(no_wrap=True, ratio=1),
                ),
                console=console,
            )

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, report: Report) -> None:
        """Show the progress of a stage."""
        if self._quiet:
            return
        left = self._clock.left(report)
        status = ", ".join(part for part in (sentence(report), left) if part)
        title = "classifying" if report.stage == "clean" else visible(report.stage)
        if self._live:
            if report.stage not in self._tasks:
                self._tasks[report.stage] = self._live.add_task(
                    title, total=report.total, status=""
                )
            self._live.update(self._tasks[report.stage], completed=report.done, status=status)
            return
        over = report.done >= report.total
        due = time.monotonic() - self._printed > PLAIN_SECONDS
        if (over or due) and self._last != (report.stage, report.done):
            self._printed, self._last = time.monotonic(), (report.stage, report.done)
            line = f"{title}: {report.done}/{report.total}{', ' if status else ''}{status}"
            self._console.print(line, markup=False, soft_wrap=True)
