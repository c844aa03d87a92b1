"""Exceptions of the toolkit: each message names the value found, the value expected and what to do.

::

    RobustnessError
    ├── SettingError        a parameter, option or configuration value
    ├── ModelError          a model file or a model that cannot be audited
    │   └── UnsafeModelError    a model file that could run code
    ├── PipelineError       preprocessing that cannot be used, or fails on a picture
    ├── ImagesError         a source of pictures as a whole (one bad picture is an outcome)
    ├── RunError            a run that is damaged or failed
    │   ├── RunUsageError       a run folder that cannot be used: no run in it, in use, another run
    │   └── StorageError        a disk or folder that cannot be written to, while a run is written
    ├── FetchError          something to be downloaded
    ├── ClusterError        workers that cannot be started or reached
    ├── GradientError       the loss does not depend on the image
    └── AttackError         an attack that violates its contract

`exit_code` is the exit code of the command line (docs/ci.md): 2 for input that cannot be used, 3 for a
failure.
"""

from __future__ import annotations

from typing import ClassVar

USAGE, BROKEN = 2, 3
"""Exit codes of errors: the input cannot be used; something failed."""
INCONCLUSIVE = 4
"""Exit code of a command that ran, but whose result is not the requested one."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class RobustnessError(Exception):
    """Base class of every error that the toolkit raises deliberately."""

    exit_code: ClassVar[int] = BROKEN


class SettingError(RobustnessError, ValueError):
    """A parameter, option or configuration value is not usable."""

    exit_code = USAGE


class ModelError(RobustnessError):
    """A model cannot be loaded or audited."""

    exit_code = USAGE


class UnsafeModelError(ModelError):
    """A model file contains something that could run code or read other files."""


class PipelineError(RobustnessError):
    """Preprocessing that cannot be used with the model, or that fails on a picture."""

    exit_code = USAGE


class ImagesError(RobustnessError):
    """A source of pictures cannot be used."""

    exit_code = USAGE


class RunError(RobustnessError):
    """A run is damaged or failed."""


class RunUsageError(RunError):
    """A run folder cannot be used: it has no run, has one already, or is in use."""

    exit_code = USAGE


class StorageError(RunError):
    """A disk or folder cannot be written to; everything written before is kept."""


class FetchError(RobustnessError):
    """Something could not be downloaded."""


class GradientError(RobustnessError):
    """The loss does not depend on the images."""


class AttackError(RobustnessError):
    """An attack violates its contract."""


class ClusterError(RobustnessError):
    """The workers of an audit cannot be started or reached."""
