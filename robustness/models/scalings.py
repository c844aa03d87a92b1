"""What a model's input numbers mean: counts 0..255, or something the user computed from them.

Every image in this toolkit is RGB in counts. A `Scaling` turns counts into what one model was
trained on; the wrong one costs accuracy and makes every verdict worthless, so it is never guessed
silently: it is given, or found inside the model, or decided by accuracy on labelled images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from robustness.errors import ModelError, SettingError
from robustness.models.layers import entry_dtype, is_whole, leaves
from robustness.numerics.intervals import beats_chance, clearly_better
from robustness.text import did_you_mean


@dataclass(frozen=True)
class Scaling:
    """``counts[..., order] * multiply + offset``, per channel (one number serves all channels)."""

    name: str
    multiply: tuple[float, ...]
    offset: tuple[float, ...]
    order: str = "RGB"
    sentence: str = ""

    def __post_init__(self) -> None:
        if self.order not in ("RGB", "BGR"):
            raise SettingError(f"Channel order {self.order!r} is not known; expected RGB or BGR.")
        for numbers in (self.multiply, self.offset):
            if len(numbers) not in (1, 3) or not all(math.isfinite(n) for n in numbers):
                raise SettingError(
                    f"A scaling takes one finite number or three (red, green, blue); got {numbers}."
                )

    @property
    def per_channel(self) -> bool:
        """Whether the scaling makes sense for three channels only."""
        return self.order == "BGR" or len(self.multiply) == 3 or len(self.offset) == 3

    def apply(self, images: Any) -> Any:
        """Counts (n, height, width, channels) to the model's own numbers, float32."""
        images = ops.cast(images, "float32")
        if self.order == "BGR":
            images = ops.flip(images, axis=-1)
        if any(m != 1.0 for m in self.multiply):
            images = images * ops.convert_to_tensor(self.multiply, "float32")
        if any(o != 0.0 for o in self.offset):
            images = images + ops.convert_to_tensor(self.offset, "float32")
        return images

    def fits(self, dtype: str) -> bool:
        """Whether numbers of type `dtype` hold what whole counts become; fractions would be cut off."""
        if not is_whole(dtype):
            return True
        if dtype == "bool" or any(n % 1 for n in (*self.multiply, *self.offset)):
            return False
        limits = np.iinfo(dtype)
        pairs = np.broadcast(np.array(self.multiply), np.array(self.offset))
        ends = [m * count + o for m, o in pairs for count in (0, 255)]
        return bool(limits.min <= min(ends) and max(ends) <= limits.max)

    def card(self) -> dict[str, Any]:
        """JSON-able description."""
        return {
            "name": self.name,
            "multiply": list(self.multiply),
            "offset": list(self.offset),
            "order": self.order,
            "sentence": self.sentence,
        }


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALINGS: dict[str, Scaling] = {
    scaling.name: scaling
    for scaling in (
        Scaling("0..255", (1.0,), (0.0,), sentence="The model takes counts 0..255 as they are."),
        Scaling("0..1", (1 / 255,), (0.0,), sentence="Counts are divided by 255 (0..1)."),
        Scaling(
            "-1..1", (1 / 127.5,), (-1.0,), sentence="Counts are divided by 127.5, minus 1 (-1..1)."
        ),
        Scaling(
            "caffe",
            (1.0,),
            (-103.939, -116.779, -123.68),
            order="BGR",
            sentence="Channels are swapped to BGR and the ImageNet mean is subtracted (caffe).",
        ),
        Scaling(
            "torch",
            tuple(1 / (255 * s) for s in _STD),
            tuple(-m / s for m, s in zip(_MEAN, _STD, strict=True)),
            sentence="Counts are divided by 255 and standardised by ImageNet's mean and "
            "deviation (torch).",
        ),
    )
}


def parse_scaling(value: str | Scaling) -> Scaling:
    """The scaling called `value`; SettingError names the nearest for a wrong name."""
    if isinstance(value, Scaling):
        return value
    if value in SCALINGS:
        return SCALINGS[value]
    hint = did_you_mean(str(value), SCALINGS, cutoff=0.4)
    raise SettingError(
        f"Scaling {str(value)!r} is not known; expected one of {', '.join(SCALINGS)}.{hint}"
    )


def candidates(channels: int, dtype: str = "float32") -> dict[str, Scaling]:
    """The scalings that make sense for so many channels, and for an input of type `dtype`."""
    return {
        name: scaling
        for name, scaling in SCALINGS.items()
        if (channels == 3 or not scaling.per_channel) and scaling.fits(dtype)
    }


def inner_scaling(model: Any) -> Scaling | None:
    """`0..255` if the model's first layers are a Rescaling or Normalization made for counts, or if its
    input is of whole numbers: fractions would be cut off there.

    None when there is none, or when its numbers say that it expects something else (a Rescaling of
    2 and -1 expects 0..1).
    """
    if is_whole(entry_dtype(model)):
        return SCALINGS["0..255"]
    for layer in leaves(model):
        kind = type(layer).__name__
        if kind == "Rescaling":
            # 1/127.5 and 1/255 are for counts; 1 or 2 would be for 0..1.
            small = float(np.max(np.abs(np.asarray(layer.scale, "float64")))) <= 1 / 32
            return SCALINGS["0..255"] if small else None
        if kind == "Normalization":
            wide = float(np.max(np.asarray(ops.convert_to_numpy(layer.variance)))) > 32.0
            return SCALINGS["0..255"] if wide else None
        if layer.weights:
            return None
    return None


@dataclass(frozen=True)
class ScalingChoice:
    """Which scaling fits, by accuracy; `scaling` is None where the images do not decide."""

    scaling: Scaling | None
    accuracies: Mapping[str, float]
    sentence: str


def choose_scaling(
    predict: Callable[[Scaling, np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray | None,
    classes: int,
    dtype: str = "float32",
) -> ScalingChoice:
    """The scaling under which the most `images` are right.

    `predict(scaling, images)` gives class indices (n,) for uint8 images (n, height, width,
    channels); `dtype` is the type of number that the model takes. The best must beat chance and every other
    candidate by more than two standard errors
    of the images on which the two differ (a sign test); otherwise nothing is decided.
    """
    if labels is None or len(images) == 0:
        return ScalingChoice(
            None, {}, "Without labelled images nothing can tell which scaling the model expects."
        )
    labels = np.asarray(labels)
    right = {
        name: np.asarray(predict(scaling, images)) == labels
        for name, scaling in candidates(images.shape[-1], dtype).items()
    }
    accuracies = {name: float(hits.mean()) for name, hits in right.items()}
    table = ", ".join(f"{name} {accuracy:.0%}" for name, accuracy in accuracies.items())
    best, *others = sorted(accuracies, key=lambda name: -accuracies[name])
    said = f"Accuracy on {len(images)} labelled images: {table}"
    if not beats_chance(accuracies[best], len(images), classes):
        return ScalingChoice(None, accuracies, f"{said}; none is clearly better than chance.")
    rivals = [name for name in others if not clearly_better(right[best], right[name])]
    if rivals:
        tied = " or ".join([best, *rivals])
        return ScalingChoice(None, accuracies, f"{said}; it could be {tied}.")
    return ScalingChoice(SCALINGS[best], accuracies, f"{said}; {best} is clearly the best.")


def undecided(sentence: str) -> ModelError:
    """The error for a model whose scaling nobody said."""
    return ModelError(
        f"It is not known which numbers the model expects. {sentence} Expected a scaling: "
        f"{', '.join(SCALINGS)} (--scaling), or labelled images to decide it."
    )
