"""The numbers of a report, as pure functions of pictures and of the run's tables.

A flip is counted among the images that the model classified correctly to begin with, and only where
the attack could be judged: `flipped / (flipped + robust)`. Images that were wrong before, could not
be read, or on which an attack broke down are counted apart, never as a flip and never as robust.
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
    """How many images have each status, and what follows.

    `lowest` and `highest` are the flip rate if every failed image were robust, or flipped; they
    equal the flip rate where none failed, and are None where no image was correct. `settled` images were
    flipped by an earlier attack of a cascade, so that this one never saw them.
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


def tally(status: pd.Series) -> Tally:
    """Count one status an image."""
    counts = {name: int((status == name).sum()) for name in STATUSES}
    flipped, robust, failed = counts[FLIPPED], counts[ROBUST], counts[FAILED]
    attacked = flipped + robust + failed
    return Tally(
        **counts,
        flip_rate=Share.of(flipped, flipped + robust),
        lowest=flipped / attacked if attacked else None,
        highest=(flipped + failed) / attacked if attacked else None,
    )


def carried(outcomes: pd.DataFrame, *, spared: bool = True) -> pd.DataFrame:
    """`outcomes` with every flip counted at the larger epsilons of its attack as well.

    Where a cascade spared the attack a larger epsilon, this counts as well unless `spared` is False: then
    an attack's flips are counted among those it saw.

    A picture inside a small budget is inside each larger one, whatever the attack found there.
    Sorted by attack, image and epsilon; only `status` changes.
    """
    frame = outcomes.sort_values(["attack", "image", "epsilon"], kind="stable")
    flipped = frame["status"].eq(FLIPPED)
    ever = flipped.groupby([frame["attack"], frame["image"]], sort=False).cummax()
    kept = ~ever if spared else ~ever | frame["status"].eq(SETTLED)
    return frame.assign(status=frame["status"].where(kept, FLIPPED))


_RANK = {FLIPPED: 0, FAILED: 1, ROBUST: 2, MISCLASSIFIED: 3, UNREADABLE: 4, SETTLED: 5}


def worst_case(outcomes: pd.DataFrame) -> pd.DataFrame:
    """One status per image and epsilon over all attacks: columns image, epsilon, status.

    One flip suffices. Without any, an attack that broke down leaves the image undecided (failed);
    only an image that every attack left alone is robust. RunError for a status that there is not.
    """
    odd = outcomes["status"][~outcomes["status"].isin(list(_RANK))]
    if len(odd):
        raise RunError(
            f"An outcome of the run has the status {visible(str(odd.iloc[0])[:60])!r}; expected one of "
            f"{', '.join(_RANK)}. The run is damaged, or was altered: `robustness verify` tells where."
        )
    frame = carried(outcomes)
    rank = frame["status"].map(_RANK).astype("int64")
    worst = rank.groupby([frame["image"], frame["epsilon"]]).min().reset_index(name="rank")
    names = {number: name for name, number in _RANK.items()}
    return worst.assign(status=worst["rank"].map(names))[["image", "epsilon", "status"]]


def clean_accuracy(images: pd.DataFrame) -> Share | None:
    """Correct among the readable labelled images (columns label, clean_class); None without labels."""
    known = images[images["label"].notna() & images["clean_class"].notna()]
    if known.empty:
        return None
    return Share.of(int((known["label"] == known["clean_class"]).sum()), len(known))


def robust_accuracy(status: pd.Series) -> Share:
    """Robust among all readable images, wrong ones included: one status an image.

    An image on which an attack failed is not counted as robust.
    """
    readable = status[status != UNREADABLE]
    return Share.of(int((readable == ROBUST).sum()), len(readable))


def median(column: pd.Series) -> float | None:
    """The median of what is known; None where nothing is."""
    found = column.dropna()
    return None if found.empty else float(found.median())


MEDIAN = ("median", "low", "high", "bracket_low", "bracket_high", "note")


