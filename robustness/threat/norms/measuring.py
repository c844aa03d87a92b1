"""Measures pictures in a norm of another package: what it raises or returns is told in a sentence."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from robustness.errors import RobustnessError, SettingError
from robustness.plugins import first_line
from robustness.text import visible
from robustness.threat.norms.norm import Norm

ADVICE = "Correct it (`robustness.testing.check_norm` tests it), or choose another norm."
"""What to do about a norm of another package that fails."""


def named(norm: Norm) -> str:
    """Return "The norm 'name' (module:class)", the beginning of a sentence."""
    kind = type(norm)
    return visible(f"The norm {str(norm.name)[:100]!r} ({kind.__module__}:{kind.__qualname__})")


def distance(
    norm: Norm,
    before: np.ndarray,
    after: np.ndarray,
    method: Literal["distance", "recount"] = "distance",
) -> float:
    """Return the distance of two pictures in a norm.

    Parameters
    ----------
    norm
        The norm.
    before, after
        uint8 pictures (height, width, channels).
    method
        The method of the norm that measures.

    Raises
    ------
    SettingError
        The norm raised an exception, or returned no finite number from 0 on.
    """
    try:
        far = getattr(norm, method)(before, after)
    except (KeyboardInterrupt, MemoryError, RobustnessError):
        raise
    except BaseException as error:  # a plug-in may raise anything, SystemExit included
        raise SettingError(
            f"{named(norm)} failed in `{method}`: {visible(first_line(error))}. {ADVICE}"
        ) from error
    if not isinstance(far, (int, float, np.number)) or not (math.isfinite(far) and far >= 0):
        raise SettingError(
            f"{named(norm)} returned {visible(repr(far)[:200])} from `{method}`; expected a finite number, "
            f"0 or more. {ADVICE}"
        )
    return float(far)
