"""Computes output shapes, weights and work of single Keras layers from their configurations.

Shapes are tuples with the batch first; None is an unknown size. A layer whose sizes cannot be computed
exactly raises `Unfollowed`: the model is then loaded in a process with limits first.

A rule takes the configuration of a layer and the shapes of its inputs, returns `Sizes`, and raises
`Unfollowed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int | None, ...]
Config = dict[str, Any]
_LARGEST = 1 << 62


class Unfollowed(Exception):  # noqa: N818 - not an error: the sizes stay open
    """The configuration does not determine the sizes; the message, a part of a sentence, says why."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of one call of a layer.

    Attributes
    ----------
    outputs : shapes of the outputs.
    parameters : number of weights.
    work : numbers held in memory during the call, besides the outputs.
    products : number of multiplications.
    """

    outputs: tuple[Shape, ...]
    parameters: int = 0
    work: int = 0
    products: int = 0


Rule = Callable[[Config, Sequence[Shape]], Sizes]


def numbers(shape: Shape) -> int:
    """Return the number of elements of a tensor of `shape`; unknown sizes count as one."""
    return math.prod(1 if size is None else size for size in shape)


def whole(value: Any, low: int = 0) -> int:
    """Return `value` as an int if it is a whole number from `low` to below 2**62; Unfollowed otherwise."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < _LARGEST:
        raise Unfollowed(f"a size that is {str(value)[:40]!r}")
    return value


def each(value: Any, rank: int, low: int = 0) -> tuple[int, ...]:
    """Return `rank` whole numbers from one number for all axes, or from a list of `rank`."""
    if isinstance(value, (list, tuple)):
        if len(value) != rank:
            raise Unfollowed(f"{len(value)} sizes for {rank} axes")
        return tuple(whole(one, low) for one in value)
    return (whole(value, low),) * rank


def one(inputs: Sequence[Shape], rank: int | None = None) -> Shape:
    """Return the only input; Unfollowed for several, or for another rank (the batch included)."""
    if len(inputs) != 1 or (rank is not None and len(inputs[0]) != rank):
        raise Unfollowed("inputs of another number or rank than it takes")
    return inputs[0]


def axis_of(value: Any, rank: int) -> int:
    """Return an axis counted from the front; Unfollowed if the input does not have it."""
    axis = value + rank if isinstance(value, int) and value < 0 else value
    if whole(axis) >= rank:
        raise Unfollowed("an axis that its input does not have")
    return axis


def known(size: int | None) -> int:
    """Return a size that weights depend on; Unfollowed if it is None."""
    if size is None:
        raise Unfollowed("weights of a size that is not known")
    return size


def first(config: Config) -> bool:
    """Return whether the layer uses `channels_first`."""
    return config.get("data_format") == "channels_first"


def parted(shape: Shape, config: Config) -> tuple[Shape, int | None]:
    """Return the spatial sizes and the channels of `shape`."""
    return (shape[2:], shape[1]) if first(config) else (shape[1:-1], shape[-1])


def joined(batch: int | None, space: Shape, channels: int | None, config: Config) -> Shape:
    """Return the shape of these parts, the inverse of `parted`."""
    return (batch, channels, *space) if first(config) else (batch, *space, channels)


