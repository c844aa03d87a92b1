"""Finds the damaged parts of a run that is resumed, and repairs only these.

A picture is damaged if it is missing or if its bytes do not have the hash in its name; a row, if it contains
what no audit writes. Outcomes with a damaged picture are deleted, so that the attack computes them again;
originals are written again from the source of images; steps are recomputed in any case.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from robustness.environment import without_garbage_collection
from robustness.errors import RunUsageError
from robustness.images import Entry
from robustness.images.cache import PictureCache
from robustness.images.entries import Shape, bare_names
from robustness.images.png import to_png
from robustness.pipeline.upload import parse_upload
from robustness.runs.image_columns import BEFORE_ATTACK, ImageColumns
from robustness.runs.plan import Plan
from robustness.runs.records import (
    FAILED,
    FLIPPED,
    ROBUST,
    SETTLED,
    ImageRow,
    pictures_kept,
    png_name,
)
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


@without_garbage_collection()
def mend(
    store: Run,
    plan: Plan,
    shelf: PictureCache,
    entries: Sequence[Entry],
    shape: Shape,
    *,
    first: int = 0,
    classes: int,
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
    classes : int
        The number of the model's classes.

    Returns
    -------
    Mended
        How much was damaged.

    Raises
    ------
    RunUsageError
        The source no longer contains the picture of a damaged original.
    """
    strays = store.drop_strays()
    # Some columns only, as tables: a run may have millions of outcomes.
    images, outcomes = store.image_columns(), _outcomes(store)
    # The index of each image in `entries`.
    index = images.positions - first
    sound = images.whole(classes, unsteady=plan.draws > 1) & _here(store, images, index, entries)
    if shape[0] is None:
        sound &= ~np.isfinite(images.classes) | _sized(store, images, plan)
    known = index[sound]
    count = len(entries)
    kept = np.arange(first, first + count) < pictures_kept(plan.evidence)
    # That of each outcome's image; -1 for an image that is not sound.
    at = _indices(outcomes["image"], images.keys[sound], known)
    # The last element stands for no image.
    before = np.zeros(count + 1, np.int64)
    before[known] = images.statuses[sound]
    odd = _odd_outcomes(outcomes, at, kept, before, plan)
    for attack in plan.attacks:
        altered = store.impossible(
            attack.label, steps=attack.steps, restarts=attack.restarts, classes=classes
        )
        odd |= _pairs(outcomes, _KEY).isin(altered) if altered else False
    masks = [] if plan.mask is None else [png_name(str(plan.mask.sha256))]
    bad = store.damaged_pictures() | store.damaged(masks)
    store.pictures_checked = True
    strips, views = store.strips()["png"], store.views()
    seen = pd.concat([views["before"], views["after"]])
    lost = outcomes["png"].isin(bad) | outcomes["file"].isin(bad)
    again = np.zeros(len(outcomes), bool)
    if (odd | lost).any():
        again = _pairs(outcomes).isin(_pairs(outcomes[odd | lost]))
    # The run is unfinished until the deleted rows are computed again.
    if again.any() or not sound.all():
        store.write_manifest(store.manifest.with_changes(finished=None))
    if not sound.all():
        store.drop("images", [{"key": key} for key in images.keys[~sound]])
    store.drop("outcomes", _records(outcomes.loc[again, list(_KEY)]))
    attacked = outcomes["status"].isin((FLIPPED, ROBUST)) & ~odd
    needed = kept & _mask(at[attacked], count)
    originals = _originals(store, plan, images, sound, bad, needed[known])
    _save(store, shelf, originals, shape)
    flipped = set(_names(outcomes["png"][lost]))
    return Mended(
        originals=len(originals),
        flips=len(flipped),
        steps=len((set(_names(strips)) & bad) - flipped - {row.png for row in originals}),
        mask=sum(name in bad for name in masks),
        rows=int(odd.sum()) + int((~sound).sum()) + strays,
        views=len(set(_names(seen)) & bad),
    )


_KEY = ("image", "attack", "epsilon")


def _outcomes(store: Run) -> pd.DataFrame:
    """The columns of outcomes that repair needs, and the uploaded file of each."""
    outcomes = store.columns_of("outcomes", *_KEY, "status", "png")
    files = store.uploads()
    if files.empty:
        return outcomes.assign(file=None)
    return outcomes.merge(files[[*_KEY, "file"]], on=list(_KEY), how="left")


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    names = [str(name) for name in rows.columns]
    return [dict(zip(names, row, strict=True)) for row in rows.itertuples(index=False, name=None)]


