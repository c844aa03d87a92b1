"""The top of the page: the verdict, the figures beside it, what it rests on; also for a terminal."""

from __future__ import annotations

from typing import Any

from robustness.reports import wording
from robustness.reports.gate.rule_results import RuleResult
from robustness.reports.gate.verdict import FAIL, INCONCLUSIVE, PASS, Verdict
from robustness.reports.intervals import Share
from robustness.reports.page import charts, details
from robustness.reports.summary import breakdown, budgets, metrics
from robustness.reports.summary.summary import Rate, Summary
from robustness.runs import thresholds

_LOOKS = {PASS: "pass", FAIL: "fail", INCONCLUSIVE: "open"}
_RELIABILITY = {
    breakdown.OK: "Sound",
    breakdown.WARNINGS: "Warnings",
    breakdown.UNRELIABLE: "Unreliable",
    breakdown.UNCHECKED: "Not checked",
}


def verdict(summary: Summary, found: Verdict) -> dict[str, Any]:
    """The bar at the top: the word, how it looks, why; the large figure and what it is.

    The figure is the worst case at the epsilon that decides: that of the rule which was broken or
    left open, else of the first rule, without rules the largest one.
    """
    rules = [r for r in found.rules if r.scope != "diagnostic"]
    worst = _deciding(summary, rules)
    epsilon = worst.epsilon if worst else None
    tally = worst.tally if worst else summary.overall
    robust = worst.robust_accuracy if worst else None
    rate, name = (robust, "robust accuracy") if robust else (tally.flip_rate, "flip rate")
    why = budgets.reason(summary.budgets, epsilon)
    if why and not robust:
        rate, name = Share(0, 0), "not reached: no robust accuracy is stated"
    bad = rate.share is not None and (rate.share < 1 if robust else rate.share > 0)
    return {
        "label": found.label,
        "look": _LOOKS.get(found.status, "open") if found.label != "NO GATE" else "none",
        "sentence": found.sentence,
        "headline": wording.headline(tally.flip_rate, summary.norm, epsilon, summary.labelled)
        + wording.unreached(why),
        "tally": tally,
        "epsilon": epsilon,
        "rate": rate,
        "name": name,
        "meaning": "" if why else wording.meaning(name, summary.norm, epsilon, summary.labelled),
        "reached": not why,
        "bad": bad and (found.status != PASS or not found.gated),
        "rules": rules,
    }


def _deciding(summary: Summary, rules: list[RuleResult]) -> Rate | None:
    if not summary.worst:
        return None
    mine = [r for r in rules if r.scope == "worst" and r.epsilon is not None and not r.suppressed]
    mine.sort(key=lambda r: (r.passed is not False, r.passed is not None))
    by = {rate.epsilon: rate for rate in summary.worst}
    return by.get(mine[0].epsilon or 0.0, summary.worst[-1]) if mine else summary.worst[-1]


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
    before = [one["severity"] for one in details.checks(summary)]
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


def standing(summary: Summary, ruled: Verdict) -> str:
    """The figures beside the verdict as one sentence, for a terminal."""
    shown = verdict(summary, ruled)
    rate = shown["rate"]
    said = []
    if rate.share is not None and shown["epsilon"] is not None:
        interval = wording.percents(rate.low, rate.high, "-")
        said.append(
            f"{shown['name']} {wording.percent(rate.share)} at epsilon "
            f"{wording.budget(summary.norm, shown['epsilon'])} (95 % interval {interval})"
        )
    if not shown["reached"]:
        reason = budgets.reason(summary.budgets, shown["epsilon"])
        said.append(f"no robust accuracy is stated at epsilon {shown['epsilon']:g}: {reason}")
    kept = ("clean accuracy", "reliability", "median smallest epsilon")
    for value, term, rest in figures(summary):
        if term in kept:
            said.append(f"{term} {value.lower()} ({rest})")
    return "; ".join(said) + "."


def basis(summary: Summary) -> list[str]:
    """What the verdict rests on, in a few words."""
    names = [wording.shorten(name, 40) for name in summary.attack_names[:4]]
    more = len(summary.attack_names) - len(names)
    shown = ", ".join(names) + (f" and {wording.plural(more, 'more attack')}" if more > 0 else "")
    goal = summary.config.aim
    return [shown, wording.NORM_NAMES.get(summary.norm, summary.norm), goal]


def parts(tally: metrics.Tally, *, reached: bool = True) -> dict[str, Any]:
    """The bar of all images by status, and its legend; `reached` says whether an attack used epsilon."""
    counts = [(name, getattr(tally, name)) for name in wording.STATUSES]
    said = wording.STATUSES if reached else wording.STATUSES | {"robust": wording.UNTRIED}
    legend = [(name, said[name], count) for name, count in counts if count]
    return {"bar": charts.parts(counts) if legend else None, "legend": legend}
