"""Parses epsilons from text. Needs no TensorFlow, so that a typing error is reported at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from robustness.errors import SettingError


def parse_epsilon(value: float | str) -> float:
    """Return a budget in counts from a number, `"4"` or `"4/255"`.

    Raises
    ------
    SettingError
        The value is something else, or below 1, where no 8-bit image can change.
    """
    text = str(value).strip()
    number, _, divisor = text.partition("/")
    try:
        if "_" in text or not text.isascii():  # Python reads 1_0 as 10
            raise ValueError
        epsilon = float(number)
        if (divisor and float(divisor) != 255) or not math.isfinite(epsilon):
            raise ValueError
    except ValueError:
        raise SettingError(
            f'Epsilon {text!r} is not a budget; expected counts such as 4, or "4/255".'
        ) from None
    if epsilon < 1:
        share = f" If {epsilon:.12g} is a share of 1, write {max(1, round(epsilon * 255))}."
        raise SettingError(
            f"Epsilon {text} is below 1 count, so no 8-bit image can change; expected counts, where "
            f"4 means 4/255.{share if 0 < epsilon < 1 else ''}"
        )
    return epsilon


def parse_epsilons(values: float | str | Iterable[float | str]) -> tuple[float, ...]:
    """Return budgets in counts from `4`, `"1,2,4"` or an iterable; SettingError as `parse_epsilon`."""
    parts: Any = values.split(",") if isinstance(values, str) else values
    try:
        several = list(parts)
    except TypeError:  # a number, of Python's or of NumPy's
        several = [parts]
    return tuple(parse_epsilon(part) for part in several)