def _indices(found: pd.Series, keys: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The `index` of each key in `found`, given that of each of `keys`; -1 for one that is not there."""
    texts = found.tolist()
    wanted = set(texts)
    place = {key: n for key, n in zip(keys.tolist(), index.tolist(), strict=True) if key in wanted}
    return np.fromiter((place.get(key, -1) for key in texts), np.int64, len(texts))


def _mask(indices: np.ndarray, size: int) -> np.ndarray:
    """A mask (size,) that is true at the indices that are not negative."""
    mask = np.zeros(size, bool)
    mask[indices[indices >= 0]] = True
    return mask


def _here(
    store: Run, images: ImageColumns, index: np.ndarray, entries: Sequence[Entry]
) -> np.ndarray:
    """Whether each row has the key, name and label of the audit's entry at its `index`."""
    here = (index >= 0) & (index < len(entries))
    mine, keys = map(entries.__getitem__, index[here].tolist()), images.keys[here].tolist()
    labels = images.labels[here].astype(object)
    labels[np.isnan(images.labels[here])] = None
    # Few names, if any, are read: nearly all are the last parts of the keys.
    unusual = store.unusual_names()
    names = map(unusual.get, keys, bare_names(keys)) if unusual else bare_names(keys)
    # An entry is a tuple.
    same = map(operator.eq, mine, zip(keys, names, labels.tolist(), strict=True))
    here[here] = np.fromiter(same, bool, len(keys))
    return here


def _sized(store: Run, images: ImageColumns, plan: Plan) -> np.ndarray:
    """Whether each image has the size of a picture, where pictures are attacked at their own size."""
    most = plan.deployment.max_side if plan.deployment is not None else None
    usable = {
        key
        for key, size in store.sizes().items()
        if min(size) > 0 and (most is None or max(size) <= most)
    }
    return np.fromiter((key in usable for key in images.keys), bool, len(images.keys))


def _odd_outcomes(
    outcomes: pd.DataFrame, at: np.ndarray, kept: np.ndarray, before: np.ndarray, plan: Plan
) -> pd.Series:
    """Whether no audit with this plan writes such a row, for each outcome.

    `at` is the index of its image in `kept`, which says whether the pictures of an image are kept, and in
    `before`, its status before an attack as in `BEFORE_ATTACK`.
    """
    known = at >= 0
    pictures = np.zeros(len(at), bool)
    pictures[known] = kept[at[known]]
    asked = outcomes["epsilon"].isin(set(plan.threat.epsilons)) & outcomes["attack"].isin(
        {attack.label for attack in plan.attacks}
    )
    status, pictured = outcomes["status"], outcomes["png"].notna()
    spared = np.array(BEFORE_ATTACK, object)[before[at]]
    runs_on = spared == ""
    flip = pictured | ~pictures
    way = plan.deployment
    if way is not None and way.at_full_size and not parse_upload(way.upload).lossless:
        flip &= ~pictured | outcomes["file"].notna()
    other = status.isin((ROBUST, FAILED, SETTLED) if plan.cascade else (ROBUST, FAILED)) & ~pictured
    attacked = flip.where(status == FLIPPED, other)
    sound = attacked.where(runs_on, (status == spared) & ~pictured)
    return ~(sound & asked & known)


def _pairs(outcomes: pd.DataFrame, names: Sequence[str] = ("image", "attack")) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(outcomes[list(names)])


def _names(*columns: pd.Series) -> set[str]:
    return {name for column in columns for name in column.dropna().unique()}


def _originals(
    store: Run,
    plan: Plan,
    images: ImageColumns,
    sound: np.ndarray,
    bad: frozenset[str],
    needed: np.ndarray,
) -> list[ImageRow]:
    """The sound images whose original is to be written again, in their order; `needed` for kept pictures."""
    pictures, keys = images.pictures[sound], images.keys[sound]
    wanted = np.fromiter(map(bad.__contains__, pictures.tolist()), bool, len(pictures))
    # The pictures of the first images are kept, or those of all.
    without = pd.isna(pictures) & ~(images.explained | np.isnan(images.classes))[sound]
    wanted |= without & (needed | plan.keeps_all)
    return sorted(store.images_of(keys[wanted].tolist()).values(), key=lambda row: row.position)


def _save(
    store: Run,
    shelf: PictureCache,
    rows: list[ImageRow],
    shape: Shape,
) -> None:
    """Write originals again from the source of images."""
    with contextlib.closing(shelf.stream((row.entry for row in rows), shape)) as pictures:
        for row, picture in zip(rows, pictures, strict=True):
            if picture.pixels is None or picture.digest != row.digest:
                why = picture.reason or "its pixels have changed"
                raise RunUsageError(
                    f"The original of {row.name} is damaged in {store.path} and cannot be made again "
                    f"({why}). Restore the picture at its source, or audit into a new folder."
                )
            store.add([replace(row, png=store.save_png(to_png(picture.pixels)))])
