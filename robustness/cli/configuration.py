"""An audit's options from a TOML file: every option of `robustness audit`, and the gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustness import plugins
from robustness.configuration import epsilons as units
from robustness.configuration.toml import Section, read
from robustness.errors import SettingError
from robustness.models.precision import PRECISIONS
from robustness.threat import norms

FOR_ALL = ("steps", "step_size", "restarts")
"""Parameters that the command line can set for every attack at once."""


@dataclass(frozen=True)
class Configuration:
    """What a file says: `options` by the names of `robustness audit`, attacks apart, and the gate."""

    file: str
    options: dict[str, Any] = field(default_factory=dict)
    attacks: tuple[tuple[str, dict[str, Any]], ...] = ()
    gate: dict[str, Any] | None = None

    def merged(self, defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """`defaults`, over them the file, over both what was `given` on the command line.

        Whether a model may run code says the command line alone.
        """
        options = defaults | self.options | given
        if self.attacks and "attack" not in given:
            spared = [key for key in FOR_ALL if given.get(key) is not None]
            options["attack"] = [as_text(name, set_, spared) for name, set_ in self.attacks]
        return options | {"gate": self.gate, "trust_model": bool(given.get("trust_model"))}

    def expect_trust_typed(self, typed: bool) -> None:
        """SettingError where the file trusts a model and the command line does not.

        In a pull request the file is a stranger's.
        """
        if self.options.get("trust_model") and not typed:
            raise SettingError(
                f"{self.file}: model.trust is true, but only the command line can trust a model file, which "
                "may run code. Type --trust-model if you trust who made it, or leave model.trust out."
            )


def as_text(name: str, parameters: dict[str, Any], without: list[str]) -> str:
    """An attack as the command line writes it: `pgd:steps=20,restarts=2`."""
    parts = [f"{k}={_word(v)}" for k, v in parameters.items() if k.replace("-", "_") not in without]
    return f"{name}:{','.join(parts)}" if parts else name


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def load(path: str | Path) -> Configuration:
    """The configuration in a TOML file. SettingError names the key that is wrong."""
    whole = read(path)
    options: dict[str, Any] = {}
    _model(whole.section("model"), options)
    _images(whole.section("images"), options)
    _threat(whole.section("threat"), options)
    _run(whole.section("run"), options)
    attacks = tuple(_attack(one) for one in whole.sections("attacks"))
    gate = _gate(whole)
    whole.close()
    known = {key: value for key, value in options.items() if value is not None}
    return Configuration(str(path), known, attacks, gate)


def _gate(whole: Section) -> dict[str, Any] | None:
    from robustness.reports.gate.gate_file import read_gate

    gate = read_gate(whole.section("gate"))
    return gate.to_dict() if gate else None


def _model(table: Section, options: dict[str, Any]) -> None:
    options["model"] = _beside(table, table.text("path", None))
    options["classes"] = _listed(table, "classes")
    options["scaling"] = table.text("scaling", None)
    options["trust_model"] = table.flag("trust", None)
    options["accuracy"] = table.number("accuracy", None, low=0, high=1)
    table.close()


def _images(table: Section, options: dict[str, Any]) -> None:
    options["images"] = _beside(table, table.text("path", None))
    options["label_column"] = table.text("label_column", None)
    options["limit"] = table.whole("limit", None, low=1)
    options["per_class"] = table.whole("per_class", None, low=1)
    options["held_out"] = table.flag("held_out", None)
    table.close()


def _threat(table: Section, options: dict[str, Any]) -> None:
    options["norm"] = table.text("norm", None, choices=norms.names())
    options["target"] = table.text("target", None)
    options["mask"] = _beside(table, table.text("mask", None))
    options["surrogate"] = _beside(table, table.text("surrogate", None))
    epsilons = table.value("epsilons", None)
    if epsilons is not None:
        some = epsilons if isinstance(epsilons, list) else [epsilons]
        try:
            units.parse_epsilons([str(e) for e in some])
        except SettingError as error:
            raise table.wrong(
                "epsilons", f'counts such as [1, 2, 4] or ["4/255"] ({error})'
            ) from None
        options["epsilon"] = ",".join(str(e) for e in some)
    table.close()


def _run(table: Section, options: dict[str, Any]) -> None:
    options["seed"] = table.whole("seed", None)
    options["precision"] = table.text("precision", None, choices=PRECISIONS)
    options["all_steps"] = table.flag("all_steps", None)
    options["cascade"] = table.flag("cascade", None)
    options["thorough"] = table.flag("thorough", None)
    options["batch_size"] = table.whole("batch_size", None, low=1)
    options["report"] = _words(table, "reports")
    evidence = table.value("evidence", None)
    if evidence is not None:
        whole = isinstance(evidence, int) and not isinstance(evidence, bool) and evidence >= 0
        if evidence not in ("all", "flips", "none") and not whole:
            raise table.wrong("evidence", "'all', 'flips', 'none', or a number of images")
        options["evidence"] = str(evidence)
    table.close()


def _attack(table: Section) -> tuple[str, dict[str, Any]]:
    name = table.text("name")
    try:
        plugins.expect(plugins.ATTACKS, name, plugins.ENSEMBLES)
    except SettingError as error:
        raise table.wrong("name", f"an installed attack. {error}") from None
    parameters = table.rest()
    for key, value in parameters.items():
        plain = isinstance(value, (str, int, float)) and "," not in str(value)
        if not plain or "=" in str(value):
            raise table.wrong(key, "a number, true, false, or a word")
    return name, parameters


def _listed(table: Section, name: str) -> str | None:
    """A list of names, or one text with commas, as the latter."""
    value = table.value(name, None)
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(isinstance(v, str) and "," not in v for v in value):
        raise table.wrong(name, 'names such as ["cat", "dog"], without commas')
    return ",".join(value)


def _words(table: Section, name: str) -> list[str] | None:
    value = table.value(name, None)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise table.wrong(name, 'a list of names such as ["html"]')
    for kind in value:
        plugins.expect(plugins.REPORTS, kind)
    return value


def _beside(table: Section, value: str | None) -> str | None:
    """A path that is looked for beside the file first; a name or source stays as it is."""
    if value is None:
        return None
    path = Path(table.file).parent / value
    return str(path) if path.exists() else value
