"""The top of the page: the verdict, the figures beside it, what it rests on; also for a terminal."""

from __future__ import annotations

from typing import Any

from robustness.numerics.intervals import Share
from robustness.reports import wording
from robustness.reports.gate.rule_results import RuleResult
from robustness.reports.gate.verdict import FAIL, INCONCLUSIVE, PASS, Verdict
from robustness.reports.page import charts
from robustness.reports.summary import budgets, metrics
from robustness.reports.summary.figures import figures
from robustness.reports.summary.summary import Rate, Summary

_LOOKS = {PASS: "pass", FAIL: "fail", INCONCLUSIVE: "open"}


def top(summary: Summary, ruled: Verdict) -> dict[str, Any]:
    """The variables of the template of the page's top."""
    shown = verdict(summary, ruled)
    return {
        "verdict": shown,
        "figures": figures(summary, shown["tally"]),
        "basis": basis(summary),
        "parts": parts(shown["tally"], reached=shown["reached"]),
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
    goal = str(summary.config.get("goal", "untargeted"))
    return [shown, wording.NORM_NAMES.get(summary.norm, summary.norm), goal]


def parts(tally: metrics.Tally, *, reached: bool = True) -> dict[str, Any]:
    """The bar of all images by status, and its legend; `reached` says whether an attack used epsilon."""
    counts = [(name, getattr(tally, name)) for name in wording.STATUSES]
    said = wording.STATUSES if reached else wording.STATUSES | {"robust": wording.UNTRIED}
    legend = [(name, said[name], count) for name, count in counts if count]
    return {"bar": charts.parts(counts) if legend else None, "legend": legend}
