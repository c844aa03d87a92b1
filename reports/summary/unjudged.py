"""Images without an outcome: those that were not read, and those on which attacks failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from robustness.images import tallied
from robustness.reports.summary.metrics import FAILED


@dataclass(frozen=True)
class Skipped:
    """An image without an outcome, and why."""

    key: str
    name: str
    reason: str


def reasons(skipped: Sequence[Skipped], total: int) -> str:
    """Return why images were not read, the most frequent reason first; "" if all were."""
    return tallied((image.reason for image in skipped), total)


def unread(images: pd.DataFrame) -> tuple[Skipped, ...]:
    """Return the images that were not read, and why."""
    # An image with a class and a reason was read; its outcomes say that they failed, and why.
    unread = images["clean_class"].isna()
    skipped = images[unread & images["reason"].fillna("").astype(str).ne("")]
    return tuple(
        Skipped(str(r.key), str(r.name), str(r.reason))
        for r in skipped.itertuples(index=False, name="R")
    )


def failed_attacks(outcomes: pd.DataFrame, images: pd.DataFrame) -> tuple[Skipped, ...]:
    """Return one entry for each image and reason, since an attack fails at every epsilon alike."""
    failed = outcomes[outcomes["status"] == FAILED].drop_duplicates(["image", "attack", "reason"])
    some = images[images["key"].isin(failed["image"])] if len(failed) else images.head(0)
    known = dict(zip(some["key"], some["name"], strict=True))
    return tuple(
        Skipped(
            str(row["image"]),
            str(known.get(row["image"], row["image"])),
            f"{row['attack']}: {row['reason'] or 'no reason given'}",
        )
        for row in failed.to_dict("records")
    )
