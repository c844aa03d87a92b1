"""Draws a case with Pillow: the strip, its square of pixel values, and frames that alternate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from robustness.reports.case_pictures.letters import plain
from robustness.reports.case_pictures.sheet import Bar, Sheet
from robustness.reports.page import pixels
from robustness.reports.page.charts import CHANNELS
from robustness.reports.wording import percent, signed

INK, SOFT, RULE, PAPER = (28, 27, 25), (103, 101, 95), (229, 227, 221), (255, 255, 255)
ACCENT, CALM, COOL = (181, 64, 14), (85, 83, 77), (63, 100, 128)
EDGE, GAP, HEAD, BAR, LEAST = 24, 24, 26, 36, 176
_CELL = (31, 24)
_COLOURS, _OWN = 256, 200
_FIXED = np.array([PAPER, INK, SOFT, RULE, ACCENT, CALM], np.uint8)


class _Paper:
    """A white picture to write and paste on."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def write(  # noqa: PLR0917 - place and look of one line
        self,
        x: float,
        y: float,
        words: str,
        size: int = 14,
        colour: tuple[int, int, int] = INK,
        anchor: str = "la",
        room: float | None = None,
    ) -> None:
        font = ImageFont.load_default(size)
        words = plain(words)
        shown, length = words, len(words)
        while room is not None and length > 1 and font.getlength(shown) > room:
            length -= 1
            shown = words[:length] + "..."
        self._draw.text((x, y), shown, fill=colour, font=font, anchor=anchor)

    def box(self, x: float, y: float, width: float, height: float, colour: tuple) -> None:
        if width >= 1 and height >= 1:
            self._draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)

    def outline(self, x: float, y: float, width: float, height: float) -> None:
        for grow, colour in ((2, (0, 0, 0)), (1, PAPER)):
            corners = (x - grow, y - grow, x + width - 1 + grow, y + height - 1 + grow)
            self._draw.rectangle(corners, outline=colour)

    def paste(
        self, picture: np.ndarray, x: int, y: int, size: tuple[int, int] | None = None
    ) -> None:
        image = Image.fromarray(np.ascontiguousarray(picture))
        self.image.paste(image.resize(size, Image.Resampling.NEAREST) if size else image, (x, y))


def strip(sheet: Sheet, *, values: bool = False) -> Image.Image:
    """Return original, difference with its colours, and adversarial picture, each with its classes.

    Parameters
    ----------
    sheet
        The case.
    values
        Whether the square of pixel values with the largest change stands below.
    """
    height, width = sheet.before.shape[:2]
    grid = _grid_size(sheet.patch) if values else (0, 0)
    column = max(width, LEAST, grid[0])
    rows = max(2, *(len(bars) for bars in sheet.bars))
    under = EDGE + HEAD + height + 12
    bottom = under + rows * BAR + (grid[1] + 64 if values else 8)
    paper = _Paper(2 * EDGE + 3 * column + 2 * GAP, bottom + 46)
    lefts = [EDGE + place * (column + GAP) for place in range(3)]
    titles = ("original", f"difference x {sheet.gain:g}", "adversarial")
    pictures = (sheet.before, sheet.difference, sheet.after)
    for left, title, picture in zip(lefts, titles, pictures, strict=True):
        paper.write(left, EDGE, title, 14, SOFT)
        paper.paste(picture, left, EDGE + HEAD)
        if values:
            _outline(paper, sheet, left, EDGE + HEAD)
    _bars(paper, sheet.bars[0], lefts[0], under, column, CALM)
    _scale(paper, sheet, lefts[1], under, column)
    _bars(paper, sheet.bars[1], lefts[2], under, column, ACCENT)
    if values:
        top = under + rows * BAR + 8
        _values(paper, sheet, lefts, top)
    paper.write(EDGE, bottom, sheet.title, 14, INK, room=paper.image.width - 2 * EDGE)
    paper.write(EDGE, bottom + 20, sheet.note, 12, SOFT, room=paper.image.width - 2 * EDGE)
    return paper.image


def frames(sheet: Sheet, *, values: bool = False) -> list[Image.Image]:
    """Return the original and the adversarial picture as two frames of 256 colours.

    Both frames have one palette. It is exact for pictures of few colours; for others the frames say that
    colours are reduced, since a change of a count may then be invisible or larger than it is.
    """
    own = _colours([sheet.before, sheet.after])
    exact = len(own) <= _OWN
    drawn = [np.asarray(_frame(sheet, place, values=values, exact=exact)) for place in (0, 1)]
    every = _colours(drawn)
    kept = np.concatenate([_FIXED, own if exact else _reduced(own, _OWN)])
    rest = every[~np.isin(_keys(every), _keys(np.concatenate([kept, own])))]
    table = np.concatenate([kept, _reduced(rest, _COLOURS - len(kept))])
    palette = np.zeros((_COLOURS, 3), np.uint8)
    palette[: len(table)] = table
    nearest = _nearest(every, table)
    order = _keys(every)
    frames = []
    for frame in drawn:
        image = Image.fromarray(nearest[np.searchsorted(order, _keys(frame))], "P")
        image.putpalette(palette.ravel().tolist())
        frames.append(image)
    return frames


