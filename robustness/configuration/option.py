"""Describes how a configuration field appears on the command line, in audit.toml and in the docs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from keyword import iskeyword
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
"""The types of options, and their names in error messages."""


@dataclass(frozen=True)
class Option:
    """The properties of an option besides its type, range and default.

    Parameters
    ----------
    help : one or two sentences, for `--help`, `robustness init` and the reference page.
    table, key : table of audit.toml and key in it; without a table the option is not in the file.
    flag, short : option of the command line without its hyphens, and its letter.
    choices : the allowed texts, if they can be listed.
    further : returns the texts that packages and scripts add to `choices`.
    expected : what an error message about the value says after "expected".
    example : the TOML value that `robustness init` shows; the default if it is empty.
    active : whether `robustness init` writes the key itself rather than as a comment.
    path : whether a value in audit.toml is looked for beside that file first.
    suffix : that of the files, where a value may be their name without it.
    repeated : whether the command line takes the option several times.
    tables : whether audit.toml takes a table in place of a text.
    """

    help: str
    table: str = ""
    key: str = ""
    flag: str = ""
    short: str = ""
    choices: tuple[str, ...] = ()
    further: Callable[[], Iterable[str]] | None = None
    expected: str = ""
    example: str = ""
    active: bool = False
    path: bool = False
    suffix: str = ""
    repeated: bool = False
    tables: bool = False


@dataclass(frozen=True)
class OptionField:
    """A field of a pydantic model together with its `Option`."""

    name: str
    field: FieldInfo
    option: Option

    @property
    def flag(self) -> str:
        """The option of the command line, such as `--batch-size`."""
        return f"--{self.option.flag or self.name.replace('_', '-')}"

    @property
    def argument(self) -> str:
        """The name of the command's argument, which is also the key in `run.json`."""
        argument = self.flag.removeprefix("--").replace("-", "_")
        return self.name if iskeyword(argument) else argument

    @property
    def key(self) -> str:
        """The key in its table of audit.toml."""
        return self.option.key or self.name

    @property
    def place(self) -> str:
        """The key with its table, such as `images.limit`; "" if it is not in the file."""
        table = self.option.table
        return (
            table
            if self.option.repeated and table == self.name
            else f"{table}.{self.key}" * bool(table)
        )

    @property
    def default(self) -> Any:
        """The default value."""
        return self.field.get_default()

    @property
    def optional(self) -> bool:
        """Whether None is a value, which means that the audit decides."""
        return self.default is None

    @property
    def kind(self) -> type:
        """How the command line parses one value: `bool`, `int`, `float` or `str`."""
        annotation = self.field.annotation
        if get_origin(annotation) in (Union, UnionType):
            first = next(part for part in get_args(annotation) if part is not NoneType)
        else:
            first = annotation
        return first if first in (bool, int, float) else str

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The smallest and the largest value, None for no limit."""
        limits: dict[str, float] = {}
        for rule in self.field.metadata:
            for side in ("ge", "le"):
                if getattr(rule, side, None) is not None:
                    limits[side] = getattr(rule, side)
        return limits.get("ge"), limits.get("le")

    @property
    def expected(self) -> str:
        """The allowed values in words."""
        if self.option.expected:
            return self.option.expected
        if self.option.choices:
            return f"one of {', '.join(map(repr, self.option.choices))}"
        low, high = self.limits
        words = TYPES[self.kind]
        if low is not None and high is not None:
            return f"{words} from {low:,} to {high:,}"
        return words if low is None else f"{words} of at least {low:,}"


def option_fields(model: type[BaseModel]) -> dict[str, OptionField]:
    """Return the fields of `model` that have an `Option`, by name, in order of declaration."""
    fields = {}
    for name, field in model.model_fields.items():
        for part in field.metadata:
            if isinstance(part, Option):
                fields[name] = OptionField(name, field, part)
    return fields
