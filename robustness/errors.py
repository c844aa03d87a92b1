"""Errors of the user's making: each message says what came, what was expected, what to do.

::

    RobustnessError
    ├── SettingError        a parameter, option or configuration value
    ├── ModelError          a model file or a model that cannot be audited
    │   └── UnsafeModelError    a model file that could run code
    ├── ImagesError         a source of pictures as a whole (one bad picture is an outcome)
    ├── RunError            a run that is damaged or broke down
    │   ├── RunUsageError       a run folder that cannot be used as asked: no run, in use, another run
    │   └── StorageError        a disk or folder that takes no more, while a run is written
    ├── FetchError          something to be downloaded
    ├── GradientError       the loss does not depend on the image
    └── AttackError         an attack that breaks its contract

`exit_code` is what the command line leaves with (docs/ci.md): 2 where what was given cannot be used, 3
where something broke down.
"""

from __future__ import annotations

from typing import ClassVar

USAGE, BROKEN = 2, 3
"""Exit codes of errors: what was given cannot be used; something broke down."""


class RobustnessError(Exception):
    """Base of every error this toolkit raises on purpose."""

    exit_code: ClassVar[int] = BROKEN


class SettingError(RobustnessError, ValueError):
    """A parameter, option or configuration value is not usable."""

    exit_code = USAGE


class ModelError(RobustnessError):
    """A model cannot be loaded or audited."""

    exit_code = USAGE


class UnsafeModelError(ModelError):
    """A model file contains something that could run code or read other files."""


class ImagesError(RobustnessError):
    """A source of pictures cannot be used."""

    exit_code = USAGE


class RunError(RobustnessError):
    """A run is damaged, or broke down."""


class RunUsageError(RunError):
    """A run folder cannot be used as asked: no run is in it, one already is, or it is in use."""

    exit_code = USAGE


class StorageError(RunError):
    """A disk or folder takes no more; what was written before is kept."""


class FetchError(RobustnessError):
    """Something could not be downloaded."""


class GradientError(RobustnessError):
    """The loss does not depend on the images."""


class AttackError(RobustnessError):
    """An attack broke its contract."""
