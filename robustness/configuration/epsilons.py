"""Budgets as people write them. No TensorFlow: a typing error is told at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from robustness.errors import SettingError

TOP = 255.0
"""The largest change of a component, in counts."""
WHOLE = ("linf", "l1", "l0")
"""Norms in which the distance of two 8-bit pictures is always a whole number."""


def effective(norm: str, epsilon: float) -> float:
    """The part of a budget that 8-bit pictures can use.

    Parameters
    ----------
    norm : the name of a norm.
    epsilon : the budget, as the norm counts it.

    Returns
    -------
    The floor of `epsilon` where distances of 8-bit pictures are whole numbers (linf, l1, l0); else
    `epsilon` itself: in l2 distances are square roots of whole numbers, close together, and without a
    norm the attack counts what it likes.
    """
    return float(math.floor(epsilon)) if norm in WHOLE else float(epsilon)


def largest(norm: str, pixels: int, channels: int) -> float:
    """The distance beyond which no two pictures are, where `pixels` of `channels` each may change."""
    components = pixels * channels
    known = {"linf": TOP, "l2": TOP * math.sqrt(components), "l1": TOP * components}
    return known.get(norm, float(pixels) if norm == "l0" else math.inf)


def expect_within(
    epsilons: Iterable[float], norm: str, pixels: int | None = None, channels: int = 1
) -> None:
    """Refuse budgets larger than any change of a picture.

    Parameters
    ----------
    epsilons : budgets, as the norm counts them.
    norm : its name.
    pixels, channels : how many pixels may change, and of how many components each; None where that is
        not known yet, and then only what holds for every picture is refused.

    Raises
    ------
    SettingError
        A budget within which every picture of that size lies.
    """
    if pixels is None and norm != "linf":
        return
    most = largest(norm, pixels or 1, channels)
    said = {
        "linf": "255 counts, all that a component can change by",
        "l2": f"{most:.6g} counts, the length of the largest change ({pixels} pixels)",
        "l1": f"{most:.0f} counts, the sum of the largest change ({pixels} pixels)",
        "l0": f"{pixels} pixels, all that may change",
    }
    for epsilon in epsilons:
        if epsilon > most * (1 + 1e-9):
            raise SettingError(
                f"Epsilon {epsilon:.10g} is more than any change of these pictures in {norm}; expected at "
                f"most {said[norm]}. A budget that large leaves nothing of the picture."
            )


def parse_epsilon(value: float | str) -> float:
    """A budget in counts from a number, `"4"` or `"4/255"`.

    SettingError for anything else, and below 1, where no 8-bit image can change.
    """
    text = str(value).strip()
    number, _, divisor = text.partition("/")
    try:
        epsilon = float(number)
        if (divisor and float(divisor) != 255) or not math.isfinite(epsilon):
            raise ValueError
    except ValueError:
        raise SettingError(
            f'Epsilon {text!r} is not a budget; expected counts such as 4, or "4/255".'
        ) from None
    if epsilon < 1:
        share = f" If {epsilon:g} is a share of 1, write {max(1, round(epsilon * 255))}."
        raise SettingError(
            f"Epsilon {text} is below 1 count, so no 8-bit image can change; expected counts, where "
            f"4 means 4/255.{share if 0 < epsilon < 1 else ''}"
        )
    return epsilon


def parse_epsilons(values: float | str | Iterable[float | str]) -> tuple[float, ...]:
    """A ladder of budgets from `4`, `"1,2,4"` or an iterable."""
    parts: Any = values.split(",") if isinstance(values, str) else values
    try:
        several = list(parts)
    except TypeError:  # a number, of Python's or of NumPy's
        several = [parts]
    return tuple(parse_epsilon(part) for part in several)
