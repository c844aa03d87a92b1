"""Wraps the framework below Keras (TensorFlow, JAX or PyTorch): gradients, compilation, devices, memory.

Only this package, `models` and `model_zoo` may import a framework. Keras selects it (`KERAS_BACKEND`), and it
is looked up once, here. The module of each framework defines the same names:

- `value_and_grad(fn)`: for ``fn(points, *data) -> (values (rows,), aux)``, a function that returns
  ``((values, aux), gradient)``. The gradient is that of the *sum* of values and has the shape of `points`:
  row i is the gradient of value i if and only if the model treats rows independently.
- `linearise(fn, points)`: ``(fn(points), pull)``; ``pull(weights)`` is the gradient of
  ``sum(weights * fn(points))`` with respect to the points. One forward pass serves any number of calls.
- `compile(fn)`: `fn`, traced once per structure, shape and dtype of its arguments, and run as one graph.
- `precompile(compiled, *args)`: traces a compiled function for such arguments without running it, if the
  framework can do so.
- `run_eagerly(fn)`: ``fn()``, run immediately even while a function is being traced.
- `select_rows(condition, chosen, other)`: the rows of `chosen` where `condition` (rows,) is true, those of
  `other` elsewhere; both have the same shape.
- `fused(fn)`: elementwise integer arithmetic `fn`, in one pass over memory if the framework can do so.
- `traced_once(fn)`: `fn` of tensors, whose graph is shared by all compiled functions that call it.
- `draws_numbers(compiled, *args)`: whether a compiled function may draw random numbers or change a variable
  when called with such arguments.
- `host_call(fn, shape, *args)`: float32 `fn` of NumPy arrays, of that shape, called while a compiled function
  runs; it has no gradient and must not raise.
- `fast_compiled_loops()`: whether a compiled step takes no longer inside a compiled loop than outside it.
- `unsaturated(fn, sample, single=...)`: for ``fn(inputs)`` that returns probabilities (n, classes), or (n, 1)
  if `single`, a function that returns their logits, computed from the input of the operation that saturates;
  None if the framework cannot inspect `fn`. `sample` is a batch of inputs.
- `device()`: the name of the device that computes; `accelerated()`: whether it is a GPU or TPU.
- `OutOfMemory`: the exceptions that report that a batch does not fit into memory.
"""

from __future__ import annotations

from importlib import import_module

import keras

from robustness import environment

_backend = import_module(f"{__name__}._{keras.backend.backend()}")
environment.restore()

accelerated = _backend.accelerated
compile = _backend.compile
device = _backend.device
draws_numbers = _backend.draws_numbers
fast_compiled_loops = _backend.fast_compiled_loops
fused = _backend.fused
host_call = _backend.host_call
linearise = _backend.linearise
precompile = _backend.precompile
run_eagerly = _backend.run_eagerly
select_rows = _backend.select_rows
traced_once = _backend.traced_once
unsaturated = _backend.unsaturated
value_and_grad = _backend.value_and_grad
OutOfMemory: tuple[type[BaseException], ...] = _backend.OutOfMemory

__all__ = [
    "OutOfMemory",
    "accelerated",
    "compile",
    "device",
    "draws_numbers",
    "fast_compiled_loops",
    "fused",
    "host_call",
    "linearise",
    "precompile",
    "run_eagerly",
    "select_rows",
    "traced_once",
    "unsaturated",
    "value_and_grad",
]
