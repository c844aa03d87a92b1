"""Implements the backend for JAX: gradients inside `jax.jit`; weights are constants of compiled functions."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustness.backend.types import Tensor, TensorTree

OutOfMemory = (jax.errors.JaxRuntimeError,)


def value_and_grad(
    fn: Callable[..., tuple[Tensor, TensorTree]],
) -> Callable[..., tuple[tuple[Tensor, TensorTree], Tensor]]:
    """Return values, auxiliary results and per-row gradients of `fn` at its first argument.

    JAX does not report a loss that ignores the image: its gradient is zero, which the checks before an
    attack detect.
    """

    def total(points: Tensor, *data: TensorTree) -> tuple[Tensor, tuple[Tensor, TensorTree]]:
        values, aux = fn(points, *data)
        return jnp.sum(values), (values, aux)

    def call(points: Tensor, *data: TensorTree) -> tuple[tuple[Tensor, TensorTree], Tensor]:
        (_, result), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(points), *data)
        return result, gradient

    return call


def linearise(
    fn: Callable[[Tensor], Tensor], points: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return `fn` at `points`, and a function from weights of its values to the gradient at `points`."""
    values, pull = jax.vjp(fn, jnp.asarray(points))
    return values, lambda weights: pull(weights)[0]


def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `fn`; it is traced once per structure and shape of its arguments."""
    return jax.jit(fn)


def precompile(compiled: Callable[..., Any], *args: TensorTree) -> None:
    """Do nothing: a later call in JAX does not use functions compiled ahead of time."""


def fused(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `fn` of arrays, computed in one pass over memory."""
    return jax.jit(fn)


def select_rows(condition: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Return the rows of `chosen` where `condition` (rows,) is true, those of `other` elsewhere."""
    return jnp.where(condition.reshape(-1, *[1] * (chosen.ndim - 1)), chosen, other)


def host_call(fn: Callable[..., np.ndarray], shape: tuple[int, ...], *args: Tensor) -> Tensor:
    """Return float32 `fn` of NumPy arrays, of `shape`."""

    def call(*given: Tensor) -> np.ndarray:
        return fn(*(np.asarray(one) for one in given))

    return jax.pure_callback(call, jax.ShapeDtypeStruct(shape, jnp.float32), *args)


def traced_once(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `fn` unchanged."""
    return fn


def run_eagerly(fn: Callable[[], Any]) -> Any:
    """Return ``fn()``, run immediately even while a function is being traced."""
    with jax.ensure_compile_time_eval():
        return fn()


def unsaturated(fn: Callable[[Tensor], Tensor], sample: Tensor, *, single: bool) -> None:
    """Return None: the operations of a function are not inspected for JAX."""


def accelerated() -> bool:
    """Return whether JAX has an accelerator."""
    return jax.default_backend() != "cpu"


def fast_compiled_loops() -> bool:
    """Return whether a step takes no longer in a compiled loop than outside it."""
    # On CPUs, gradients of convolutions take XLA three times as long in a compiled loop.
    return accelerated()


def device() -> str:
    """Return the name of the device that computes."""
    names = ", ".join(d.device_kind for d in jax.devices())
    return f"GPU {names}" if accelerated() else f"CPU, {os.cpu_count()} cores"


def draws_numbers(compiled: Callable[..., Any], *args: TensorTree) -> bool:
    """Return True, as `compiled` may draw random numbers: its operations are not inspected for JAX."""
    return True
