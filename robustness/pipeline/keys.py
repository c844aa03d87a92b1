"""Keys of named pipelines: what each may be, read from text and written again. Imports no framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from robustness.errors import SettingError
from robustness.images.png import MAX_SIDE
from robustness.text import did_you_mean, shown

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Kind(Protocol):
    """What a key may be."""

    def read(self, text: str) -> Any:
        """Return the value; ValueError with what was expected."""

    def write(self, value: Any) -> str:
        """Return the text that `read` reads to `value`."""


@dataclass(frozen=True)
class Choice:
    """One of some names."""

    names: tuple[str, ...]

    def read(self, text: str) -> str:
        """Return the name."""
        if text.lower() not in self.names:
            raise ValueError(f"one of {', '.join(self.names)}.{did_you_mean(text, self.names)}")
        return text.lower()

    def write(self, value: Any) -> str:
        """Return the name."""
        return str(value)


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def read(self, text: str) -> bool:
        """Return the truth value."""
        if text.lower() not in _FLAGS:
            raise ValueError("true or false.")
        return _FLAGS[text.lower()]

    def write(self, value: Any) -> str:
        """Return true or false."""
        return "true" if value else "false"


@dataclass(frozen=True)
class Counts:
    """A number of counts, 0..255."""

    whole: bool = True

    def read(self, text: str) -> float:
        """Return the number."""
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 255 or (self.whole and number != int(number)):
            raise ValueError(f"{'whole ' if self.whole else ''}counts from 0 to 255.")
        return number

    def write(self, value: Any) -> str:
        """Return the number."""
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)


@dataclass(frozen=True)
class Sizes:
    """A length in pixels, or HEIGHTxWIDTH.

    Attributes
    ----------
    square : whether one number is a square (height, width); otherwise it is the short side.
    words : names that are allowed as well.
    """

    square: bool
    words: tuple[str, ...] = ()

    def read(self, text: str) -> int | tuple[int, int] | str:
        """Return the length, (height, width), or the word."""
        if text.lower() in self.words:
            return text.lower()
        parts = text.lower().split("x")
        if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
            raise ValueError(self._form())
        numbers = [int(part[:9]) for part in parts]
        if not all(1 <= number <= MAX_SIDE for number in numbers):
            raise ValueError(self._form())
        if len(numbers) == 2:
            return numbers[0], numbers[1]
        return (numbers[0], numbers[0]) if self.square else numbers[0]

    def write(self, value: Any) -> str:
        """Return the text."""
        if isinstance(value, tuple):
            both = self.square and value[0] == value[1]
            return str(value[0]) if both else f"{value[0]}x{value[1]}"
        return str(value)

    def _form(self) -> str:
        words = "".join(f", or {word}" for word in self.words)
        return f"pixels such as 224, or HEIGHTxWIDTH{words}."


@dataclass(frozen=True)
class Key:
    """A key of a pipeline.

    Attributes
    ----------
    kind : what it may be.
    default : its value where it is not given.
    """

    kind: Kind
    default: Any = None


def read_values(name: str, keys: Mapping[str, Key], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of every key of the pipeline `name`.

    Raises
    ------
    SettingError
        A key is unknown, or a value is not possible.
    """
    values = {key: one.default for key, one in keys.items()}
    for key, text in given.items():
        if key not in keys:
            raise SettingError(
                f"The pipeline {name} has no key {shown(key, 60)}; it has {', '.join(keys)}, and those of a "
                f"scaling (mean, std, ...).{did_you_mean(key, keys)}"
            )
        try:
            values[key] = keys[key].kind.read(text)
        except ValueError as error:
            raise SettingError(
                f"{key} of the pipeline {name} is {shown(text, 60)}; expected {error}"
            ) from None
    return values


def write_values(name: str, keys: Mapping[str, Key], values: Mapping[str, Any]) -> str:
    """Return the canonical text: the first key always, of the others what is not the default."""
    first, *others = keys
    parts = [keys[first].kind.write(values[first])]
    parts += [
        f"{key}={keys[key].kind.write(values[key])}"
        for key in others
        if values[key] != keys[key].default
    ]
    return f"{name}:{','.join(parts)}"
