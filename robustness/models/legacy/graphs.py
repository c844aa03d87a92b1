"""Converts whole models of Keras 1 and 2, nested ones too: their layers, the calls, and the references.

Keras 2 counts the calls of a nested model from 1, Keras 3 from 0 within a graph and from 1 among its outputs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from robustness.models.legacy.calls import calls_of, key_of, place_of, references_of
from robustness.models.legacy.entries import (
    MODELS,
    Call,
    Config,
    Piece,
    Ref,
    Unconvertible,
    text_of,
)
from robustness.models.legacy.keras1 import modernised
from robustness.models.legacy.layers import layer_pieces
from robustness.models.legacy.operations import OPERATION_LAYERS, operation_piece

_MERGING = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot"}
_FUNCTIONAL = "keras.src.models.functional"


@dataclass
class Converter:
    """Converts the configuration of one model.

    Attributes
    ----------
    keras1 : whether Keras 1 has written it.
    version : the version of Keras that the file states; "" if it states none.
    names : the new name of each layer of the outermost models, by its old one.
    changes : what has been replaced, by the class of the layer.
    """

    keras1: bool = False
    version: str = ""
    names: dict[str, str] = field(default_factory=dict)
    changes: Counter[str] = field(default_factory=Counter)

    def model(self, entry: Config) -> Config:
        """Return a model as Keras 3 stores it.

        Raises
        ------
        Unconvertible
            Part of it has no equal in Keras 3; the message names the layer.
        """
        inner = entry.get("config")
        name = entry.get("name")
        if isinstance(inner, dict):
            name = inner.get("name") or name
        if entry.get("class_name") == "Sequential":
            return self._sequential(inner, _plain(text_of(name or "sequential")))
        if isinstance(inner, dict) and "layers" in inner and "input_layers" in inner:
            return self._functional(inner, _plain(text_of(name or "model")))
        raise Unconvertible(
            f"is a {str(entry.get('class_name'))[:60]!r}, whose layers are known to its code only"
        )

    def _sequential(self, inner: Any, name: str) -> Config:
        entries = inner if isinstance(inner, list) else inner.get("layers")
        if not isinstance(entries, list) or not entries:
            raise Unconvertible("has no layers")
        layers: list[Config] = []
        for place, entry in enumerate(entries):
            if place == 0 and entry.get("class_name") != "InputLayer":
                layers += _input_of(self._modern(entry))
            layers += self._layers(entry)
        _rename_twins(layers)
        config: Config = {"name": name, "layers": layers}
        built = inner.get("build_input_shape") if isinstance(inner, dict) else None
        if isinstance(built, dict):
            built = built.get("items")
        if built is not None:
            config["build_input_shape"] = built
        return _stored_model("keras", "Sequential", config)

    def _layers(self, entry: Config) -> list[Config]:
        """The layers of Keras 3 for one in a Sequential model."""
        if _is_model(entry):
            return [self.model(entry)]
        return [piece.to_config() for piece in self._pieces(entry)]

    def _modern(self, entry: Config) -> Config:
        if self.keras1 and not _is_model(entry) and isinstance(entry.get("config"), dict):
            return modernised(entry)
        return entry

    def _pieces(self, entry: Config) -> list[Piece]:
        place = place_of(entry)
        try:
            modern = self._modern(entry)
            _expect_alike(modern, self.version)
            pieces = layer_pieces(modern)
        except Unconvertible as problem:
            raise Unconvertible(f"{place} {problem}") from None
        for piece in pieces:
            piece.config["name"] = _plain(piece.name)
        old = str(entry["config"].get("name") or entry.get("name"))
        self.names[old] = pieces[0].name
        return pieces

    def _functional(self, inner: Config, name: str) -> Config:
        entries = inner["layers"]
        calls = {key_of(entry): calls_of(entry) for entry in entries}
        if len(calls) < len(entries):
            raise Unconvertible("has layers that share a name")
        inputs, outputs = (
            references_of(inner["input_layers"]),
            references_of(inner["output_layers"]),
        )
        used = [
            ref for several in calls.values() for call in several for ref in call.refs()
        ] + outputs
        shift = _shifts({key_of(entry) for entry in entries if _is_model(entry)}, used)
        ends: dict[str, str] = {}
        made: list[tuple[Config, list[Call]]] = []
        for entry in entries:
            key = key_of(entry)
            if _is_model(entry):
                model = self.model(entry)
                made.append((model, calls[key]))
                ends[key] = model["config"]["name"]
                continue
            pieces = self._called_pieces(entry, calls[key])
            made.append((pieces[0].to_config(), [pieces[0].call] if pieces[0].call else calls[key]))
            for before, piece in pairwise(pieces):
                follow = [Call([Ref(f"\0{before.name}", n)]) for n in range(len(calls[key]))]
                made.append((piece.to_config(), follow))
            ends[key] = pieces[-1].name

        def moved(ref: Ref) -> Ref:
            if ref.layer.startswith("\0"):
                return Ref(ref.layer[1:], ref.node, ref.place)
            if ref.layer not in ends:
                raise Unconvertible(f"refers to a layer {ref.layer[:60]!r} that it does not have")
            return Ref(ends[ref.layer], ref.node - shift.get(ref.layer, 0), ref.place)

        layers = [(entry, [_mapped(call, moved) for call in several]) for entry, several in made]
        ins, outs = [moved(ref) for ref in inputs], [moved(ref) for ref in outputs]
        layers = _joined_scalings(layers, outs)
        counted = {
            entry["config"]["name"] for entry, _ in layers if entry["class_name"] == "Functional"
        }
        config = {
            "name": name,
            "layers": [
                {
                    **entry,
                    "name": entry["config"]["name"],
                    "inbound_nodes": [c.to_config() for c in several],
                }
                for entry, several in layers
            ],
            "input_layers": _listed([[r.layer, r.node, r.place] for r in ins]),
            "output_layers": _listed(
                [[r.layer, r.node + (r.layer in counted), r.place] for r in outs]
            ),
        }
        names = [one["name"] for one in config["layers"]]
        if len(set(names)) < len(names):
            raise Unconvertible("has layers that share a name")
        return _stored_model(_FUNCTIONAL, "Functional", config)

    def _called_pieces(self, entry: Config, calls: list[Call]) -> list[Piece]:
        """The layers of Keras 3 for one in a graph; the first has its call if that is another one."""
        if entry.get("class_name") not in OPERATION_LAYERS:
            pieces = self._pieces(entry)
            if pieces[0].class_name in _MERGING:
                for call in calls:
                    if call.args and isinstance(call.args[0], Ref):
                        call.args[0] = [call.args[0]]
            return pieces
        if len(calls) != 1:
            raise Unconvertible(f"{place_of(entry)} is called {len(calls)} times")
        try:
            piece = operation_piece(entry, calls[0])
        except Unconvertible as problem:
            raise Unconvertible(f"{place_of(entry)} {problem}") from None
        piece.config["name"] = _plain(piece.name)
        self.changes[piece.class_name] += 1
        return [piece]


def _expect_alike(entry: Config, version: str) -> None:
    """Raise Unconvertible for a layer that has computed something else in that version of Keras 2."""
    inner = entry["config"]
    dilated = inner.get("dilation_rate") not in (None, 1, [1], [1, 1])
    if entry.get("class_name") == "SeparableConv2D" and dilated and version.startswith("2.0."):
        raise Unconvertible(f"has a dilation_rate, which Keras {version} ignored in some versions")
    bilinear = (
        inner.get("interpolation") == "bilinear" and entry.get("class_name") == "UpSampling2D"
    )
    if bilinear and version.startswith(("2.2.", "2.3.")) and version != "2.3.0-tf":
        raise Unconvertible(
            f"interpolates, and Keras {version} placed the pixels in another way than Keras 3"
        )


def _plain(name: str) -> str:
    """A name that Keras 3 accepts for a layer."""
    return name.replace("/", "_")


def _is_model(entry: Config) -> bool:
    return entry.get("class_name") in MODELS or (
        isinstance(entry.get("config"), dict) and "input_layers" in entry["config"]
    )


def _stored_model(module: str, class_name: str, config: Config) -> Config:
    return {
        "module": module,
        "class_name": class_name,
        "config": config,
        "registered_name": class_name,
    }


def _input_of(entry: Config) -> list[Config]:
    """The InputLayer that a Sequential model of Keras 1 or 2 leaves out; none if no shape is stated."""
    inner = entry.get("config")
    if _is_model(entry):
        first = _first_layer(entry)
        inner = first.get("config") if first else None
    if not isinstance(inner, dict):
        return []
    shape = inner.get("batch_input_shape") or inner.get("batch_shape")
    if shape is None and isinstance(inner.get("input_shape"), list):
        shape = [None, *inner["input_shape"]]
    if shape is None and type(inner.get("input_dim")) is int and entry.get("class_name") == "Dense":
        shape = [None, inner["input_dim"]]
    if shape is None:
        return []
    source = {"name": f"{_plain(str(inner.get('name')))}_input", "batch_input_shape": shape}
    source["dtype"] = inner.get("dtype") if isinstance(inner.get("dtype"), str) else "float32"
    return [
        piece.to_config() for piece in layer_pieces({"class_name": "InputLayer", "config": source})
    ]


def _first_layer(entry: Config) -> Config | None:
    inner = entry.get("config")
    entries = inner if isinstance(inner, list) else (inner or {}).get("layers")
    if not isinstance(entries, list) or not entries:
        return None
    if isinstance(inner, dict) and "input_layers" in inner:
        wanted = references_of(inner["input_layers"])[0].layer
        return next((one for one in entries if key_of(one) == wanted), None)
    return _first_layer(entries[0]) if _is_model(entries[0]) else entries[0]


def _rename_twins(layers: list[Config]) -> None:
    """Give layers of one name in a Sequential model names of their own."""
    seen: set[str] = set()
    for place, entry in enumerate(layers):
        name = entry["config"]["name"]
        if name in seen:
            entry["config"]["name"] = name = f"{name}_twin_{place}"
        seen.add(name)


def _shifts(models: set[str], used: list[Ref]) -> dict[str, int]:
    """By how much the calls of each nested model are counted from more than 0."""
    lowest: dict[str, int] = {}
    for ref in used:
        if ref.layer in models:
            lowest[ref.layer] = min(ref.node, lowest.get(ref.layer, ref.node))
    return lowest


def _mapped(call: Call, change: Any) -> Call:
    def one(value: Any) -> Any:
        if isinstance(value, Ref):
            return change(value)
        if isinstance(value, list):
            return [one(part) for part in value]
        return {k: one(v) for k, v in value.items()} if isinstance(value, dict) else value

    return Call(one(call.args), one(call.kwargs))


def _listed(refs: list[list[Any]]) -> list[Any]:
    """References as Keras 3 stores them: a single one is not in a list."""
    return refs[0] if len(refs) == 1 else refs


def _joined_scalings(
    layers: list[tuple[Config, list[Call]]], outputs: list[Ref]
) -> list[tuple[Config, list[Call]]]:
    """Join each Rescaling with the one before it, if nothing else uses that one."""
    uses = Counter(ref.layer for _, calls in layers for call in calls for ref in call.refs())
    uses.update(ref.layer for ref in outputs)
    by_name = {entry["config"]["name"]: (entry, calls) for entry, calls in layers}
    gone: set[str] = set()
    for entry, calls in layers:
        if entry["class_name"] != "Rescaling" or len(calls) != 1 or len(calls[0].refs()) != 1:
            continue
        before = calls[0].refs()[0].layer
        first, its_calls = by_name[before]
        if first["class_name"] != "Rescaling" or uses[before] != 1 or len(its_calls) != 1:
            continue
        joined = _composed(first["config"], entry["config"])
        if joined is None:
            continue
        entry["config"] |= joined
        calls[0].args = its_calls[0].args
        gone.add(before)
    return [(entry, calls) for entry, calls in layers if entry["config"]["name"] not in gone]


def _composed(first: Config, second: Config) -> Config | None:
    """Scale and offset of one scaling after another; None if they have different numbers of channels."""
    values = [first["scale"], first["offset"], second["scale"], second["offset"]]
    lengths = {len(one) for one in values if isinstance(one, list)}
    if len(lengths) > 1:
        return None
    count = next(iter(lengths), 0)
    rows = [one if isinstance(one, list) else [one] * max(1, count) for one in values]
    scale = [a * c for a, c in zip(rows[0], rows[2], strict=True)]
    offset = [b * c + d for b, c, d in zip(rows[1], rows[2], rows[3], strict=True)]
    alike = len(set(scale)) == 1
    return {
        "scale": scale[0] if alike else scale,
        "offset": offset[0] if len(set(offset)) == 1 else offset,
    }
