"""Shows in a notebook the progress of an audit, and links to files; needs IPython only where a notebook runs.

The display is plain HTML that is replaced as the audit goes on: no widgets, no scripts.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from robustness import environment
from robustness.runs.progress import Listener, Progress, in_words
from robustness.text import plural, visible

PERIOD = 0.2
"""The least number of seconds between two updates within a stage."""


def default_listener() -> Listener:
    """Return the listener of an audit that was given none: a progress bar in a notebook, else nothing."""
    return ProgressBar() if environment.in_notebook() else lambda progress: None


@dataclass
class _Stage:
    progress: Progress
    began: float
    ended: float


class ProgressBar:
    """A display below the cell with one bar per stage, each with its counts, flips and time."""

    def __init__(self) -> None:
        self._stages: dict[str, _Stage] = {}
        self._handle: Any = None
        self._shown = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show the progress of a stage."""
        now = time.monotonic()
        new = progress.stage not in self._stages
        began = now if new else self._stages[progress.stage].began
        self._stages[progress.stage] = _Stage(progress, began, now)
        if new or progress.done >= progress.total or now - self._shown > PERIOD:
            self._shown = now
            self._update()

    def _update(self) -> None:
        from IPython.display import display  # noqa: PLC0415 - only notebooks have it

        if self._handle is None:
            self._handle = display(self, display_id=True)
        else:
            self._handle.update(self)

    def __repr__(self) -> str:
        lines = []
        for stage in self._stages.values():
            name, *words = _line(stage)
            lines.append(f"{name}: {', '.join(word for word in words if word)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="text-align:left">{escape(name)}</td><td><progress max="{stage.progress.total}" '
            f'value="{stage.progress.done}"></progress></td>'
            + "".join(
                f'<td style="text-align:left;padding-left:12px">{escape(word)}</td>'
                for word in words
            )
            + "</tr>"
            for stage in self._stages.values()
            for name, *words in [_line(stage)]
        )
        return f"<table><tbody>{rows}</tbody></table>"


def _line(stage: _Stage) -> list[str]:
    """The name of a stage, its counts, flips, workers, rate and time, as words."""
    one = stage.progress
    name = "classifying" if one.stage == "clean" else visible(one.stage)
    judged = one.flipped + one.robust
    flips = f"{one.flipped:,} flipped" if judged else ""
    workers = plural(one.workers, "worker") if one.workers else ""
    time_taken = f"{stage.ended - stage.began:.0f} s"
    counts = f"{one.done:,} of {one.total:,}"
    return [name, counts, flips, workers, in_words(one.rate), time_taken]


if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())


class LinkedPath(_Path):
    """The path of a file, which a notebook shows as a link."""

    def _repr_html_(self) -> str:
        place = Path(os.path.abspath(self))  # noqa: PTH100 - links in the path stay as they are
        try:
            # Relative to the notebook's folder, which is all that the server of a notebook opens.
            address, note = quote(place.relative_to(Path.cwd()).as_posix()), ""
        except ValueError:
            address = place.as_uri()
            note = (
                "<br>The file is outside this notebook's folder, and some browsers do not open such a link: "
                "copy the path, or give audit a <code>run</code> folder here."
            )
        text = escape(visible(str(self)))
        return f'<a href="{escape(address)}" target="_blank" rel="noopener">{text}</a>{note}'
