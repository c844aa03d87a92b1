"""What each attack did at the largest epsilon, the security curve, convergence and chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from robustness.reports import wording
from robustness.reports.page import charts
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary import breakdown, metrics
from robustness.reports.summary.summary import Rate, Summary
from robustness.runs import thresholds


def section(page: PageData) -> Section:
    """The table of attacks with their charts."""
    summary = page.summary
    return Section(
        anchor="attacks",
        title="What was tried",
        template=read_template("sections/attacks.html.j2"),
        data={
            "summary": summary,
            "curve": curve(summary),
            "medians": medians(summary),
            "convergence": convergence(summary),
            "settled": summary.has_spared,
            "baselines": baselines(summary),
        },
        link="Attacks",
    )


UNITS = {
    "linf": "counts a component",
    "l2": "counts of L2 length",
    "l1": "counts in all",
    "l0": "pixels",
    "free": "degrees or severity",
}


def curve(summary: Summary) -> dict[str, Any] | None:
    """The security curve: robust accuracy over epsilon, without labels the flip rate."""
    clean = summary.images.clean_accuracy
    by_accuracy = clean is not None and clean.share is not None

    def line(name: str, rates: Sequence[Rate]) -> charts.Line:
        pick = [(r.epsilon, r.robust_accuracy if by_accuracy else r.tally.flip_rate) for r in rates]
        return charts.Line(name, tuple((e, share) for e, share in pick if share is not None))

    worst = line("all together", summary.worst)
    if not any(share.share is not None for _, share in worst.points):
        return None
    marks = [
        charts.Mark(str(m.attack), m.median, m.low, m.high)
        for m in summary.median_epsilons
        if m.median is not None
    ]
    lines = [line(name, [r for r in summary.rates if r.attack == name]) for name in summary.attacks]
    what = "Robust accuracy" if by_accuracy else "Flip rate"
    start = clean.share if by_accuracy and clean and clean.share is not None else 0.0
    unit = UNITS.get(summary.norm, summary.norm)
    return {"what": what, "chart": charts.curve(lines, worst, unit, start, what, marks)}


def medians(summary: Summary) -> list[tuple[str, str]]:
    """The median smallest epsilon in words, after the attacks it is said of; that of all together last."""
    found: dict[str, list[str]] = {}
    for one in summary.median_epsilons:
        found.setdefault(median(one), []).append(str(one.attack))
    said = [(wording.listed(attacks), said) for said, attacks in found.items()]
    if len(summary.attacks) > 1:
        said.append(("all together", median(summary.smallest_epsilon)))
    return said


def median(one: breakdown.MedianEpsilon | metrics.SmallestEpsilon) -> str:
    """A median smallest epsilon in words: the point, the bracket always, the interval, a fitted curve's."""
    said = [thresholds.said(asdict(one))]
    fit = one.fit if isinstance(one, breakdown.MedianEpsilon) else None
    if fit is not None:
        ends = thresholds.reach(fit.low, fit.high)
        said.append(f"by a logistic curve {wording.number(fit.median, 3)}, {ends}")
    return ", ".join(said) + (f" ({one.note})" if one.note else "")


def convergence(summary: Summary) -> list[dict[str, Any]]:
    """A chart for each unit (steps, passes), and sentences on what it shows."""
    shown = []
    for unit in ("steps", "passes"):
        mine = [c for c in summary.courses if c.unit == unit]
        drawn = [c for c in mine if not c.every_step]
        if mine:
            chart = charts.course(drawn) if drawn else None
            shown.append({"unit": unit, "chart": chart, "said": [_came(c) for c in mine]})
    return shown


_ONE = {"steps": "step", "passes": "pass"}


def _came(course: breakdown.Course) -> str:
    name, last = wording.shorten(course.attack, 60), course.points[-1][0]
    if course.every_step:
        return f"{name} was judged after its last {_ONE[course.unit]} only: its flips all stand at {last:g}."
    half = wording.percent(course.by_half)
    if last <= 1:
        return f"{name}: every flip came within the first step."
    return (
        f"{name}: {half} of its flips came in the first half of the {last:g} {course.unit} that the "
        "slowest took."
    )


def baselines(summary: Summary) -> dict[str, Any] | None:
    """What chance did beside the attacks: those of the run, and the draws of D16; None without either."""
    chance = [row for row in summary.attacked if row.baseline]
    asked = [d.sentence for d in summary.diagnostics if d.id == "D16" and d.status != "skipped"]
    if not chance and not asked:
        return None
    aimed = [g for g in summary.groups if g.kind != "baseline" and g.epsilon == summary.epsilon]
    # A rate of what earlier attacks left says nothing beside one of all.
    whole = [g.flip_rate for g in aimed if not g.spared]
    best = max(whole, key=lambda r: r.share or 0.0, default=None)
    by = {row.label for row in chance}
    fallen = [r for r in summary.results if r.attacks and set(r.attacks) <= by]
    only = [r for r in fallen if set(r.asked) - by]
    return {
        "rows": chance,
        "best": best,
        "only": len(only),
        "unasked": len(fallen) - len(only) if aimed else 0,
        "asked": asked,
    }
