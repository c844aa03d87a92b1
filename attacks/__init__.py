"""The recipes, one a file. They enter by the same door as a stranger's: `robustness.attacks`."""

from attacks.apgd import APGD, APGDT
from attacks.bim import BIM
from attacks.ddn import DDN
from attacks.fab import FAB, FABT
from attacks.fgsm import FGSM
from attacks.mi_fgsm import MIFGSM
from attacks.pgd import PGD
from attacks.regression import NES, Regression
from attacks.square import Square
from attacks.transfer import DIFGSM, NIFGSM, TIFGSM, VMIFGSM

__all__ = [
    "APGD",
    "APGDT",
    "BIM",
    "DDN",
    "DIFGSM",
    "FAB",
    "FABT",
    "FGSM",
    "MIFGSM",
    "NES",
    "NIFGSM",
    "PGD",
    "TIFGSM",
    "VMIFGSM",
    "Regression",
    "Square",
]