def slid(size: int | None, kernel: int, stride: int, padding: Any, dilation: int = 1) -> int | None:
    """Return the output length of a sliding window; Unfollowed if it is larger than the input."""
    if padding not in ("valid", "same", "causal"):
        raise Unfollowed("a padding of another kind")
    if size is None:
        return None
    reach = (kernel - 1) * dilation
    fits = size - reach if padding == "valid" else size
    if fits < 1:
        raise Unfollowed("a window larger than its input")
    return -(-fits // stride)


def alike(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Layers with the shape of their input and no weights."""
    return Sizes((one(inputs),))


def conv(rank: int, kind: str = "") -> Rule:
    """Return the rule for convolutions over `rank` axes; `kind` is "", "depthwise" or "separable"."""

    def rule(config: Config, inputs: Sequence[Shape]) -> Sizes:
        shape = one(inputs, rank + 2)
        space, channels = parted(shape, config)
        channels = known(channels)
        kernel = each(config.get("kernel_size"), rank, 1)
        strides = each(config.get("strides", 1), rank, 1)
        dilation = each(config.get("dilation_rate", 1), rank, 1)
        padding, bias = config.get("padding", "valid"), config.get("use_bias", True)
        out = tuple(map(slid, space, kernel, strides, (padding,) * rank, dilation))
        window = math.prod(kernel)
        groups = whole(config.get("groups", 1), 1)
        many = whole(config.get("depth_multiplier", 1), 1)
        filters = whole(config.get("filters"), 1) if kind != "depthwise" else channels * many
        deep = window * channels * many if kind else 0
        flat = {
            "": window * (channels // groups) * filters,
            "depthwise": deep,
            "separable": deep + channels * many * filters,
        }[kind]
        wide = 0
        if padding != "valid":
            reaches = ((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
            wide = math.prod((s or 1) + r for s, r in zip(space, reaches, strict=True)) * channels
        between = numbers(out) * channels * many if kind == "separable" else 0
        weights = flat + (filters if bias else 0)
        output = joined(shape[0], out, filters, config)
        return Sizes((output,), weights, wide + between, flat * numbers(out) * (shape[0] or 1))

    return rule


def transposed(rank: int) -> Rule:
    """Return the rule for transposed convolutions over `rank` axes."""

    def rule(config: Config, inputs: Sequence[Shape]) -> Sizes:
        shape = one(inputs, rank + 2)
        space, channels = parted(shape, config)
        kernel = each(config.get("kernel_size"), rank, 1)
        strides = each(config.get("strides", 1), rank, 1)
        dilation = each(config.get("dilation_rate", 1), rank, 1)
        padding = config.get("padding", "valid")
        if padding not in ("valid", "same") or config.get("output_padding") is not None:
            raise Unfollowed("an output padding")
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        out = tuple(
            None if n is None else n * s + (max(k - s, 0) if padding == "valid" else 0)
            for n, s, k in zip(space, strides, reach, strict=True)
        )
        filters = whole(config.get("filters"), 1)
        flat = math.prod(kernel) * known(channels) * filters
        weights = flat + (filters if config.get("use_bias", True) else 0)
        output = joined(shape[0], out, filters, config)
        return Sizes((output,), weights, numbers(output), flat * numbers(shape[:1] + space))

    return rule


def pool(rank: int) -> Rule:
    """Return the rule for pooling over windows along `rank` axes."""

    def rule(config: Config, inputs: Sequence[Shape]) -> Sizes:
        shape = one(inputs, rank + 2)
        space, channels = parted(shape, config)
        size = each(config.get("pool_size", 2), rank, 1)
        strides = size if config.get("strides") is None else each(config["strides"], rank, 1)
        padding = config.get("padding", "valid")
        out = tuple(map(slid, space, size, strides, (padding,) * rank))
        output = joined(shape[0], out, channels, config)
        # Of a window larger than the input only the part within it counts.
        seen = math.prod(min(k, n or 1) for k, n in zip(size, space, strict=True))
        return Sizes((output,), products=numbers(output) * seen)

    return rule


def pool_all(rank: int) -> Rule:
    """Return the rule for global pooling over `rank` axes: one number per channel."""

    def rule(config: Config, inputs: Sequence[Shape]) -> Sizes:
        shape = one(inputs, rank + 2)
        channels = parted(shape, config)[1]
        if config.get("keepdims"):
            return Sizes((joined(shape[0], (1,) * rank, channels, config),))
        return Sizes(((shape[0], channels),))

    return rule


def _pairs(value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """Sizes before and after, for each axis."""
    if isinstance(value, (list, tuple)) and any(isinstance(v, (list, tuple)) for v in value):
        if len(value) != rank:
            raise Unfollowed(f"{len(value)} paddings for {rank} axes")
        return tuple((each(v, 2)[0], each(v, 2)[1]) for v in value)
    if rank == 1:
        both = each(value, 2)
        return ((both[0], both[1]),)
    return tuple((size, size) for size in each(value, rank))


def bordered(rank: int, key: str, sign: int) -> Rule:
    """Return the rule for zero padding (`sign` 1) or cropping (`sign` -1); `key` names the setting."""

    def rule(config: Config, inputs: Sequence[Shape]) -> Sizes:
        shape = one(inputs, rank + 2)
        space, channels = parted(shape, config)
        pairs = _pairs(config.get(key, 1), rank)
        out = tuple(
            None if n is None else n + sign * (a + b)
            for n, (a, b) in zip(space, pairs, strict=True)
        )
        if any(n is not None and n < 0 for n in out):
            raise Unfollowed("a border larger than its input")
        return Sizes((joined(shape[0], out, channels, config),))

    return rule


def upsampled(rank: int) -> Rule:
    """Return the rule for upsampling along `rank` axes."""

    def rule(config: Config, inputs: Sequence[Shape]) -> Sizes:
        shape = one(inputs, rank + 2)
        space, channels = parted(shape, config)
        factors = each(config.get("size", 2), rank, 1)
        out = tuple(None if n is None else n * f for n, f in zip(space, factors, strict=True))
        output = joined(shape[0], out, channels, config)
        return Sizes((output,), work=numbers(output))

    return rule


def resized(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Resizing and CenterCrop to a height and width."""
    shape = one(inputs, 4)
    size = (whole(config.get("height"), 1), whole(config.get("width"), 1))
    if config.get("crop_to_aspect_ratio") or config.get("pad_to_aspect_ratio"):
        raise Unfollowed("a resizing that keeps the aspect")
    return Sizes((joined(shape[0], size, parted(shape, config)[1], config),))


def dense(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Dense: a matrix product along the last axis."""
    shape = one(inputs)
    units, last = whole(config.get("units"), 1), known(shape[-1])
    output = (*shape[:-1], units)
    weights = last * units + (units if config.get("use_bias", True) else 0)
    return Sizes((output,), weights, products=numbers(output) * last)


def embedding(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Embedding: one table row for each number."""
    rows, width = whole(config.get("input_dim"), 1), whole(config.get("output_dim"), 1)
    return Sizes(((*one(inputs), width),), rows * width)


def flattened(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Flatten: one axis after the batch."""
    shape = one(inputs)
    flat = None if None in shape[1:] else numbers(shape[1:])
    return Sizes(((shape[0], flat),))


def reshaped(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Reshape: another shape with the same number of elements; one size may be left open."""
    shape, target = one(inputs), list(config.get("target_shape", ()))
    rest = math.prod(whole(n, 1) for n in target if n not in (-1, None))
    if None in shape[1:]:
        return Sizes(((shape[0], *(None if n in (-1, None) else n for n in target)),))
    count = numbers(shape[1:])
    free = [n for n in target if n in (-1, None)]
    if len(free) > 1 or (count % rest if free else count != rest):
        raise Unfollowed("a shape of another number of elements")
    return Sizes(((shape[0], *(count // rest if n in (-1, None) else n for n in target)),))


def permuted(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Permute: the axes after the batch in another order."""
    shape = one(inputs)
    order = each(config.get("dims"), len(shape) - 1, 1)
    if sorted(order) != list(range(1, len(shape))):
        raise Unfollowed("an order that leaves axes out")
    return Sizes(((shape[0], *(shape[axis] for axis in order)),))


def repeated(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """RepeatVector: a vector repeated `n` times."""
    shape = one(inputs, 2)
    return Sizes(((shape[0], whole(config.get("n"), 1), shape[1]),))


def normalised(fixed: int, *switches: str) -> Rule:
    """Return the rule for normalisation layers.

    Parameters
    ----------
    fixed : number of weights for each position along the normalised axes.
    switches : settings that add one more weight for each position if they are on.
    """

    def rule(config: Config, inputs: Sequence[Shape]) -> Sizes:
        shape = one(inputs)
        axes = config.get("axis", -1)
        listed = axes if isinstance(axes, (list, tuple)) else [axes]
        places = math.prod(known(shape[axis_of(a, len(shape))]) for a in listed if a is not None)
        many = fixed + sum(bool(config.get(switch, True)) for switch in switches)
        return Sizes((shape,), many * places)

    return rule


def prelu(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """PReLU: one slope for each position, shared along `shared_axes`."""
    shape = one(inputs)
    shared = {axis_of(a, len(shape)) for a in config.get("shared_axes") or ()}
    slopes = math.prod(known(n) for a, n in enumerate(shape) if a and a not in shared)
    return Sizes((shape,), slopes)


def scaled(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Rescaling by numbers, or by lists with one number per channel; other lists could add axes."""
    for key in ("scale", "offset"):
        if not isinstance(config.get(key, 0.0), (int, float)):
            values = config[key]
            plain = isinstance(values, list) and len(values) == one(inputs)[-1]
            if not plain or not all(isinstance(v, (int, float)) for v in values):
                raise Unfollowed(f"a {key} that is no number")
    return Sizes((one(inputs),))


def spread(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Elementwise operations on several inputs, with broadcasting."""
    longest = max(len(shape) for shape in inputs)
    out: list[int | None] = [1] * longest
    for shape in inputs:
        for place, size in enumerate(shape, longest - len(shape)):
            if size is None or size != 1:
                if out[place] not in (1, None, size) and size is not None:
                    raise Unfollowed("inputs whose shapes do not fit")
                out[place] = size if out[place] in (1, None) else out[place]
    return Sizes((tuple(out),))


def concatenated(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Concatenate: inputs joined along one axis."""
    shape = list(inputs[0])
    axis = axis_of(config.get("axis", -1), len(shape))
    if any(len(other) != len(shape) for other in inputs):
        raise Unfollowed("inputs whose shapes do not fit")
    sizes = [other[axis] for other in inputs]
    shape[axis] = None if None in sizes else sum(known(n) for n in sizes)
    return Sizes((tuple(shape),))


def attention(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """Multi-head attention along one axis; inputs (batch, positions, features)."""
    if len(inputs) not in (2, 3) or any(len(shape) != 3 for shape in inputs):
        raise Unfollowed("attention along several axes")
    if config.get("attention_axes") not in (None, [1], (1,), 1) or config.get("use_gate"):
        raise Unfollowed("attention along other axes")
    query, value = inputs[0], inputs[1]
    key = inputs[2] if len(inputs) == 3 else value
    heads, size = whole(config.get("num_heads"), 1), whole(config.get("key_dim"), 1)
    width = whole(config.get("value_dim") or size, 1)
    features = [known(shape[-1]) for shape in (query, key, value)]
    (last,) = each(config.get("output_shape") or features[0], 1, 1)
    bias = 1 if config.get("use_bias", True) else 0
    sides = zip(features, (size, size, width), strict=True)
    weights = sum(heads * side * (seen + bias) for seen, side in sides)
    weights += (heads * width + bias) * last
    places, others = numbers(query[:-1]), numbers(value[1:-1])
    work = heads * (places * (others + size) + numbers(value[:-1]) * (size + width))
    products = places * weights + heads * places * others * (size + width)
    return Sizes(((*query[:-1], last),), weights, work, products)


def layer_scaled(config: Config, inputs: Sequence[Shape]) -> Sizes:
    """LayerScale of ConvNeXt: one factor per channel."""
    channels = whole(config.get("projection_dim"), 1)
    return Sizes(spread(config, [one(inputs), (channels,)]).outputs, channels)