def _frame(sheet: Sheet, place: int, *, values: bool, exact: bool) -> Image.Image:
    picture = (sheet.before, sheet.after)[place]
    height, width = picture.shape[:2]
    grid = _grid_size(sheet.patch) if values else (0, 0)
    column = max(width, LEAST, grid[0])
    rows = max(1, *(len(bars) for bars in sheet.bars))
    under = EDGE + HEAD + height + 12
    bottom = under + rows * BAR + (grid[1] + 52 if values else 0)
    paper = _Paper(2 * EDGE + column, bottom + 40)
    title = ("original", "adversarial")[place]
    paper.write(EDGE, EDGE, title if exact else f"{title} (256 colours)", 14, SOFT)
    paper.paste(picture, EDGE, EDGE + HEAD)
    if values:
        _outline(paper, sheet, EDGE, EDGE + HEAD)
        top = under + rows * BAR + 8
        paper.write(EDGE, top, _where(sheet), 12, SOFT, room=column)
        _cells(paper, EDGE, top + 22, (sheet.patch.before, sheet.patch.after)[place])
    _bars(paper, sheet.bars[place], EDGE, under, column, (CALM, ACCENT)[place])
    paper.write(EDGE, bottom, sheet.title, 12, SOFT, room=column)
    return paper.image


def _keys(colours: np.ndarray) -> np.ndarray:
    """One number for each colour; they sort as `numpy.unique` sorts the colours."""
    return colours.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _colours(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The different colours of some pictures, (colours, 3), sorted."""
    return np.unique(np.concatenate([picture.reshape(-1, 3) for picture in pictures]), axis=0)


def _reduced(colours: np.ndarray, most: int) -> np.ndarray:
    """At most `most` colours that stand for these."""
    if len(colours) <= most:
        return colours
    quantized = Image.fromarray(colours[None]).quantize(most, Image.Quantize.MEDIANCUT)
    return np.array((quantized.getpalette() or [])[: 3 * most], np.uint8).reshape(-1, 3)


def _nearest(colours: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The place in `table` of the colour nearest to each, uint8."""
    places = [
        ((part[:, None].astype(np.int64) - table[None]) ** 2).sum(-1).argmin(-1)
        for part in np.array_split(colours, 1 + len(colours) // 4096)
    ]
    return np.concatenate(places).astype(np.uint8)


def _bars(
    paper: _Paper, bars: Sequence[Bar], x: int, y: int, width: int, colour: tuple[int, int, int]
) -> None:
    for place, bar in enumerate(bars):
        top, ink = y + place * BAR, INK if bar.wins else SOFT
        paper.write(x, top, bar.name, 14, ink, room=width - 64)
        paper.write(x + width, top, percent(bar.share), 14, ink, "ra")
        paper.box(x, top + 20, width, 6, RULE)
        paper.box(x, top + 20, round(width * bar.share), 6, colour if bar.wins else SOFT)


def _scale(paper: _Paper, sheet: Sheet, x: int, y: int, width: int) -> None:
    paper.paste(sheet.colours, x, y + 2, (width, 12))
    for share, words, anchor in (
        (0.0, signed(-sheet.reach), "la"),
        (0.5, "0", "ma"),
        (1.0, signed(sheet.reach), "ra"),
    ):
        paper.write(x + share * width, y + 20, words, 12, SOFT, anchor)
    unit = "counts of red, green, blue" if sheet.channels >= 3 else "counts"
    paper.write(x, y + 38, unit, 12, SOFT, room=width)


def _grid_size(patch: pixels.Patch) -> tuple[int, int]:
    rows, columns = patch.before.shape
    return columns * _CELL[0], rows * _CELL[1]


def _outline(paper: _Paper, sheet: Sheet, left: int, top: int) -> None:
    patch, scale = sheet.patch, sheet.scale
    rows, columns = patch.before.shape
    x, y = left + round(patch.left * scale), top + round(patch.top * scale)
    paper.outline(x, y, max(2, round(columns * scale)), max(2, round(rows * scale)))


def _where(sheet: Sheet) -> str:
    patch = sheet.patch
    rows, columns = patch.before.shape
    names = CHANNELS.get(sheet.channels)
    channel = names[patch.channel] if names else f"channel {patch.channel}"
    return (
        f"{channel}, rows {patch.top}-{patch.top + rows - 1}, columns {patch.left}-"
        f"{patch.left + columns - 1}"
    )


def _values(paper: _Paper, sheet: Sheet, lefts: Sequence[int], top: int) -> None:
    """The square of pixel values under each picture."""
    patch = sheet.patch
    grids = (("before", patch.before), ("difference", patch.difference), ("after", patch.after))
    for left, (title, grid) in zip(lefts, grids, strict=True):
        where = f", {_where(sheet)}" if title == "before" else ""
        paper.write(left, top, title + where, 12, SOFT)
        _cells(paper, left, top + 22, grid, differs=title == "difference")


def _cells(paper: _Paper, x: int, y: int, grid: np.ndarray, *, differs: bool = False) -> None:
    width, height = _CELL
    most = max(1, int(np.abs(grid.astype(np.int64)).max(initial=0)))
    for (row, column), number in np.ndenumerate(grid):
        value = int(number)
        fill = _shade(value / most) if differs else (value, value, value)
        ink = INK if 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 120 else PAPER
        left, top = x + column * width, y + row * height
        paper.box(left, top, width - 1, height - 1, fill)
        words = signed(value) if differs else str(value)
        paper.write(left + width / 2, top + height / 2, words, 11, ink, "mm")


def _shade(amount: float) -> tuple[int, int, int]:
    """A colour for a signed amount -1..1: cool, nearly white, warm."""
    end, middle = (COOL, ACCENT)[amount > 0], (244, 243, 239)
    mixed = [round(m + abs(amount) * (e - m)) for m, e in zip(middle, end, strict=True)]
    return mixed[0], mixed[1], mixed[2]
