"""Generates JSON schemas from pydantic models; contains the published schema of `run.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from robustness.runs.schema import SCHEMA, Manifest

ID = f"urn:robustness-toolkit:manifest:{SCHEMA}"
PUBLISHED = Path(__file__).parent / "schemas" / f"manifest-{SCHEMA}.schema.json"


class _Generator(GenerateJsonSchema):
    """Every field of a dataclass is written, so all are required; docstrings become descriptions."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        shape = super().dataclass_schema(schema)
        text = " ".join((schema["cls"].__doc__ or "").split())
        required = {"required": list(shape["properties"]), "additionalProperties": False}
        return {"description": text} | shape | required


def schema_of(model: type[BaseModel], identifier: str, title: str) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the JSON that a model is written as.

    Parameters
    ----------
    model : type of BaseModel
        The model of the whole file.
    identifier : str
        Its `$id`.
    title : str
        Its title.
    """
    shape = model.model_json_schema(
        by_alias=True, mode="serialization", schema_generator=_Generator
    )
    head = {"$schema": GenerateJsonSchema.schema_dialect, "$id": identifier}
    return head | shape | {"title": title}


def published() -> str:
    """Return the schema of `run.json` as the text of the file `PUBLISHED`."""
    return json.dumps(schema_of(Manifest, ID, "Robustness run"), indent=1) + "\n"
