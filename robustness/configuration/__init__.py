"""Configuration: the options of an audit, the parameters of attacks, epsilons, TOML files.

Must not import models, engine, runs or reports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustness.configuration.audit_config import AuditConfig

__all__ = ["AuditConfig"]


def __getattr__(name: str) -> Any:
    # pydantic is imported only when the class is used: attacks need this package for their parameters.
    if name != "AuditConfig":
        raise AttributeError(f"module 'robustness.configuration' has no attribute {name!r}")
    return import_module("robustness.configuration.audit_config").AuditConfig
