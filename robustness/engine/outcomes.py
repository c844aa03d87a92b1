"""The output of a search."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.engine.judge import Flip


@dataclass(frozen=True)
class EpsilonOutcome:
    """The outcome of one attack on one image at one epsilon.

    Parameters
    ----------
    epsilon : the budget, in the norm's unit.
    flip : the flip that was found, None if the image survived.
    step, restart : when the flip was found; None without one.
    forward, backward : passes spent at this epsilon, over all restarts.
    flips_in_float_only : whether some point flips the model in float while no 8-bit file does.
    reason : why the attack failed, "" if it did not.
    carried : whether the flip was found at a smaller epsilon, within which it holds here too.
    watched : steps that took a gradient.
    blind : those of them whose gradient was zero or not finite.
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
