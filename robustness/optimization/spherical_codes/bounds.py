"""Known optima, and upper bounds, of the smallest angle between n unit vectors in d dimensions.

Angles in radians. Rankin 1955, "The closest packing of spherical caps in n dimensions"; Fejes Toth
1943 for the sphere in three dimensions; Levenshtein 1979, which the sharp codes attain (Levenshtein
1992, "Designs as maximum codes in polynomial metric spaces"); for lines Welch 1974 and Levenshtein.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import roots_jacobi

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True)
class Bound:
    """An upper bound of the smallest angle.

    Attributes
    ----------
    angle : float
        In radians.
    name : str
        The name of the bound or of the optimal code.
    exact : bool
        Whether some code attains the bound.
    """

    angle: float
    name: str
    exact: bool


def best_bound(count: int, dim: int, *, antipodal: bool = False) -> Bound:
    """Return the tightest of these bounds for `count` vectors (lines, if `antipodal`) in `dim` dimensions."""
    bounds = _bounds(2 * count, dim) if antipodal else _bounds(count, dim)
    if antipodal and count > dim:
        cosine = math.sqrt((count - dim) / (dim * (count - 1)))
        bounds.append(Bound(math.acos(cosine), "Welch", False))
    if antipodal and count > dim * (dim + 1) // 2:
        squared = (3 * count - dim * dim - 2 * dim) / ((count - dim) * (dim + 2))
        bounds.append(Bound(math.acos(math.sqrt(squared)), "Levenshtein, lines", False))
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
    bounds = [
        Bound(_rankin(count, dim), "Rankin", False),
        Bound(_levenshtein(count, dim), "Levenshtein", False),
    ]
    if dim == 3:
        angle = math.pi * count / (6.0 * (count - 2))
        squared = 4.0 - 1.0 / math.sin(angle) ** 2
        bounds.append(Bound(math.acos(1.0 - squared / 2.0), "Fejes Toth", count in (6, 12)))
    return bounds


def _levenshtein(count: int, dim: int) -> float:
    """The angle at which Levenshtein's bound on the number of vectors falls to `count`.

    The bound has one piece for each degree of a polynomial. A piece begins where a tight spherical design
    of its degree would have exactly the number of vectors that it allows.
    """
    degree = 1
    while _tight(dim, degree + 1) <= count:
        degree += 1
    odd, k = degree % 2, (degree + 1) // 2
    low, high = (_zero(k - 1, 1, 1, dim), _zero(k, 1, 0, dim)) if odd else (
        _zero(k, 1, 0, dim), _zero(k, 1, 1, dim)
    )  # fmt: skip
    while high - low > 1e-15:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if _most_vectors(middle, dim, degree) < count:
            low = middle
        else:
            high = middle
    return math.acos(low)


def _tight(dim: int, degree: int) -> int:
    """The smallest number of vectors of a spherical design of this strength (Delsarte, Goethals, Seidel)."""
    half = degree // 2
    if degree % 2:
        return 2 * math.comb(dim - 1 + half, dim - 1)
    return math.comb(dim - 1 + half, dim - 1) + math.comb(dim - 2 + half, dim - 1)


def _zero(degree: int, a: int, b: int, dim: int) -> float:
    """The largest zero of the Jacobi polynomial that is adjacent (a, b) to Gegenbauer's; -1 without one."""
    shift = (dim - 3) / 2
    return float(roots_jacobi(degree, a + shift, b + shift)[0][-1]) if degree else -1.0


def _most_vectors(cosine: float, dim: int, degree: int) -> float:
    """Levenshtein's upper bound of the number of vectors with cosines of at most `cosine`, on its piece."""
    odd, k = degree % 2, (degree + 1) // 2
    below, at, above = _gegenbauer(k, dim, cosine)
    if odd:
        rest = (below - at) / ((1.0 - cosine) * at)
        return math.comb(k + dim - 3, k - 1) * ((2 * k + dim - 3) / (dim - 1) - rest)
    rest = (1.0 + cosine) * (at - above) / ((1.0 - cosine) * (at + above))
    return math.comb(k + dim - 2, k) * ((2 * k + dim - 1) / (dim - 1) - rest)


def _gegenbauer(k: int, dim: int, t: float) -> tuple[float, float, float]:
    """The Gegenbauer polynomials of degree k - 1, k and k + 1 at t, normalised to 1 at 1."""
    below, at = 1.0, t
    for degree in range(1, k):
        above = ((2 * degree + dim - 2) * t * at - degree * below) / (degree + dim - 2)
        below, at = at, above
    return below, at, ((2 * k + dim - 2) * t * at - k * below) / (k + dim - 2)


def _rankin(count: int, dim: int) -> float:
    """The first angle at which Rankin's bound on the number of caps falls below `count`.

    Vectors that are an angle apart are also every smaller angle apart, so the bound at smaller angles
    applies too. Beyond its lowest value, near 90 degrees, the formula gives no further information.
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
    """Rankin's upper bound of the number of vectors that are `angle` (radians, below pi / 2) apart."""
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
