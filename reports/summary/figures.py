"""The few figures beside the verdict: on the page, in a terminal, in Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.reports import wording
from robustness.reports.summary import breakdown, metrics
from robustness.reports.summary.checks import preflight_checks
from robustness.reports.summary.summary import Summary
from robustness.runs import smallest_epsilon

FLIP_RATE = "flip rate"
"""The name of the figure that is the flip rate."""
_RELIABILITY = {
    breakdown.OK: "Reliable",
    breakdown.WARNINGS: "Warnings",
    breakdown.UNRELIABLE: "Unreliable",
    breakdown.UNCHECKED: "Not checked",
}


@dataclass(frozen=True)
class Figure:
    """A figure as text: its value, its name (`term`), and what it is based on."""

    value: str
    term: str
    basis: str


def figures(summary: Summary, tally: metrics.Tally | None = None) -> list[Figure]:
    """Return the figures beside the verdict.

    Parameters
    ----------
    summary
        The summary of a run.
    tally
        The outcomes at the epsilon of interest; by default at the largest one.
    """
    counted = tally or summary.overall
    clean, rate = summary.images.clean_accuracy, counted.flip_rate
    shown = []
    if clean and clean.share is not None:
        basis = f"{clean.count:,} of {wording.plural(clean.total, 'image')} correct"
        shown.append(Figure(wording.percent(clean.share), "clean accuracy", basis))
    if rate.share is not None and summary.worst and summary.worst[-1].robust_accuracy:
        noun = "correctly classified image" if summary.labelled else "image"
        basis = f"{rate.count:,} of {wording.plural(rate.total, noun)}"
        basis += f"; {counted.failed:,} more undecided" if counted.failed else ""
        shown.append(Figure(wording.percent(rate.share), FLIP_RATE, basis))
    reliability = _RELIABILITY[summary.reliability]
    shown.append(Figure(reliability, "reliability", _checks_text(summary)))
    smallest = summary.smallest_epsilon
    if smallest.total:
        median = Figure(_median_value(smallest), "median smallest epsilon", _median_basis(smallest))
        shown.append(median)
    name, seconds = summary.cost.time
    if seconds:
        passes = summary.cost.forward + summary.cost.backward
        shown.append(Figure(wording.seconds(seconds), name, f"{passes:,} passes"))
    return shown


def _median_value(smallest: metrics.SmallestEpsilon) -> str:
    """The median; below or above all epsilons a bound for it."""
    if smallest.median is not None:
        return wording.number(smallest.median, 3)
    if smallest.bracket_low is None:
        return "–"
    if smallest.bracket_high is None:
        return f"> {wording.number(smallest.bracket_low, 3)}"
    return f"≤ {wording.number(smallest.bracket_high, 3)}"


def _median_basis(smallest: metrics.SmallestEpsilon) -> str:
    if smallest.bracket_low is None:
        return smallest.note
    parts = [f"95 % interval {smallest_epsilon.reach(smallest.low, smallest.high)}"]
    if smallest.median is not None and smallest.bracket_low != smallest.bracket_high:
        parts.insert(0, smallest_epsilon.bracket(smallest.bracket_low, smallest.bracket_high))
    note = f"; {smallest.note}" if smallest.note else ""
    return f"{', '.join(parts)}; {smallest.censored:,} of {smallest.total:,} did not flip{note}"


def _checks_text(summary: Summary) -> str:
    before = [check.severity for check in preflight_checks(summary)]
    after = [d.status for d in summary.diagnostics if d.status != "skipped"]
    if not before and not after:
        return "no checks recorded"
    failed = before.count("error") + after.count("fail")
    warned = before.count("warning") + after.count("warn")
    skipped = len(summary.diagnostics) - len(after)
    total = wording.plural(len(before) + len(after), "check")
    rest = f"; {skipped} skipped" if skipped else ""
    if not failed and not warned:
        return f"all of {total} passed{rest}"
    parts = [f"{failed} failed"] * bool(failed)
    parts += [wording.plural(warned, "warning")] * bool(warned)
    return f"{' and '.join(parts)} in {total}{rest}"
