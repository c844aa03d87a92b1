"""Provides the consoles for results and errors, and the progress display with the time left."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
)
from rich.table import Column

from robustness import environment
from robustness.runs import progress
from robustness.text import percent, plural, printable, visible

if TYPE_CHECKING:
    from robustness.runs.progress import Progress as Report

PLAIN_SECONDS, QUIET_SECONDS = 10.0, 60.0
"""In a log: the time between two lines of a stage, and the longest silence."""
USUAL = 80
"""The columns where a terminal does not state them."""
WIDE = 100
"""The columns of a terminal from which on the progress has a bar."""


class Plain(Console):
    """A console that prints text as it is: no markup, no control sequences, no workflow commands."""

    def __init__(self, **how: Any) -> None:
        """Make a console as rich does. On a terminal without columns (`COLUMNS=0`) rich prints nothing."""
        super().__init__(**how)
        if self.width < 1:
            self.width = USUAL

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
        # The collections cost a sixth of the time of the import, and find nothing.
        with environment.without_garbage_collection():
            import_module("robustness.backend").accelerated()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


INSISTENCE = 5.0
"""Seconds after which a Ctrl-C that had no effect is raised again."""


@contextlib.contextmanager
def insisting() -> Iterator[None]:
    """Raise a Ctrl-C again until it has an effect: Python drops one that arrives in a destructor.

    A process that was told to ignore Ctrl-C (`robustness audit &` in a script) goes on doing so.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return

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


TITLES = {"clean": "clean pass", "checks": "checks before the attack"}
"""The titles of stages whose names are not shown as they are."""


def title(report: Report) -> str:
    """Return what is running: a stage, or an attack with its place among the attacks."""
    name = TITLES.get(report.stage) or visible(report.stage)
    return f"{report.place} of {report.places} {name}" if report.places > 1 else name


def sentence(report: Report) -> str:
    """Return the flips of a stage and an upper bound of the robust accuracy, for the progress display.

    Robust images take longest, so every image that has not flipped yet counts as robust while a stage runs.
    """
    if not report.flipped + report.robust:
        return ""
    lost = report.flipped + report.settled + report.wrong
    flips = flips_of(report)
    if report.done < report.total:
        running = (report.total - lost) / report.total
        return f"{flips}, robust at most {percent(running)}"
    share = report.robust / (report.robust + lost)
    if not report.labelled:
        return f"{flips}, at most {percent(share)} kept their class"
    # An upper bound: it is one attack only, which may not use all of epsilon.
    return f"{flips}, robust at most {percent(share)}"


def flips_of(report: Report) -> str:
    """Return the number of flips, and the epsilon at which they are counted."""
    within = "" if report.epsilon is None else f" at epsilon {report.epsilon:.12g}"
    return f"{report.flipped} flipped{within}"


def status(report: Report, left: str, *, short: bool = False) -> str:
    """Return what is known of a stage; `short` leaves out the robust images while the stage runs."""
    counts = sentence(report)
    if short and counts and report.done < report.total:
        counts = flips_of(report)
    workers = plural(report.workers, "worker") if report.workers else ""
    # A narrow terminal has room for the time left only.
    rate = "" if short else progress.in_words(report.rate)
    return ", ".join(part for part in (visible(report.part), counts, workers, rate, left) if part)


class Display:
    """One live bar per stage on a terminal; in a log, one line every few seconds.

    In a log a stage that reports nothing for `QUIET_SECONDS` gets a line with the time since its start.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._clock = Clock()
        self._tasks: dict[str, TaskID] = {}
        self._printed = 0.0
        self._last: tuple[str, int] = ("", -1)
        self._running, self._since = "", time.monotonic()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._narrow = console.width < WIDE
        self._most = 24 if self._narrow else 44
        self._live: Progress | None = None
        if console.is_terminal and console.is_interactive and not quiet:
            self._live = Progress(*self._columns(), console=console)

    def _columns(self) -> list[ProgressColumn]:
        """The columns of the live display. In narrow terminals the bar is left out, and the title is cut."""
        whole = Column(no_wrap=True)
        described = Column(no_wrap=True, overflow="ellipsis", max_width=self._most)
        return [
            TextColumn("{task.description}", markup=False, table_column=described),
            SpinnerColumn("line", style="none", finished_text=" "),
            *([] if self._narrow else [BarColumn(bar_width=10)]),
            TextColumn("{task.completed}/{task.total}", table_column=whole),
            TextColumn(
                "{task.fields[status]}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
        ]

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        elif not self._quiet:
            threading.Thread(target=self._tell, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._live:
            self._live.stop()

    def _tell(self) -> None:
        """Print a line whenever a log was silent for `QUIET_SECONDS`."""
        while not self._over.wait(min(1.0, QUIET_SECONDS / 4)):
            with self._lock:
                now = time.monotonic()
                if self._running and now - self._printed > QUIET_SECONDS:
                    self._print(f"{self._running}: running for {duration(now - self._since)}")

    def _print(self, line: str) -> None:
        self._printed = time.monotonic()
        self._console.print(line, markup=False, soft_wrap=True)

    def __call__(self, report: Report) -> None:
        """Show the progress of a stage."""
        if self._quiet:
            return
        if report.text:
            self._console.print(report.text, markup=False, soft_wrap=True)
            return
        left = self._clock.left(report)
        if self._live:
            text = status(report, left, short=self._narrow)
            if report.stage not in self._tasks:
                name = title(report)
                if len(name) > self._most:
                    # The bar cuts it; a line above the bars has the whole name.
                    self._live.console.print(f"{name} ...", markup=False, soft_wrap=True)
                self._tasks[report.stage] = self._live.add_task(name, total=report.total, status="")
            self._live.update(self._tasks[report.stage], completed=report.done, status=text)
            return
        with self._lock:
            self._log(report, status(report, left))

    def _log(self, report: Report, text: str) -> None:
        """Print a line where a stage starts or ends, or if one is due."""
        name, over = title(report), report.done >= report.total
        part = f" ({visible(report.part)})" if report.part else ""
        self._running = "" if over else f"{name}{part}"
        if self._last[0] != report.stage:
            self._since = time.monotonic()
            if not over:
                self._print(f"{name} ...")
        due = time.monotonic() - self._printed > PLAIN_SECONDS
        if (over or due) and report.total > 1 and self._last != (report.stage, report.done):
            counts = f"{report.done}/{report.total}"
            self._print(f"{name}: {', '.join(filter(None, (counts, text)))}")
        self._last = (report.stage, report.done)
