"""Type aliases for the arrays of the backend. Arrays of NumPy are annotated with `numpy.typing`.

Type checkers see no difference between the classes of TensorFlow, JAX and PyTorch: the aliases tell a
reader what a value is. State its shape, its unit and its dtype in the docstring.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""An array of the backend that Keras runs on, or whatever `keras.ops` takes in its place: a NumPy array,
a number, nested lists of numbers."""

TensorTree: TypeAlias = Any
"""A nested structure (tuples, lists, dictionaries, None) whose leaves are tensors."""
