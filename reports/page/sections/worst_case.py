"""The worst case over all attacks, image by image and class by class."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from robustness.reports import wording
from robustness.reports.page.class_matrix import class_matrix
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.image_results import ImageResult
from robustness.reports.summary.summary import ClassRate, Summary
from robustness.threat.norms import described

MOST_ROWS = 200
"""Most images in the table."""
MOST_SQUARES = 2500
"""Most images drawn as squares, one each."""


@dataclass(frozen=True)
class ImageSquares:
    """A square for each image, coloured by its outcome.

    Attributes
    ----------
    squares
        For each image the class of the page that colours it, and its tooltip.
    legend
        For each outcome its class of the page, its words, and the number of images.
    left_out
        How many images have no square.
    flipped_by
        How many images are flipped by how many attacks: (attacks, images). Empty for a single
        attack, and for a cascade.
    """

    squares: tuple[tuple[str, str], ...]
    legend: tuple[tuple[str, str, int], ...]
    left_out: int
    flipped_by: tuple[tuple[int, int], ...]


def section(page: PageData) -> Section:
    """Squares, a table of images, rates by class, and flips from class to class."""
    summary, measure = page.summary, described(page.summary.norm)
    results = weakest_first(summary)
    return Section(
        anchor="worst",
        title="Image by image",
        template=read_template("sections/worst_case.html.j2"),
        data={
            "images": image_squares(summary, results),
            "cascade": summary.has_spared,
            "rows": results,
            "most_rows": MOST_ROWS,
            "change": measure.title if measure.measures and measure.column else "",
            "matrix": class_matrix(summary.pairs, summary.class_names),
            "by_class": weakest_classes(summary),
            "has_browser": page.has_browser,
        },
        link="Image by image",
    )


def image_squares(
    summary: Summary, results: list[ImageResult] | None = None
) -> ImageSquares | None:
    """Return a square for each image, and how many flip at which epsilon; None without an attack.

    `results` is what `weakest_first` returns, if it was called already.
    """
    epsilons = sorted({rate.epsilon for rate in summary.worst})
    if not epsilons or not summary.results:
        return None
    colours = {epsilon: f"fall{min(4, number)}" for number, epsilon in enumerate(epsilons)}
    results = weakest_first(summary) if results is None else results
    outcomes = [_outcome(image, colours) for image in results]
    squares = tuple(
        (colour, f"{wording.shorten(image.name, 60)}: {words}")
        for image, (colour, words) in zip(
            results[:MOST_SQUARES], outcomes[:MOST_SQUARES], strict=True
        )
    )
    return ImageSquares(
        squares=squares,
        legend=_legend(outcomes, colours),
        left_out=max(0, len(results) - MOST_SQUARES),
        flipped_by=_flipped_by(summary),
    )


def _outcome(image: ImageResult, colours: dict[float, str]) -> tuple[str, str]:
    """The colour of an image's outcome, and the outcome in words."""
    epsilon = image.smallest_epsilon
    if epsilon is not None:
        return colours[epsilon], f"flips within {wording.exact(epsilon)}"
    return f"part-{image.status}", wording.STATUSES.get(image.status, image.status)


def _legend(
    outcomes: list[tuple[str, str]], colours: dict[float, str]
) -> tuple[tuple[str, str, int], ...]:
    # By words, not by colour: beyond five epsilons the last ones share a colour.
    counts = Counter(outcomes)
    order = [
        (colour, f"flips within {wording.exact(epsilon)}") for epsilon, colour in colours.items()
    ]
    order += [(f"part-{name}", words) for name, words in wording.STATUSES.items()]
    order += [outcome for outcome in counts if outcome not in order]
    return tuple(
        (colour, words if count == 1 else words.replace("flips", "flip", 1), count)
        for colour, words in order
        if (count := counts[colour, words])
    )


def _flipped_by(summary: Summary) -> tuple[tuple[int, int], ...]:
    if len(summary.attacks) <= 1 or summary.has_spared:
        return ()
    flips = [len(image.attacks) for image in summary.results if image.smallest_epsilon is not None]
    counts = Counter(flips)
    return tuple((n, counts[n]) for n in range(1, len(summary.attacks) + 1) if counts[n])


def weakest_first(summary: Summary) -> list[ImageResult]:
    """Return every image: the smallest change first, of these the highest confidence, robust ones last.

    Images alike in both are in the order of their keys, as in the case browser (`cases.worst_first`).
    """

    def order(image: ImageResult) -> tuple[bool, float, float, bool, str]:
        change = math.inf if image.change is None else image.change
        sure = image.confidence_after or 0.0
        return (image.smallest_epsilon is None, change, -sure, image.status != "robust", image.key)

    return sorted(summary.results, key=order) if summary.worst else []


def weakest_classes(summary: Summary) -> list[ClassRate]:
    """Return the classes at the largest epsilon, the one with the largest flip rate first."""
    at_largest = [rate for rate in summary.classes if rate.epsilon == summary.epsilon]
    return sorted(at_largest, key=lambda rate: (-(rate.tally.flip_rate.share or 0.0), rate.name))
