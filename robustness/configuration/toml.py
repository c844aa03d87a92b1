"""Reads tables of a TOML file key by key; every error names the key, its value, and what was expected."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from robustness.configuration.option_errors import renamed
from robustness.errors import SettingError
from robustness.files.bounded import MAX_TOML_BYTES, parse_toml, read_text_bounded
from robustness.text import did_you_mean, shown

_MISSING = object()


class Section:
    """One table. A key that is not read before `close` is unknown.

    Each method that reads a key raises SettingError if the value does not fit, or if the key is missing and
    no default is given.

    Parameters
    ----------
    values : the table.
    where : the table's name as the file writes it; "" for the whole file.
    file : the path of the file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str = "", file: str = "") -> None:
        self.file, self.where = file, where
        self._values = dict(values)
        self._known: set[str] = set()

    def key(self, name: str) -> str:
        """Return `name` with its table, for messages."""
        return f"{self.where}.{name}" if self.where else name

    def wrong(self, name: str, expected: str, hint: str = "") -> SettingError:
        """Return the error for the value of `name`; `hint` is appended to the message."""
        value = shown(self._values.get(name))
        return SettingError(
            f"{self._prefix}{self.key(name)} is {value}; expected {expected}.{hint}"
        )

    @property
    def _prefix(self) -> str:
        return f"{self.file}: " if self.file else ""

    def _take(self, name: str, default: Any) -> Any:
        self._known.add(name)
        if name in self._values:
            return self._values[name]
        if default is _MISSING:
            raise SettingError(
                f"{self._prefix}{self.key(name)} is missing; expected it in "
                f"{f'[{self.where}]' if self.where else 'the file'}."
            )
        return default

    def text(
        self, name: str, default: Any = _MISSING, *, choices: Collection[str] | None = None
    ) -> Any:
        """Return a string; one of `choices` if given."""
        value = self._take(name, default)
        if name not in self._values:
            return value
        if not isinstance(value, str) or not value:
            raise self.wrong(name, "a text" if choices is None else _one_of(choices))
        if choices is not None and value not in choices:
            raise self.wrong(name, _one_of(choices), did_you_mean(value, choices))
        return value

    def number(
        self,
        name: str,
        default: Any = _MISSING,
        *,
        low: float | None = None,
        high: float | None = None,
    ) -> Any:
        """Return a float, between `low` and `high` if given."""
        value = self._take(name, default)
        if name not in self._values:
            return value
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not fits or not (low is None or value >= low) or not (high is None or value <= high):
            limits = f" from {low:g} to {high:g}" if low is not None and high is not None else ""
            raise self.wrong(name, f"a number{limits}")
        return float(value)

    def whole(self, name: str, default: Any = _MISSING, *, low: int = 0) -> Any:
        """Return an int of at least `low`."""
        value = self._take(name, default)
        if name not in self._values:
            return value
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise self.wrong(name, f"a whole number of at least {low}")
        return value

    def flag(self, name: str, default: Any = _MISSING) -> Any:
        """Return a bool."""
        value = self._take(name, default)
        if name in self._values and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def day(self, name: str, default: Any = _MISSING) -> Any:
        """Return a date, which the file has as a TOML date (2027-01-31) or as text."""
        value = self._take(name, default)
        if name not in self._values:
            return value
        if isinstance(value, datetime):
            return value.date()
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except (TypeError, ValueError):
            raise self.wrong(name, "a date such as 2027-01-31") from None

    def value(self, name: str, default: Any = _MISSING) -> Any:
        """Return the value unchecked."""
        return self._take(name, default)

    def section(self, name: str) -> Section:
        """Return a table within this one; an empty one if the key is missing."""
        value = self._take(name, {})
        if not isinstance(value, Mapping):
            raise self.wrong(name, f"a table, [{self.key(name)}]")
        return Section(value, self.key(name), self.file)

    def sections(self, name: str) -> list[Section]:
        """Return the tables of a list of tables; an empty list if the key is missing."""
        value = self._take(name, [])
        if not isinstance(value, list) or not all(isinstance(v, Mapping) for v in value):
            raise self.wrong(name, f"tables, each begun with [[{self.key(name)}]]")
        return [Section(v, f"{self.key(name)}[{n}]", self.file) for n, v in enumerate(value)]

    def rest(self) -> dict[str, Any]:
        """Return the keys that were not read before; they count as read afterwards."""
        left = {key: self._values[key] for key in self.unread()}
        self._known |= left.keys()
        return left

    def unread(self) -> list[str]:
        """Return the keys that were not read."""
        return [key for key in self._values if key not in self._known]

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def close(self) -> None:
        """Raise SettingError, with the nearest known key, if a key was not read."""
        for name in self.unread():
            if now := renamed(name, self._known):
                raise SettingError(
                    f"{self._prefix}{self.key(name)} is now called {self.key(now)}; rename it."
                )
            place = f"[{self.where}]" if self.where else "the file"
            hint = did_you_mean(name, self._known) or (
                f" Expected {', '.join(sorted(self._known))} in {place}."
            )
            raise SettingError(f"{self._prefix}unknown key {self.key(name)}.{hint}")


def _one_of(choices: Collection[str]) -> str:
    return "one of " + ", ".join(repr(c) for c in choices)


def read(path: str | Path) -> Section:
    """Read a whole TOML file; SettingError if it does not exist or is not valid TOML."""
    file = Path(path)
    try:
        return Section(parse_toml(read_text_bounded(file, MAX_TOML_BYTES)), file=str(path))
    except OSError as error:
        raise SettingError(
            f"{file} cannot be read ({error.strerror}); expected a file that `robustness init` writes."
        ) from None
    except UnicodeDecodeError:
        raise SettingError(
            f"{file} is not valid TOML: it is not in UTF-8. Save it in that encoding."
        ) from None
    except ValueError as error:
        raise SettingError(f"{file} is not valid TOML: {error}.") from None
