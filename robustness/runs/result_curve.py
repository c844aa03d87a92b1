"""The curve of a run: the share of images that hold over epsilon, as a table of points and as a drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from robustness.numerics.intervals import wilson_interval
from robustness.text import percent_range, visible

Rates = Mapping[str, Sequence[tuple[float, int, int]]]
"""By attack, (epsilon, flipped images, judged images) each."""


@dataclass(frozen=True)
class Curve:
    """The share of the attacked images that hold, over epsilon; a notebook draws it.

    Parameters
    ----------
    rates : mapping
        See `Rates`; epsilons that an attack could not use fully are left out.
    """

    rates: Rates

    @property
    def points(self) -> pd.DataFrame:
        """A row per attack and epsilon: flipped and judged images, the share that holds, its interval."""
        rows = [
            (attack, epsilon, k, n, 1 - k / n, *wilson_interval(n - k, n))
            for attack, points in self.rates.items()
            for epsilon, k, n in points
            if n
        ]
        names = ["attack", "epsilon", "flipped", "judged", "share", "low", "high"]
        return pd.DataFrame(rows, columns=names)

    def __repr__(self) -> str:
        return f"Curve of the share that holds:\n{self.points.to_string(index=False)}"

    def _repr_html_(self) -> str:
        if drawn := svg(self.rates):
            return drawn
        return f"<div><p>One epsilon is a point, not a curve.</p>{self.points.to_html(index=False)}</div>"


def _words(text: str) -> str:
    """A name as HTML: escaped, with hidden characters made visible."""
    return escape(visible(text))


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BELOW, _GAP = 560, 200, 44, 208, 12, 28, 14


def svg(rates: Mapping[str, Sequence[tuple[float, int, int]]]) -> str:
    """Return an SVG of the share of attacked images that do not flip, over epsilon; "" for one epsilon."""
    top = max((epsilon for points in rates.values() for epsilon, *_ in points), default=0.0)
    if not any(len(points) > 1 for points in rates.values()):
        return ""
    bottom, end = _HEIGHT - _BELOW, _WIDTH - _RIGHT
    lines, ends = [], {}
    for number, (attack, points) in enumerate(rates.items()):
        shares = [(0.0, 1.0)] + [(e, 1 - k / n) for e, k, n in points if n]
        places = [
            (_LEFT + (end - _LEFT) * e / top, _TOP + (bottom - _TOP) * (1 - y)) for e, y in shares
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dash = "" if not number else f' stroke-dasharray="{2 * number + 2} 3"'
        lines.append(
            f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="1.5"{dash}>'
            f"<title>{_words(attack)}</title></polyline>"
        )
        for (x, y), (epsilon, k, n) in zip(
            places[1:], [one for one in points if one[2]], strict=True
        ):
            low, high = wilson_interval(n - k, n)
            ys = [_TOP + (bottom - _TOP) * (1 - share) for share in (low, high)]
            lines.append(
                f'<path d="M{x:.1f} {ys[0]:.1f}V{ys[1]:.1f}" stroke="currentColor" opacity=".45"/>'
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="currentColor"><title>{_words(attack)}, '
                f"epsilon {epsilon:.12g}: {n - k} of {n} hold, {percent_range(low, high)}"
                "</title></circle>"
            )
        ends[attack] = places[-1][1]
    names = "".join(
        f'<text x="{end + 8}" y="{y + 4:.1f}">{_words(attack[:30])}</text>'
        for attack, y in _apart(ends)
    )
    axes = (
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{end}" fill="none" stroke="currentColor" opacity=".4"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">100 %</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">0 %</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 10}">0</text>'
        f'<text x="{end}" y="{_HEIGHT - 10}" text-anchor="end">epsilon {top:g}</text>'
    )
    return (
        '<figure style="margin:16px 0"><figcaption>Share of the attacked images that hold, over epsilon, '
        'with 95 % intervals</figcaption><svg role="img" aria-label="Share that holds over epsilon" '
        f'width="{_WIDTH}" '
        f'height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-size="11" fill="currentColor">'
        f"{axes}{''.join(lines)}{names}</svg></figure>"
    )


def _apart(ends: Mapping[str, float]) -> list[tuple[str, float]]:
    """The height of each name beside the end of its line, moved up where names would overlap."""
    placed: list[tuple[str, float]] = []
    for name, y in sorted(ends.items(), key=lambda one: -one[1]):
        placed.append((name, min(y, placed[-1][1] - _GAP) if placed else y))
    return placed
