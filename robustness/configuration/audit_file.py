"""Reads audit.toml: the options of an audit in tables, and its gate. Errors name the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustness import plugins
from robustness.configuration.audit_config import AuditConfig, audit_options
from robustness.configuration.cluster_option import Cluster
from robustness.configuration.option import OptionField
from robustness.configuration.option_errors import OptionError
from robustness.configuration.toml import Section, read
from robustness.errors import SettingError
from robustness.text import shown

TABLES = ("model", "images", "pipeline", "threat", "run", "cluster")
"""The tables whose keys are options. Besides them there are [[attacks]] and [gate]."""


def config_of(
    config: AuditConfig | str | Path | Mapping[str, object] | None, options: Mapping[str, object]
) -> AuditConfig:
    """Return the options of an audit from any of the forms in which they can be given.

    Parameters
    ----------
    config : a configuration, the path of a TOML file, options by name, or None for the defaults.
    options : single options, which override those of `config`.

    Raises
    ------
    SettingError
        An option is unknown or not usable, or the file trusts a model and `options` do not.
    """
    if isinstance(config, (str, Path)):
        from_file = read_audit_file(config)
        expect_trust_given(from_file, config, options)
        return from_file.overridden_by(options)
    if isinstance(config, AuditConfig):
        return config.overridden_by(options) if options else config
    if config is not None and not isinstance(config, Mapping):
        raise SettingError(
            f"config is a {type(config).__name__}; expected an AuditConfig, the path of a TOML file, or a "
            "dict of options."
        )
    return AuditConfig(**dict(config or {})).overridden_by(options)


def read_audit_file(path: str | Path) -> AuditConfig:
    """Return the options in a TOML file.

    Raises
    ------
    SettingError
        The file cannot be read, a key is unknown, or a value is not usable; the message names the key.
    """
    whole = read(path)
    values: dict[str, object] = {}
    for name in TABLES:
        table = whole.section(name)
        for field in audit_options().values():
            if field.option.table == name and field.key in table:
                values[field.name] = _value(table, field)
        _close(table, name)
    attacks = [table.rest() for table in whole.sections("attacks")]
    if attacks:
        values["attacks"] = attacks
    config = _checked(values, str(path))
    table, has_gate = whole.section("gate"), "gate" in whole
    whole.close()
    gate = plugins.load(plugins.TABLES, "gate")(table) if has_gate else None
    return config.overridden_by({"gate": gate.to_dict()}) if gate else config


def expect_trust_given(config: AuditConfig, file: str | Path, typed: Mapping[str, object]) -> None:
    """Raise SettingError if the file trusts a model, names code, a cluster or a bucket, and the typed do not.

    A pull request can change the file, so the file is untrusted.
    """
    trusted = bool(typed.get("trust_model"))
    if config.trust_model and not trusted:
        raise SettingError(
            f"{file}: model.trust_model is true, but only the command line can trust a model file, which may "
            "run code. Type --trust-model (in Python: trust_model=True) if you trust who made it, or leave "
            "model.trust_model out."
        )
    if config.evidence_to is not None and not typed.get("evidence_to"):
        raise SettingError(
            f"{file}: run.evidence_to is {config.evidence_to[:300]!r}, but only the command line can send "
            "pictures elsewhere. Type --evidence-to with it (in Python: evidence_to=...), or leave it out."
        )
    workers = None if config.cluster is None else Cluster.parse(config.cluster)
    if workers is not None and workers.elsewhere and "cluster" not in typed:
        raise SettingError(
            f"{file}: cluster.address is {config.cluster!r:.100}, but only the command line can name a Ray "
            "cluster, whose machines get the model and send results that are unpickled here. Type --cluster "
            "with it (in Python: cluster=...), or leave it out."
        )
    if config.preprocess is not None:
        expect_typed(config.preprocess, trusted or typed.get("preprocess") is not None, str(file))


def _value(table: Section, field: OptionField) -> Any:
    """Return a key's value. A relative path that exists beside the file is returned with its folder."""
    # Options that are objects in Python are texts in a file.
    free = field.field.annotation is object
    value = table.value(field.key)
    if field.option.tables and isinstance(value, Mapping):
        return {
            key: _beside(table, one, field) if key == "file" else one for key, one in value.items()
        }
    if free:
        value = table.text(field.key)
    if field.option.path and isinstance(value, list):
        return [_beside(table, one, field) for one in value]
    return _beside(table, value, field) if field.option.path else value


def _beside(table: Section, value: Any, field: OptionField) -> Any:
    """A path that lies beside the file as the path from here; any other value as it is."""
    if not value or not isinstance(value, str):
        return value
    beside = Path(table.file).parent / value
    if suffix := field.option.suffix:
        named = [one for one in (beside, beside.with_name(beside.name + suffix)) if one.is_file()]
        return str(named[0]) if named else value
    return str(beside) if beside.exists() else value


def _close(table: Section, name: str) -> None:
    """Refuse unknown keys. Options that are missing from the table count as known."""
    options = audit_options()
    for field in options.values():
        if field.option.table == name:
            table.value(field.key, None)
    for key in table.unread():
        if key in options and options[key].place:
            raise SettingError(
                f"{table.file}: unknown key {table.key(key)}. The option {key!r} is {options[key].place} "
                "in audit.toml."
            )
    table.close()


def _checked(values: Mapping[str, object], file: str) -> AuditConfig:
    try:
        return AuditConfig(**values)
    except OptionError as error:
        raise error.at(audit_options()[error.name].place, file) from None


def expect_typed(text: str, typed: bool, source: str = "audit.toml") -> None:
    """Refuse a preprocessing function that is named elsewhere than in this very command.

    Parameters
    ----------
    text : the function as `source` names it.
    typed : whether the user trusts it in this command, by --preprocess or --trust-model.
    source : what names the function: a configuration, or a recorded run.

    Raises
    ------
    SettingError
        `typed` is False.
    """
    if not typed:
        raise SettingError(
            f"{source} names the preprocessing {shown(text)}, which is code that would run. Read it, then "
            "type --preprocess with its name, or --trust-model, in this command (in Python preprocess=... "
            "or trust_model=True)."
        )
