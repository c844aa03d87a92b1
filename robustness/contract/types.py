"""Types that the contract's modules share."""

from __future__ import annotations

from typing import Any, Literal

State = dict[str, Any]


Knowledge = Literal["white-box", "score", "decision"]


Seeks = Literal["any", "closest"]
