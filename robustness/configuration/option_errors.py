"""Converts pydantic errors to SettingErrors: one sentence with the place, the value, what was expected."""

from __future__ import annotations

from collections.abc import Container, Mapping

from pydantic import ValidationError

from robustness.configuration import choices
from robustness.configuration.option import OptionField
from robustness.errors import SettingError
from robustness.text import did_you_mean, shown

MISSING = object()
"""The value of a missing key."""


class UnexpectedValueError(ValueError):
    """Raised by a validator: `expected` ends the sentence about the value.

    `key` and `value` name a part of the option, such as the parameter of an attack.
    """

    def __init__(
        self, expected: str, *, hint: str = "", key: str = "", value: object = None
    ) -> None:
        super().__init__(expected)
        self.expected, self.hint, self.key, self.value = expected, hint, key, value


class OptionError(SettingError):
    """The value of an option is not usable. `at` gives the same error for another place.

    Parameters
    ----------
    name : the option's name in Python.
    subject : the position within it, such as "[0].name", and the value.
    expected : what the sentence says after "expected".
    hint : the sentence after it, such as " Did you mean linf?".
    sentence : the whole message of a validator that has one; "" for the usual form.
    """

    def __init__(
        self,
        name: str,
        subject: tuple[str, object],
        expected: str,
        hint: str = "",
        sentence: str = "",
    ) -> None:
        self.name, self.subject, self.expected, self.hint = name, subject, expected, hint
        self.sentence = sentence
        super().__init__(sentence or self._about(name))

    def _about(self, place: str, why: str = "") -> str:
        part, value = self.subject
        state = "missing" if value is MISSING else shown(value)
        return f"{place}{part} is {state}; expected {self.expected}{why}.{self.hint}"

    def at(self, place: str, file: str = "") -> SettingError:
        """Return the error at `place`: an option of the command line, or a key of `file`."""
        if not file:
            return SettingError(self.sentence or self._about(place))
        why = f" ({self.sentence})" if self.sentence else ""
        return SettingError(f"{file}: {self._about(place, why)}")


def renamed(name: str, known: Container[str]) -> str:
    """Return what an option is called now, if `name` is what it was called before; else ""."""
    now = choices.FORMER.get(name, "")
    return now if now in known else ""


def _unknown(name: str, fields: Mapping[str, OptionField]) -> SettingError:
    if now := renamed(name, (*fields, "out")):
        return SettingError(f"The option {name} is now called {now}; write {now}=...")
    hint = did_you_mean(name, fields) or f" An audit has {', '.join(fields)}."
    return SettingError(f"Unknown option {name!r}.{hint}")


def option_error(
    error: ValidationError, fields: Mapping[str, OptionField], values: Mapping[str, object]
) -> SettingError:
    """Return the first error that pydantic found as a SettingError.

    Parameters
    ----------
    error : pydantic's error.
    fields : all options, by name.
    values : the given values, by name.
    """
    first = error.errors(include_url=False)[0]
    name, *inner = first["loc"]
    if first["type"] == "extra_forbidden":
        return _unknown(str(name), fields)
    field = fields[str(name)]
    cause = (first.get("ctx") or {}).get("error")
    value, part = values.get(field.name), "".join(f"[{n}]" for n in inner if isinstance(n, int))
    if isinstance(cause, UnexpectedValueError):
        subject = (f"{part}.{cause.key}", cause.value) if cause.key else ("", value)
        return OptionError(field.name, subject, cause.expected, cause.hint)
    sentence = str(cause) if isinstance(cause, SettingError) else ""
    return OptionError(field.name, ("", value), field.expected, sentence=sentence)
