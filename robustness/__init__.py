"""Audit image classifiers: which pictures flip, how surely we know, what each flip looks like.

``robustness.audit(model, images, attacks=["pgd"], epsilons=[1, 2, 4])`` is the way in. Names are
loaded when they are used: TensorFlow takes seconds to import, and a report needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from robustness import environment

# Before TensorFlow is imported, by whomever.
environment.use_onednn()
environment.silence_notebook()

if TYPE_CHECKING:
    from robustness.auditing.audit import audit
    from robustness.auditing.merge import merge
    from robustness.auditing.plan import plan
    from robustness.auditing.verify import verify
    from robustness.configuration.audit_config import AuditConfig
    from robustness.contract.attack import Attack
    from robustness.errors import RobustnessError
    from robustness.models.classifier import Classifier
    from robustness.runs.result import AuditResult
    from robustness.testing.contract_checks import check_attack
    from robustness.threat.threat import Threat

_HOMES = {
    "Attack": "contract.attack",
    "AuditConfig": "configuration.audit_config",
    "AuditResult": "runs.result",
    "Classifier": "models.classifier",
    "RobustnessError": "errors",
    "Threat": "threat.threat",
    "audit": "auditing.audit",
    "check_attack": "testing.contract_checks",
    "merge": "auditing.merge",
    "plan": "auditing.plan",
    "verify": "auditing.verify",
}

__all__ = [
    "Attack",
    "AuditConfig",
    "AuditResult",
    "Classifier",
    "RobustnessError",
    "Threat",
    "audit",
    "check_attack",
    "merge",
    "plan",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustness' has no attribute {name!r}")
    with environment.quiet_import():
        value = getattr(import_module(f"robustness.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
