"""The description of a model of the zoo, and a loader that carries one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustness.models.classifier import Classifier


@dataclass(frozen=True)
class ModelInfo:
    """The description of a model, known before it is loaded.

    Attributes
    ----------
    name: what `model_zoo.load` takes.
    summary: one sentence.
    input_shape: (height, width, channels); None if not known.
    classes: names in the order of the outputs.
    source: where the model comes from.
    """

    name: str
    summary: str
    input_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class ZooModel:
    """A function that loads a model, with the description of the model."""

    info: ModelInfo
    loader: Callable[[], Classifier]

    def __call__(self) -> Classifier:
        """Load the model."""
        return self.loader()


def zoo_model(info: ModelInfo) -> Callable[[Callable[[], Classifier]], ZooModel]:
    """Return a decorator that attaches `info` to a function without arguments that loads a model."""
    return lambda loader: ZooModel(info, loader)
