"""Finds the named convention and the scaling that are nearest to a preprocessing function.

The function judges; it has no gradient. Attacks look through this pair instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robustness.configuration.scaling_text import parse_numbers
from robustness.configuration.scaling_text import text_of as numbers_text
from robustness.errors import PipelineError, SettingError
from robustness.models.scalings import Scaling, candidates
from robustness.pipeline.agreement import Agreement, agreement_of, counts_of, explained, scaled
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.preprocessing import ImageShape, LinearConvention, Preprocessing

_FIRST, _KEPT, _MOST = 2, 6, 24
"""All conventions are tried on the first pictures, so many of them on more, the best on at most so many."""
_CHANGE = 8
"""Counts by which pixels change to compare slopes: the budget of a usual attack."""
_CHANGED_PICTURES = 6
_NUMBERS = 1 << 20
"""The largest number of image values that a scaling is fitted to."""
_AS_GOOD = (1.1, 0.25)
"""A named scaling may be farther than a fitted one by this factor and so many counts."""


@dataclass(frozen=True)
class NearestConvention:
    """What attacks look through.

    Attributes
    ----------
    function : the text of the function.
    convention, scaling : from a picture to counts, and to the model's input.
    agreement : with the function.
    """

    function: str
    convention: LinearConvention
    scaling: Scaling
    agreement: Agreement

    @property
    def sentence(self) -> str:
        """Which surrogate it is, how near, and what follows."""
        pair = f"{self.convention.text} with scaling {self.scaling.name}"
        if self.agreement.near:
            return (
                f"The function {self.function} is attacked through {pair}, which agrees with it "
                f"{self.agreement.sentence}."
            )
        return (
            f"No named convention is near the function {self.function}: it is not linear, or resizes in a "
            f"way of its own. Attacks by gradient look through the nearest, {pair}, which agrees with it "
            f"{self.agreement.sentence}. They may miss flips that exist; the function judges every flip."
        )


def candidate_texts(shape: ImageShape) -> list[str]:
    """Return the named conventions that are tried for images of `shape`; those alike only once."""
    height, width = shape[:2]
    # Resize(256), CenterCrop(224), and the same shares at other sizes.
    short = sorted({round(min(height, width) * share) for share in (1.0, 256 / 224, 1.25)})
    crops = [f"resize={side},crop={height}x{width}" for side in short]
    texts = [
        f"pillow:{name}" for name in ("bilinear", "nearest", "bicubic", "lanczos", "box", "hamming")
    ]
    texts += [f"torchvision:{name},{crop}" for name in ("bilinear", "bicubic") for crop in crops]
    texts += [f"pillow:{name},crop=aspect" for name in ("bilinear", "bicubic", "lanczos")]
    texts += ["pillow:bilinear,pad=0", "pillow:bicubic,pad=0", "pillow:bilinear,pad=255"]
    texts += [f"pillow:crop={height}x{width}"]
    texts += [f"tf.image.resize:{name}" for name in ("bilinear", "nearest", "bicubic", "area")]
    texts += [f"tf.image.resize:{name},antialias=true" for name in ("bilinear", "bicubic")]
    texts += ["keras.image_dataset_from_directory:crop_to_aspect_ratio=true"]
    texts += ["tf.image.resize_with_pad"]
    texts += [f"opencv:{name}" for name in ("linear", "area", "cubic", "nearest")]
    texts += [f"opencv:{name},crop=aspect" for name in ("linear", "area")]
    texts += [f"opencv:{name},{crop}" for name in ("linear", "area", "cubic") for crop in crops]
    texts += ["opencv:linear,pad=0", "opencv:area,pad=0"]
    return texts


def nearest_convention(
    function: Preprocessing,
    pictures: Sequence[np.ndarray],
    shape: ImageShape,
    *,
    inputs: Sequence[np.ndarray] | None = None,
    conventions: Sequence[str | LinearConvention] | None = None,
    scalings: Mapping[str, Scaling] | None = None,
) -> NearestConvention:
    """Return the convention and scaling that are nearest to a function.

    Parameters
    ----------
    function : the preprocessing, whose images are the model's inputs.
    pictures : uint8 (height, width, channels); several, and not all of one aspect ratio, tell conventions
        apart. At most 24 are used.
    shape : the model's images.
    inputs : the function's images of `pictures`, where they are known.
    conventions : the candidates; by default `candidate_texts`. Those whose library is not installed, or that
        cannot process a picture, are left out.
    scalings : the candidates by name; by default those that are known. If none is near, one is fitted.

    Raises
    ------
    PipelineError
        There are no pictures, the function gives the same for all of them, or no convention can process them.
    """
    if not pictures:
        raise PipelineError("No picture is there to compare the preprocessing with conventions.")
    order = _apart_first([picture.shape[:2] for picture in pictures])[:_MOST]
    pictures = [pictures[index] for index in order]
    known = [function.image(one, shape) for one in pictures] if inputs is None else None
    wanted = np.stack(known or [inputs[index] for index in order])  # type: ignore[index]
    wanted = wanted.astype(np.float64)
    if math.isclose(float(np.ptp(wanted)), 0.0, abs_tol=1e-12):
        raise PipelineError(
            f"The preprocessing {function.text} gives the same number everywhere, whatever the picture."
        )
    options = scalings if scalings is not None else candidates(shape[2])
    remaining = _parsed(candidate_texts(shape) if conventions is None else conventions)
    for count, kept in ((_FIRST, _KEPT), (8, 1)):
        remaining = _best(remaining, pictures[:count], wanted[:count], shape)[:kept]
    if not remaining:
        raise PipelineError(
            f"No named convention can process the pictures; the preprocessing {function.text} has none to be "
            "attacked through."
        )
    convention = remaining[0]
    made = [_image(convention, one, shape) for one in pictures]
    usable = [index for index, image in enumerate(made) if image is not None]
    counts = np.stack([image for image in made if image is not None]).astype(np.float64)
    scaling = _scaling(wanted[usable], counts, options)
    agreement = agreement_of(
        wanted[usable],
        counts,
        scaling,
        _changes(function, convention, scaling, [pictures[index] for index in usable], shape),
    )
    return NearestConvention(function.text, convention, scaling, agreement)


def fitted_scaling(inputs: np.ndarray, images: np.ndarray, order: str = "RGB") -> Scaling | None:
    """Return the scaling by least squares; None where an image's channel is of one colour.

    Parameters
    ----------
    inputs, images : (..., channels): the model's inputs, and counts.
    order : of the channels of the inputs.
    """
    multiply, offset = _line(inputs, images, order)
    if not all(map(math.isfinite, (*multiply, *offset))) or 0.0 in multiply:
        return None
    text = numbers_text(_short(multiply), _short(offset), order)
    numbers = parse_numbers(text)
    return Scaling(numbers.text, numbers.multiply, numbers.offset, numbers.order, numbers.sentence)


def _line(
    inputs: np.ndarray, images: np.ndarray, order: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Slope and intercept of each of three channels, or of all channels together."""
    x = images[..., ::-1] if order == "BGR" else images
    columns = 3 if x.shape[-1] == 3 else 1
    x, y = (values.reshape(-1, columns).astype(np.float64) for values in (x, inputs))
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    spread = ((x - x_mean) ** 2).mean(axis=0)
    together = ((x - x_mean) * (y - y_mean)).mean(axis=0)
    slope = np.divide(together, spread, out=np.zeros_like(spread), where=spread > 0)
    return tuple(slope.tolist()), tuple((y_mean - slope * x_mean).tolist())


