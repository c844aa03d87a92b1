"""Types of the values in `run.json`, and the base class of its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from robustness.configuration.choices import MAX_SLOTS

_WHOLE = 1 << 63


def _checked_only(value: float, validate: ValidatorFunctionWrapHandler) -> float:
    """Validate without converting 1 to 1.0: a seal covers the text exactly as it was written."""
    validate(value)
    return value


def _expect_count_of_total(value: tuple[float, ...]) -> tuple[float, ...]:
    _, count, total = value
    if not (0 <= count <= total and float(count).is_integer() and float(total).is_integer()):
        raise ValueError("expected an epsilon, a count, and a total that is not smaller")
    return value


def _lists(value: Any) -> Any:
    """Convert tuples to lists, as JSON represents them."""
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


_Item = TypeVar("_Item")


Listed = Annotated[tuple[_Item, ...], Field(strict=False)]
"""A JSON list, stored as a tuple."""


Number = Annotated[float, Field(allow_inf_nan=False), WrapValidator(_checked_only)]


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), WrapValidator(_checked_only)]


Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), WrapValidator(_checked_only)]
"""A share, 0..1."""


Weight = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False), WrapValidator(_checked_only)]
"""The sum of absolute weights of a row or a column."""


Epsilon = Annotated[
    float, Field(ge=1e-9, le=1e9, allow_inf_nan=False), WrapValidator(_checked_only)
]


Whole = Annotated[int, Field(ge=-_WHOLE, lt=_WHOLE)]


Count = Annotated[int, Field(ge=0, lt=_WHOLE)]


Slots = Annotated[int, Field(ge=1, le=MAX_SLOTS)]


Side = Annotated[int, Field(ge=1, le=65_535)]


Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


Evidence = Annotated[str, Field(pattern=r"^(all|flips|none|[0-9]{1,12})$")]


ShardText = Annotated[str, Field(pattern=r"^[0-9]{1,9}/[0-9]{1,9}$")]
"""Number (from 0) and count of shards."""


Day = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]


Quality = Annotated[int, Field(ge=1, le=100)]
"""The quality of a JPEG file."""


Shape = Annotated[tuple[Side, ...], Field(strict=False, min_length=3, max_length=3)]


WorstCase = Annotated[
    tuple[Number, ...],
    Field(strict=False, min_length=3, max_length=3),
    AfterValidator(_expect_count_of_total),
]
"""(epsilon, robust images, images)."""


class Part(BaseModel):
    """A table of the manifest: frozen, strictly typed, with unknown keys kept."""

    model_config = ConfigDict(
        extra="allow", strict=True, frozen=True, defer_build=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        """Treat null as a missing key if the default is not None."""
        if not isinstance(value, Mapping):
            return value
        return {
            key: item
            for key, item in value.items()
            if item is not None or not cls._has_default(str(key))
        }

    @classmethod
    def _has_default(cls, key: str) -> bool:
        field = cls.model_fields.get(key)
        if field is None or field.is_required():
            return False
        return field.get_default(call_default_factory=True) is not None

    def to_json(self) -> dict[str, Any]:
        """Return the keys that were set, as dicts, lists, texts and numbers."""
        # Not in JSON mode, which writes 1 as 1.0.
        plain: dict[str, Any] = _lists(
            self.model_dump(by_alias=True, exclude_unset=True, warnings=False)
        )
        return plain

    def without(self, *keys: str) -> Self:
        """Return a copy in which some keys are unset."""
        copy = self.model_copy(update={key: type(self).model_fields[key].default for key in keys})
        copy.model_fields_set.difference_update(keys)
        return copy

    def with_changes(self, **changes: object) -> Self:
        """Return a copy with new values for some keys; these are not validated."""
        return self.model_copy(update=changes)
