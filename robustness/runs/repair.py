"""Finds the damaged parts of a run that is resumed, and repairs only these.

A picture is damaged if it is missing or if its bytes do not have the hash in its name; a row, if it contains
what no audit writes. Outcomes with a damaged picture are deleted, so that the attack computes them again;
originals are written again from the source of images; steps are recomputed in any case.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from robustness.errors import RunUsageError
from robustness.images import Entry
from robustness.images.cache import PictureCache
from robustness.images.entries import Shape
from robustness.images.png import to_png
from robustness.runs.plan import Plan
from robustness.runs.records import FLIPPED, ROBUST, STATUSES, ImageRow, png_name
from robustness.runs.store import Run


@dataclass(frozen=True)
class Mended:
    """How much of a run was damaged, and is made again.

    Parameters
    ----------
    originals, flips, steps : int
        Damaged pictures.
    mask : int
        1 if the picture of the mask is damaged.
    rows : int
        Damaged rows of the database.
    views : int
        Damaged pictures of what the model sees.
    """

    originals: int = 0
    flips: int = 0
    steps: int = 0
    mask: int = 0
    rows: int = 0
    views: int = 0

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    @property
    def sentence(self) -> str:
        """The counts in a sentence."""
        words = {
            "originals": ("original", "originals"),
            "flips": ("flip", "flips"),
            "steps": ("step", "steps"),
            "mask": ("mask", "masks"),
            "rows": ("row of the database", "rows of the database"),
            "views": ("picture of what the model sees", "pictures of what the model sees"),
        }
        parts = [
            f"{count:,} {words[name][count != 1]}" for name, count in asdict(self).items() if count
        ]
        listed = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
        return f"Damaged or missing in the run, and made again: {listed}."


class _Intact:
    """Whether the bytes of pictures have the hashes in their names; reads each picture once."""

    def __init__(self, store: Run) -> None:
        self._store = store
        self._known: dict[str, bool] = {}

    def __call__(self, name: Any) -> bool:
        if not isinstance(name, str):
            return name is None
        if name not in self._known:
            self._known[name] = self._store.evidence_intact(name)
        return self._known[name]


def mend(
    store: Run,
    plan: Plan,
    shelf: PictureCache,
    entries: Sequence[Entry],
    shape: Shape,
    *,
    first: int = 0,
) -> Mended:
    """Prepare a damaged run for being resumed: write originals again, and delete damaged outcomes.

    Parameters
    ----------
    store : Run
        The run, open for writing.
    plan : Plan
        The settings of the audit.
    shelf : PictureCache
        Decodes the images of the audit.
    entries : sequence of Entry
        The images of the audit, in its order.
    shape : tuple of int
        (height, width, channels) of the model's images; see `Source.read`.
    first : int
        The position of the first of `entries` in the order of all shards.

    Returns
    -------
    Mended
        How much was damaged.

    Raises
    ------
    RunUsageError
        The source no longer contains the picture of a damaged original.
    """
    intact = _Intact(store)
    place = {entry.key: first + n for n, entry in enumerate(entries)}
    images, outcomes = _records(store.images()), _records(store.outcomes())
    odd_images = [row for row in images if not _is_sound(row, place)]
    known = {row["key"] for row in images} - {row["key"] for row in odd_images}
    ladder, labels = set(plan.threat.epsilons), {attack.label for attack in plan.attacks}
    odd = [
        row
        for row in outcomes
        if row["image"] not in known
        or row["epsilon"] not in ladder
        or row["attack"] not in labels
        or not _agrees(row, keeps=plan.keeps(place[row["image"]]))
    ]
    sent = {_place(row): row["file"] for row in _records(store.uploads())}
    lost = [row for row in outcomes if not intact(row["png"]) or not intact(sent.get(_place(row)))]
    again = {(row["image"], row["attack"]) for row in (*odd, *lost)}
    steps = {row["png"] for row in _records(store.strips()) if not intact(row["png"])}
    views = {row[one] for row in _records(store.views()) for one in ("before", "after")}
    mask = None if plan.mask is None else png_name(str(plan.mask.sha256))
    # The run is unfinished until the deleted rows are computed again.
    if again or odd_images:
        store.write_manifest(store.manifest.with_changes(finished=None))
    store.drop("images", odd_images)
    store.drop("outcomes", (r for r in outcomes if (r["image"], r["attack"]) in again))
    attacked = {row["image"] for row in outcomes if row["status"] in (FLIPPED, ROBUST)}
    originals = [
        row
        for row in store.image_rows()
        if not intact(row.png) or (row.png is None and _kept(plan, row, row.key in attacked))
    ]
    by_key = {entry.key: entry for entry in entries}
    _save(store, shelf, by_key, originals, shape)
    return Mended(
        originals=len(originals),
        flips=len({row["png"] for row in lost}),
        steps=len(steps - {row["png"] for row in lost} - {row.png for row in originals}),
        mask=int(mask is not None and not intact(mask)),
        rows=len(odd) + len(odd_images),
        views=sum(not intact(name) for name in views),
    )


def _save(
    store: Run,
    shelf: PictureCache,
    entries: dict[str, Entry],
    rows: list[ImageRow],
    shape: Shape,
) -> None:
    """Write originals again from the source of images."""
    with contextlib.closing(shelf.stream((entries[r.key] for r in rows), shape)) as pictures:
        for row, picture in zip(rows, pictures, strict=True):
            if picture.pixels is None or picture.digest != row.digest:
                why = picture.reason or "its pixels have changed"
                raise RunUsageError(
                    f"The original of {row.name} is damaged in {store.path} and cannot be made again "
                    f"({why}). Restore the picture at its source, or audit into a new folder."
                )
            store.add([replace(row, png=store.save_png(to_png(picture.pixels)))])


def _kept(plan: Plan, row: ImageRow, attacked: bool) -> bool:
    """Whether the run should hold the original of an image."""
    readable = row.clean_class is not None and not row.reason
    return readable and ((attacked and plan.keeps(row.position)) or plan.keeps_all)


def _is_sound(row: dict[str, Any], place: dict[str, int]) -> bool:
    """Whether a row of images can belong to this audit."""
    answered = row["clean_class"] is not None and row["confidence"] is not None
    return place.get(row["key"]) == row["position"] and (answered or bool(row["reason"]))


def _agrees(row: dict[str, Any], *, keeps: bool) -> bool:
    """Whether an audit can have written an outcome."""
    if row["status"] != FLIPPED:
        return row["status"] in STATUSES and row["png"] is None
    return row["adversarial_class"] is not None and (row["png"] is not None or not keeps)


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    """The key of an outcome."""
    return row["image"], row["attack"], row["epsilon"]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts, with None for missing values."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]