def _short(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """Numbers of six digits; one where all channels have the same."""
    short = tuple(float(f"{number:.6g}") for number in numbers)
    widest = max(map(abs, short))
    alike = all(abs(number - short[0]) <= 1e-4 * widest for number in short)
    return short[:1] if alike else short


def _orders(images: np.ndarray) -> tuple[str, ...]:
    return ("RGB", "BGR") if images.shape[-1] == 3 else ("RGB",)


def _best(
    conventions: Sequence[LinearConvention],
    pictures: Sequence[np.ndarray],
    wanted: np.ndarray,
    shape: ImageShape,
) -> list[LinearConvention]:
    """The conventions that process all pictures, that first which explains most, whatever the scaling."""
    scores: list[tuple[float, LinearConvention]] = []
    for convention in conventions:
        made = [_image(convention, one, shape) for one in pictures]
        images = [image for image in made if image is not None]
        if len(images) == len(pictures):
            share = _explained_by_line(wanted, np.stack(images).astype(np.float64))
            scores.append((share, convention))
    # Sorting is stable: of those that are equal but for rounding the first of the list comes first.
    return [one for _, one in sorted(scores, key=lambda pair: -round(pair[0], 7))]


def _explained_by_line(wanted: np.ndarray, images: np.ndarray) -> float:
    """The largest share of variance that a scaling of the images explains."""
    shares = []
    for order in _orders(images):
        multiply, offset = _line(wanted, images, order)
        shares.append(explained(wanted, scaled(Scaling("", multiply, offset, order), images)))
    return max(shares)


def _scaling(wanted: np.ndarray, images: np.ndarray, options: Mapping[str, Scaling]) -> Scaling:
    """The known scaling that is nearest; a fitted one where that is clearly nearer."""
    step = max(1, wanted.size // _NUMBERS)
    if step > 1:  # every so many rows
        wanted, images = wanted[:, ::step], images[:, ::step]
    fits = [fitted_scaling(wanted, images, order) for order in _orders(images)]
    fitted = [(_error(wanted, images, one), one) for one in fits if one is not None]
    known = [(_error(wanted, images, one), one) for one in options.values()]
    best_known = min(known, key=lambda pair: pair[0], default=None)
    best_fit = min(fitted, key=lambda pair: pair[0], default=None)
    if best_known is None and best_fit is None:
        raise PipelineError("No scaling was given to compare with, and none can be fitted.")
    if best_fit is None or best_known is None:
        return (best_known or best_fit)[1]  # type: ignore[index]
    # Inputs are compared in the counts of the fitted scaling: a flat wrong one would shrink its own error.
    unit = float(np.mean(np.abs(best_fit[1].multiply)))
    factor, counts = _AS_GOOD
    return best_known[1] if best_known[0] <= factor * best_fit[0] + counts * unit else best_fit[1]


def _error(wanted: np.ndarray, images: np.ndarray, scaling: Scaling) -> float:
    """The root mean square of the difference in inputs."""
    return float(np.sqrt(((wanted - scaled(scaling, images)) ** 2).mean()))


def _changes(
    function: Preprocessing,
    convention: LinearConvention,
    scaling: Scaling,
    pictures: Sequence[np.ndarray],
    shape: ImageShape,
) -> float | None:
    """The squared cosine between the changes of both images, under changes as attacks make them."""
    rng = np.random.default_rng(0)
    both = of_function = of_convention = 0.0
    for pixels in pictures[:_CHANGED_PICTURES]:
        geometry = convention.geometry(pixels.shape[:2], shape)
        slopes = rng.standard_normal(shape)  # of some loss by the image
        back = np.einsum("hH,hwc,wW->HWc", geometry.rows, slopes, geometry.columns, optimize=True)
        changed = np.clip(pixels + _CHANGE * np.sign(back), 0, 255).astype(np.uint8)
        first, second = (
            counts_of(scaling, function.image(one, shape)) for one in (pixels, changed)
        )
        before, after = (_image(convention, one, shape) for one in (pixels, changed))
        if before is None or after is None:
            continue
        real, seen = second - first, after.astype(np.float64) - before
        both += float((real * seen).sum())
        of_function += float((real**2).sum())
        of_convention += float((seen**2).sum())
    if of_convention == 0:
        return None
    return 0.0 if of_function == 0 or both < 0 else both**2 / (of_function * of_convention)


def _parsed(conventions: Sequence[str | LinearConvention]) -> list[LinearConvention]:
    """The conventions; without those whose library is not installed."""
    parsed: list[LinearConvention] = []
    for one in conventions:
        if not isinstance(one, str):
            parsed.append(one)
            continue
        try:
            parsed.append(parse_pipeline(one).convention)
        except SettingError:
            continue
    return parsed


def _image(
    convention: LinearConvention, pixels: np.ndarray, shape: ImageShape
) -> np.ndarray | None:
    """The convention's image; None if it cannot process the picture or has another size."""
    try:
        image = convention.image(pixels, shape)
    except PipelineError:
        return None
    return image if image.shape == shape else None


def _apart_first(sizes: Sequence[tuple[int, ...]]) -> list[int]:
    """Indices of pictures: the first, then that of the most different aspect ratio, then the others."""
    ratios = [math.log(max(1, width) / max(1, height)) for height, width in sizes]
    far = max(range(len(sizes)), key=lambda index: abs(ratios[index] - ratios[0]))
    return sorted(range(len(sizes)), key=lambda index: (index not in (0, far), index))
