"""Named pipelines: their names, their keys, and the conventions that these describe.

``NAME``, or ``NAME:KEY=VALUE,...``; a first value without a key is the interpolation. Keys of a scaling
(mean, std, of, ...) may follow. No framework is imported before a picture is processed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from robustness.configuration.scaling_text import KEYS as _SCALING_KEYS
from robustness.configuration.scaling_text import parse_numbers
from robustness.errors import SettingError
from robustness.pipeline.conventions import (
    keras_layers,
    keras_utils,
    opencv,
    pillow,
    tensorflow_image,
    torchvision,
)
from robustness.pipeline.keys import Choice, Counts, Flag, Key, Sizes, read_values, write_values
from robustness.pipeline.preprocessing import LinearConvention
from robustness.text import did_you_mean, shown

SCALING_KEYS = tuple(key for key in _SCALING_KEYS if key != "file")
_SYNONYMS = ("method", "filter", "resample")  # of interpolation, as libraries name it
_NOT_CROPPED = ("gaussian", "mitchellcubic")
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Named:
    """A named pipeline.

    Attributes
    ----------
    code : the code that runs, for tables and messages.
    keys : what may be stated; the first is the interpolation.
    build : makes the convention of a text and values.
    needs : the module and what installs it; "" if the toolkit depends on it.
    scaling_of : the range that mean and std are about where the text does not state it.
    """

    code: str
    keys: Mapping[str, Key]
    build: Callable[[str, Values], LinearConvention]
    needs: tuple[str, str] = ("", "")
    scaling_of: str = ""


@dataclass(frozen=True)
class Parsed:
    """What a text says.

    Attributes
    ----------
    convention : decoding, resizing, cropping and padding.
    scaling : the text of the scaling (`robustness.configuration.scaling_text`); None if it states none.
    """

    convention: LinearConvention
    scaling: str | None = None


def parse_pipeline(text: str) -> Parsed:
    """Read a named pipeline such as ``torchvision:resize=256,crop=224``.

    Parameters
    ----------
    text : NAME, or NAME:KEY=VALUE,...

    Raises
    ------
    SettingError
        The name, a key or a value is not known, two contradict each other, or a library is not installed.
    """
    stated, _, rest = text.strip().partition(":")
    name = _ALIASES.get(stated.strip().lower(), stated.strip())
    if name not in CONVENTIONS:
        raise SettingError(
            f"The pipeline {shown(stated, 60)} is not known; expected one of {', '.join(CONVENTIONS)}."
            f"{did_you_mean(stated, [*CONVENTIONS, *_ALIASES])}"
        )
    named = CONVENTIONS[name]
    given = _table(name, rest)
    scaling = _scaling(named, {key: given.pop(key) for key in SCALING_KEYS if key in given})
    values = read_values(name, named.keys, given)
    _expect_agreement(name, values)
    _expect_installed(name, named, values)
    return Parsed(named.build(write_values(name, named.keys, values), values), scaling)


def _table(name: str, text: str) -> dict[str, str]:
    """The keys of a text; numbers without "=" belong to the key of a scaling before them."""
    table: dict[str, str] = {}
    last = ""
    for number, part in enumerate(part.strip() for part in text.split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals and last in SCALING_KEYS and part:
            table[last] += f"/{part}"
            continue
        if not equals:
            if number or not part:
                if part or text.strip():
                    raise SettingError(
                        f"The pipeline {name} is followed by {shown(part, 60)}; expected KEY=VALUE."
                    )
                continue
            key, value = "interpolation", part
        last = key.lower()
        last = "interpolation" if last in _SYNONYMS else last
        if last in table:
            raise SettingError(f"The pipeline {name} states {last} twice; expected it once.")
        table[last] = value
    return table


def _scaling(named: Named, table: dict[str, str]) -> str | None:
    """The text of a scaling, checked."""
    if not table:
        return None
    if named.scaling_of and "of" not in table and ("mean" in table or "std" in table):
        table["of"] = named.scaling_of
    return parse_numbers(",".join(f"{key}={value}" for key, value in table.items())).text


def _expect_agreement(name: str, values: Values) -> None:
    """SettingError for keys that contradict each other."""
    if values.get("crop_to_aspect_ratio") and values.get("pad_to_aspect_ratio"):
        raise SettingError(
            f"The pipeline {name} states crop_to_aspect_ratio and pad_to_aspect_ratio; expected one of them."
        )
    if name == "keras_hub" and values["pad_to_aspect_ratio"] and values["dtype"] == "uint8":
        raise SettingError(
            "The pipeline keras_hub states pad_to_aspect_ratio and dtype=uint8, which fails in Keras; "
            "expected one of them."
        )
    if values.get("crop_to_aspect_ratio") and values["interpolation"] in _NOT_CROPPED:
        raise SettingError(
            f"The pipeline {name} states crop_to_aspect_ratio, which Keras does not do with "
            f"{values['interpolation']}; expected another interpolation."
        )
    if values.get("pad") is not None and (values["resize"] or values["crop"]):
        raise SettingError(
            f"The pipeline {name} states pad, and resize or crop; expected pad alone: it resizes to the "
            "model's size with the aspect ratio kept."
        )
    if values.get("crop") == "aspect" and values["resize"]:
        raise SettingError(
            f"The pipeline {name} states resize and crop=aspect, which resizes to the model's size; expected "
            "one of them."
        )
    if isinstance(values.get("resize"), int) and values["crop"] is None:
        side = values["resize"]
        raise SettingError(
            f"resize={side} of the pipeline {name} gives pictures of other sizes: it sets the short side "
            f"only. Add crop=N, or resize={side}x{side} if pictures are squashed."
        )


def _expect_installed(name: str, named: Named, values: Values) -> None:
    module, install = named.needs
    if values.get("kind", "pil") != "pil":
        module, install = "torchvision", "torchvision"
        if values["interpolation"] not in torchvision.TENSOR_INTERPOLATIONS:
            raise SettingError(
                f"interpolation of the pipeline torchvision is {values['interpolation']}, which tensors do "
                f"not have; expected one of {', '.join(torchvision.TENSOR_INTERPOLATIONS)}, or kind=pil."
            )
    elif values.get("antialias") is False and name == "torchvision":
        raise SettingError(
            "The pipeline torchvision states antialias=false, which Pillow images do not have; expected "
            "kind=tensor beside it."
        )
    if values.get("kind", "pil") != "pil" and find_spec(module) is not None:
        _import_before_tensorflow(module)
    if module and find_spec(module) is None:
        raise SettingError(
            f"The pipeline {name} runs {named.code}, and {module} is not installed. Install it: "
            f"pip install {install}"
        )


def _import_before_tensorflow(module: str) -> None:
    """Import torchvision now: PyTorch's CUDA build crashes if TensorFlow is imported first."""
    if module in sys.modules:
        return
    if "tensorflow" in sys.modules and find_spec("triton") is not None:
        raise SettingError(
            f"The pipeline {module} with tensors came after TensorFlow was imported, where the installed "
            f"build of PyTorch crashes. Write `import {module}` before everything else, or install PyTorch's "
            "CPU build."
        )
    import_module(module)


