"""Converts images in counts to the input of a model, and finds out which conversion (scaling) it expects.

Every image in this toolkit is RGB in counts 0..255. A `Scaling` converts counts to the numbers that a model
was trained on. The wrong one lowers accuracy and invalidates every verdict, so it must not be guessed
silently: it is given, found in the model, or chosen by accuracy on labelled images.
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
    """The conversion ``counts[..., order] * multiply + offset``.

    Attributes
    ----------
    name : its name in `SCALINGS`.
    multiply, offset : one number per channel, in the order `order`, or one for all channels.
    order : "RGB" or "BGR".
    sentence : a description for reports.
    """

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
        """Whether the scaling needs three channels."""
        return self.order == "BGR" or len(self.multiply) == 3 or len(self.offset) == 3

    def apply(self, images: Any) -> Any:
        """Convert counts (n, height, width, channels) to the input of the model, float32."""
        images = ops.cast(images, "float32")
        if self.order == "BGR":
            images = ops.flip(images, axis=-1)
        if any(m != 1.0 for m in self.multiply):
            images = images * ops.convert_to_tensor(self.multiply, "float32")
        if any(o != 0.0 for o in self.offset):
            images = images + ops.convert_to_tensor(self.offset, "float32")
        return images

    def fits(self, dtype: str) -> bool:
        """Return whether `dtype` holds scaled whole counts exactly: in range and without fractions."""
        if not is_whole(dtype):
            return True
        if dtype == "bool" or any(n % 1 for n in (*self.multiply, *self.offset)):
            return False
        limits = np.iinfo(dtype)
        pairs = np.broadcast(np.array(self.multiply), np.array(self.offset))
        ends = [m * count + o for m, o in pairs for count in (0, 255)]
        return bool(limits.min <= min(ends) and max(ends) <= limits.max)

    def card(self) -> dict[str, Any]:
        """Return the scaling as JSON values."""
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
    """Return the scaling named `value`. Raises SettingError, with the nearest name, for an unknown one."""
    if isinstance(value, Scaling):
        return value
    if value in SCALINGS:
        return SCALINGS[value]
    hint = did_you_mean(str(value), SCALINGS, cutoff=0.4)
    raise SettingError(
        f"Scaling {str(value)!r} is not known; expected one of {', '.join(SCALINGS)}.{hint}"
    )


def candidates(channels: int, dtype: str = "float32") -> dict[str, Scaling]:
    """Return the scalings that fit a number of channels and the dtype of the model's input."""
    return {
        name: scaling
        for name, scaling in SCALINGS.items()
        if (channels == 3 or not scaling.per_channel) and scaling.fits(dtype)
    }


def inner_scaling(model: Any) -> Scaling | None:
    """Return the scaling that the model's own first layers imply.

    Returns
    -------
    `0..255` if a Rescaling or Normalization for counts precedes all layers with weights, or if the input
    holds whole numbers, which would cut off fractions. None if there is no such layer, or if its numbers are
    for another range (a Rescaling by 2 and -1 expects 0..1).
    """
    if is_whole(entry_dtype(model)):
        return SCALINGS["0..255"]
    for layer in leaves(model):
        kind = type(layer).__name__
        if kind == "Rescaling":
            # 1/127.5 and 1/255 are for counts, and so are means near 120; 1 or 2 are for 0..1.
            small = float(np.max(np.abs(np.asarray(layer.scale, "float64")))) <= 1 / 32
            means = float(np.max(np.abs(np.asarray(layer.offset, "float64")))) > 32.0
            return SCALINGS["0..255"] if small or means else None
        if kind == "Normalization":
            wide = float(np.max(np.asarray(ops.convert_to_numpy(layer.variance)))) > 32.0
            return SCALINGS["0..255"] if wide else None
        if layer.weights:
            return None
    return None


@dataclass(frozen=True)
class ScalingChoice:
    """The scaling with the best accuracy; `scaling` is None if none is clearly the best."""

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
    """Choose the scaling under which most `images` are classified correctly.

    Parameters
    ----------
    predict : ``predict(scaling, images)`` returns class indices (n,).
    images : uint8 (n, height, width, channels).
    labels : true class indices (n,), or None.
    classes : number of classes.
    dtype : dtype of the model's input.

    Notes
    -----
    The best candidate must beat chance, and every other candidate by more than two standard errors of the
    images on which the two differ (a sign test); otherwise no scaling is chosen.
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
    """Return the error for a model whose scaling is unknown; `sentence` says why."""
    return ModelError(
        f"It is not known which numbers the model expects. {sentence} Expected a scaling: "
        f"{', '.join(SCALINGS)} (--scaling), or labelled images to decide it."
    )
