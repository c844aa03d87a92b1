"""Pictures of the deployed pipeline: the pixels that it reads, and what the model sees of a flip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.errors import RunError
from robustness.pipeline.upload import Upload
from robustness.reports.page import pixels
from robustness.reports.page.case_panels import (
    ALTERED,
    CasePanel,
    Shot,
    altered,
    enlarged,
    read_picture,
)
from robustness.reports.summary.tables import ReadableRun
from robustness.runs.deployed_schema import PixelsReadEntry

_MOST_CASES = 3
_SIDE = 320
"""Longest side of a heat map, and of a picture, in pixels; larger ones are reduced by a whole factor."""
_DETAIL = 40
"""Side of the square in the middle of the picture that is shown pixel by pixel."""
_ENLARGED = 240
_MOST_GAP = 1024
"""Limits the time for a heat map of few pixels far apart."""
_COLOURS = np.array([(23, 26, 34), (181, 64, 14), (255, 226, 178)], np.float64)
"""Colours of pixels that are never read, of a quarter of the largest weight, and of all of it."""


@dataclass(frozen=True)
class HeatMap:
    """How much each pixel of a picture weighs in the model's image.

    Attributes
    ----------
    whole, detail : the whole picture, and its middle pixel by pixel; None if the whole shows each pixel, or
        all pixels of the middle weigh the same.
    side : the side of the detail in pixels.
    reduced : whether a pixel of the whole is the mean of its surroundings.
    height, width, pictures, total : the most frequent size, and how many pictures have it.
    """

    whole: Shot
    detail: Shot | None
    side: int
    reduced: bool
    height: int
    width: int
    pictures: int
    total: int


@dataclass(frozen=True)
class ViewShot:
    """A picture with its caption, its own size, and its predicted class; "" for what is uploaded."""

    caption: str
    size: str
    predicted: str
    shot: Shot


@dataclass(frozen=True)
class View:
    """An original and its flip as they are uploaded, and what the model sees of both.

    Attributes
    ----------
    name, before, after : the image, and its class before and after the attack.
    shots : the two uploaded files, and what the model sees of them; none if a file cannot be read.
    doubt : what speaks against these pictures; "" if nothing does.
    """

    name: str
    before: str
    after: str
    shots: tuple[ViewShot, ...] = ()
    doubt: str = ""


def heat_map(read: PixelsReadEntry | None) -> HeatMap | None:
    """Return the heat map of the pixels read; None if the run did not record them."""
    if read is None or not read.rows or not read.columns:
        return None
    rows, columns = (np.abs(np.asarray(side, np.float64)) for side in (read.rows, read.columns))
    largest = float(rows.max() * columns.max()) or 1.0
    block = -(-max(len(rows), len(columns)) // _SIDE)
    # The mean of a product of rows and columns is the product of their means.
    whole = _coloured(_means(rows, block), _means(columns, block), largest)
    middle = _middle(rows), _middle(columns)
    small = max(len(rows), len(columns)) <= _DETAIL or all(np.ptp(side) == 0 for side in middle)
    what = f"Heat map of the pixels read of a picture of {read.width:,} × {read.height:,}"
    return HeatMap(
        whole=enlarged(whole, what, _SIDE),
        detail=None
        if small
        else enlarged(
            _coloured(*middle, largest), f"{what}: its middle, pixel by pixel", _ENLARGED
        ),
        side=_DETAIL,
        reduced=block > 1,
        height=read.height,
        width=read.width,
        pictures=read.pictures,
        total=read.total,
    )


def _means(values: np.ndarray, block: int) -> np.ndarray:
    """The mean around each block of values; the last block may be smaller.

    Each value is spread over two gaps between those that are read: blocks alone would show a pattern that the
    pipeline does not have (moiré).
    """
    if block == 1:
        return values
    places = np.flatnonzero(values)
    gap = min(_MOST_GAP, int(np.diff(places).max(initial=1)))
    if gap > 1 and places.size:
        box = np.full(2 * gap, 0.5 / gap)
        tent = np.convolve(box, box)
        first, end = max(0, places[0] - gap // 2), min(len(values), places[-1] + gap // 2 + 1)
        mirrored = np.pad(values[first:end], 2 * gap - 1, mode="symmetric")
        values = values.copy()
        values[first:end] = np.convolve(mirrored, tent, mode="valid")
    starts = np.arange(0, len(values), block)
    sums = np.add.reduceat(values, starts)
    return np.asarray(sums / np.minimum(block, len(values) - starts))


def _middle(values: np.ndarray) -> np.ndarray:
    start = max(0, (len(values) - _DETAIL) // 2)
    return values[start : start + _DETAIL]


def _coloured(rows: np.ndarray, columns: np.ndarray, largest: float) -> np.ndarray:
    """The influence of each pixel as a colour, uint8 (rows, columns, 3).

    The colour is that of the square root of its share of the largest influence, so that means of few pixels
    that are read differ from none.
    """
    share = np.sqrt(np.clip(rows[:, None] * columns[None, :] / largest, 0, 1))
    places = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(share, places, _COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def model_views(
    run: ReadableRun, panels: Sequence[CasePanel], upload: Upload | None
) -> tuple[View, ...]:
    """Return the first flips that are shown, with what the model sees of them.

    Parameters
    ----------
    run : the run, whose pictures are read.
    panels : the flips of the page.
    upload : the format of the uploaded files, which are shown as they are decoded if it is lossy.
    """
    seen = _by_flip(run.views(), "before", "after")
    files = _by_flip(run.uploads(), "file") if upload is not None and not upload.lossless else {}
    found = []
    for panel in panels:
        flip = (panel.case.image, panel.case.attack, panel.case.epsilon)
        if flip in seen and (one := _view(run, panel, seen[flip], files.get(flip), upload)):
            found.append(one)
    return tuple(found[:_MOST_CASES])


def _by_flip(table: pd.DataFrame, *columns: str) -> dict[tuple[str, str, float], tuple[str, ...]]:
    """Columns of a table by image, attack and epsilon."""
    keys = zip(table["image"], table["attack"], table["epsilon"], strict=True)
    return dict(zip(keys, zip(*(table[name] for name in columns), strict=True), strict=True))


def _view(
    run: ReadableRun,
    panel: CasePanel,
    seen: tuple[str, ...],
    file: tuple[str, ...] | None,
    upload: Upload | None,
) -> View | None:
    case = panel.case
    if panel.problem or case.original is None or case.png is None:
        return None
    try:
        original = read_picture(run, case.original)
        if file is None or upload is None:
            sent = read_picture(run, case.png)
        else:
            sent = upload.decode(run.png(file[0]), original.shape[-1])
        images = [read_picture(run, name) for name in seen]
        wrong = altered(run, (case.original, case.png, *(file or ()), *seen))
    except (RunError, OSError, ValueError, SyntaxError) as error:
        doubt = f"What was uploaded, or what the model sees, cannot be shown: {error}"
        return View(case.name, panel.before, panel.after, doubt=doubt)
    shots = (
        _shot("Original", original, case.name),
        _shot("Adversarial, the uploaded file", sent, case.name),
        _shot("What the model sees of the original", images[0], case.name, panel.before),
        _shot("What the model sees of the uploaded file", images[1], case.name, panel.after),
    )
    return View(case.name, panel.before, panel.after, shots, ALTERED if wrong else "")


def _shot(caption: str, picture: np.ndarray, name: str, predicted: str = "") -> ViewShot:
    height, width = picture.shape[:2]
    small, _ = pixels.thumbnail(picture, _SIDE)
    alt = f"{name}: {caption[0].lower()}{caption[1:]}"
    alt += f", classified as {predicted}" if predicted else ""
    return ViewShot(caption, f"{width:,} × {height:,}", predicted, enlarged(small, alt, _ENLARGED))
