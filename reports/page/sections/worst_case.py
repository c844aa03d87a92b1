"""The worst case over all attacks, image by image and class by class."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from robustness.reports import wording
from robustness.reports.page.class_matrix import class_matrix as matrix
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary import breakdown
from robustness.reports.summary.summary import Summary

MOST_FATES = 200
"""Most images in the table."""


def section(page: PageData) -> Section:
    """Squares, a table of images, rates by class, and which class becomes which."""
    summary = page.summary
    return Section(
        anchor="worst",
        title="Worst case, image by image",
        template=read_template("sections/worst_case.html.j2"),
        data={
            "images": images(summary),
            "settled": summary.has_spared,
            "fates": fates(summary),
            "most_fates": MOST_FATES,
            "matrix": matrix(summary.pairs, summary.class_names),
            "by_class": classes(summary),
            "has_browser": page.has_browser,
        },
        link="Worst case",
    )


MOST_SQUARES = 2500
"""Most images drawn as squares, one each."""


def images(summary: Summary) -> dict[str, Any] | None:
    """The worst case, image by image: a square each, and how many fell at which epsilon."""
    epsilons = sorted({rate.epsilon for rate in summary.worst})
    if not epsilons or not summary.results:
        return None
    looks = {e: f"fall{min(4, i)}" for i, e in enumerate(epsilons)}
    rows = []
    for one in summary.results:
        if one.smallest_epsilon is not None:
            rows.append(
                (looks[one.smallest_epsilon], one, f"flips within {one.smallest_epsilon:g}")
            )
        else:
            rows.append((f"part-{one.status}", one, wording.STATUSES.get(one.status, one.status)))
    shown = [(look, f"{wording.shorten(one.name, 60)}: {said}") for look, one, said in rows]
    # By what is said, not by colour: beyond five epsilons the last ones share a colour.
    counts = Counter((look, said) for look, _, said in rows)
    order = [*((look, f"flips within {e:g}") for e, look in looks.items())]
    order += [(f"part-{name}", said) for name, said in wording.STATUSES.items()]
    order += [key for key in counts if key not in order]
    legend = [
        (look, said if count == 1 else said.replace("flips", "flip", 1), count)
        for look, said in order
        if (count := counts[look, said])
    ]
    by = [len(one.attacks) for one in summary.results if one.smallest_epsilon is not None]
    agree = (
        [(n, by.count(n)) for n in range(1, len(summary.attacks) + 1) if n in by]
        if len(summary.attacks) > 1 and not summary.has_spared
        else []
    )
    return {
        "squares": shown[:MOST_SQUARES],
        "legend": legend,
        "left_out": max(0, len(shown) - MOST_SQUARES),
        "agree": agree,
    }


def fates(summary: Summary) -> list[breakdown.ImageResult]:
    """Every image, those that fall soonest and to most attacks first, then those that hold."""

    def weakness(one: breakdown.ImageResult) -> tuple[float, int, bool]:
        far = math.inf if one.smallest_epsilon is None else one.smallest_epsilon
        return (far, -len(one.attacks), one.status != "robust")

    return sorted(summary.results, key=weakness) if summary.worst else []


def classes(summary: Summary) -> list[Any]:
    """What happened to each class at the largest epsilon, the weakest first."""
    last = [c for c in summary.classes if c.epsilon == summary.epsilon]

    def weakness(one: Any) -> tuple[float, str]:
        return (-(one.tally.flip_rate.share or 0.0), one.name)

    return sorted(last, key=weakness)
