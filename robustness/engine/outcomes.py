"""The output of a search: the outcome of an attack on an image at each epsilon."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.engine.judge import Flip


@dataclass(frozen=True)
class EpsilonOutcome:
    """The outcome of one attack on one image at one epsilon.

    Parameters
    ----------
    epsilon
        The budget, in the norm's unit.
    flip
        The flip that was found; None if there is none.
    step, restart
        The step and start at which the flip was found; None without a flip.
    forward, backward
        Passes spent at this epsilon, over all restarts.
    flips_in_float_only
        Whether some point flips the model in float while no 8-bit file does.
    reason
        Why the attack failed, "" if it did not.
    carried
        Whether the outcome was found at a smaller epsilon; a flip there is also a flip here.
    watched
        The number of steps that took a gradient.
    blind
        The number of these steps whose gradient was zero or not finite.
    """

    epsilon: float
    flip: Flip | None = None
    step: int | None = None
    restart: int | None = None
    forward: int = 0
    backward: int = 0
    flips_in_float_only: bool = False
    reason: str = ""
    carried: bool = False
    watched: int = 0
    blind: int = 0
