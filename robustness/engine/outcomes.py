"""What a search finds."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.engine.judge import Flip


@dataclass(frozen=True)
class EpsilonOutcome:
    """What came of one image at one epsilon. Passes are those of this rung, all restarts together.

    `flip` is None where the image held; `carried` marks a flip of a smaller epsilon, which holds
    here too; `floated` says that some point flipped in float but no 8-bit file did; `reason` is
    set where the attack broke down. `watched` steps asked for a gradient, `blind` of them got none that
    leads anywhere.
    """

    epsilon: float
    flip: Flip | None = None
    step: int | None = None
    restart: int | None = None
    forward: int = 0
    backward: int = 0
    floated: bool = False
    reason: str = ""
    carried: bool = False
    watched: int = 0
    blind: int = 0
