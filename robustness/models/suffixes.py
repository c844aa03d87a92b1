"""Defines the suffixes of model files that can be audited."""

from __future__ import annotations

KERAS_SUFFIX = ".keras"
HDF5_SUFFIXES = (".h5", ".hdf5")
MODEL_SUFFIXES = (KERAS_SUFFIX, *HDF5_SUFFIXES)
