"""PyTorch: `torch.autograd.grad`, run eagerly."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from keras.ops import convert_to_tensor

from robustness.backend._messages import DISCONNECTED
from robustness.errors import GradientError

OutOfMemory = (torch.OutOfMemoryError,)


def value_and_grad(
    fn: Callable[..., tuple[Any, Any]],
) -> Callable[..., tuple[tuple[Any, Any], Any]]:
    """Values, auxiliary results and per-row gradients of `fn` at its first argument."""

    def call(points: Any, *data: Any) -> tuple[tuple[Any, Any], Any]:
        leaf = points.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            values, aux = fn(leaf, *data)
            if not values.requires_grad:
                raise GradientError(DISCONNECTED)
            (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True)
        if gradient is None:
            raise GradientError(DISCONNECTED)
        return (values.detach(), torch.utils._pytree.tree_map(_detach, aux)), gradient

    return call


def linearise(fn: Callable[[Any], Any], points: Any) -> tuple[Any, Callable[[Any], Any]]:
    """`fn` at `points`, and its gradients there for any weights of its values."""
    leaf = points.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        values = fn(leaf)

    def pull(weights: Any) -> Any:
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
    """`fn` of tensors, without gradient bookkeeping; PyTorch needs no tracing."""
    bare = torch.no_grad()(fn)

    def call(*args: Any) -> Any:
        # NumPy and PyTorch do not mix; the others turn arrays into tensors where they trace.
        return bare(*torch.utils._pytree.tree_map(_tensor, args))

    return call


def trace(compiled: Callable[..., Any], *args: Any) -> None:
    """Nothing: PyTorch needs no tracing."""


def fused(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as it is."""
    return fn


def now(fn: Callable[[], Any]) -> Any:
    """``fn()``: PyTorch runs everything at once."""
    return fn()


def unsaturated(fn: Callable[[Any], Any], sample: Any, *, single: bool) -> None:
    """None: what a function ends in is not looked for here."""


def accelerated() -> bool:
    """Whether PyTorch sees a GPU."""
    return torch.cuda.is_available()


def loops() -> bool:
    """Whether a step takes no longer in a compiled loop than alone: there is no such loop."""
    return False


def device() -> str:
    """The device that runs, in words."""
    if accelerated():
        return f"GPU {torch.cuda.get_device_name()}"
    return f"CPU, {os.cpu_count()} cores"


def draws_numbers(compiled: Callable[..., Any], *args: Any) -> bool:
    """Whether `compiled` may draw random numbers: here nobody looks into it, so it may."""
    return True
