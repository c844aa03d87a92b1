"""Checks of attacks (`check_attack`, `checks`, `parametrize_with_checks`) and norms (`check_norm`).

Names are imported on first use, since importing TensorFlow takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustness.testing.contract_checks import (
        Check,
        check_attack,
        checks,
        parametrize_with_checks,
    )
    from robustness.testing.norm_checks import check_norm

__all__ = ["Check", "check_attack", "check_norm", "checks", "parametrize_with_checks"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'robustness.testing' has no attribute {name!r}")
    module = "norm_checks" if name == "check_norm" else "contract_checks"
    value = getattr(import_module(f"robustness.testing.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
