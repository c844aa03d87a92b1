"""The seam to the framework below Keras: gradients, compilation, devices, memory.

The only room that names a framework. Which one is Keras's choice (`KERAS_BACKEND`), looked up once,
here. Each backend module offers the same names:

- `value_and_grad(fn)`: with ``fn(points, *data) -> (values (rows,), aux)``, a function that returns
  ``((values, aux), gradient)``. The gradient is that of the *sum* of values, shaped like `points`:
  row i is the gradient of value i exactly when the model treats rows independently.
- `linearise(fn, points)`: ``(fn(points), pull)``; ``pull(weights)`` is the gradient of
  ``sum(weights * fn(points))`` with respect to the points, as often as asked, after one forward pass.
- `compile(fn)`: `fn`, traced once per shape and run as one unit; `now(fn)`: ``fn()``, at once even then.
- `trace(compiled, *args)`: what the first call of a compiled function would do before it runs, where that can
  be done ahead.
- `fused(fn)`: `fn`, which is arithmetic on whole numbers, component by component, in one pass over memory.
- `draws_numbers(compiled, *args)`: whether what was compiled for such arguments may draw random numbers, or
  change what it remembers from call to call.
- `loops()`: whether a step that is compiled takes no longer inside a compiled loop than alone.
- `unsaturated(fn, sample, single=...)`: with ``fn(inputs)`` giving probabilities (n, classes), (n, 1) if
  `single`, a function that gives their logits from before what saturates, at any confidence; None where the
  backend cannot see what `fn` ends in. `sample` is some inputs.
- `device()`: the device that runs, in words; `accelerated()`: whether it is more than the processor.
- `OutOfMemory`: the exceptions by which this backend says that a batch did not fit.
"""

from __future__ import annotations

from importlib import import_module

import keras

_backend = import_module(f"{__name__}._{keras.backend.backend()}")

compile = _backend.compile
device = _backend.device
draws_numbers = _backend.draws_numbers
fused = _backend.fused
accelerated = _backend.accelerated
linearise = _backend.linearise
loops = _backend.loops
now = _backend.now
trace = _backend.trace
unsaturated = _backend.unsaturated
value_and_grad = _backend.value_and_grad
OutOfMemory: tuple[type[BaseException], ...] = _backend.OutOfMemory

__all__ = [
    "OutOfMemory",
    "accelerated",
    "compile",
    "device",
    "draws_numbers",
    "fused",
    "linearise",
    "loops",
    "now",
    "trace",
    "unsaturated",
    "value_and_grad",
]
