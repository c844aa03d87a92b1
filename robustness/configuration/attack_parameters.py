"""Declares and checks the parameters of attacks: dataclass fields with a meaning and a range."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from robustness.errors import SettingError
from robustness.text import did_you_mean


@dataclass(frozen=True)
class Setting:
    """The meaning of a parameter and its values.

    Parameters
    ----------
    meaning : description of the parameter, for tables.
    low, high : range of a number, both ends included; None for no limit.
    choices : the allowed texts, if they can be listed.
    automatic : what None means; empty if None is not allowed.
    words : the range in words, for a value that is not a number and that the attack checks itself.
    """

    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    automatic: str = ""
    words: str = ""

    def span(self) -> str:
        """Return the allowed values in words."""
        if self.choices or self.words:
            return self.words or " | ".join(self.choices)
        low = "-inf" if self.low is None else f"{self.low:g}"
        high = "inf" if self.high is None else f"{self.high:g}"
        return f"{low} .. {high}"


def setting(default: Any, meaning: str, **limits: Any) -> Any:
    """Return a dataclass field with a `Setting`.

    Parameters
    ----------
    default : default value.
    meaning : description of the parameter.
    **limits : `low`, `high`, `choices`, `automatic` and `words` of the `Setting`.
    """
    return dataclasses.field(default=default, metadata={"setting": Setting(meaning, **limits)})


def settings(cls: type) -> dict[str, tuple[dataclasses.Field, Setting]]:
    """Return the parameters of a dataclass, by name: the field and its `Setting`."""
    return {
        f.name: (f, f.metadata["setting"])
        for f in dataclasses.fields(cls)
        if "setting" in f.metadata
    }


def check(instance: Any) -> None:
    """Check every parameter of `instance`; convert numbers to the declared type.

    Raises
    ------
    SettingError
        A value has the wrong type or is out of range; the message names the attack and the parameter.
    """
    owner = getattr(instance, "name", type(instance).__name__)
    for name, (field, rule) in settings(type(instance)).items():
        try:
            value = _checked(name, field, rule, getattr(instance, name))
        except SettingError as error:
            raise SettingError(f"{owner}: {error}") from None
        object.__setattr__(instance, name, value)


def _kind(field: dataclasses.Field) -> str:
    """Return `int`, `float` or `bool`, whether or not the module postpones its annotations."""
    kind = field.type
    text = kind.__name__ if isinstance(kind, type) else str(kind)
    return text.partition(" |")[0]


def _checked(name: str, field: dataclasses.Field, rule: Setting, value: Any) -> Any:
    if rule.words or (value is None and rule.automatic):
        return value
    if rule.choices:
        if value in rule.choices:
            return value
        raise SettingError(f"{name}={value!r} is not known; expected one of {rule.span()}.")
    kind = _kind(field)
    if kind == "bool":
        if isinstance(value, bool):
            return value
        raise SettingError(f"{name}={value!r}; expected true or false.")
    whole = kind == "int"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SettingError(f"{name}={value!r}; expected a {'whole ' * whole}number.")
    if not math.isfinite(value) or (whole and value != int(value)):
        raise SettingError(f"{name}={value!r}; expected a {'whole ' * whole}number.")
    if (rule.low is not None and value < rule.low) or (rule.high is not None and value > rule.high):
        raise SettingError(f"{name}={value:g} is out of range; expected {rule.span()}.")
    return int(value) if whole else float(value)


def from_text(cls: type, texts: dict[str, str]) -> dict[str, Any]:
    """Parse the parameters of `cls` from texts.

    Parameters
    ----------
    cls : the attack's class.
    texts : values by name; a hyphen in a name stands for an underscore.

    Returns
    -------
    dict
        Keyword arguments for `cls`. A text that cannot be parsed is kept, for `check` to refuse.

    Raises
    ------
    SettingError
        A name is unknown.
    """
    known = settings(cls)
    values: dict[str, Any] = {}
    for name, text in texts.items():
        plain = name.replace("-", "_")
        if plain not in known:
            hint = did_you_mean(plain, known)
            raise SettingError(
                f"{cls.__name__} has no parameter {name!r}; it has {', '.join(known)}.{hint}"
            )
        values[plain] = _parsed(known[plain], text)
    return values


def _parsed(entry: tuple[dataclasses.Field, Setting], text: str) -> Any:
    field, rule = entry
    word = text.strip().lower()
    if rule.automatic and word in ("auto", "none", ""):
        return None
    if _kind(field) == "bool":
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
            word, text
        )
    if rule.choices or rule.words:
        return text.strip()
    try:
        return float(word)
    except ValueError:
        return text
