"""`run.json` read as what it is: a stranger's text. Typed, bounded, and wrong in one sentence.

Every part may be missing, since earlier versions wrote fewer, and may hold more than is named here, since
later ones write more. What is there has the type that readers rely on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from robustness.errors import RunError
from robustness.text import visible

MOST_DEPTH = 64
"""Lists and tables within each other; the toolkit writes eight."""
_WHOLE = 2**63
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)

Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-_WHOLE, lt=_WHOLE)]
Count = Annotated[int, Field(ge=0, lt=_WHOLE)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Evidence = Annotated[str, Field(pattern=r"^(all|flips|none|[0-9]{1,12})$")]
Share = Annotated[float, Field(ge=0, le=1)]


def _nothing(value: Any) -> Any:
    """An empty table where a part is left out: `{}` is written for "none"."""
    return None if value == {} else value


def _share(value: list[float]) -> list[float]:
    """(epsilon, count, total)."""
    _, count, total = value
    if not (0 <= count <= total and float(count).is_integer() and float(total).is_integer()):
        raise ValueError("expected an epsilon, a count, and a total that is no less")
    return value


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, defer_build=True)


class _Tool(_Part):
    name: str | None = None
    version: str | None = None


class _Attack(_Part):
    name: str | None = None
    label: str | None = None
    parameters: dict[str, Any] | None = None
    knowledge: str | None = None
    paper: str | None = None


class _Mask(_Part):
    share: Number | None = None
    sha256: Hash | None = None


class _Config(_Part):
    attacks: list[_Attack] | None = None
    norm: str | None = None
    epsilons: list[Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]] | None = None
    goal: str | None = None
    mask: _Mask | None = None
    surrogate: str | None = None
    precision: str | None = None
    seed: Whole | None = None
    slots: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    all_steps: bool | None = None
    evidence: Evidence | None = None
    cascade: bool | None = None
    replaced: list[str] | None = None
    draws: Annotated[int, Field(ge=1, le=1 << 20)] | None = None


class _Scaling(_Part):
    name: str | None = None
    multiply: list[Number] | None = None
    offset: list[Number] | None = None
    order: str | None = None
    sentence: str | None = None


_Side = Annotated[int, Field(ge=1, le=65_535)]


class _Model(_Part):
    name: str | None = None
    file: str | None = None
    file_sha256: str | None = None
    format: str | None = None
    findings: list[str] | None = None
    notes: list[str] | None = None
    weights_sha256: str | None = None
    parameters: Count | None = None
    input_shape: Annotated[list[_Side], Field(min_length=3, max_length=3)] | None = None
    scaling: _Scaling | None = None
    head: str | None = None
    head_sentence: str | None = None
    class_names: list[str] | None = None
    keras: str | None = None


class _Data(_Part):
    description: str | None = None
    selected: Count | None = None
    available: Count | None = None
    sha256: str | None = None
    selection_sha256: str | None = None
    seed: Whole | None = None
    labelled: bool | None = None
    declared_accuracy: Number | None = None


class _Finding(_Part):
    id: str | None = None
    severity: str | None = None
    sentence: str | None = None


class _Diagnosis(_Part):
    id: str | None = None
    title: str | None = None
    status: str | None = None
    sentence: str | None = None
    evidence: dict[str, Any] | None = None


class _Fit(_Part):
    """A logistic curve beside a median."""

    median: Number | None = None
    low: Number | None = None
    high: Number | None = None
    p_value: Number | None = None


class _Median(_Part):
    median: Number | None = None
    low: Number | None = None
    high: Number | None = None
    bracket_low: Number | None = None
    bracket_high: Number | None = None
    images: int | None = None
    note: str | None = None
    fit: _Fit | None = None


class _Budget(_Part):
    """What the attacks could make of an epsilon."""

    epsilon: Number
    effective_epsilon: Number | None = None
    reached: bool
    short: dict[str, Number]


class _Timing(_Part):
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class _Rule(_Part):
    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
    name: str
    metric: Literal["robust_accuracy", "clean_accuracy", "flip_rate"]
    threshold: Number
    scope: Literal["worst", "attack", "class"] = "worst"
    of: str | None = None
    epsilon: Number | None = None
    bound: Literal["lower", "point"] = "lower"


class _Suppression(_Part):
    rule: str
    reason: str
    expires: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]


class _Baseline(_Part):
    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
    source: str
    data_sha256: str | None
    norm: str
    goal: str
    attacks: list[str]
    worst: list[Annotated[list[Number], Field(min_length=3, max_length=3), AfterValidator(_share)]]
    max_drop: Number = 0.0


class _Gate(_Part):
    rules: list[_Rule]
    suppressions: list[_Suppression]
    baseline: _Baseline | None = None


_MaybeGate = Annotated[_Gate | None, BeforeValidator(_nothing)]


class _Options(_Part):
    """What the command line said."""

    model: str | None = None
    images: str | None = None
    attack: list[str] | None = None
    epsilon: str | None = None
    steps: Whole | None = None
    step_size: Number | None = None
    restarts: Whole | None = None
    norm: str | None = None
    target: str | None = None
    mask: str | None = None
    surrogate: str | None = None
    precision: str | None = None
    all_steps: bool | None = None
    cascade: bool | None = None
    limit: Whole | None = None
    per_class: Whole | None = None
    held_out: bool | None = None
    seed: Whole | None = None
    classes: str | None = None
    scaling: str | None = None
    trust_model: bool | None = None
    evidence: str | None = None
    batch_size: Whole | None = None
    accuracy: Number | None = None
    thorough: bool | None = None
    report: list[str] | None = None
    gate: _MaybeGate = None


class _Origin(_Part):
    options: _Options | None = None
    configuration: str | None = None
    directory: str | None = None
    run: str | None = None
    seal: str | None = None


class _Manifest(_Part):
    schema_: Annotated[int, Field(alias="schema")]
    tool: _Tool | None = None
    created: str | None = None
    finished: str | None = None
    command: str | None = None
    origin: _Origin | None = None
    config: _Config | None = None
    model: _Model | None = None
    surrogate: _Model | None = None
    data: _Data | None = None
    class_names: list[str] | None = None
    environment: dict[str, str | Number | bool | None] | None = None
    preflight: list[_Finding] | None = None
    diagnostics: list[_Diagnosis] | None = None
    median_epsilon: dict[str, _Median] | None = None
    budgets: list[_Budget] | None = None
    notes: list[str] | None = None
    mended: list[dict[str, Any]] | None = None
    gate: _MaybeGate = None
    timing: _Timing | None = None


class _Rate(_Part):
    epsilon: Number
    robust_accuracy: dict[str, Any] | None = None


class _Result(_Part):
    key: str
    name: str
    label: str | None
    status: str
    smallest_epsilon: Number | None
    undecided: list[Number] | None = None


class _Summary(_Part):
    """What is read again of the summary in a `report.json`."""

    manifest: _Manifest
    attacks: list[str] | None = None
    worst: list[_Rate] | None = None
    results: list[_Result] | None = None


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def manifest_of(data: bytes, where: str, schema: int) -> dict[str, Any]:
    """The manifest in the bytes of a `run.json`.

    Parameters
    ----------
    data: the file.
    where: how an error names it.
    schema: the one that is read.

    Returns
    -------
    It as written, what is not finite as None; every part that is there has the type readers rely on.

    Raises
    ------
    RunError: it is no JSON, nested too deep, of another schema, or has something of another type: which
        part, what came, and what was expected.
    """
    plain = loaded(data, where)
    if not isinstance(plain, dict) or "schema" not in plain:
        raise RunError(f"{where} is damaged; expected the JSON that the audit wrote.")
    if plain["schema"] != schema or isinstance(plain["schema"], bool):
        raise RunError(
            f"{where} has schema {_shown(plain['schema'])}; this version reads schema {schema}. Use the "
            "version of the toolkit that wrote it, or audit again."
        )
    _expect(_Manifest, plain, where)
    return plain


def summary_of(data: bytes, where: str) -> dict[str, Any]:
    """The summary in the bytes of a `report.json`, or of an older one that was nothing else.

    Raises
    ------
    RunError: as for `manifest_of`.
    """
    plain = loaded(data, where)
    inner = plain.get("summary") if isinstance(plain, dict) else None
    summary = inner if isinstance(inner, dict) else plain
    if not isinstance(summary, dict) or not isinstance(summary.get("manifest"), dict):
        raise RunError(f"{where} holds no manifest; expected a run folder or its report.json.")
    _expect(_Summary, summary, where)
    return summary


def loaded(data: bytes, where: str) -> Any:
    """JSON that is nested at most `MOST_DEPTH` deep, whatever Python can hold of it.

    Numbers that are not finite become None, halves of surrogate pairs a replacement character.

    Raises
    ------
    RunError: it is no such JSON.
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
            f"{where} is damaged: it is nested {most:,} deep; expected at most {MOST_DEPTH}, as the audit "
            "writes it."
        )
    try:
        plain = json.loads(
            data.decode("utf-8"), parse_constant=_not_finite, parse_float=_finite, parse_int=_whole
        )
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise RunError(
            f"{where} is damaged ({why}); expected the JSON that the audit wrote."
        ) from None
    return _whole_characters(plain)


