"""Errors of the user's making: each message says what came, what was expected, what to do.

::

    RobustnessError
    ├── SettingError        a parameter, option or configuration value
    ├── ModelError          a model file or a model that cannot be audited
    │   └── UnsafeModelError    a model file that could run code
    ├── ImagesError         a source of pictures as a whole (one bad picture is an outcome)
    ├── RunError            a run folder: not a run, another run, damaged
    ├── FetchError          something to be downloaded
    ├── GradientError       the loss does not depend on the image
    └── AttackError         an attack that breaks its contract
"""

from __future__ import annotations


class RobustnessError(Exception):
    """Base of every error this toolkit raises on purpose."""


class SettingError(RobustnessError, ValueError):
    """A parameter, option or configuration value is not usable."""


class ModelError(RobustnessError):
    """A model cannot be loaded or audited."""


class UnsafeModelError(ModelError):
    """A model file contains something that could run code or read other files."""


class ImagesError(RobustnessError):
    """A source of pictures cannot be used."""


class RunError(RobustnessError):
    """A run folder is missing, damaged, or not the one that was expected."""


class FetchError(RobustnessError):
    """Something could not be downloaded."""


class GradientError(RobustnessError):
    """The loss does not depend on the images."""


class AttackError(RobustnessError):
    """An attack broke its contract."""
