"""How far apart n unit vectors in d dimensions can be: what is known, and what nobody can beat.

Angles in radians. Rankin 1955, "The closest packing of spherical caps in n dimensions"; Fejes Toth
1943 for the sphere in three dimensions; Welch 1974 for lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True)
class Bound:
    """The largest smallest angle (radians) that is possible, its name, whether it is attained."""

    angle: float
    name: str
    exact: bool


def best_bound(count: int, dim: int, *, antipodal: bool = False) -> Bound:
    """The tightest bound known here on `count` vectors (or lines, if `antipodal`) in `dim`."""
    bounds = _bounds(2 * count, dim) if antipodal else _bounds(count, dim)
    if antipodal and count > dim:
        cosine = math.sqrt((count - dim) / (dim * (count - 1)))
        bounds.append(Bound(math.acos(cosine), "Welch", False))
    return min(bounds, key=lambda bound: (bound.angle, not bound.exact))


def _bounds(count: int, dim: int) -> list[Bound]:
    if count < 2:
        return [Bound(math.pi, "a single vector", True)]
    if count <= dim + 1:
        return [Bound(math.acos(-1.0 / (count - 1)), "simplex", True)]
    if dim == 1:
        return [Bound(0.0, "two ends of a line", True)]
    if dim == 2:
        return [Bound(2.0 * math.pi / count, "regular polygon", True)]
    if count <= 2 * dim:
        return [Bound(math.pi / 2.0, "orthoplex", True)]
    bounds = [Bound(_rankin(count, dim), "Rankin", False)]
    if dim == 3:
        angle = math.pi * count / (6.0 * (count - 2))
        squared = 4.0 - 1.0 / math.sin(angle) ** 2
        bounds.append(Bound(math.acos(1.0 - squared / 2.0), "Fejes Toth", count in (6, 12)))
    return bounds


def _rankin(count: int, dim: int) -> float:
    """The first angle at which Rankin's bound on the number of caps falls below `count`.

    Vectors that are far apart are a little apart too, so the bound at every smaller angle counts
    as well; beyond its lowest value, near 90 degrees, the formula itself says nothing more.
    """
    grid = np.linspace(1e-6, math.pi / 2.0 - 1e-6, 400)
    below = np.flatnonzero([_most_caps(angle, dim) < count for angle in grid])
    if not below.size:
        return math.pi / 2.0
    low, high = (float(grid[below[0] - 1]) if below[0] else 0.0), float(grid[below[0]])
    while high - low > 1e-13:
        middle = 0.5 * (low + high)
        if _most_caps(middle, dim) >= count:
            low = middle
        else:
            high = middle
    return high


def _most_caps(angle: float, dim: int) -> float:
    """Rankin's upper bound on how many vectors can be `angle` < 90 degrees apart."""
    sine = math.sqrt(2.0) * math.sin(angle / 2.0)
    beta = math.asin(sine)
    theta = 0.5 * beta * (_NODES + 1.0)
    # Powers of sin(theta) / sin(beta), so that nothing underflows in many dimensions.
    share = np.sin(theta) / math.sin(beta)
    area = 0.5 * beta * np.sum(_WEIGHTS * share ** (dim - 2) * (np.cos(theta) - math.cos(beta)))
    logarithm = (
        0.5 * math.log(math.pi)
        + math.lgamma((dim - 1) / 2.0)
        - math.log(2.0)
        - math.lgamma(dim / 2.0)
        + math.log(math.tan(beta))
        - (dim - 3) * math.log(math.sin(beta))
        - math.log(area)
    )
    return math.exp(min(logarithm, 700.0))
