"""The numbers of a report, as pure functions of pictures and of the run's tables.

The flip rate is `flipped / (flipped + robust)`: a share of the images that the model classifies
correctly without an attack. Images that are misclassified, unreadable, or on which every attack that ran
failed are counted separately, never as flipped and never as robust.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustness.errors import RunError
from robustness.numerics.intervals import Share
from robustness.text import visible

FLIPPED, ROBUST, FAILED = "flipped", "robust", "failed"
MISCLASSIFIED, UNREADABLE, SETTLED = "misclassified", "unreadable", "settled"
STATUSES = (FLIPPED, ROBUST, FAILED, MISCLASSIFIED, UNREADABLE, SETTLED)


@dataclass(frozen=True)
class Tally:
    """How many images have each status, and the flip rate.

    `lowest` and `highest` are the flip rate if every failed image were robust, or flipped; both equal
    the flip rate if none failed, and are None if no image was attacked. On `settled` images this attack did
    not run, since an earlier attack of a cascade had flipped them. On `partly_failed` of the robust images
    some attack failed, so that only the others found no flip.
    """

    flipped: int
    robust: int
    failed: int
    misclassified: int
    unreadable: int
    settled: int
    flip_rate: Share
    lowest: float | None
    highest: float | None
    partly_failed: int = 0


def tally(status: pd.Series, broke: pd.Series | None = None) -> Tally:
    """Count the statuses of images, one per image; `broke`: how many attacks failed, as in `worst_case`."""
    partly = 0 if broke is None else int(((status == ROBUST) & (broke > 0)).sum())
    return tally_of(status.value_counts(), partly)


def tally_of(counted: Mapping[Any, Any] | pd.Series, partly_failed: int = 0) -> Tally:
    """Return the tally of images from how many there are of each status."""
    counts = {name: int(counted.get(name, 0)) for name in STATUSES}
    flipped, robust, failed = counts[FLIPPED], counts[ROBUST], counts[FAILED]
    attacked = flipped + robust + failed
    return Tally(
        **counts,
        flip_rate=Share.of(flipped, flipped + robust),
        lowest=flipped / attacked if attacked else None,
        highest=(flipped + failed) / attacked if attacked else None,
        partly_failed=partly_failed,
    )


def tallies(worst: pd.DataFrame, groups: pd.Series) -> dict[tuple[Any, float], Tally]:
    """Tally a worst case by groups of images.

    Parameters
    ----------
    worst
        As `worst_case` returns it.
    groups
        The group of each row of `worst`; rows without one are left out.

    Returns
    -------
    dict
        By group and epsilon, ascending. One pass over all rows, since there may be thousands of groups.
    """
    by = [groups, worst["epsilon"]]
    counts = worst.groupby([*by, worst["status"]], sort=True).size()
    counted: dict[tuple[Any, float], dict[str, int]] = {}
    for (group, epsilon, status), count in zip(counts.index.tolist(), counts, strict=True):
        counted.setdefault((group, float(epsilon)), {})[status] = int(count)
    partly = ((worst["status"] == ROBUST) & (worst["broke"] > 0)).groupby(by).sum()
    return {
        at: tally_of(statuses, int(partly.get(at, 0)))
        for at, statuses in sorted(counted.items(), key=lambda item: item[0])
    }


def carried(outcomes: pd.DataFrame, *, spared: bool = True) -> pd.DataFrame:
    """Return `outcomes` with every flip counted at the larger epsilons of its attack as well.

    A picture within a small epsilon is within each larger one, whatever the attack returned there.

    Parameters
    ----------
    outcomes
        A row per image, attack and epsilon.
    spared
        Whether a flip counts as well at larger epsilons at which a cascade did not run the attack.

    Returns
    -------
    DataFrame
        Sorted by attack, image and epsilon; only `status` changes.
    """
    frame = outcomes.sort_values(["attack", "image", "epsilon"], kind="stable")
    if outcomes["epsilon"].nunique() < 2:
        return frame
    flipped = frame["status"].eq(FLIPPED)
    ever = flipped.groupby([frame["attack"], frame["image"]], sort=False).cummax()
    kept = ~ever if spared else ~ever | frame["status"].eq(SETTLED)
    return frame.assign(status=frame["status"].where(kept, FLIPPED))


_RANK = {FLIPPED: 0, ROBUST: 1, FAILED: 2, MISCLASSIFIED: 3, UNREADABLE: 4, SETTLED: 5}


def worst_case(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the worst case over all attacks: columns image, epsilon, status, broke.

    An image is flipped if any attack flips it. Otherwise it is robust if one attack completed, and
    undecided (failed) only if every attack that ran failed. `broke` is how many attacks failed on it.

    Raises
    ------
    RunError
        If an outcome has an unknown status.
    """
    unknown = outcomes["status"][~outcomes["status"].isin(list(_RANK))]
    if len(unknown):
        raise RunError(
            f"An outcome of the run has the status {visible(str(unknown.iloc[0])[:60])!r}; expected one of "
            f"{', '.join(_RANK)}. The run is damaged or was altered; `robustness verify` says where."
        )
    frame = carried(outcomes[["image", "attack", "epsilon", "status"]])
    rank = frame["status"].map(_RANK).astype("int64")
    told = pd.DataFrame({"rank": rank, "broke": frame["status"].eq(FAILED).astype("int64")})
    by = told.groupby([frame["image"], frame["epsilon"]])
    worst = by.agg({"rank": "min", "broke": "sum"}).reset_index()
    names = {number: name for name, number in _RANK.items()}
    return worst.assign(status=worst["rank"].map(names))[["image", "epsilon", "status", "broke"]]


