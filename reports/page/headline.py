"""The top of the page: the verdict, the large figure, and what both are based on; also for a terminal."""

from __future__ import annotations

from dataclasses import dataclass, replace

from robustness.numerics.intervals import Share
from robustness.reports import wording
from robustness.reports.gate.rule_results import RuleResult
from robustness.reports.gate.verdict import FAIL, INCONCLUSIVE, PASS, Verdict
from robustness.reports.summary import budgets
from robustness.reports.summary.figures import FLIP_RATE, Figure, figures
from robustness.reports.summary.metrics import Tally
from robustness.reports.summary.summary import Rate, Summary, transfer
from robustness.threat.norms import described

_LOOKS = {PASS: "pass", FAIL: "fail", INCONCLUSIVE: "open"}


@dataclass(frozen=True)
class Headline:
    """The verdict as the top of the page shows it.

    Attributes
    ----------
    label, look, sentence
        The word of the verdict, the CSS class that colours it, and its reason.
    headline
        The result in one sentence.
    tally
        The outcomes at `epsilon`: the epsilon that decides.
    rate, name, meaning
        The large figure, what it is, and what it means to a reader new to it.
    reached
        Whether an attack of the run could use the whole epsilon.
    bad
        Whether the large figure is coloured as a warning.
    """

    label: str
    look: str
    sentence: str
    headline: str
    tally: Tally
    epsilon: float | None
    rate: Share
    name: str
    meaning: str
    reached: bool
    bad: bool


def top(summary: Summary, verdict: Verdict) -> dict[str, object]:
    """Return the variables of the template of the page's top."""
    shown = headline(summary, verdict)
    return {
        "verdict": shown,
        "figures": [_beside(figure, shown) for figure in figures(summary, shown.tally)],
        "basis": basis(summary),
    }


def _beside(figure: Figure, shown: Headline) -> Figure:
    """A figure for the page: the flip rate without the counts, which the headline has, but its interval."""
    rate = shown.tally.flip_rate
    if figure.term != FLIP_RATE or not rate.total:
        return figure
    interval = f"95 % interval {wording.percent_range(rate.low, rate.high)}"
    return replace(figure, basis=interval)


def headline(summary: Summary, verdict: Verdict) -> Headline:
    """Return the top of the page.

    The large figure is the worst case at the epsilon that decides: that of the first rule that failed,
    else of the first undecided one, else of the first rule; without rules the largest epsilon.
    """
    worst = _deciding_rate(summary, verdict.rules)
    epsilon = worst.epsilon if worst else None
    tally = worst.tally if worst else summary.overall
    robust = worst.robust_accuracy if worst else None
    rate, name = (robust, "robust accuracy") if robust else (tally.flip_rate, "flip rate")
    reason = budgets.reason(summary.budgets, epsilon)
    if reason and not robust:
        rate, name = Share(0, 0), "not reached: no robust accuracy is stated"
    bad = rate.share is not None and (rate.share < 1 if robust else rate.share > 0)
    labelled, norm = summary.labelled, summary.norm
    return Headline(
        label=verdict.label,
        look=_LOOKS.get(verdict.status, "open") if verdict.label != "NO GATE" else "none",
        sentence=verdict.sentence,
        headline=wording.headline(
            tally.flip_rate, norm, epsilon, labelled, broken=(tally.failed, tally.partly_failed)
        )
        + wording.unreached(reason),
        tally=tally,
        epsilon=epsilon,
        rate=rate,
        name=name,
        meaning=""
        if reason
        else wording.meaning(name, norm, epsilon, labelled, summary.config.aim),
        reached=not reason,
        bad=bad and (verdict.status != PASS or not verdict.gated),
    )


def _deciding_rate(summary: Summary, rules: tuple[RuleResult, ...]) -> Rate | None:
    if not summary.worst:
        return None
    deciding = [
        rule
        for rule in rules
        if rule.scope == "worst" and rule.epsilon is not None and not rule.suppressed
    ]
    deciding.sort(key=lambda rule: (rule.passed is not False, rule.passed is not None))
    if not deciding:
        return summary.worst[-1]
    by_epsilon = {rate.epsilon: rate for rate in summary.worst}
    return by_epsilon.get(deciding[0].epsilon or 0.0, summary.worst[-1])


def figures_sentence(summary: Summary, verdict: Verdict) -> str:
    """Return the figures beside the verdict as one sentence, for a terminal."""
    shown = headline(summary, verdict)
    parts = []
    if shown.rate.share is not None and shown.epsilon is not None:
        interval = wording.percent_range(shown.rate.low, shown.rate.high, "-")
        parts.append(
            f"{shown.name} {wording.percent(shown.rate.share)} at epsilon "
            f"{wording.budget(summary.norm, shown.epsilon)} (95 % interval {interval})"
        )
        failures = wording.breakdowns(shown.tally.failed, shown.tally.partly_failed)
        parts += [failures.strip().removesuffix(".")] * bool(failures)
    if not shown.reached:
        reason = budgets.reason(summary.budgets, shown.epsilon)
        parts.append(
            f"no robust accuracy is stated at epsilon {wording.exact(shown.epsilon)}: {reason}"
        )
    terms = ("clean accuracy", "reliability", "median smallest epsilon")
    parts += [
        f"{figure.term} {figure.value.lower()} ({figure.basis})"
        for figure in figures(summary)
        if figure.term in terms
    ]
    return "; ".join(parts) + "."


def basis(summary: Summary) -> list[str]:
    """Return the attacks, the norm and the goal, in a few words each."""
    names = [wording.shorten(name, 40) for name in summary.attack_names[:4]]
    more = len(summary.attack_names) - len(names)
    attacks = ", ".join(names) + (f" and {wording.plural(more, 'more attack')}" if more > 0 else "")
    away = transfer(summary.manifest)
    return [attacks, described(summary.norm).label, *([away] if away else []), summary.config.aim]
