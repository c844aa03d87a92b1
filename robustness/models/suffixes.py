"""Recognises names of model files by their suffixes. What a file is, its bytes say (`formats`)."""

from __future__ import annotations

from pathlib import PurePath

KERAS_SUFFIX = ".keras"
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
MODEL_SUFFIXES = (KERAS_SUFFIX, *HDF5_SUFFIXES, ".model")
ARCHITECTURE_SUFFIXES = (".json", ".yaml", ".yml")
APPLICATIONS = "keras.applications:"
"""How the name of an architecture of Keras begins."""


def is_model_file_name(name: str | PurePath) -> bool:
    """Return whether a name or path ends as model files do, in either case."""
    return str(name).lower().endswith(MODEL_SUFFIXES)
