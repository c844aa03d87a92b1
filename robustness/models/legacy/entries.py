"""The parts of a converted configuration: references, calls, layers; the error of what has no equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]
MODELS = ("Functional", "Model", "Sequential")
"""Classes of models; `Model` is the Functional of Keras 1 and 2."""


class Unconvertible(Exception):  # noqa: N818 - the caller makes it a ModelError that names the file
    """Part of a configuration has no equal in Keras 3; the message, a part of a sentence, says what."""


@dataclass(frozen=True)
class Ref:
    """An output of a call of a layer: its name, the number of the call, the number of the output."""

    layer: str
    node: int = 0
    place: int = 0

    def to_config(self) -> Config:
        """Return the reference as Keras 3 stores it. Keras replaces the shape by that of the tensor."""
        history = [self.layer, self.node, self.place]
        config = {"shape": [None], "dtype": "float32", "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}


@dataclass
class Call:
    """The arguments of one call of a layer; references to tensors are `Ref`."""

    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)

    def refs(self) -> list[Ref]:
        """Return the references to tensors among the arguments, in order."""
        return [*_refs(self.args), *_refs(self.kwargs)]

    def to_config(self) -> Config:
        """Return the call as Keras 3 stores it."""
        return {"args": stored(self.args), "kwargs": stored(self.kwargs)}


def _refs(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _refs(one)


@dataclass
class Piece:
    """A layer or operation of Keras 3.

    Attributes
    ----------
    class_name, module : its class.
    config : its settings, the name among them.
    registered : the registered name of a custom class, or that of an operation.
    call : its arguments where they are not those of the layer that it replaces.
    build : the shapes that a custom class is built with.
    """

    class_name: str
    config: Config
    module: str | None = "keras.layers"
    registered: str | None = None
    call: Call | None = None
    build: Config | None = None

    @property
    def name(self) -> str:
        """The name of the layer."""
        return str(self.config["name"])

    def to_config(self) -> Config:
        """Return the layer as Keras 3 stores it, without its calls."""
        entry = {
            "module": self.module,
            "class_name": self.class_name,
            "config": self.config,
            "registered_name": self.registered,
        }
        return entry | ({"build_config": self.build} if self.build else {})


def layer(class_name: str, name: str, **config: Any) -> Piece:
    """Return a layer of Keras 3."""
    return Piece(class_name, {"name": name, **config})


def operation(class_name: str, name: str, module: str = "numpy", **config: Any) -> Piece:
    """Return an operation of Keras 3, defined in the module `keras.src.ops.MODULE`."""
    return Piece(class_name, {"name": name, **config}, f"keras.src.ops.{module}", class_name)


def called(piece: Piece, *args: Any) -> Piece:
    """Return `piece` with the arguments of its call."""
    piece.call = Call(list(args))
    return piece


def stored(value: Any) -> Any:
    """Return an argument as Keras 3 stores it."""
    if isinstance(value, Ref):
        return value.to_config()
    if isinstance(value, list | tuple):
        return [stored(one) for one in value]
    if isinstance(value, dict):
        return {key: stored(one) for key, one in value.items()}
    return value


def text_of(value: Any) -> str:
    """Return a name of a configuration; Unconvertible if it is not text."""
    if not isinstance(value, str):
        raise Unconvertible(f"has a name that is not text: {str(value)[:40]!r}")
    return value
