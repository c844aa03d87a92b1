"""The recipes, one a file. They enter by the same door as a stranger's: `robustness.attacks`."""

from attacks.bim import BIM
from attacks.fgsm import FGSM
from attacks.mi_fgsm import MIFGSM
from attacks.pgd import PGD

__all__ = ["BIM", "FGSM", "MIFGSM", "PGD"]
