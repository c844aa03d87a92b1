"""Parses attacks from text (`pgd:steps=20,restarts=2`) or from a table with a name and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from robustness import plugins
from robustness.configuration.option_errors import MISSING, UnexpectedValueError
from robustness.errors import SettingError


def parse_attack(text: str) -> tuple[str, dict[str, str]]:
    """Return the name and the parameters in `NAME:parameter=value,...`.

    Raises
    ------
    SettingError
        No attack or ensemble of that name is installed, a part has no "=", or a parameter is given twice.
    """
    name, _, rest = text.partition(":")
    plugins.expect(plugins.ATTACKS, name, plugins.ENSEMBLES)
    parameters = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise SettingError(f"{part!r} in {text!r} is not a parameter; expected name=value.")
        parameter = key.strip().replace("-", "_")
        if parameter in parameters:
            raise SettingError(
                f"{text!r} gives {parameter} twice; expected each parameter once. For two attacks, name the "
                "attack twice."
            )
        parameters[parameter] = value
    return name, parameters


def attack_text(table: Mapping[str, object]) -> str:
    """Return the text of an attack that is given as a table: its `name`, every other key a parameter.

    Raises
    ------
    UnexpectedValueError
        The name is missing or not installed, or a value is not a number, bool or word.
    """
    name = table.get("name", MISSING)
    if name is MISSING:
        raise UnexpectedValueError("the name of an attack", key="name", value=MISSING)
    if not isinstance(name, str) or not name:
        raise UnexpectedValueError("a text", key="name", value=name)
    try:
        plugins.expect(plugins.ATTACKS, name, plugins.ENSEMBLES)
    except SettingError as error:
        raise UnexpectedValueError(
            f"an installed attack. {error}", key="name", value=name
        ) from None
    parts = []
    for key, value in table.items():
        if key == "name":
            continue
        plain = isinstance(value, (str, int, float)) and not set(",=") & set(str(value))
        if not plain:
            raise UnexpectedValueError("a number, true, false, or a word", key=key, value=value)
        parts.append(f"{key}={str(value).lower() if isinstance(value, bool) else value}")
    return f"{name}:{','.join(parts)}" if parts else name


def without_parameters(text: str, names: Iterable[str]) -> str:
    """Return an attack's text without the parameters called `names`."""
    name, colon, rest = text.partition(":")
    kept = [p for p in rest.split(",") if p.partition("=")[0].replace("-", "_") not in set(names)]
    return f"{name}{colon}{','.join(kept)}".removesuffix(":")
