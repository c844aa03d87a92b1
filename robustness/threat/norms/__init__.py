"""Norms as objects: the size of a change, projection onto a budget, the steepest direction.

`norm.Norm` is the interface of a norm; `registry` explains how to add one.
"""

from robustness.threat.norms.l0 import L0
from robustness.threat.norms.l1 import L1
from robustness.threat.norms.l2 import L2
from robustness.threat.norms.linf import Linf
from robustness.threat.norms.norm import TOP, Norm
from robustness.threat.norms.registry import (
    BUILT_IN,
    KNOWN,
    NORMS,
    described,
    has_own_column,
    names,
    parse,
    register,
)
from robustness.threat.norms.unmeasured import Free, Unregistered

__all__ = [
    "BUILT_IN",
    "KNOWN",
    "L0",
    "L1",
    "L2",
    "NORMS",
    "TOP",
    "Free",
    "Linf",
    "Norm",
    "Unregistered",
    "described",
    "has_own_column",
    "names",
    "parse",
    "register",
]
