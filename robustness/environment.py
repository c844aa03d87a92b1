"""Sets the oneDNN environment variable before TensorFlow is imported, and restores it afterwards."""

from __future__ import annotations

import os

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
"""Turns on the kernels of oneDNN. TensorFlow does not use them by default on processors without AVX512, where
they also halve the time of a gradient of a convolution. It reads this variable once, during its import."""

_set_here = False


def use_onednn() -> None:
    """Set the variable, unless the user has set it."""
    global _set_here  # noqa: PLW0603 - a process has one environment
    if ONEDNN not in os.environ:
        os.environ[ONEDNN] = "1"
        _set_here = True


def restore() -> None:
    """Remove the variable if this module set it and it is unchanged; TensorFlow has read it by then."""
    global _set_here  # noqa: PLW0603
    if _set_here and os.environ.get(ONEDNN) == "1":
        del os.environ[ONEDNN]
    _set_here = False
