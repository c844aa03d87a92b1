"""`report.json`: the verdict, the findings and the whole summary, under a published schema.

The schema follows from the dataclasses. It is published as `schemas/report-1.schema.json`, so that a
field that changes shows, and the version with it.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from robustness.reports.gate.verdict import Verdict
from robustness.reports.summary.findings import Finding, findings
from robustness.reports.summary.summary import Summary

VERSION = 1
ID = f"urn:robustness-toolkit:report:{VERSION}"
PUBLISHED = Path(__file__).parent / "schemas" / f"report-{VERSION}.schema.json"


def document(summary: Summary, verdict: Verdict) -> dict[str, Any]:
    """Everything a report says, JSON-able."""
    return {
        "$schema": ID,
        "version": VERSION,
        "verdict": _listed(verdict.to_dict()),
        "findings": [_listed(asdict(one)) | {"id": one.id} for one in findings(summary)],
        "summary": summary.to_dict(),
    }


def dumps(summary: Summary, verdict: Verdict) -> str:
    """`document` as text; every character outside ASCII as its code, so that nothing hides."""
    return json.dumps(document(summary, verdict), indent=1, allow_nan=False) + "\n"


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def schema() -> dict[str, Any]:
    """The JSON schema of `document`, from the dataclasses and their docstrings."""
    known: dict[str, Any] = {}
    verdict, finding, summary = (_shape(one, known) for one in (Verdict, Finding, Summary))
    _extended(known["Verdict"], label={"type": "string"}, gated={"type": "boolean"})
    _extended(known["Finding"], id={"type": "string"})
    parts = {
        "$schema": {"const": ID},
        "version": {"const": VERSION},
        "verdict": verdict,
        "findings": {"type": "array", "items": finding},
        "summary": summary,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Robustness report",
        "description": "What an audit of an image classifier found. Shares are 0..1, distances counts.",
        **_object(parts),
        "$defs": dict(sorted(known.items())),
    }


def _object(parts: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": parts,
        "required": list(parts),
        "additionalProperties": False,
    }


def _extended(shape: dict[str, Any], **more: Any) -> None:
    shape["properties"] |= more
    shape["required"] += list(more)


_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def _shape(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type; dataclasses go to `known`, once each."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, known)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_shape(one, known) for one in inner]}
    if origin is tuple:
        return {"type": "array", "items": _shape(inner[0], known)}
    # What is left are mappings: parameters, evidence, the manifest.
    return {"type": "object"}


def _record(kind: type, known: dict[str, Any]) -> dict[str, Any]:
    if kind.__name__ not in known:
        known[kind.__name__] = {}
        hints = typing.get_type_hints(kind)
        parts = {f.name: _shape(hints[f.name], known) for f in fields(kind)}
        said = " ".join((kind.__doc__ or "").split())
        known[kind.__name__] |= {"description": said, **_object(parts)}
    return {"$ref": f"#/$defs/{kind.__name__}"}


def published() -> str:
    """`schema` as the text that is kept in the package."""
    return json.dumps(schema(), indent=1) + "\n"
