"""Reads a scaling that is given by numbers: text of the command line, a table, or a file of statistics.

A scaling turns counts (0..255) into the inputs of a model. The numbers are given in one of two forms::

    mean=0.485/0.456/0.406,std=0.229/0.224/0.225,of=0..1     (count / 255 - mean) / std
    mean=123.7/116.8/103.9,std=58.4/57.1/57.4,of=0..255      (count - mean) / std
    divide=127.5,offset=-1                                   count / 127.5 - 1
    multiply=0.003921568627450980                            count * 0.00392...

`of` says which range mean and std are about; it is never guessed from numbers that were typed. One number is
for all channels, three are for the channels in the order in which the model takes them: `order=BGR` swaps the
channels first, and then the first number is that of blue. No framework is imported here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustness.configuration import choices
from robustness.errors import SettingError
from robustness.files.bounded import parse_json, read_bytes_bounded
from robustness.files.npy import read_npz_arrays
from robustness.text import did_you_mean, shown

KEYS = ("mean", "std", "of", "divide", "multiply", "offset", "order", "file")
RANGES = ("0..1", "0..255")
FORM = (
    "mean=R/G/B,std=R/G/B,of=0..1 (or of=0..255), or divide=NUMBER,offset=NUMBER, or multiply=NUMBER; "
    "order=BGR where the model takes blue first"
)
MAX_FILE_BYTES = 1 << 20
STATISTICS = (".json", ".npz")
"""The suffixes of files that hold a mean and a standard deviation."""
_CHANNELS = {"RGB": ("red", "green", "blue"), "BGR": ("blue", "green", "red")}


@dataclass(frozen=True)
class ScalingNumbers:
    """The conversion ``counts[..., order] * multiply + offset``.

    Attributes
    ----------
    text : the text that `parse_numbers` reads to the same numbers.
    multiply, offset : one number, or one for each channel in the order `order`.
    order : "RGB" or "BGR".
    sentence : a description for reports; it names each channel.
    """

    text: str
    multiply: tuple[float, ...]
    offset: tuple[float, ...]
    order: str
    sentence: str


def plain_text(value: object) -> str:
    """Return the name of a scaling, or the text of its numbers; a file is read here, and nowhere else.

    Parameters
    ----------
    value : a name, a text of numbers, the path of a file of statistics (also ``PATH,of=0..1``), or a table.

    Raises
    ------
    SettingError
        It is none of these, or its numbers are not usable.
    """
    if isinstance(value, Mapping):
        return _of_table(dict(value)).text
    text = str(value).strip()
    if text in choices.SCALINGS:
        return text
    first, _, rest = text.partition(",")
    if "=" not in first and (first.lower().endswith(STATISTICS) or Path(first).is_file()):
        return _of_table({"file": first, **_table(rest)}).text
    return parse_numbers(text, files=True).text


def parse_numbers(text: str, *, files: bool = False) -> ScalingNumbers:
    """Read the numbers of a scaling from a text such as ``divide=255,order=BGR``.

    Parameters
    ----------
    text : the text.
    files : whether the key `file` is read; never for a text that comes from others.

    Raises
    ------
    SettingError
        A key is unknown or missing, or a value is not usable.
    """
    if "=" not in text:
        raise SettingError(
            f"Scaling {text[:100]!r} is not known; expected one of {', '.join(choices.SCALINGS)}, numbers "
            f"({FORM}), or a .json or .npz file with mean and std."
            f"{did_you_mean(text, choices.SCALINGS, cutoff=0.4)}"
        )
    table = _table(text)
    if "file" in table and not files:
        raise SettingError(f"The scaling {text[:100]!r} names a file; expected numbers: {FORM}.")
    return _of_table(table)


def text_of(multiply: Sequence[float], offset: Sequence[float], order: str) -> str:
    """Return the text that `parse_numbers` reads to exactly these numbers."""
    inverse = [round(1 / m, 6) if m else 0.0 for m in multiply]
    short = all(i and 1 / i == m for i, m in zip(inverse, multiply, strict=True))
    parts = {"divide": _joined(inverse)} if short else {"multiply": _joined(multiply)}
    if tuple(offset) != (0.0,):
        parts["offset"] = _joined(offset)
    if order != "RGB":
        parts["order"] = order
    return ",".join(f"{key}={value}" for key, value in parts.items())


def _table(text: str) -> dict[str, Any]:
    """The keys of a text; parts without "=" belong to the key before them (``mean=1,2,3``)."""
    table: dict[str, str] = {}
    key = ""
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if equals:
            key = name.strip().lower()
            if key in table:
                raise SettingError(
                    f"The scaling {text[:100]!r} gives {key} twice; expected it once."
                )
            table[key] = value.strip()
        elif key:
            table[key] += f"/{part}"
        else:
            raise SettingError(f"The scaling {text[:100]!r} begins with {part!r}; expected {FORM}.")
    return table


def _of_table(table: dict[str, Any]) -> ScalingNumbers:
    for key in table:
        if key not in KEYS:
            raise SettingError(
                f"A scaling has no key {str(key)[:60]!r}; it has {', '.join(KEYS)}."
                f"{did_you_mean(str(key), KEYS)}"
            )
    if "file" in table:
        table = _with_file(table)
    order = str(table.get("order", "RGB")).upper()
    if order not in _CHANNELS:
        raise SettingError(f"Channel order {order[:60]!r} is not known; expected RGB or BGR.")
    numbers: dict[str, tuple[float, ...]] = {
        key: _numbers(key, table[key])
        for key in ("mean", "std", "divide", "multiply", "offset")
        if key in table
    }
    if "mean" in numbers or "std" in numbers:
        return _standardised(numbers, table, order)
    if "of" in table:
        raise SettingError(
            "The scaling gives `of`, which says what mean and std are about, and neither of these; expected "
            f"{FORM}."
        )
    if not numbers and "order" not in table:
        raise SettingError(f"The scaling gives no numbers; expected {FORM}.")
    if "multiply" in numbers and "divide" in numbers:
        raise SettingError("The scaling gives both multiply and divide; expected one of them.")
    if 0.0 in numbers.get("divide", ()) or 0.0 in numbers.get("multiply", ()):
        raise SettingError("The scaling divides or multiplies by 0; expected other numbers.")
    multiply = numbers.get("multiply") or tuple(1 / n for n in numbers.get("divide", (1.0,)))
    offset = numbers.get("offset", (0.0,))
    text = ",".join(
        f"{key}={_joined(value)}" for key, value in (numbers or {"multiply": multiply}).items()
    )
    sign = "*" if "multiply" in numbers else "/"
    factors = numbers.get("multiply") or numbers.get("divide", (1.0,))
    said = [
        f"count{_term(sign, factor, 1)}{_term('+', plus, 0)}"
        for factor, plus in _rows(factors, offset)
    ]
    return _made(text, (multiply, offset), order, said)


def _standardised(
    numbers: Mapping[str, tuple[float, ...]], table: Mapping[str, Any], order: str
) -> ScalingNumbers:
    """The scaling of a mean and a standard deviation."""
    if extra := [key for key in ("divide", "multiply", "offset") if key in numbers]:
        raise SettingError(
            f"The scaling gives mean or std and also {', '.join(extra)}; expected one form: {FORM}."
        )
    mean, std = numbers.get("mean", (0.0,)), numbers.get("std", (1.0,))
    of = str(table.get("of", ""))
    if of not in RANGES:
        given = f"{of[:60]!r}" if of else "missing"
        raise SettingError(
            f"`of` of the scaling is {given}; expected of=0..1 if mean and std are those of inputs divided "
            "by 255, of=0..255 if they are in counts."
        )
    if min(std) <= 0:
        raise SettingError(f"std of the scaling is {_joined(std)}; expected numbers above 0.")
    _expect_units(mean, std, of)
    unit = 255.0 if of == "0..1" else 1.0
    pairs = _rows(mean, std)
    multiply = tuple(1 / (unit * s) for _, s in pairs)
    offset = tuple(-m / s for m, s in pairs)
    value = "count / 255" if of == "0..1" else "count"
    said = [f"({value} - {_short(m)}) / {_short(s)}" for m, s in pairs]
    text = f"mean={_joined(mean)},std={_joined(std)},of={of}"
    return _made(text, (multiply, offset), order, said)


def _expect_units(mean: Sequence[float], std: Sequence[float], of: str) -> None:
    """SettingError for a mean or std that the range it is said to be about cannot have."""
    largest = max(map(abs, mean))
    if of == "0..1" and (largest > 1 or max(std) > 1):
        raise SettingError(
            f"The scaling says that mean {_joined(mean)} and std {_joined(std)} are of inputs from 0 to 1, "
            "which have none above 1. Expected of=0..255 if they are in counts."
        )
    if of == "0..255" and 0 < largest <= 1 and max(std) <= 1:
        raise SettingError(
            f"The scaling says that mean {_joined(mean)} and std {_joined(std)} are in counts, 0..255: all "
            "images would be black. Expected of=0..1 if they are of inputs from 0 to 1."
        )


def _made(
    text: str, numbers: tuple[tuple[float, ...], tuple[float, ...]], order: str, said: list[str]
) -> ScalingNumbers:
    multiply, offset = numbers
    if len(multiply) != len(offset) and 1 not in (len(multiply), len(offset)):
        raise SettingError(
            "The scaling has other numbers of channels in its parts; expected 1 or 3."
        )
    if order == "BGR":
        text += ",order=BGR"
    named = zip(_CHANNELS[order], said, strict=False)
    parts = said[:1] if len(said) == 1 else [f"{name}: {words}" for name, words in named]
    swapped = "Channels are swapped to BGR; each" if order == "BGR" else "Each"
    return ScalingNumbers(text, multiply, offset, order, f"{swapped} input is {'; '.join(parts)}.")


def _rows(first: Sequence[float], second: Sequence[float]) -> list[tuple[float, float]]:
    """Pairs of numbers, one for each channel; a single number is that of every channel."""
    count = max(len(first), len(second))
    wide = [tuple(one) * count if len(one) == 1 else tuple(one) for one in (first, second)]
    return list(zip(*wide, strict=True))


def _numbers(key: str, value: Any) -> tuple[float, ...]:
    """One or three finite numbers of a text, a number or a list."""
    if isinstance(value, str):
        parts: list[Any] = value.strip("[]() ").replace("[", "").replace("]", "").split("/")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        parts = [value]
    elif isinstance(value, Iterable):
        parts = list(value)
    else:
        parts = [value]
    try:
        numbers = tuple(float(part) for part in parts[:4] if not isinstance(part, bool))
    except (TypeError, ValueError):
        numbers = ()
    if len(parts) == 2 and len(numbers) == 2 and isinstance(value, str) and numbers[1]:
        raise SettingError(
            f"{key}={value[:60]} of the scaling has two numbers; expected one, or three for the channels. If "
            f"a quotient is meant, write {key}={numbers[0] / numbers[1]!r}."
        )
    if (
        len(parts) not in (1, 3)
        or len(numbers) != len(parts)
        or not all(map(math.isfinite, numbers))
    ):
        raise SettingError(
            f"{key} of the scaling is {shown(value, 60)}; expected one finite number, or three, such as "
            f"{key}=0.5/0.5/0.5."
        )
    return numbers


def _joined(numbers: Sequence[float]) -> str:
    return "/".join(
        str(int(n)) if n.is_integer() and abs(n) < 1e9 else repr(n) for n in map(float, numbers)
    )


def _short(number: float) -> str:
    return f"{number:.6g}"


def _term(sign: str, number: float, neutral: float) -> str:
    """An operation such as " / 255"; "" if it changes nothing."""
    if number == neutral:
        return ""
    if sign == "+" and number < 0:
        sign, number = "-", -number
    return f" {sign} {_short(number)}"


def _with_file(table: dict[str, Any]) -> dict[str, Any]:
    """The table with the mean and std of its file; what the table itself says comes first."""
    path = Path(str(table.pop("file"))).expanduser()
    found = _statistics(path)
    for key in ("mean", "std"):
        if key in table:
            raise SettingError(
                f"The scaling gives {key} and a file, {path.name}; expected one of them."
            )
        table[key] = found[key]
    for key in ("of", "order"):
        if key in found:
            table.setdefault(key, found[key])
    mean, std = _numbers("mean", table["mean"]), _numbers("std", table["std"])
    if "of" not in table and max(mean) > 1:
        table["of"] = "0..255"  # the mean of inputs from 0 to 1 is at most 1
    elif "of" not in table and min(mean) > 0 and 0 < max(std) <= 0.5:
        table["of"] = "0..1"  # a set of images with a mean below 1 count would be black
    if "of" not in table:
        raise SettingError(
            f"{path.name} has the mean {_joined(mean)} and std {_joined(std)} and does not say of which "
            f"range; write {path},of=0..1 or {path},of=0..255."
        )
    return table


def _statistics(path: Path) -> dict[str, Any]:
    """Mean, std, and maybe `of` and `order`, of a JSON or .npz file."""
    wanted = "expected a .json or .npz file with `mean` and `std`, one number or three each"
    try:
        if path.suffix.lower() == ".npz":
            content: Any = {
                name: one.tolist() for name, one in read_npz_arrays(path, MAX_FILE_BYTES).items()
            }
        else:
            content = parse_json(read_bytes_bounded(path, MAX_FILE_BYTES), max_values=1000)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(f"{path} cannot be read ({reason}); {wanted}.") from None
    if not isinstance(content, Mapping):
        raise SettingError(f"{path} holds {type(content).__name__}; {wanted}.")
    found = {str(key).lower(): value for key, value in content.items()}
    for other in ("var", "variance"):
        if "std" not in found and other in found:
            found["std"] = np.sqrt(np.asarray(found[other], "float64")).ravel().tolist()
    if "range" in found:
        found.setdefault("of", found["range"])
    if missing := [key for key in ("mean", "std") if key not in found]:
        raise SettingError(
            f"{path} has no {' and no '.join(missing)} (it has {', '.join(list(found)[:12]) or 'nothing'}); "
            f"{wanted}."
        )
    return {key: _flat(found[key]) for key in ("mean", "std", "of", "order") if key in found}


def _flat(value: Any) -> Any:
    """A list of numbers without its outer lists: statistics are kept as (1, 1, 3), too."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value
