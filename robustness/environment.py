"""The environment variable that is set while TensorFlow is imported, and taken back afterwards."""

from __future__ import annotations

import os

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
"""TensorFlow does not use the kernels of oneDNN on processors without AVX512, where they halve the time of a
gradient of a convolution too. It reads this variable once, while it is imported."""

_set_here = False


def use_onednn() -> None:
    """Set the variable, unless it is set: a choice of the user's is kept."""
    global _set_here  # noqa: PLW0603 - one environment a process
    if ONEDNN not in os.environ:
        os.environ[ONEDNN] = "1"
        _set_here = True


def restore() -> None:
    """Remove the variable if it was set here and not changed since: TensorFlow has read it."""
    global _set_here  # noqa: PLW0603
    if _set_here and os.environ.get(ONEDNN) == "1":
        del os.environ[ONEDNN]
    _set_here = False
