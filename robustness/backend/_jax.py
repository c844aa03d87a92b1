"""JAX: `jax.grad` inside `jax.jit`. Weights are constants of the compiled function."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

OutOfMemory = (jax.errors.JaxRuntimeError,)


def value_and_grad(
    fn: Callable[..., tuple[Any, Any]],
) -> Callable[..., tuple[tuple[Any, Any], Any]]:
    """Values, auxiliary results and per-row gradients of `fn` at its first argument.

    JAX has no word for "not connected": a loss that ignores the image has a gradient of zeros, which
    the pre-flight checks find.
    """

    def total(points: Any, *data: Any) -> tuple[Any, tuple[Any, Any]]:
        values, aux = fn(points, *data)
        return jnp.sum(values), (values, aux)

    def call(points: Any, *data: Any) -> tuple[tuple[Any, Any], Any]:
        (_, result), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(points), *data)
        return result, gradient

    return call


def linearise(fn: Callable[[Any], Any], points: Any) -> tuple[Any, Callable[[Any], Any]]:
    """`fn` at `points`, and its gradients there for any weights of its values."""
    values, pull = jax.vjp(fn, jnp.asarray(points))
    return values, lambda weights: pull(weights)[0]


def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as one program, traced once per structure and shape of its arguments."""
    return jax.jit(fn)


def trace(compiled: Callable[..., Any], *args: Any) -> None:
    """Nothing: what JAX compiles ahead of a call, the call does not know of."""


def fused(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` of arrays, in one pass over memory."""
    return jax.jit(fn)


def now(fn: Callable[[], Any]) -> Any:
    """``fn()``, run at once even while a function is being traced."""
    with jax.ensure_compile_time_eval():
        return fn()


def unsaturated(fn: Callable[[Any], Any], sample: Any, *, single: bool) -> None:
    """None: what a function ends in is not looked for here."""


def accelerated() -> bool:
    """Whether JAX sees an accelerator."""
    return jax.default_backend() != "cpu"


def loops() -> bool:
    """Whether a step takes no longer in a compiled loop than alone."""
    # On a processor XLA takes three times as long over gradients of convolutions there.
    return accelerated()


def device() -> str:
    """The device that runs, in words."""
    names = ", ".join(d.device_kind for d in jax.devices())
    return f"GPU {names}" if accelerated() else f"CPU, {os.cpu_count()} cores"


def draws_numbers(compiled: Callable[..., Any], *args: Any) -> bool:
    """Whether `compiled` may draw random numbers: here nobody looks into it, so it may."""
    return True
