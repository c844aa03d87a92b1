"""Options of an audit about the head, the inputs and the code of a model, and the texts of their values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from robustness.configuration import choices
from robustness.configuration.option import Option
from robustness.configuration.option_errors import UnexpectedValueError

MAX_SIDE = 1 << 14
"""Largest height or width of an image, in pixels."""
SIZE_EXPECTED = "a size as HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS, such as 224x224 or 28x28x1"
CONSTANT_EXPECTED = "NAME=NUMBER, such as age=0"


def size_text(value: object) -> object:
    """Return a size as text, such as ``28x28x1``, from a text or a sequence of two or three numbers.

    Raises
    ------
    UnexpectedValueError
        It is no size, or a side is out of range.
    """
    if value is None:
        return None
    numbers = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value
    text = "x".join(map(str, numbers)) if isinstance(numbers, list) else str(value).strip()
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})(?:[xX×]([1-4]))?", text)
    sides = [int(part) for part in match.groups() if part] if match else []
    if not sides or not all(1 <= side <= MAX_SIDE for side in sides):
        raise UnexpectedValueError(SIZE_EXPECTED)
    return "x".join(map(str, sides))


def parse_size(text: str) -> tuple[int, ...]:
    """Return the numbers of a size that `size_text` wrote: height, width, and channels if given."""
    return tuple(int(part) for part in text.split("x"))


def constant_texts(value: object) -> object:
    """Return constants as texts ``NAME=NUMBER``, from such texts or a table of numbers by name.

    Raises
    ------
    UnexpectedValueError
        One has no name, no finite number, or the name of another.
    """
    if isinstance(value, Mapping):
        value = [f"{name}={number}" for name, number in value.items()]
    texts = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    if len(parse_constants(texts)) < len(texts):
        raise UnexpectedValueError(CONSTANT_EXPECTED, hint=" A name was given twice.")
    return texts


def parse_constants(texts: Iterable[object]) -> dict[str, float]:
    """Return the numbers of constants by the names of their inputs; UnexpectedValueError if one is none."""
    numbers: dict[str, float] = {}
    for text in texts:
        name, sign, number = str(text).rpartition("=")
        try:
            numbers[name.strip()] = float(number)
        except ValueError:
            raise UnexpectedValueError(CONSTANT_EXPECTED) from None
        if not sign or not name.strip() or not math.isfinite(numbers[name.strip()]):
            raise UnexpectedValueError(CONSTANT_EXPECTED)
    return numbers


def _number_or_name(value: object) -> object:
    """A number as text; anything else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _listed(value: object) -> object:
    """A single text as a list of one."""
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        return tuple(map(str, value))
    return (value,)


_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}

HeadOption = Annotated[
    str | None,
    Option(
        "What the model's outputs are: softmax, logits, sigmoid (one unit), sigmoid-logit (one unit "
        "without activation), sigmoid-argmax (several sigmoid units, one class per image: the largest "
        "input of a sigmoid) or multi-label (several sigmoid units, several labels per image: a flip "
        "changes any of them); found in the model, or by its answers to labelled images, if not given.",
        table="model", choices=choices.HEADS, example='"sigmoid-argmax"',
    ),
]  # fmt: skip

OutputOption = Annotated[
    str | None,
    BeforeValidator(_number_or_name),
    WithJsonSchema({"type": ["string", "integer"]}),
    Option(
        "The output that is audited, by name or number from 0, of a model that has several.",
        table="model", example='"class"', expected="the name or the number of an output",
    ),
]  # fmt: skip

InputSizeOption = Annotated[
    str | None,
    BeforeValidator(size_text),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": {"type": "integer"}}]}),
    Option(
        "The size of the images, as HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS, for a model that takes any "
        "size, or rows of numbers (28x28x1 for 784). With 4 channels images keep their own "
        "transparency, which attacks change like a colour.",
        table="model", example='"224x224"', expected=SIZE_EXPECTED,
    ),
]  # fmt: skip

ImageInputOption = Annotated[
    str | None,
    BeforeValidator(_number_or_name),
    WithJsonSchema({"type": ["string", "integer"]}),
    Option(
        "The input that takes the image, by name or number from 0, of a model that has several.",
        table="model", example='"image"', expected="the name or the number of an input",
    ),
]  # fmt: skip

ConstantsOption = Annotated[
    tuple[str, ...],
    BeforeValidator(constant_texts),
    WithJsonSchema({"anyOf": [{"type": "object", "additionalProperties": {"type": "number"}},
                              _TEXTS]}),
    Option(
        "The number that every value of another input than the image has, as NAME=NUMBER; repeat it "
        "for several.",
        table="model", flag="constant", repeated=True, example="{ age = 0 }",
        expected=CONSTANT_EXPECTED,
    ),
]  # fmt: skip

ImportsOption = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed),
    Option(
        "A Python file, or the name of a module in the current folder (in audit.toml: beside that file) "
        "or installed, that defines own layers of the model; it is run, which needs --trust-model in the "
        "same command. Repeat it for several.",
        table="model", flag="import", repeated=True, example='["my_layers"]', path=True, suffix=".py",
        expected='files or modules such as ["my_layers"]',
    ),
]  # fmt: skip
