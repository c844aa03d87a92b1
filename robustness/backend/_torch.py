"""Implements the backend for PyTorch: `torch.autograd.grad`, run eagerly."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from keras import tree
from keras.ops import convert_to_tensor

from robustness.backend._messages import DISCONNECTED
from robustness.backend.types import Tensor, TensorTree
from robustness.errors import GradientError

OutOfMemory = (torch.OutOfMemoryError,)


def value_and_grad(
    fn: Callable[..., tuple[Tensor, TensorTree]],
) -> Callable[..., tuple[tuple[Tensor, TensorTree], Tensor]]:
    """Return values, auxiliary results and per-row gradients of `fn` at its first argument.

    Raises GradientError, when called, if the values do not depend on the first argument.
    """

    def call(points: Tensor, *data: TensorTree) -> tuple[tuple[Tensor, TensorTree], Tensor]:
        leaf = points.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            values, aux = fn(leaf, *data)
            if not values.requires_grad:
                raise GradientError(DISCONNECTED)
            (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True)
        if gradient is None:
            raise GradientError(DISCONNECTED)
        return (values.detach(), tree.map_structure(_detach, aux)), gradient

    return call


def linearise(
    fn: Callable[[Tensor], Tensor], points: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return `fn` at `points`, and a function from weights of its values to the gradient at `points`."""
    leaf = points.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        values = fn(leaf)

    def pull(weights: Tensor) -> Tensor:
        if not values.requires_grad:
            raise GradientError(DISCONNECTED)
        (gradient,) = torch.autograd.grad(
            values, leaf, weights, retain_graph=True, allow_unused=True
        )
        if gradient is None:
            raise GradientError(DISCONNECTED)
        return gradient

    return values.detach(), pull


def _tensor(value: Any) -> Any:
    return convert_to_tensor(value) if isinstance(value, np.ndarray) else value


def _detach(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn` of tensors, without gradient bookkeeping; PyTorch traces nothing."""
    bare = torch.no_grad()(fn)

    def call(*args: TensorTree) -> Any:
        # PyTorch does not accept NumPy arrays; the other frameworks convert them when they trace.
        return bare(*tree.map_structure(_tensor, args))

    return call


def precompile(compiled: Callable[..., Any], *args: TensorTree) -> None:
    """Do nothing: PyTorch traces nothing."""


def fused(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `fn` unchanged."""
    return fn


def select_rows(condition: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Return the rows of `chosen` where `condition` (rows,) is true, those of `other` elsewhere."""
    return torch.where(condition.reshape(-1, *[1] * (chosen.ndim - 1)), chosen, other)


def host_call(fn: Callable[..., np.ndarray], shape: tuple[int, ...], *args: Tensor) -> Tensor:
    """Return float32 `fn` of NumPy arrays, of `shape`."""
    given = (_tensor(one).detach().cpu().numpy() for one in args)
    return convert_to_tensor(fn(*given).reshape(shape))


def traced_once(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `fn` unchanged."""
    return fn


def run_eagerly(fn: Callable[[], Any]) -> Any:
    """Return ``fn()``: PyTorch runs everything immediately."""
    return fn()


def unsaturated(fn: Callable[[Tensor], Tensor], sample: Tensor, *, single: bool) -> None:
    """Return None: the operations of a function are not inspected for PyTorch."""


def accelerated() -> bool:
    """Return whether PyTorch has a GPU."""
    return torch.cuda.is_available()


def fast_compiled_loops() -> bool:
    """Return False: there are no compiled loops."""
    return False


def device() -> str:
    """Return the name of the device that computes."""
    if accelerated():
        return f"GPU {torch.cuda.get_device_name()}"
    return f"CPU, {os.cpu_count()} cores"


def draws_numbers(compiled: Callable[..., Any], *args: TensorTree) -> bool:
    """Return True, as `compiled` may draw random numbers: its operations are not inspected for PyTorch."""
    return True
