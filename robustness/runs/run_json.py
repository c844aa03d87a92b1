"""Reads `run.json` and `report.json` as untrusted files, with bounds and types, and writes `run.json`.

The models are those of `robustness.runs.schema`. Nothing that a file names is opened or loaded here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from robustness.errors import RunError, SettingError
from robustness.files.bounded import MAX_VALUES
from robustness.files.reading import MOST_JSON
from robustness.runs.schema import SCHEMA, Manifest, StoredSummary
from robustness.runs.schema_fields import Part
from robustness.runs.schema_migrations import migrate
from robustness.text import visible

MOST_DEPTH = 64
"""The most levels of nested lists and tables; the toolkit writes eight."""
_WHOLE = 2**63
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)
_Kind = TypeVar("_Kind", bound=Part)


def manifest_of(data: bytes, where: str) -> Manifest:
    """Read the manifest in the bytes of a `run.json` of this or an earlier version.

    Parameters
    ----------
    data : bytes
        The content of the file.
    where : str
        The name of the file in errors.

    Returns
    -------
    Manifest
        In the newest schema; numbers that are not finite are None.

    Raises
    ------
    RunError
        The data is not JSON, has too many values or levels, has an unknown schema, or a key has the wrong
        type: the message names the key, its value, and what was expected.
    """
    plain = loaded(data, where)
    if not isinstance(plain, dict) or "schema" not in plain:
        raise RunError(
            f"{where} is damaged: it is not a table with the key 'schema'; expected the JSON that the "
            "audit wrote. Restore it from a copy, or audit again."
        )
    return _validated(Manifest, _newest(plain, where), where)


def summary_of(data: bytes, where: str) -> StoredSummary:
    """Read the summary in the bytes of a `report.json`; older ones consist of the summary only.

    Raises
    ------
    RunError
        As for `manifest_of`.
    """
    plain = loaded(data, where)
    inner = plain.get("summary") if isinstance(plain, dict) else None
    summary = inner if isinstance(inner, dict) else plain
    manifest = summary.get("manifest") if isinstance(summary, dict) else None
    if not isinstance(manifest, dict):
        raise RunError(f"{where} contains no manifest; expected a run folder or its report.json.")
    if "schema" not in manifest:
        raise RunError(
            f"{where} is damaged: manifest.schema is missing; expected a number. Restore it from a copy, "
            "or audit again."
        )
    return _validated(StoredSummary, summary | {"manifest": _newest(manifest, where)}, where)


def text_of(manifest: Manifest) -> bytes:
    """Return the content of `run.json` for a manifest."""
    plain = {"schema": SCHEMA} | manifest.with_changes(schema_=SCHEMA).to_json()
    text = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def new_text_of(manifest: Manifest) -> bytes:
    """Return the content of `run.json` for a new run, after reading it back as a check.

    Raises
    ------
    SettingError
        `run.json` cannot store a value.
    """
    try:
        data = text_of(manifest)
        if len(data) > MOST_JSON:
            raise RunError(
                f"run.json would have {len(data):,} bytes; expected at most {MOST_JSON:,}."
            )
        _validated(Manifest, loaded(data, "run.json"), "run.json")
    except (RunError, ValueError) as error:
        raise SettingError(
            f"The run is not begun, since its run.json could not be read again. {error}"
        ) from None
    return data


def recorded(kind: type[_Kind], plain: Mapping[str, Any], what: str) -> _Kind:
    """Return a part of the manifest from values that the user gave.

    Parameters
    ----------
    kind : type of Part
        The class of the part.
    plain : mapping
        JSON-able values by key.
    what : str
        The source of the values, as the start of an error message.

    Raises
    ------
    SettingError
        A value cannot be recorded.
    """
    try:
        return kind.model_validate(plain)
    except ValidationError as problem:
        raise SettingError(f"{what} cannot be recorded in run.json: {_sentence(problem)}") from None


def loaded(data: bytes, where: str) -> Any:
    """Parse JSON with at most `MOST_DEPTH` levels.

    Numbers that are not finite become None, halves of surrogate pairs "?".

    Raises
    ------
    RunError
        The data is not JSON, or has more levels or more than `MAX_VALUES` values.
    """
    depth = most = 0
    for token in _TOKENS.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            most = max(most, depth)
        elif first in b"]}":
            depth -= 1
    if most > MOST_DEPTH:
        raise RunError(
            f"{where} is damaged: it is nested {most:,} levels deep; expected at most {MOST_DEPTH}. Restore "
            "it from a copy, or audit again."
        )
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise RunError(
            f"{where} is damaged: it has more than {MAX_VALUES:,} values; an audit writes fewer. Restore it "
            "from a copy, or audit again."
        )
    try:
        plain = json.loads(
            data.decode("utf-8"), parse_constant=_not_finite, parse_float=_finite, parse_int=_whole
        )
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise RunError(
            f"{where} is damaged ({why}); expected the JSON that the audit wrote. Restore it from a copy, "
            "or audit again."
        ) from None
    return _whole_characters(plain)


def _newest(plain: dict[str, Any], where: str) -> dict[str, Any]:
    migrated = migrate(plain)
    if migrated is None:
        raise RunError(
            f"{where} has schema {_shown(plain['schema'])}; this version reads schemas 1 to {SCHEMA}. Use "
            "the version of the toolkit that wrote it, or audit again."
        )
    return migrated


def _validated(kind: type[_Kind], plain: Mapping[str, Any], where: str) -> _Kind:
    try:
        return kind.model_validate(plain)
    except ValidationError as problem:
        raise RunError(
            f"{where} is damaged: {_sentence(problem)} Restore it from a copy, or audit again."
        ) from None


def _sentence(problem: ValidationError) -> str:
    """The first error: the key, its value, and what was expected."""
    first = problem.errors(include_url=False, include_context=False)[0]
    more = problem.error_count() - 1
    also = f" {more} more {'part is' if more == 1 else 'parts are'} wrong." if more else ""
    return f"{_path(first['loc'])} {_came(first)}; {_expected(first['msg'])}.{also}"


def _not_finite(_: str) -> None:
    return None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _whole(text: str) -> int:
    value = int(text)
    if not -_WHOLE <= value < _WHOLE:
        raise ValueError(f"the number {text[:20]}... is outside the range of 64-bit integers")
    return value


def _whole_characters(value: Any) -> Any:
    """Replace halves of surrogate pairs, since UTF-8 cannot encode them."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(item) for key, item in value.items()}
    return value


def _path(parts: tuple[int | str, ...]) -> str:
    """The path of a key, such as `config.epsilons[2]`."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    shown = visible(path.lstrip("."))
    return shown if len(shown) <= 100 else shown[:97] + "..."


def _came(error: ErrorDetails) -> str:
    return "is missing" if error["type"] == "missing" else f"is {_shown(error['input'])}"


def _expected(message: str) -> str:
    text = message.replace("Input should be", "expected").replace("Field required", "it is needed")
    text = text.replace("Value error, ", "")
    text = re.sub(
        r"(?:List|Tuple) should have at (least|most) (\d+) .*", r"expected at \1 \2 items", text
    )
    text = re.sub(r"a valid dictionary.*", "a table", text)
    text = text.replace("a valid tuple", "a list").replace("a valid ", "a ")
    return text.replace("String should match pattern", "expected text of the form").rstrip(".")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = "null" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return visible(text if len(text) <= 60 else text[:57] + "...")
