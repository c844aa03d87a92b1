"""The description of a model of the zoo, and its loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustness.models.classifier import Classifier


@dataclass(frozen=True)
class ModelInfo:
    """The description of a model, known before the model is loaded.

    Attributes
    ----------
    name : the argument of `model_zoo.load`. summary : one sentence. input_shape : (height, width, channels);
    None if not known. classes : class names in the order of the outputs. source : where the model comes
    from.
    """

    name: str
    summary: str
    input_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class ZooModel:
    """A function that loads a model, with the model's description."""

    info: ModelInfo
    loader: Callable[[], Classifier]

    def __call__(self) -> Classifier:
        """Load the model."""
        return self.loader()


def zoo_model(info: ModelInfo) -> Callable[[Callable[[], Classifier]], ZooModel]:
    """Return a decorator that attaches `info` to a function that loads a model and takes no arguments."""
    return lambda loader: ZooModel(info, loader)
