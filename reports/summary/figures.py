"""The few numbers beside the verdict: on the page, in a terminal, in Markdown."""

from __future__ import annotations

from robustness.reports import wording
from robustness.reports.summary import breakdown, metrics
from robustness.reports.summary.checks import preflight_checks
from robustness.reports.summary.summary import Summary
from robustness.runs import thresholds

_RELIABILITY = {
    breakdown.OK: "Sound",
    breakdown.WARNINGS: "Warnings",
    breakdown.UNRELIABLE: "Unreliable",
    breakdown.UNCHECKED: "Not checked",
}


def figures(summary: Summary, tally: metrics.Tally | None = None) -> list[tuple[str, str, str]]:
    """The few numbers beside the verdict: (number, what it is, what it rests on).

    `tally` is that of the epsilon in question, by default the largest.
    """
    clean, rate = summary.images.clean_accuracy, (tally or summary.overall).flip_rate
    found = []
    if clean and clean.share is not None:
        known = f"{clean.count:,} of {clean.total:,} images right"
        found.append((wording.percent(clean.share), "clean accuracy", known))
    if rate.share is not None and summary.worst and summary.worst[-1].robust_accuracy:
        what = "right answers" if summary.labelled else "answers"
        known = f"{rate.count:,} of {rate.total:,} {what}"
        found.append((wording.percent(rate.share), "flip rate", known))
    found.append((_RELIABILITY[summary.reliability], "reliability", _checked(summary)))
    smallest = summary.smallest_epsilon
    if smallest.total:
        found.append((_median(smallest), "median smallest epsilon", _median_rests(smallest)))
    if summary.cost.seconds:
        passes = summary.cost.forward + summary.cost.backward
        found.append((wording.seconds(summary.cost.seconds), "time taken", f"{passes:,} passes"))
    return found


def _median(one: metrics.SmallestEpsilon) -> str:
    """As a figure: a number, or the side of the ladder it lies on."""
    if one.median is not None:
        return wording.number(one.median, 3)
    if one.bracket_low is None:
        return "–"
    if one.bracket_high is None:
        return f"> {wording.number(one.bracket_low, 3)}"
    return f"≤ {wording.number(one.bracket_high, 3)}"


def _median_rests(one: metrics.SmallestEpsilon) -> str:
    if one.bracket_low is None:
        return one.note
    said = [f"95 % interval {thresholds.reach(one.low, one.high)}"]
    if one.median is not None and one.bracket_low != one.bracket_high:
        said.insert(0, thresholds.bracket(one.bracket_low, one.bracket_high))
    return f"{', '.join(said)}; {one.censored:,} of {one.total:,} did not flip"


def _checked(summary: Summary) -> str:
    before = [check.severity for check in preflight_checks(summary)]
    after = [d.status for d in summary.diagnostics if d.status != "skipped"]
    bad = before.count("error") + after.count("fail")
    doubt = before.count("warning") + after.count("warn")
    if not before and not after:
        return "no check was recorded"
    total = wording.plural(len(before) + len(after), "check")
    unasked = len(summary.diagnostics) - len(after)
    rest = f"; {unasked} not asked" if unasked else ""
    if bad or doubt:
        parts = [f"{bad} failed"] * bool(bad) + [f"{doubt} in doubt"] * bool(doubt)
        return f"{' and '.join(parts)} of {total}{rest}"
    return f"all of {total} quiet{rest}"