def _not_finite(_: str) -> None:
    return None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _whole(text: str) -> int:
    value = int(text)
    if not -_WHOLE <= value < _WHOLE:
        raise ValueError(f"the number {text[:20]}... is out of all bounds")
    return value


def _whole_characters(value: Any) -> Any:
    """The same without halves of surrogate pairs, which no file can be written with."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_whole_characters(one) for one in value]
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(one) for key, one in value.items()}
    return value


def _expect(kind: type[BaseModel], plain: Mapping[str, Any], where: str) -> None:
    try:
        _adapter(kind).validate_python(plain)
    except ValidationError as found:
        first = found.errors(include_url=False, include_context=False)[0]
        more = found.error_count() - 1
        also = f" {more} more {'part is' if more == 1 else 'parts are'} wrong." if more else ""
        raise RunError(
            f"{where} is damaged: {_path(first['loc'])} {_came(first)}; {_wanted(first['msg'])}.{also} "
            "Restore it from a copy, or audit again."
        ) from None


def _path(parts: tuple[int | str, ...]) -> str:
    """`config.epsilons[2]`."""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    shown = visible(path.lstrip("."))
    return shown if len(shown) <= 100 else shown[:97] + "..."


def _came(error: Any) -> str:
    return "is missing" if error["type"] == "missing" else f"is {_shown(error['input'])}"


def _wanted(message: str) -> str:
    said = message.replace("Input should be", "expected").replace("Field required", "it is needed")
    said = said.replace("Value error, ", "")
    said = re.sub(r"List should have at (least|most) (\d+) .*", r"expected at \1 \2 items", said)
    said = re.sub(r"a valid dictionary.*", "a table", said).replace("a valid ", "a ")
    return said.replace("String should match pattern", "expected text of the form").rstrip(".")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = "null" if value is None else json.dumps(value, ensure_ascii=False)
    return visible(text if len(text) <= 60 else text[:57] + "...")
