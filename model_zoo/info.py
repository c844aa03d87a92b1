"""What is known of a model before it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustness.models.classifier import Classifier


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model before it is loaded; `source` says where it comes from."""

    name: str
    summary: str
    input_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class ZooModel:
    """A loader that describes itself."""

    info: ModelInfo
    loader: Callable[[], Classifier]

    def __call__(self) -> Classifier:
        """Load the model."""
        return self.loader()


def zoo_model(info: ModelInfo) -> Callable[[Callable[[], Classifier]], ZooModel]:
    """Attach `info` to a function that loads a model."""
    return lambda loader: ZooModel(info, loader)
