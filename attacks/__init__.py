"""The public module for attacks: the built-in recipes, and the parts from which recipes are written.

Its names are stable, whereas other modules may move. Each name is imported on first use, since TensorFlow
takes seconds to import. `docs/adding-an-attack.md` explains the parts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from robustness import environment

if TYPE_CHECKING:
    from robustness.attacks.apgd import APGD, APGDT
    from robustness.attacks.bim import BIM
    from robustness.attacks.carlini_wagner import CarliniWagner
    from robustness.attacks.components.boundary import likeliest, nearest, onto
    from robustness.attacks.components.penalty import Penalty
    from robustness.attacks.components.starts import STARTS, Start
    from robustness.attacks.components.step_length import Stepping
    from robustness.attacks.components.step_sizes import StepSchedule
    from robustness.attacks.components.target_classes import ranked
    from robustness.attacks.corruptions import Corruptions
    from robustness.attacks.ddn import DDN
    from robustness.attacks.deepfool import DeepFool
    from robustness.attacks.ead import EAD
    from robustness.attacks.fab import FAB, FABT
    from robustness.attacks.few_pixel import FewPixel
    from robustness.attacks.fgsm import FGSM
    from robustness.attacks.fmn import FMN
    from robustness.attacks.hopskipjump import HopSkipJump
    from robustness.attacks.mi_fgsm import MIFGSM
    from robustness.attacks.noise import GaussianNoise, UniformNoise
    from robustness.attacks.pgd import PGD
    from robustness.attacks.score_gradient import NES, Regression
    from robustness.attacks.sigma_zero import SigmaZero
    from robustness.attacks.simba import SimBA
    from robustness.attacks.spatial import Spatial
    from robustness.attacks.spsa import SPSA
    from robustness.attacks.square import Square
    from robustness.attacks.transfer import DIFGSM, NIFGSM, TIFGSM, VMIFGSM
    from robustness.attacks.universal import Patch, Universal
    from robustness.attacks.wrappers import EOT, Bisection, Wrapper
    from robustness.configuration.attack_parameters import setting
    from robustness.contract.attack import Attack
    from robustness.contract.ensembles import Ensemble
    from robustness.contract.look import Evaluation, Look
    from robustness.contract.task import Task, where_rows
    from robustness.contract.types import Knowledge, Seeks, State
    from robustness.errors import AttackError, SettingError
    from robustness.numerics.batch_invariant import batch_invariant
    from robustness.numerics.losses import LOSSES
    from robustness.threat.goals import Goal
    from robustness.threat.norms import NORMS, Norm

_RECIPES = {
    "APGD": "attacks.apgd",
    "APGDT": "attacks.apgd",
    "BIM": "attacks.bim",
    "DDN": "attacks.ddn",
    "DIFGSM": "attacks.transfer",
    "EAD": "attacks.ead",
    "EOT": "attacks.wrappers",
    "FAB": "attacks.fab",
    "FABT": "attacks.fab",
    "FGSM": "attacks.fgsm",
    "FMN": "attacks.fmn",
    "MIFGSM": "attacks.mi_fgsm",
    "NES": "attacks.score_gradient",
    "NIFGSM": "attacks.transfer",
    "PGD": "attacks.pgd",
    "SPSA": "attacks.spsa",
    "TIFGSM": "attacks.transfer",
    "VMIFGSM": "attacks.transfer",
    "Bisection": "attacks.wrappers",
    "CarliniWagner": "attacks.carlini_wagner",
    "Corruptions": "attacks.corruptions",
    "DeepFool": "attacks.deepfool",
    "FewPixel": "attacks.few_pixel",
    "GaussianNoise": "attacks.noise",
    "HopSkipJump": "attacks.hopskipjump",
    "Patch": "attacks.universal",
    "Regression": "attacks.score_gradient",
    "SigmaZero": "attacks.sigma_zero",
    "SimBA": "attacks.simba",
    "Spatial": "attacks.spatial",
    "Square": "attacks.square",
    "UniformNoise": "attacks.noise",
    "Universal": "attacks.universal",
}
"""The built-in recipes and their modules."""

_PARTS = {
    "LOSSES": "numerics.losses",
    "NORMS": "threat.norms",
    "STARTS": "attacks.components.starts",
    "Attack": "contract.attack",
    "AttackError": "errors",
    "Ensemble": "contract.ensembles",
    "Evaluation": "contract.look",
    "Goal": "threat.goals",
    "Knowledge": "contract.types",
    "Look": "contract.look",
    "Norm": "threat.norms",
    "Penalty": "attacks.components.penalty",
    "Seeks": "contract.types",
    "SettingError": "errors",
    "Start": "attacks.components.starts",
    "State": "contract.types",
    "StepSchedule": "attacks.components.step_sizes",
    "Stepping": "attacks.components.step_length",
    "Task": "contract.task",
    "Wrapper": "attacks.wrappers",
    "batch_invariant": "numerics.batch_invariant",
    "likeliest": "attacks.components.boundary",
    "nearest": "attacks.components.boundary",
    "onto": "attacks.components.boundary",
    "ranked": "attacks.components.target_classes",
    "setting": "configuration.attack_parameters",
    "where_rows": "contract.task",
}
"""The parts from which a recipe is written, and their modules."""

__all__ = [
    "APGD",
    "APGDT",
    "BIM",
    "DDN",
    "DIFGSM",
    "EAD",
    "EOT",
    "FAB",
    "FABT",
    "FGSM",
    "FMN",
    "LOSSES",
    "MIFGSM",
    "NES",
    "NIFGSM",
    "NORMS",
    "PGD",
    "SPSA",
    "STARTS",
    "TIFGSM",
    "VMIFGSM",
    "Attack",
    "AttackError",
    "Bisection",
    "CarliniWagner",
    "Corruptions",
    "DeepFool",
    "Ensemble",
    "Evaluation",
    "FewPixel",
    "GaussianNoise",
    "Goal",
    "HopSkipJump",
    "Knowledge",
    "Look",
    "Norm",
    "Patch",
    "Penalty",
    "Regression",
    "Seeks",
    "SettingError",
    "SigmaZero",
    "SimBA",
    "Spatial",
    "Square",
    "Start",
    "State",
    "StepSchedule",
    "Stepping",
    "Task",
    "UniformNoise",
    "Universal",
    "Wrapper",
    "batch_invariant",
    "likeliest",
    "nearest",
    "onto",
    "ranked",
    "setting",
    "where_rows",
]


def __getattr__(name: str) -> Any:
    home = _RECIPES.get(name) or _PARTS.get(name)
    if home is None:
        raise AttributeError(f"module 'robustness.attacks' has no attribute {name!r}")
    with environment.quiet_import():
        value = getattr(import_module(f"robustness.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
