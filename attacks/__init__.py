"""The recipes, one a file. They enter by the same door as a stranger's: `robustness.attacks`."""

from attacks.apgd import APGD, APGDT
from attacks.bim import BIM
from attacks.carlini_wagner import CarliniWagner
from attacks.ddn import DDN
from attacks.deepfool import DeepFool
from attacks.ead import EAD
from attacks.fab import FAB, FABT
from attacks.fgsm import FGSM
from attacks.fmn import FMN
from attacks.mi_fgsm import MIFGSM
from attacks.noise import GaussianNoise, UniformNoise
from attacks.pgd import PGD
from attacks.regression import NES, Regression
from attacks.sigma_zero import SigmaZero
from attacks.square import Square
from attacks.transfer import DIFGSM, NIFGSM, TIFGSM, VMIFGSM

__all__ = [
    "APGD",
    "APGDT",
    "BIM",
    "DDN",
    "DIFGSM",
    "EAD",
    "FAB",
    "FABT",
    "FGSM",
    "FMN",
    "MIFGSM",
    "NES",
    "NIFGSM",
    "PGD",
    "TIFGSM",
    "VMIFGSM",
    "CarliniWagner",
    "DeepFool",
    "GaussianNoise",
    "Regression",
    "SigmaZero",
    "Square",
    "UniformNoise",
]