def _interpolation(names: tuple[str, ...], default: str) -> Key:
    return Key(Choice(names), default)


def _cropping() -> dict[str, Key]:
    """The keys of code that users write around a resize."""
    return {
        "resize": Key(Sizes(square=False)),
        "crop": Key(Sizes(square=True, words=("aspect",))),
        "pad": Key(Counts()),
        "orientation": Key(Choice(("apply", "ignore")), "apply"),
    }


def _with_orientation(
    build: Callable[..., LinearConvention],
) -> Callable[[str, Values], LinearConvention]:
    def built(text: str, values: Values) -> LinearConvention:
        others = {key: value for key, value in values.items() if key != "orientation"}
        return build(text=text, oriented=values["orientation"] == "apply", **others)

    return built


def _dataset(text: str, values: Values) -> LinearConvention:
    aspect = "crop" if values["crop_to_aspect_ratio"] else "squash"
    aspect = "pad" if values["pad_to_aspect_ratio"] else aspect
    return tensorflow_image.TensorFlowConvention(text, values["interpolation"], aspect=aspect)


def _torchvision(text: str, values: Values) -> LinearConvention:
    sides = torchvision.TorchvisionSides(values["resize"], values["crop"])
    if values["kind"] == "pil":
        return torchvision.PilConvention(text, values["interpolation"], sides)
    return torchvision.TensorConvention(
        text,
        values["interpolation"],
        sides,
        antialias=values["antialias"],
        first_version=values["kind"] == "tensor-v1",
    )


def _resizing(text: str, values: Values) -> LinearConvention:
    return keras_layers.ResizingConvention(
        text=text,
        fill=values.get("fill_value", 0.0),
        **{key: value for key, value in values.items() if key != "fill_value"},
    )


