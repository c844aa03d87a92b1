"""One case as a picture to show elsewhere: a strip as PNG, or original and adversarial in turn as GIF."""

from robustness.reports.case_pictures.write import write_case

__all__ = ["write_case"]
