"""Converts options to the form in `run.json` and back: command-line names, texts joined by commas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustness.configuration import choices
from robustness.configuration.audit_config import AuditConfig, audit_options
from robustness.configuration.class_names import from_recorded_names, recorded_names
from robustness.configuration.option_errors import OptionError
from robustness.configuration.scaling_text import parse_numbers


def recorded(config: AuditConfig) -> dict[str, Any]:
    """Return the options as JSON values, from which `from_recorded` makes the same configuration.

    Class names with commas are recorded as a JSON list.
    """
    plain = {
        field.argument: _plain(getattr(config, name), field.option.repeated)
        for name, field in audit_options().items()
    }
    if config.classes is not None:
        field = audit_options()["classes"]
        plain[field.argument] = recorded_names(config.classes)
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
    if isinstance(values.get("scaling"), str) and values["scaling"] not in choices.SCALINGS:
        # What a run records names no file to read: numbers were recorded in its place.
        values["scaling"] = parse_numbers(values["scaling"]).text
    if isinstance(values.get("classes"), str):
        values["classes"] = from_recorded_names(values["classes"])
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