_DECODER = Choice(("tensorflow", "pillow"))
_ASPECT = {"crop_to_aspect_ratio": Key(Flag(), False), "pad_to_aspect_ratio": Key(Flag(), False)}

CONVENTIONS: dict[str, Named] = {
    "pillow": Named(
        "PIL.Image.resize",
        {"interpolation": _interpolation(pillow.FILTERS, "bilinear"), **_cropping()},
        _with_orientation(pillow.PillowConvention),
    ),
    "keras.load_img": Named(
        "keras.utils.load_img",
        {
            "interpolation": _interpolation(keras_utils.FILTERS, "nearest"),
            "keep_aspect_ratio": Key(Flag(), False),
        },
        lambda text, values: keras_utils.LoadImage(text=text, **values),
    ),
    "keras.image_dataset_from_directory": Named(
        "keras.utils.image_dataset_from_directory",
        {
            "interpolation": _interpolation(tensorflow_image.METHODS, "bilinear"),
            **_ASPECT,
        },
        _dataset,
    ),
    "tf.image.resize": Named(
        "tf.image.resize",
        {
            "interpolation": _interpolation(tensorflow_image.METHODS, "bilinear"),
            "antialias": Key(Flag(), False),
            "decoder": Key(_DECODER, "tensorflow"),
        },
        lambda text, values: tensorflow_image.TensorFlowConvention(text=text, **values),
    ),
    "tf.image.resize_with_pad": Named(
        "tf.image.resize_with_pad",
        {
            "interpolation": _interpolation(tensorflow_image.METHODS, "bilinear"),
            "antialias": Key(Flag(), False),
            "decoder": Key(_DECODER, "tensorflow"),
        },
        lambda text, values: tensorflow_image.TensorFlowConvention(
            text=text, aspect="pad", **values
        ),
    ),
    "keras.layers.Resizing": Named(
        "keras.layers.Resizing",
        {
            "interpolation": _interpolation(keras_layers.INTERPOLATIONS, "bilinear"),
            **_ASPECT,
            "fill_value": Key(Counts(whole=False), 0.0),
            "antialias": Key(Flag(), False),
            "dtype": Key(Choice(("float32", "uint8")), "float32"),
            "decoder": Key(_DECODER, "tensorflow"),
        },
        _resizing,
    ),
    "keras.layers.CenterCrop": Named(
        "keras.layers.CenterCrop",
        {
            "interpolation": _interpolation(("bilinear",), "bilinear"),
            "decoder": Key(_DECODER, "tensorflow"),
        },
        lambda text, values: keras_layers.CenterCropConvention(text=text, **values),
    ),
    "keras_hub": Named(
        "keras_hub.layers.ImageConverter",
        {
            "interpolation": _interpolation(keras_layers.INTERPOLATIONS, "bilinear"),
            "crop_to_aspect_ratio": Key(Flag(), True),
            "pad_to_aspect_ratio": Key(Flag(), False),
            "antialias": Key(Flag(), False),
            "dtype": Key(Choice(("float32", "uint8")), "float32"),
            "decoder": Key(_DECODER, "pillow"),
        },
        _resizing,
    ),
    "torchvision": Named(
        "torchvision.transforms",
        {
            "interpolation": _interpolation(torchvision.PIL_INTERPOLATIONS, "bilinear"),
            "resize": Key(Sizes(square=False)),
            "crop": Key(Sizes(square=True)),
            "kind": Key(Choice(("pil", "tensor", "tensor-v1")), "pil"),
            "antialias": Key(Flag(), True),
        },
        _torchvision,
        scaling_of="0..1",
    ),
    "opencv": Named(
        "cv2.resize",
        {"interpolation": _interpolation(tuple(opencv.FLAGS), "linear"), **_cropping()},
        _with_orientation(opencv.OpenCvConvention),
        needs=("cv2", "'robustness-toolkit[opencv]' (or opencv-python-headless)"),
    ),
}
"""Every named pipeline."""

_ALIASES = {
    "pil": "pillow",
    "keras.utils.load_img": "keras.load_img",
    "load_img": "keras.load_img",
    "keras.utils.image_dataset_from_directory": "keras.image_dataset_from_directory",
    "image_dataset_from_directory": "keras.image_dataset_from_directory",
    "keras.resizing": "keras.layers.Resizing",
    "keras.layers.resizing": "keras.layers.Resizing",
    "keras.layers.centercrop": "keras.layers.CenterCrop",
    "keras-hub": "keras_hub",
    "cv2": "opencv",
    "cv2.resize": "opencv",
}
"""Further spellings, in lower case."""