def clean_accuracy(images: pd.DataFrame) -> Share | None:
    """Return the share of correct images among the readable labelled ones; None without labels."""
    known = images[images["label"].notna() & images["clean_class"].notna()]
    if known.empty:
        return None
    return Share.of(int((known["label"] == known["clean_class"]).sum()), len(known))


def robust_accuracy(status: pd.Series) -> Share:
    """Return the share of robust images among all readable ones, from one status per image.

    Misclassified images count in the total; an image on which every attack failed is not robust.
    """
    readable = status[status != UNREADABLE]
    return Share.of(int((readable == ROBUST).sum()), len(readable))


def robust_share(tally: Tally) -> Share:
    """Return the robust accuracy, as `robust_accuracy` does, of the images of a tally."""
    read = tally.flipped + tally.robust + tally.failed + tally.misclassified + tally.settled
    return Share.of(tally.robust, read)


def median(column: pd.Series) -> float | None:
    """Return the median of the values that are not missing; None without any."""
    known = column.dropna()
    return None if known.empty else float(known.median())


MEDIAN = ("median", "low", "high", "bracket_low", "bracket_high", "note")


@dataclass(frozen=True)
class SmallestEpsilon:
    """The smallest epsilon over all attacks: `censored` of `total` images flip at no epsilon.

    Images on which every attack failed at every epsilon are in neither; `note` says how many.

    `median`, `low`, `high`, `bracket_low`, `bracket_high` and `note` are as in `MedianEpsilon`.
    """

    median: float | None
    low: float | None
    high: float | None
    bracket_low: float | None
    bracket_high: float | None
    note: str
    censored: int
    total: int


def smallest_epsilons(outcomes: pd.DataFrame) -> pd.Series:
    """Return for each judged image the smallest epsilon at which an attack flips it; inf if none does."""
    attacked = outcomes[outcomes["status"].isin([FLIPPED, ROBUST])]
    smallest = attacked["epsilon"].astype("float64").where(attacked["status"] == FLIPPED, math.inf)
    return smallest.groupby(attacked["image"]).min()


def smallest_epsilon(outcomes: pd.DataFrame, median: Mapping[str, Any]) -> SmallestEpsilon:
    """Return the `median` (of `runs.thresholds`) with the number of images that flip at no epsilon."""
    epsilons = smallest_epsilons(outcomes).to_numpy(dtype="float64")
    known = {name: median[name] for name in MEDIAN}
    return SmallestEpsilon(**known, censored=int(np.isinf(epsilons).sum()), total=len(epsilons))


def first_flips(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return one row per flipped image: its smallest epsilon, and there the most confident attack."""
    flips = outcomes[outcomes["status"] == FLIPPED]
    order = flips.sort_values(
        ["epsilon", "confidence_after", "attack"], ascending=[True, False, True], kind="stable"
    )
    return order.drop_duplicates("image")


def flips_between(flips: pd.DataFrame) -> pd.DataFrame:
    """Return how many flips there are from class to class: clean_class, adversarial_class, count."""
    known = flips[flips["clean_class"].notna() & flips["adversarial_class"].notna()]
    pairs = [known["clean_class"].astype("int64"), known["adversarial_class"].astype("int64")]
    counted = known.groupby(pairs).size().reset_index(name="count")
    return counted.sort_values(["count", "clean_class"], ascending=[False, True], kind="stable")


@dataclass(frozen=True)
class Change:
    """The distances between two 8-bit pictures, in counts; `pixels` and `components` are both L0.

    `psnr` is in dB; None for identical pictures (infinite).
    """

    pixels: int
    components: int
    l1: float
    l2: float
    linf: float
    psnr: float | None


def delta(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the signed change, int16, of uint8 pictures (height, width, channels).

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"Pictures of shapes {before.shape} and {after.shape} cannot be compared.")
    return after.astype(np.int16) - before.astype(np.int16)


def change(before: np.ndarray, after: np.ndarray) -> Change:
    """Return every distance between two uint8 pictures (height, width, channels)."""
    size = np.abs(delta(before, after)).astype(np.int64)
    l2 = math.sqrt(float((size * size).sum()))
    return Change(
        pixels=int(size.any(axis=-1).sum()),
        components=int(np.count_nonzero(size)),
        l1=float(size.sum()),
        l2=l2,
        linf=float(size.max(initial=0)),
        psnr=psnr(l2, size.size),
    )


def psnr(l2: float, components: int) -> float | None:
    """Return the peak signal-to-noise ratio in dB from an L2 distance in counts; None for no change."""
    if l2 == 0 or components == 0:
        return None
    return 10 * math.log10(255 * 255 * components / (l2 * l2))


def delta_histogram(deltas: Sequence[np.ndarray]) -> pd.DataFrame:
    """Return how often each signed change occurs in each channel, over pictures of any size.

    Parameters
    ----------
    deltas
        Integer arrays (height, width, channels).

    Returns
    -------
    DataFrame
        Index: every change from the smallest to the largest, in counts; columns: channels. Empty
        without deltas.
    """
    if not deltas:
        return pd.DataFrame()
    low = min(int(d.min()) for d in deltas)
    high = max(int(d.max()) for d in deltas)
    totals = np.zeros((high - low + 1, deltas[0].shape[-1]), np.int64)
    for change in deltas:
        for channel in range(totals.shape[1]):
            flat = change[..., channel].ravel().astype(np.int64) - low
            totals[:, channel] += np.bincount(flat, minlength=len(totals))
    return pd.DataFrame(totals, index=range(low, high + 1))


def share_histogram(values: pd.Series, bins: int = 20) -> list[int]:
    """Return how many shares 0..1 fall into each of `bins` equal bins; missing ones are left out."""
    known = values.dropna().to_numpy(dtype="float64")
    counts, _ = np.histogram(np.clip(known, 0, 1), bins=bins, range=(0, 1))
    return [int(count) for count in counts]
