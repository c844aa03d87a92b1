"""Adapts a model to images (n, height, width, channels) and one output, by a Keras model around it.

Models take rows of numbers, images without channels or with channels first, images of any size, or further
inputs beside the image; they may have several outputs. Everything else in this package needs one input,
(n, height, width, channels), and one output. `InputAdapter` holds what the user states; `adapt` builds a
Functional model with the layers and the variables of the user's own, which is not changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from robustness.backend.types import Tensor
from robustness.configuration.model_inputs import parse_constants
from robustness.errors import ModelError
from robustness.models.channels_first import running_on_this_device
from robustness.models.deep_graphs import deep_graphs
from robustness.models.graphs import is_graph, rebuilt
from robustness.models.layouts import Layout, Shape, layout_of
from robustness.models.ports import Port, chosen, input_ports, listed, output_ports
from robustness.models.resizing_layers import resizing_inside


@dataclass(frozen=True)
class InputAdapter:
    """How images enter a model, and which output is audited, as far as the user states it.

    Attributes
    ----------
    size : HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS; "" if not stated.
    image_input : name or number of the input that takes the image; "" if not stated.
    constants : ``NAME=NUMBER`` for the other inputs.
    output : name or number of the output; "" if not stated.
    """

    size: str = ""
    image_input: str = ""
    constants: tuple[str, ...] = ()
    output: str = ""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> InputAdapter:
        """Return the adapter of an audit's options by name; names that it does not know are ignored."""
        return cls(
            size=options.get("input_size") or "",
            image_input=options.get("image_input") or "",
            constants=tuple(options.get("constants") or ()),
            output=options.get("output") or "",
        )

    def __bool__(self) -> bool:
        """Whether anything is stated."""
        return self != InputAdapter()


@dataclass(frozen=True)
class AdaptedModel:
    """A model from images (n, height, width, channels) to one output.

    Attributes
    ----------
    original : the user's model.
    model : the model around it; `original` itself where nothing is to be adapted.
    shape : of the images, (height, width, channels).
    opaque : whether `model` takes a fourth channel that images lack: alpha, which is 255 counts everywhere.
    adapter : what was stated or found, so that the same model is built again.
    sentences : what was adapted, for reports.
    channels_first : whether `original` takes (channels, height, width).
    """

    original: keras.Model
    model: keras.Model
    shape: Shape
    opaque: bool = False
    adapter: InputAdapter = field(default_factory=InputAdapter)
    sentences: tuple[str, ...] = ()
    channels_first: bool = False

    def card(self) -> dict[str, Any] | None:
        """Return the adapter as JSON values; None if the model is used as it is."""
        if not self.sentences:
            return None
        stated = self.adapter
        return {
            "size": stated.size or None,
            "image_input": stated.image_input or None,
            "constants": list(stated.constants),
            "output": stated.output or None,
            "sentences": list(self.sentences),
        }


@deep_graphs()
def adapt(model: Any, adapter: InputAdapter | None = None) -> AdaptedModel:
    """Return `model` as a model of images with one output.

    Parameters
    ----------
    model : a built Keras 3 model of any kind; an AdaptedModel is returned as it is.
    adapter : what the user states; None for nothing.

    Raises
    ------
    ModelError
        The inputs are no images, or the output is not known; the message says which option decides it.
    """
    if isinstance(model, AdaptedModel):
        return model
    if not isinstance(model, keras.Model):
        raise ModelError(f"A {type(model).__name__} was given; expected a Keras 3 model.")
    stated = adapter or InputAdapter()
    inputs = input_ports(model)
    # A symbolic call of a model without a graph takes a while.
    outputs = output_ports(model) if getattr(model, "outputs", None) or stated.output else ()
    image = _image_port(inputs, stated)
    constants = _constants(inputs, image, stated)
    output = _output_port(outputs, stated)
    inside = resizing_inside(model) if image.any_size else None
    if inside is not None and not stated.size:
        raise ModelError(
            f"The model takes images of any size {image.sizes}; expected a fixed one. {inside.advice}"
        )
    layout = layout_of(image.sizes, stated.size)
    # A model without channels in front, further inputs or outputs is used as it is.
    plain = layout.target is None and len(inputs) == 1 and output is None
    sentences = [*layout.sentences, *_said(image, inputs, constants, output)]
    sentences += [inside.sentence] if inside is not None else []
    if plain and not layout.first and None not in image.sizes:
        found = InputAdapter(layout.stated)
        return AdaptedModel(model, model, layout.shape, layout.opaque, found, tuple(sentences))
    around, notes = _around(model, image, constants, output, layout)
    found = InputAdapter(
        layout.stated,
        image.name if len(inputs) > 1 else "",
        tuple(f"{name}={number!r}" for name, number in constants.items()),
        output.name if output else "",
    )
    said = (*sentences, *notes)
    return AdaptedModel(model, around, layout.shape, layout.opaque, found, said, layout.first)


