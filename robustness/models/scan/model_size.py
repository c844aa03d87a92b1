"""The sizes a model's configuration declares, followed from its input on before anything is built.

`measure` walks Sequential and Functional configurations, nested ones too, with the rules of
`layer_sizes`. It says what is too large, and what it could not follow, so that this can be tried out
where limits end it. Nothing is imported, no array is made.
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
"""One result of a layer, for one image. VGG16 on 1024 x 1024 pixels makes 256 MiB."""
MAX_RESULTS_BYTES = 64 << 30
"""All results of all layers, for one image. VGG16 on 1024 x 1024 pixels makes 2 GiB."""
MAX_PARAMETERS = 2_000_000_000
"""The largest classifiers of `keras.applications` hold 200 million."""
SPARE_PARAMETERS = 16_000_000
"""So many more than the file stores are allowed, 64 MiB of them."""
STORED_SHARE = 4
"""And so many times what the file stores: quantised weights lie in it packed."""
MAX_CALLS = 20_000
"""Calls of layers in a call of the model. EfficientNetV2L makes 1,000."""
EASY_TENSOR_BYTES, EASY_RESULTS_BYTES = 512 << 20, 8 << 30
EASY_PARAMETERS, EASY_PRODUCTS, EASY_CALLS = 500_000_000, 2_000_000_000_000, 5_000
"""What lies below all of these is loaded without a trial."""


@dataclass
class Measure:
    """What a walk found; bytes and numbers of one call on one image."""

    parameters: int = 0
    results: int = 0
    """Bytes of all results."""
    largest: int = 0
    """Bytes of the largest result."""
    products: int = 0
    calls: int = 0
    findings: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    """What was not followed, each a sentence part that names the place."""

    @property
    def trial(self) -> str:
        """Why the model must be tried out within limits before it is loaded; "" if it need not be."""
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
    """A limit is passed: nothing more need be known."""


class Walk:
    """One walk through a configuration."""

    def __init__(self, stored: int | None) -> None:
        self.measure = Measure()
        self._stored = stored
        self._weights: dict[int, int] = {}

    def whole(self, config: Config) -> Measure:
        """The model that `config` describes, as it is called on one image."""
        # Models are loaded with compile=False, which drops the training configuration unread.
        config = {key: value for key, value in config.items() if key != "compile_config"}
        try:
            expect_known(config)
            self._declared_builds(config)
            self._model(config, None)
        except _Enough:
            pass
        except Unfollowed as gap:
            self.measure.open.append(str(gap))
        # Configurations of strangers may hold anything anywhere.
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
        """Keras makes the weights of a layer for the input shape written beside it, called or not."""
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
        return [made[ref[0], ref[1], ref[2]] for ref in references(inner["output_layers"])]

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
        """Add a call to the measure; _Enough with a finding where it goes beyond a limit."""
        found, place = self.measure, name_of(layer)
        found.calls += 1
        if found.calls > MAX_CALLS:
            self._too_much(f"the model calls layers more than {MAX_CALLS:,} times")
        made = FLOAT * max(sizes.work, *(numbers(shape) for shape in sizes.outputs))
        found.results += FLOAT * (sizes.work + sum(map(numbers, sizes.outputs)))
        found.largest = max(found.largest, made)
        found.products += sizes.products
        if made > MAX_TENSOR_BYTES:
            shown = " x ".join("?" if n is None else f"{n:,}" for n in sizes.outputs[0][1:])
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
        """Weights are made once, however often a layer is called."""
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
    """What the model that `config` describes takes, for one image.

    Parameters
    ----------
    config: the configuration, parsed; its nesting is bounded.
    stored: how many numbers the file holds as weights; None where that is not known.

    Returns
    -------
    The measure. Its `findings` say what is too large; after the first nothing more is followed.
    """
    return Walk(stored).whole(config)


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.3g} PiB"
