"""The recipes, one a file. They enter by the same door as a stranger's: `robustness.attacks`."""

from attacks.apgd import APGD, APGDT
from attacks.bim import BIM
from attacks.carlini_wagner import CarliniWagner
from attacks.corruptions import Corruptions
from attacks.ddn import DDN
from attacks.deepfool import DeepFool
from attacks.ead import EAD
from attacks.fab import FAB, FABT
from attacks.few_pixel import FewPixel
from attacks.fgsm import FGSM
from attacks.fmn import FMN
from attacks.hopskipjump import HopSkipJump
from attacks.mi_fgsm import MIFGSM
from attacks.noise import GaussianNoise, UniformNoise
from attacks.pgd import PGD
from attacks.regression import NES, Regression
from attacks.sigma_zero import SigmaZero
from attacks.simba import SimBA
from attacks.spatial import Spatial
from attacks.spsa import SPSA
from attacks.square import Square
from attacks.transfer import DIFGSM, NIFGSM, TIFGSM, VMIFGSM
from attacks.universal import Patch, Universal
from attacks.wrappers import EOT, Bisection

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
