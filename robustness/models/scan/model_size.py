"""Computes the sizes of a model (weights, layer outputs, work) from its configuration, before it is built.

`measure` traverses Sequential and Functional configurations, nested ones too, with the rules of
`layer_sizes`. It reports what is too large, and what it cannot compute, so that such a model is loaded in a
process with limits first. Must not import what a configuration names, nor allocate arrays.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from robustness.models.scan.config_parsing import (
    arguments,
    build_shapes,
    input_shape_of,
    name_of,
    references,
    sequential_shapes,
    tables,
)
from robustness.models.scan.known_layers import MODELS, expect_known, plain_module, rule_of
from robustness.models.scan.layer_sizes import Config, Shape, Sizes, Unfollowed, numbers

FLOAT = 4
MAX_TENSOR_BYTES = 1 << 30
"""Largest output of one layer for one image. VGG16 on 1024 x 1024 pixels has 256 MiB."""
MAX_RESULTS_BYTES = 64 << 30
"""Largest sum of the outputs of all layers for one image. VGG16 on 1024 x 1024 pixels has 2 GiB."""
MAX_PARAMETERS = 2_000_000_000
"""Largest number of weights. The largest classifiers of `keras.applications` have 200 million."""
SPARE_PARAMETERS = 16_000_000
"""A model may have this many weights (64 MiB) plus `STORED_SHARE` times the numbers stored in its file."""
STORED_SHARE = 4
"""See `SPARE_PARAMETERS`; above 1 because quantised weights are stored packed."""
MAX_CALLS = 20_000
"""Most layer calls in one call of the model. EfficientNetV2L makes 1,000."""
EASY_TENSOR_BYTES, EASY_RESULTS_BYTES = 512 << 20, 8 << 30
EASY_PARAMETERS, EASY_PRODUCTS, EASY_CALLS = 500_000_000, 2_000_000_000_000, 5_000
"""A model at or below all of these is loaded without a trial."""


@dataclass
class Measure:
    """Sizes of one call of a model on one image.

    Attributes
    ----------
    parameters : number of weights.
    results : bytes of the outputs and the work memory of all layers.
    largest : bytes of the largest layer output or work memory.
    products : number of multiplications.
    calls : number of layer calls.
    findings : what is too large, each a sentence part that names the place.
    open : what could not be computed, each a sentence part that names the place.
    """

    parameters: int = 0
    results: int = 0
    largest: int = 0
    products: int = 0
    calls: int = 0
    findings: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    @property
    def trial(self) -> str:
        """Why the model must first be loaded in a process with limits; "" if it need not be."""
        if self.open:
            return self.open[0]
        beyond = {
            "its layers' results": self.results > EASY_RESULTS_BYTES,
            "a layer's result": self.largest > EASY_TENSOR_BYTES,
            "its weights": self.parameters > EASY_PARAMETERS,
            "the work of a call": self.products > EASY_PRODUCTS,
            "the number of its layers": self.calls > EASY_CALLS,
        }
        return next((f"{what} are many" for what, wrong in beyond.items() if wrong), "")


class _Enough(Exception):  # noqa: N818
    """A limit is exceeded; the traversal stops."""


class Walk:
    """One traversal of a configuration.

    Parameters
    ----------
    stored : how many numbers the file stores as weights; None if not known.
    """

    def __init__(self, stored: int | None) -> None:
        self.measure = Measure()
        self._stored = stored
        self._weights: dict[int, int] = {}

    def whole(self, config: Config) -> Measure:
        """Return the sizes of one call, on one image, of the model that `config` describes."""
        # Models are loaded with compile=False, which ignores the training configuration.
        config = {key: value for key, value in config.items() if key != "compile_config"}
        try:
            expect_known(config)
            self._declared_builds(config)
            self._model(config, None)
        except _Enough:
            pass
        except Unfollowed as gap:
            self.measure.open.append(str(gap))
        # In an untrusted configuration any value can have any type.
        except (
            TypeError,
            ValueError,
            KeyError,
            IndexError,
            AttributeError,
            OverflowError,
        ) as error:
            self.measure.open.append(f"its configuration is unusual ({type(error).__name__})")
        except RecursionError:
            self.measure.findings.append("models are nested in models too deeply")
        return self.measure

    def _declared_builds(self, config: Config) -> None:
        """Count the weights that Keras creates for stored build configurations, even without a call."""
        for value in tables(config):
            build = value.get("build_config")
            if not isinstance(build, dict) or value.get("class_name") in MODELS:
                continue
            place = name_of(value)
            try:
                self._count(value, rule_of(value)(value["config"], build_shapes(build)), place)
            except Unfollowed as gap:
                raise Unfollowed(f"{place} has {gap}") from None

    def _model(self, entry: Config, given: Sequence[Shape] | None) -> list[Shape]:
        inner = entry.get("config")
        if entry.get("class_name") == "Sequential":
            return self._sequential(entry, inner, given)
        if not isinstance(inner, dict) or "layers" not in inner or "input_layers" not in inner:
            raise Unfollowed(f"{name_of(entry)} is no graph of layers")
        return self._functional(inner, given)

    def _sequential(self, entry: Config, inner: Any, given: Sequence[Shape] | None) -> list[Shape]:
        layers = inner if isinstance(inner, list) else inner["layers"]
        shapes = list(given) if given is not None else None
        for number, layer in enumerate(layers):
            declared = input_shape_of(layer) if number == 0 else None
            if shapes is None and declared is not None:
                shapes = [declared]
            if shapes is None:
                shapes = sequential_shapes(entry, inner)
            if layer["class_name"] != "InputLayer":
                shapes = self._call(layer, shapes)
            else:
                self._weigh(layer, Sizes(tuple(shapes)))
        if shapes is None:
            raise Unfollowed(f"{name_of(entry)} has no layers")
        return shapes

    def _functional(self, inner: Config, given: Sequence[Shape] | None) -> list[Shape]:
        made: dict[tuple[Any, Any, Any], Shape] = {}
        waiting: defaultdict[tuple[Any, Any, Any], list[_Node]] = defaultdict(list)
        ready: deque[_Node] = deque()
        inputs = [tuple(ref) for ref in references(inner["input_layers"])]
        layers = {layer.get("name") or layer["config"]["name"]: layer for layer in inner["layers"]}
        if len(layers) < len(inner["layers"]):
            raise Unfollowed("layers share a name")
        for number, ref in enumerate(inputs):
            shape = input_shape_of(layers[ref[0]]) if given is None else given[number]
            if shape is None:
                raise Unfollowed(f"{name_of(layers[ref[0]])} says no shape")
            self._weigh(layers[ref[0]], Sizes((shape,)))
            made[ref[0], ref[1], ref[2]] = shape
        for name, layer in layers.items():
            for index, node in enumerate(layer.get("inbound_nodes") or ()):
                one = _Node(name, index, layer, arguments(node))
                one.missing = {ref for ref in one.refs if ref not in made}
                for ref in one.missing:
                    waiting[ref].append(one)
                if not one.missing:
                    ready.append(one)
        while ready:
            node = ready.popleft()
            outputs = self._call(node.layer, [made[ref] for ref in node.refs])
            for place, shape in enumerate(outputs):
                ref = (node.name, node.index, place)
                made[ref] = shape
                for other in waiting.pop(ref, ()):
                    other.missing.discard(ref)
                    if not other.missing:
                        ready.append(other)
        if waiting:
            raise Unfollowed("its graph of layers has loose ends")
        # Keras counts the calls of a nested Functional model from 1 among the outputs, elsewhere from 0.
        counted = {
            name for name, layer in layers.items() if layer.get("class_name") == "Functional"
        }
        return [
            made[
                name,
                node - 1 if name in counted and (name, node, place) not in made else node,
                place,
            ]
            for name, node, place in references(inner["output_layers"])
        ]

    def _call(self, layer: Config, shapes: list[Shape]) -> list[Shape]:
        place = name_of(layer)
        if layer.get("class_name") in MODELS:
            if plain_module(layer):
                return self._model(layer, shapes)
            raise Unfollowed(f"{place} is not one of Keras' own models")
        try:
            sizes = rule_of(layer)(layer["config"], shapes)
        except Unfollowed as gap:
            raise Unfollowed(f"{place} has {gap}") from None
        self._weigh(layer, sizes)
        return list(sizes.outputs)

    def _weigh(self, layer: Config, sizes: Sizes) -> None:
        """Add a call to the measure; raise _Enough, with a finding, if a limit is exceeded."""
        found, place = self.measure, name_of(layer)
        found.calls += 1
        if found.calls > MAX_CALLS:
            self._too_much(f"the model calls layers more than {MAX_CALLS:,} times")
        made = FLOAT * max(sizes.work, *(numbers(shape) for shape in sizes.outputs))
        found.results += FLOAT * (sizes.work + sum(map(numbers, sizes.outputs)))
        found.largest = max(found.largest, made)
        found.products += sizes.products
        if made > MAX_TENSOR_BYTES:
            shown = " × ".join("?" if n is None else f"{n:,}" for n in sizes.outputs[0][1:])
            self._too_much(
                f"{place} makes {size(made)} of one image ({shown} numbers); at most "
                f"{size(MAX_TENSOR_BYTES)} is made"
            )
        if found.results > MAX_RESULTS_BYTES:
            self._too_much(
                f"the layers up to {place} make {size(found.results)} of one image; at most "
                f"{size(MAX_RESULTS_BYTES)} is made"
            )
        self._count(layer, sizes, place)

    def _count(self, layer: Config, sizes: Sizes, place: str) -> None:
        """Count the weights of a layer once, however often it is called."""
        before = self._weights.get(id(layer), 0)
        if sizes.parameters <= before:
            return
        self._weights[id(layer)] = sizes.parameters
        self.measure.parameters += sizes.parameters - before
        most, why = MAX_PARAMETERS, ""
        if self._stored is not None:
            stored = SPARE_PARAMETERS + STORED_SHARE * self._stored
            if stored < most:
                most, why = stored, f" in a file that stores {self._stored:,}"
        if self.measure.parameters > most:
            self._too_much(
                f"the layers up to {place} have {self.measure.parameters:,} weights{why}; at most "
                f"{most:,} are made"
            )

    def _too_much(self, finding: str) -> None:
        self.measure.findings.append(finding)
        raise _Enough


@dataclass
class _Node:
    """One call of a layer in a graph."""

    name: str
    index: int
    layer: Config
    refs: list[tuple[Any, Any, Any]]
    missing: set[tuple[Any, Any, Any]] = field(default_factory=set)


def measure(config: Config, stored: int | None = None) -> Measure:
    """Compute the sizes of the model that `config` describes, for one image.

    Parameters
    ----------
    config : the parsed configuration; its nesting is bounded.
    stored : how many numbers the file stores as weights; None if not known.

    Returns
    -------
    The measure. Its `findings` state what is too large; the traversal stops at the first one.
    """
    return Walk(stored).whole(config)


def size(count: float) -> str:
    """Return a number of bytes as text with a unit, B to PiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.3g} PiB"
