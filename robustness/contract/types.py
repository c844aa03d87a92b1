"""Types that the modules of the contract share."""

from __future__ import annotations

from typing import Any, Literal

State = dict[str, Any]
"""The state of an attack: arrays by name, each with a leading row axis."""

Knowledge = Literal["white-box", "score", "decision"]
"""What an attack may read of the model; see `Attack`."""

Seeks = Literal["any", "closest"]
"""Which point an attack seeks; see `Attack`."""
