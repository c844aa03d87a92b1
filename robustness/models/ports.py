"""Names the inputs and outputs of a Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from robustness.errors import ModelError
from robustness.text import did_you_mean


@dataclass(frozen=True)
class Port:
    """One input or output of a model.

    Attributes
    ----------
    number : its place, from 0.
    name : the key or the layer that names it.
    sizes : its shape without the batch; None where any size is taken.
    dtype : its dtype.
    """

    number: int
    name: str
    sizes: tuple[int | None, ...]
    dtype: str = "float32"

    @property
    def any_size(self) -> bool:
        """Whether a size is open."""
        return None in self.sizes

    @property
    def fixed(self) -> tuple[int, ...]:
        """The sizes; ModelError if one is open."""
        if self.any_size:
            raise ModelError(
                f"The input {self.name!r} takes {self.sizes}, any size; expected a fixed one for a constant."
            )
        return tuple(int(n) for n in self.sizes if n is not None)


def input_ports(model: keras.Model) -> tuple[Port, ...]:
    """Return the inputs of a built model.

    Raises
    ------
    ModelError
        The model does not know the shape of its input.
    """
    inputs = getattr(model, "inputs", None)
    if inputs:
        keys = _keys(getattr(model, "input", None), inputs)
        names = [
            key or getattr(tensor, "name", "") for key, tensor in zip(keys, inputs, strict=True)
        ]
        return _numbered(names, inputs)
    shape = (model.get_build_config() or {}).get("input_shape")
    if not shape:
        raise ModelError(
            "The model does not know its input shape yet; call it once on a batch of images, or "
            "build it with model.build((None, height, width, channels))."
        )
    if not all(isinstance(n, int | None) for n in shape):
        raise ModelError(
            f"The model has several inputs, of shapes {shape}, and no graph that names them; expected one "
            "input. Make a Functional model of it that takes the image alone."
        )
    return (Port(0, "image", tuple(shape)[1:]),)


def output_ports(model: keras.Model) -> tuple[Port, ...]:
    """Return the outputs of a model; of one without a graph those of a symbolic call, none if it fails."""
    outputs = getattr(model, "outputs", None)
    if outputs:
        names = list(getattr(model, "output_names", None) or [])
        keys = _keys(getattr(model, "output", None), outputs)
        given = [
            key or (names[n] if n < len(names) else f"output_{n}") for n, key in enumerate(keys)
        ]
        return _numbered(given, outputs)
    try:
        port = input_ports(model)[0]
        results = model.compute_output_spec(keras.KerasTensor((None, *port.sizes), port.dtype))
    # A custom call may raise any exception; the first real call explains it.
    except Exception:
        return ()
    tensors = keras.tree.flatten(results)
    keys = _keys(results, tensors)
    return _numbered([key or f"output_{n}" for n, key in enumerate(keys)], tensors)


def chosen(ports: Sequence[Port], text: str, noun: str) -> Port:
    """Return the port that `text` names or numbers; ModelError, which lists them, for any other text."""
    by_name = {port.name: port for port in ports}
    if text in by_name:
        return by_name[text]
    by_number = {str(port.number): port for port in ports}
    if text in by_number:
        return by_number[text]
    if not ports:
        raise ModelError(f"The {noun} {text!r} was given; the model does not show its {noun}s.")
    raise ModelError(
        f"There is no {noun} {text!r}; the model has {listed(ports)}.{did_you_mean(text, by_name)}"
    )


def listed(ports: Sequence[Port]) -> str:
    """Return the ports in words."""
    shown = ", ".join(f"{port.name!r} {port.sizes}" for port in ports[:8])
    return shown + (f" and {len(ports) - 8} more" if len(ports) > 8 else "")


def _keys(structure: Any, tensors: Sequence[Any]) -> list[str]:
    """For each tensor its key in a dict, "" for those in none."""
    keys = {id(t): str(key) for key, t in structure.items()} if isinstance(structure, dict) else {}
    return [keys.get(id(tensor), "") for tensor in tensors]


def _numbered(names: Sequence[str], tensors: Sequence[Any]) -> tuple[Port, ...]:
    """Ports with these names; names that repeat get their number."""
    return tuple(
        Port(
            number,
            name if names.count(name) == 1 else f"{name}_{number}",
            tuple(tensor.shape)[1:],
            str(tensor.dtype),
        )
        for number, (name, tensor) in enumerate(zip(names, tensors, strict=True))
    )