class Constant(keras.layers.Layer):
    """One number in the shape of an input, for each image of a batch.

    Parameters
    ----------
    number : the value.
    sizes : shape of the input without the batch.
    dtype_out : dtype of the input.
    """

    def __init__(self, number: float, sizes: Sequence[int], dtype_out: str) -> None:
        super().__init__(trainable=False)
        self._number, self._sizes, self._dtype_out = number, tuple(sizes), dtype_out

    def call(self, images: Tensor) -> Tensor:
        """Return (n, *sizes) for images (n, ...)."""
        return ops.full((ops.shape(images)[0], *self._sizes), self._number, dtype=self._dtype_out)

    def compute_output_spec(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Return the shape and dtype of the result."""
        return keras.KerasTensor((images.shape[0], *self._sizes), dtype=self._dtype_out)


def _around(
    model: keras.Model,
    image: Port,
    constants: Mapping[str, float],
    output: Port | None,
    layout: Layout,
) -> tuple[keras.Model, list[str]]:
    """A model from images (n, *layout.size) to the one output, and sentences about how it is built."""
    notes = []
    body = model
    if output is not None and getattr(model, "outputs", None):
        # Only the layers of this output run.
        body = keras.Model(model.input, model.outputs[output.number], name=model.name)
    if layout.first:
        body, how = running_on_this_device(body, layout.size)
        notes += [how] if how else []
    images = keras.Input(layout.size, dtype=image.dtype)
    given = layout.apply(images)
    if image.any_size and is_graph(body):
        # Inner layers get the sizes, which the memory of a batch is estimated from.
        return rebuilt(body, given, images), notes
    results = keras.tree.flatten(body(_arguments(model, image, constants, given, images)))
    result = results[0 if len(results) == 1 or output is None else output.number]
    return keras.Model(images, result, name=model.name), notes


def _arguments(
    model: keras.Model,
    image: Port,
    constants: Mapping[str, float],
    given: keras.KerasTensor,
    images: keras.KerasTensor,
) -> Any:
    """The inputs of `model` in its own structure."""
    ports = input_ports(model)
    if len(ports) == 1:
        structure = getattr(model, "input", None) if getattr(model, "inputs", None) else None
        return (
            keras.tree.map_structure(lambda _: given, structure) if structure is not None else given
        )
    tensors = [
        given if port == image else Constant(constants[port.name], port.fixed, port.dtype)(images)
        for port in ports
    ]
    return keras.tree.pack_sequence_as(model.input, tensors)


def _image_port(inputs: Sequence[Port], stated: InputAdapter) -> Port:
    """The input that takes the image."""
    if len(inputs) == 1:
        return chosen(inputs, stated.image_input, "input") if stated.image_input else inputs[0]
    if stated.image_input:
        return chosen(inputs, stated.image_input, "input")
    named = parse_constants(stated.constants)
    free = [port for port in inputs if port.name not in named and str(port.number) not in named]
    images = [port for port in free if len(port.sizes) == 3]
    if len(free) == 1 or len(images) == 1:
        return free[0] if len(free) == 1 else images[0]
    raise ModelError(
        f"The model has {len(inputs)} inputs; expected one, the image: {listed(inputs)}. Say which takes the "
        "image, --image-input NAME, and which number the others get, --constant NAME=0."
    )


def _constants(inputs: Sequence[Port], image: Port, stated: InputAdapter) -> dict[str, float]:
    """The number of every other input, by its name."""
    numbers = {
        chosen(inputs, name, "input").name: number
        for name, number in parse_constants(stated.constants).items()
    }
    if image.name in numbers:
        raise ModelError(
            f"The input {image.name!r} takes the image, and a constant was given for it; leave out "
            f"--constant {image.name}, or name another input: --image-input."
        )
    others = [port for port in inputs if port != image]
    missing = [port for port in others if port.name not in numbers]
    if missing:
        raise ModelError(
            f"The model has {len(inputs)} inputs; expected one, the image: {listed(inputs)}. Say which "
            f"number the others get: {' '.join(f'--constant {p.name}=0' for p in missing)} (in Python "
            "constants); the audit is then about images with these values."
        )
    return {port.name: numbers[port.name] for port in others}


def _output_port(outputs: Sequence[Port], stated: InputAdapter) -> Port | None:
    """The output that is chosen; None where the model has one only, or does not show them."""
    if len(outputs) > 1 and not stated.output:
        raise ModelError(
            f"The model has {len(outputs)} outputs; expected one: {listed(outputs)}. Say which is audited: "
            f"--output {outputs[0].name} (in Python output)."
        )
    if not stated.output:
        return None
    port = chosen(outputs, stated.output, "output")
    return port if len(outputs) > 1 else None


def _said(
    image: Port, inputs: Sequence[Port], constants: Mapping[str, float], output: Port | None
) -> list[str]:
    sentences = []
    if len(inputs) > 1:
        others = ", ".join(f"{name} is {number:g}" for name, number in constants.items())
        sentences.append(
            f"Of {len(inputs)} inputs {image.name} takes the image; {others} throughout"
        )
    if output is not None:
        sentences.append(f"The output {output.name} is audited; the model has others")
    return sentences
