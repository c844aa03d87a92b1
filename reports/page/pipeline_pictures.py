"""Pictures of the deployed pipeline: the pixels that it reads, and what the model sees of a flip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robustness.errors import RunError
from robustness.reports.page import pixels
from robustness.reports.page.case_panels import CasePanel, Shot, enlarged, read_picture
from robustness.reports.summary.tables import ReadableRun
from robustness.runs.schema import PixelsReadEntry

_MOST_CASES = 3
_SIDE = 320
"""Longest side of a heat map, and of a picture, in pixels; larger ones are reduced by a whole factor."""
_DETAIL = 40
"""Side of the square in the middle of the picture that is shown pixel by pixel."""
_ENLARGED = 240
_COLOURS = np.array([(23, 26, 34), (181, 64, 14), (255, 226, 178)], np.float64)
"""Colours of pixels that are never read, that have half of the largest weight, and all of it."""


@dataclass(frozen=True)
class HeatMap:
    """How much each pixel of a picture weighs in the model's image.

    Attributes
    ----------
    whole, detail : the whole picture, and its middle pixel by pixel; None if the whole shows each pixel.
    side : the side of the detail in pixels.
    reduced : one pixel of the whole is the mean of `reduced` x `reduced` pixels.
    height, width, pictures, total : the most frequent size, and how many pictures have it.
    """

    whole: Shot
    detail: Shot | None
    side: int
    reduced: int
    height: int
    width: int
    pictures: int
    total: int


@dataclass(frozen=True)
class View:
    """An original and its flip as they are uploaded, and what the model sees of both."""

    name: str
    before: str
    after: str
    shots: tuple[tuple[str, Shot], ...]


def heat_map(read: PixelsReadEntry | None) -> HeatMap | None:
    """Return the heat map of the pixels read; None if the run did not record them."""
    if read is None or not read.rows or not read.columns:
        return None
    rows, columns = (np.abs(np.asarray(side, np.float64)) for side in (read.rows, read.columns))
    reduced = -(-max(len(rows), len(columns)) // _SIDE)
    # The mean of a block of a product of rows and columns is the product of their means.
    whole = _coloured(_means(rows, reduced), _means(columns, reduced))
    middle = _coloured(_middle(rows), _middle(columns))
    what = f"Pixels read of a picture of {read.width} × {read.height}"
    return HeatMap(
        whole=enlarged(whole, what, _SIDE),
        detail=enlarged(middle, f"{what}: its middle, pixel by pixel", _ENLARGED)
        if max(len(rows), len(columns)) > _DETAIL
        else None,
        side=_DETAIL,
        reduced=reduced,
        height=read.height,
        width=read.width,
        pictures=read.pictures,
        total=read.total,
    )


def _means(values: np.ndarray, block: int) -> np.ndarray:
    """The mean of each block of values; the last one may be smaller."""
    starts = np.arange(0, len(values), block)
    sums = np.add.reduceat(values, starts)
    return np.asarray(sums / np.minimum(block, len(values) - starts))


def _middle(values: np.ndarray) -> np.ndarray:
    start = max(0, (len(values) - _DETAIL) // 2)
    return values[start : start + _DETAIL]


def _coloured(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The influence of each pixel as a colour, uint8 (rows, columns, 3)."""
    influence = rows[:, None] * columns[None, :]
    share = influence / (influence.max(initial=0) or 1.0)
    places = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(share, places, _COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def model_views(run: ReadableRun, panels: Sequence[CasePanel]) -> tuple[View, ...]:
    """Return the first flips that are shown, with what the model sees of them."""
    table = run.views()
    keys = zip(table["image"], table["attack"], table["epsilon"], strict=True)
    known = dict(zip(keys, zip(table["before"], table["after"], strict=True), strict=True))
    found = []
    for panel in panels:
        names = known.get((panel.case.image, panel.case.attack, panel.case.epsilon))
        if names is not None and (one := _view(run, panel, names)) is not None:
            found.append(one)
    return tuple(found[:_MOST_CASES])


def _view(run: ReadableRun, panel: CasePanel, names: tuple[str, str]) -> View | None:
    case = panel.case
    if panel.problem or case.original is None or case.png is None:
        return None
    files = (case.original, case.png, *names)
    captions = (
        "Original",
        "Adversarial",
        "What the model sees of the original",
        "What the model sees of the uploaded file",
    )
    try:
        shots = tuple(_shots(run, zip(captions, files, strict=True)))
    except (RunError, OSError, ValueError, SyntaxError):
        return None
    return View(case.name, panel.before, panel.after, shots)


def _shots(run: ReadableRun, files: Iterable[tuple[str, str]]) -> Iterable[tuple[str, Shot]]:
    for caption, name in files:
        picture = read_picture(run, name)
        height, width = picture.shape[:2]
        small, _ = pixels.thumbnail(picture, _SIDE)
        yield f"{caption}, {width} × {height}", enlarged(small, caption, _ENLARGED)
