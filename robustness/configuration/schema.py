"""Makes the JSON schema of audit.toml from the fields of `AuditConfig`, for editors and other tools."""

from __future__ import annotations

from typing import Any

from robustness.configuration.audit_config import AuditConfig, audit_options
from robustness.configuration.audit_file import TABLES

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema. It does not restrict the tables of the gate, which docs/ci.md describes."""
    values = AuditConfig.model_json_schema()["properties"]
    tables = {name: _table({}) for name in TABLES}
    whole: dict[str, Any] = {**tables, "gate": {"type": "object"}}
    for name, field in audit_options().items():
        if not field.option.table:
            continue
        value = _value(values[name]) | {"description": field.option.help}
        if field.option.choices:
            value["enum"] = list(field.option.choices)
        if field.option.table in tables:
            tables[field.option.table]["properties"][field.key] = value
        else:
            whole[field.option.table] = value
    return {"$schema": DIALECT, "title": "audit.toml of robustness-toolkit"} | _table(whole)


def _table(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _value(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value in a file, without null, which TOML does not have."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    kept = {k: v for k, v in schema.items() if k not in ("title", "anyOf")}
    if kept.get("default", 0) is None:
        del kept["default"]
    if len(kinds) == 1:
        return kinds[0] | kept
    return kept | ({"anyOf": kinds} if kinds else {})
