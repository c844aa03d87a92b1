"""What has no verdict: images that were not read, and those on which attacks broke down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from robustness.images import tallied
from robustness.reports.summary.metrics import FAILED


@dataclass(frozen=True)
class Skipped:
    """An image without a verdict, and why."""

    key: str
    name: str
    reason: str


def reasons(skipped: Sequence[Skipped], total: int) -> str:
    """Why so many of `total` were not read, the most frequent reason first; "" where all were."""
    return tallied((one.reason for one in skipped), total)


def unread(images: pd.DataFrame) -> tuple[Skipped, ...]:
    """The images that were not read, and why."""
    # An image with a class and a reason was read; its outcomes say that they failed, and why.
    unread = images["clean_class"].isna()
    lost = images[unread & images["reason"].fillna("").astype(str).ne("")]
    return tuple(
        Skipped(str(r.key), str(r.name), str(r.reason))
        for r in lost.itertuples(index=False, name="R")
    )


def broken(outcomes: pd.DataFrame, images: pd.DataFrame) -> tuple[Skipped, ...]:
    """One entry per image and reason: an attack that breaks down does so at each epsilon."""
    lost = outcomes[outcomes["status"] == FAILED].drop_duplicates(["image", "attack", "reason"])
    known = dict(zip(images["key"], images["name"], strict=True))
    return tuple(
        Skipped(
            str(row["image"]),
            str(known.get(row["image"], row["image"])),
            f"{row['attack']}: {row['reason'] or 'no reason given'}",
        )
        for row in lost.to_dict("records")
    )