@dataclass(frozen=True)
class SmallestEpsilon:
    """How small a budget suffices for all attacks together: of `total` images `censored` did not flip at any.

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
    """Per correct image the smallest epsilon at which any attack flipped it; inf where none did."""
    attacked = outcomes[outcomes["status"].isin([FLIPPED, ROBUST, FAILED])]
    found = attacked["epsilon"].astype("float64").where(attacked["status"] == FLIPPED, math.inf)
    return found.groupby(attacked["image"]).min()


def smallest_epsilon(outcomes: pd.DataFrame, median: Mapping[str, Any]) -> SmallestEpsilon:
    """How many images flip at some epsilon, beside their `median` (`runs.thresholds`)."""
    epsilons = smallest_epsilons(outcomes).to_numpy(dtype="float64")
    known = {name: median[name] for name in MEDIAN}
    return SmallestEpsilon(**known, censored=int(np.isinf(epsilons).sum()), total=len(epsilons))


def first_flips(outcomes: pd.DataFrame) -> pd.DataFrame:
    """One row per flipped image: its smallest epsilon, and there the most confident attack."""
    flips = outcomes[outcomes["status"] == FLIPPED]
    order = flips.sort_values(
        ["epsilon", "confidence_after", "attack"], ascending=[True, False, True], kind="stable"
    )
    return order.drop_duplicates("image")


def flips_between(flips: pd.DataFrame) -> pd.DataFrame:
    """How many flips lead from which class to which: columns clean_class, adversarial_class, count."""
    known = flips[flips["clean_class"].notna() & flips["adversarial_class"].notna()]
    pairs = [known["clean_class"].astype("int64"), known["adversarial_class"].astype("int64")]
    counted = known.groupby(pairs).size().reset_index(name="count")
    return counted.sort_values(["count", "clean_class"], ascending=[False, True], kind="stable")


@dataclass(frozen=True)
class Change:
    """How far two 8-bit pictures are apart, in counts. `pixels` and `components` are L0 both ways.

    `psnr` in dB, None for identical pictures (infinite).
    """

    pixels: int
    components: int
    l1: float
    l2: float
    linf: float
    psnr: float | None


def delta(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The signed change, int16, of uint8 pictures (height, width, channels). ValueError if unlike."""
    if before.shape != after.shape:
        raise ValueError(f"Pictures of shapes {before.shape} and {after.shape} cannot be compared.")
    return after.astype(np.int16) - before.astype(np.int16)


def change(before: np.ndarray, after: np.ndarray) -> Change:
    """Every distance between two uint8 pictures (height, width, channels)."""
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


_WINDOW = 11


def ssim(before: np.ndarray, after: np.ndarray) -> float | None:
    """Structural similarity of two uint8 pictures, as Wang et al. 2004 (doi 10.1109/TIP.2003.819861).

    A Gaussian of 1.5 over 11 x 11 pixels, K1 0.01, K2 0.03, population covariance, range 255, the
    mean over channels. None for pictures smaller than the window.
    """
    # Imported here: it takes longer than the rest of a report.
    from skimage.metrics import structural_similarity  # noqa: PLC0415

    if min(before.shape[:2]) < _WINDOW:
        return None
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(before, after, data_range=255, channel_axis=-1, **options))


def colour_difference(before: np.ndarray, after: np.ndarray) -> float:
    """Mean CIEDE2000 over the pixels of two uint8 pictures, taken for sRGB; grey ones likewise."""
    from skimage.color import deltaE_ciede2000, rgb2lab  # noqa: PLC0415

    def lab(pixels: np.ndarray) -> np.ndarray:
        colours = pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, -1)
        return rgb2lab(colours)

    return float(deltaE_ciede2000(lab(before), lab(after)).mean())


def psnr(l2: float, components: int) -> float | None:
    """Peak signal to noise in dB from an L2 distance in counts; None where nothing changed."""
    if l2 == 0 or components == 0:
        return None
    return 10 * math.log10(255 * 255 * components / (l2 * l2))


def delta_histogram(deltas: Sequence[np.ndarray]) -> pd.DataFrame:
    """How often each signed count occurs in each channel, over pictures of any size.

    `deltas` are int arrays (height, width, channels). Index: every count from the smallest to the
    largest, columns: channels. Empty without deltas.
    """
    if not deltas:
        return pd.DataFrame()
    low = min(int(d.min()) for d in deltas)
    high = max(int(d.max()) for d in deltas)
    totals = np.zeros((high - low + 1, deltas[0].shape[-1]), np.int64)
    for one in deltas:
        for channel in range(totals.shape[1]):
            flat = one[..., channel].ravel().astype(np.int64) - low
            totals[:, channel] += np.bincount(flat, minlength=len(totals))
    return pd.DataFrame(totals, index=range(low, high + 1))


def share_histogram(values: pd.Series, bins: int = 20) -> list[int]:
    """How many of some shares 0..1 fall into each of `bins` equal bins; missing ones are left out."""
    known = values.dropna().to_numpy(dtype="float64")
    counts, _ = np.histogram(np.clip(known, 0, 1), bins=bins, range=(0, 1))
    return [int(count) for count in counts]
