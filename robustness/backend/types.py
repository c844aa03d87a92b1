"""Defines type aliases for the arrays of the backend. NumPy arrays are annotated with `numpy.typing`.

Type checkers do not distinguish the classes of TensorFlow, JAX and PyTorch: the aliases document what a value
is. State its shape, unit and dtype in the docstring.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""An array of the backend that Keras runs on, or a value that `keras.ops` accepts instead: a NumPy array, a
number, nested lists of numbers."""

TensorTree: TypeAlias = Any
"""A nested structure (tuples, lists, dictionaries, None) whose leaves are tensors."""
