"""The recipes, one a file. They enter by the same door as a stranger's: `robustness.attacks`."""

from robustness.attacks.apgd import APGD, APGDT
from robustness.attacks.bim import BIM
from robustness.attacks.carlini_wagner import CarliniWagner
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
from robustness.attacks.regression import NES, Regression
from robustness.attacks.sigma_zero import SigmaZero
from robustness.attacks.simba import SimBA
from robustness.attacks.spatial import Spatial
from robustness.attacks.spsa import SPSA
from robustness.attacks.square import Square
from robustness.attacks.transfer import DIFGSM, NIFGSM, TIFGSM, VMIFGSM
from robustness.attacks.universal import Patch, Universal
from robustness.attacks.wrappers import EOT, Bisection

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
    "MIFGSM",
    "NES",
    "NIFGSM",
    "PGD",
    "SPSA",
    "TIFGSM",
    "VMIFGSM",
    "Bisection",
    "CarliniWagner",
    "Corruptions",
    "DeepFool",
    "FewPixel",
    "GaussianNoise",
    "HopSkipJump",
    "Patch",
    "Regression",
    "SigmaZero",
    "SimBA",
    "Spatial",
    "Square",
    "UniformNoise",
    "Universal",
]
