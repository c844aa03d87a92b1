"""Converts options to the form in `run.json` and back: command-line names, texts joined by commas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustness.configuration.audit_config import AuditConfig, audit_options
from robustness.configuration.option_errors import OptionError
from robustness.errors import SettingError


def recorded(config: AuditConfig) -> dict[str, Any]:
    """Return the options as JSON values, from which `from_recorded` makes the same configuration.

    Raises
    ------
    SettingError
        A class name has a comma, so that the joined names could not be separated again.
    """
    for name in config.classes or ():
        if "," in name:
            raise SettingError(
                f"The class name {name!r} has a comma; expected names without commas on the command line "
                "and in audit.toml."
            )
    plain = {
        field.argument: _plain(getattr(config, name), field.option.repeated)
        for name, field in audit_options().items()
    }
    return plain | {"gate": config.gate}


def from_recorded(options: Mapping[str, Any]) -> AuditConfig:
    """Return the configuration that `recorded` wrote; unknown options of other versions are left out.

    Raises
    ------
    SettingError
        A value is not usable; the message names the option.
    """
    values = {
        name: options[field.argument]
        for name, field in audit_options().items()
        if options.get(field.argument) is not None
    }
    return checked(values | {"gate": options.get("gate")})


def checked(values: Mapping[str, object]) -> AuditConfig:
    """Return a configuration of these values; a SettingError names the command line's option."""
    try:
        return AuditConfig(**values)
    except OptionError as error:
        raise error.at(audit_options()[error.name].flag) from None


def _plain(value: Any, repeated: bool) -> Any:
    if isinstance(value, tuple):
        return list(value) if repeated else ",".join(map(_text, value))
    return value


def _text(value: object) -> str:
    """A number without a superfluous ".0"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
