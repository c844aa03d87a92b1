"""The parts of `run.json` on a deployed pipeline: the pixels that it reads, and the flips that survive."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from robustness.runs.schema_fields import (
    Count,
    Epsilon,
    Fraction,
    Listed,
    Part,
    Quality,
    Side,
    Weight,
)
from robustness.text import shorten


class PixelsReadEntry(Part):
    """Which pixels of a picture the input pipeline reads, for the most frequent size of the run's pictures.

    `rows` and `columns` have the sum of the absolute weights of each row and column in the model's image, 0
    for those that are never read; `share` is that of the pixels read, `share_of_window` that within the crop.
    `median` is the size (height, width) of the median picture by area, with its own shares.
    """

    height: Side
    width: Side
    pictures: Count = 0
    total: Count = 0
    share: Fraction
    share_of_window: Fraction
    rows: Listed[Weight] = ()
    columns: Listed[Weight] = ()
    median: Listed[Side] = ()
    median_share: Fraction
    median_share_of_window: Fraction
    convention: str | None = None
    stands_in: bool = False
    """Whether the convention only stands in for the user's own function."""

    @field_validator("rows", "columns")
    @classmethod
    def _one_for_each(cls, value: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        side = info.data.get("height" if info.field_name == "rows" else "width", 0)
        if value and len(value) != side:
            raise ValueError(f"expected {side} numbers, one for each pixel of that side")
        return value

    @field_validator("median")
    @classmethod
    def _size(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(value) not in (0, 2):
            raise ValueError("expected height and width")
        return value

    @field_validator("total")
    @classmethod
    def _all(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("pictures", 0):
            raise ValueError("expected at least as many as `pictures`")
        return value

    @field_validator("share_of_window", "median_share_of_window")
    @classmethod
    def _of_a_part(cls, value: float, info: ValidationInfo) -> float:
        whole = str(info.field_name).removesuffix("_of_window")
        # The tolerance is for the rounding of two quotients.
        if value < info.data.get(whole, 0) * (1 - 1e-9):
            raise ValueError(f"expected at least `{whole}`: the crop is a part of the picture")
        return value


class ShareEntry(Part):
    """`count` of `total` images."""

    count: Count
    total: Count

    @field_validator("total")
    @classmethod
    def _all(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("count", 0):
            raise ValueError("expected a total that is not smaller than `count`")
        return value


class SurvivalPointEntry(Part):
    """How many flips, and how many unchanged originals, reach the goal after one treatment.

    `quality` is that of a JPEG file; None for another pipeline. `refused` pictures are in no total.
    """

    name: str
    quality: Quality | None = None
    flips: ShareEntry
    originals: ShareEntry | None = None
    refused: Count = 0


class SurvivalEntry(Part):
    """Whether the flips at the largest epsilon survive other JPEG qualities, and other input pipelines.

    `examined` of `found` flips were judged again, evenly spread over all of them.
    """

    epsilon: Epsilon
    examined: Count
    found: Count
    points: Annotated[Listed[SurvivalPointEntry], Field(max_length=1000)] = ()

    @field_validator("found")
    @classmethod
    def _all(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("examined", 0):
            raise ValueError("expected at least as many as `examined`")
        return value

    @field_validator("points")
    @classmethod
    def _of_the_examined(
        cls, value: tuple[SurvivalPointEntry, ...], info: ValidationInfo
    ) -> tuple[SurvivalPointEntry, ...]:
        examined = int(info.data.get("examined", 0))
        for point in value if "examined" in info.data else ():
            totals = [one.total for one in (point.flips, point.originals) if one is not None]
            if any(total + point.refused > examined for total in totals):
                said = f"{shorten(point.name, 40)} has more pictures than the {examined} examined"
                raise ValueError(said)
        return value
