"""Shows results in notebooks: a case as three pictures, a run as a table, a curve and cases.

The HTML has no scripts; names are escaped, and pictures are encoded here as PNG data URIs.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from PIL import Image

from robustness.images.png import to_png
from robustness.numerics.intervals import wilson_interval
from robustness.runs.result_curve import svg
from robustness.text import percent, percent_range, visible

SIDE = 192
"""The fewest pixels of a displayed picture's longer side; small pictures are enlarged by a whole number."""


@dataclass(frozen=True)
class Case:
    """One flip, with the pictures and the classes before and after.

    Parameters
    ----------
    image, name : str
        The key and the name of the image.
    before, after : str
        The names of the classes.
    confidence_before, confidence_after : float
        The probabilities of these classes, 0..1.
    attack : str
        The label of the attack.
    epsilon : float
        The smallest budget at which the image flips, in counts.
    original, flipped : np.ndarray
        uint8 (height, width, channels).
    """

    image: str
    name: str
    before: str
    after: str
    confidence_before: float
    confidence_after: float
    attack: str
    epsilon: float
    original: np.ndarray = field(repr=False)
    flipped: np.ndarray = field(repr=False)

    @property
    def change(self) -> np.ndarray:
        """Flip minus original in counts, int16 (height, width, channels)."""
        return self.flipped.astype(np.int16) - self.original.astype(np.int16)

    @property
    def amplified(self) -> tuple[np.ndarray, int]:
        """The change, amplified around grey, as uint8 (height, width, channels); and the factor."""
        most = max(1, int(np.abs(self.change).max(initial=0)))
        factor = max(1, 127 // most)
        return np.clip(128 + factor * self.change, 0, 255).astype(np.uint8), factor

    @property
    def caption(self) -> str:
        """The case in one line."""
        return (
            f"{self.name}: {self.before} ({percent(self.confidence_before)}) becomes {self.after} "
            f"({percent(self.confidence_after)}) within {self.epsilon:.12g} by {self.attack}"
        )

    def picture(self) -> Image.Image:
        """Return original, flip and amplified change side by side."""
        strip = np.concatenate([_grown(p) for p in self._pictures().values()], axis=1)
        return Image.fromarray(strip[..., 0] if strip.shape[-1] == 1 else strip)

    def show(self) -> None:
        """Display the case: in a notebook below the cell, elsewhere in a window."""
        try:
            from IPython import get_ipython  # noqa: PLC0415 - only notebooks have it
            from IPython.display import display  # noqa: PLC0415
        except ImportError:
            self.picture().show(self.caption)
            return
        if get_ipython() is None:
            self.picture().show(self.caption)
        else:
            display(self)

    def _pictures(self) -> dict[str, np.ndarray]:
        shown, factor = self.amplified
        return {"original": self.original, "flipped": self.flipped, f"change × {factor}": shown}

    def _repr_html_(self) -> str:
        figures = "".join(
            f'<figure style="display:inline-block;margin:0 12px 8px 0">{_image(pixels, title)}'
            f"<figcaption>{_text(title)}</figcaption></figure>"
            for title, pixels in self._pictures().items()
        )
        said = f'<div style="margin:0 0 24px">{_text(self.caption)}</div>'
        return f"<div>{figures}{said}</div>"


def _grown(pixels: np.ndarray) -> np.ndarray:
    """Pixels enlarged by a whole number, so that every pixel remains a square."""
    factor = max(1, -(-SIDE // max(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _image(pixels: np.ndarray, title: str) -> str:
    factor = max(1, -(-SIDE // max(pixels.shape[:2])))
    height, width = pixels.shape[0] * factor, pixels.shape[1] * factor
    data = base64.b64encode(to_png(pixels)).decode()
    return (
        f'<img src="data:image/png;base64,{data}" alt="{_text(title)}" width="{width}" '
        f'height="{height}" style="image-rendering:pixelated">'
    )


def page(
    sentence: str,
    rates: Mapping[str, Sequence[tuple[float, int, int]]],
    cases: Iterable[Case],
    short: Collection[tuple[str, float]] = (),
) -> str:
    """Return the HTML of a run: its sentence, a table and a curve of the rates, and some cases.

    Parameters
    ----------
    sentence : str
        The results in words.
    rates : mapping of str to sequence of tuple
        By attack, (epsilon, flipped images, judged images) each.
    cases : iterable of Case
        The cases to show.
    short : collection of tuple
        (attack, epsilon) of which the attack could not use all; the curve leaves these out.
    """
    stated = {
        attack: kept
        for attack, points in rates.items()
        if (kept := [point for point in points if (attack, point[0]) not in short])
    }
    rows = "".join(
        _row(
            "td",
            _text(attack),
            f"{epsilon:.12g}",
            f"{k:,}",
            f"{n:,}",
            _share(k, n),
            _interval(k, n),
        )
        for attack, points in rates.items()
        for epsilon, k, n in points
    )
    heads = _row("th", "attack", "epsilon", "flipped", "of", "flip rate", "95 % interval")
    table = f"<table><thead>{heads}</thead><tbody>{rows}</tbody></table>"
    shown = "".join(case._repr_html_() for case in cases)
    return f"<div><p>{_text(sentence)}</p>{table}{svg(stated)}{shown}</div>"


def _row(tag: str, first: str, *rest: str) -> str:
    """A row of cells: the first left-aligned, the others right-aligned."""
    cells = "".join(
        f'<{tag} style="text-align:right;padding-left:16px">{one}</{tag}>' for one in rest
    )
    return f'<tr><{tag} style="text-align:left">{first}</{tag}>{cells}</tr>'


def _text(text: str) -> str:
    """A name as HTML: escaped, with hidden characters made visible."""
    return escape(visible(text))


def _share(k: int, n: int) -> str:
    return percent(k / n) if n else "-"


def _interval(k: int, n: int) -> str:
    """Wilson's interval of a rate."""
    if not n:
        return "-"
    low, high = wilson_interval(k, n)
    return percent_range(low, high)
