"""How each rule of a gate comes out on a run.

A rule holds a share of the run against a threshold. Judged on its bound (the rule), it holds if even
the unfavourable end of the 95 % interval does, is broken if even the favourable end is on the wrong
side, and stays open between: too few images to tell. Judged on the point, it holds or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from robustness.reports import wording
from robustness.reports.gate.rules import AT_LEAST, METRICS, Baseline, Rule, Suppression
from robustness.reports.intervals import Share
from robustness.reports.summary import budgets
from robustness.reports.summary.summary import Rate, Summary

BASELINE = "no worse than baseline"
_SLACK = 1e-12


@dataclass(frozen=True)
class RuleResult:
    """What came of one rule. `passed` is None where that stays open; `suppressed` says why it
    does not count, "" where it does. A diagnostic that failed stands here too, scope "diagnostic".
    """

    name: str
    scope: str
    metric: str
    epsilon: float | None
    measured: float | None
    low: float | None
    high: float | None
    threshold: float | None
    passed: bool | None
    sentence: str
    suppressed: str = ""


def judged(rule: Rule, summary: Summary) -> list[RuleResult]:
    """How a rule comes out, everywhere it applies."""
    found = _measured(rule, summary)
    if not found:
        return [_open(rule, _absent(rule, summary))]
    return [_tried(held(rule, *one), rule, summary) for one in found]


def _tried(result: RuleResult, rule: Rule, summary: Summary) -> RuleResult:
    """The result, left open where a demand on robustness holds only because no attack could reach epsilon.

    A rule that is broken stays so: more of the budget flips no fewer.
    """
    limit = budgets.at(summary.budgets, result.epsilon)
    alone = result.scope.removeprefix("attack ") if rule.scope == "attack" else ""
    if limit is None or rule.metric == "clean_accuracy" or result.passed is False:
        return result
    if alone in limit.short:
        why = f"{alone} comes to {limit.short[alone]:.4g} at most"
    elif alone or limit.reached:
        return result
    else:
        why = limit.reason
    opened = _open(rule, f"at epsilon {limit.epsilon:g} {why}")
    return replace(opened, scope=result.scope, epsilon=result.epsilon)


Measured = tuple[str, float | None, Share | None]


def _measured(rule: Rule, summary: Summary) -> list[Measured]:
    """What the rule speaks about: scope in words, epsilon, and the share."""
    if rule.metric == "clean_accuracy" and rule.scope == "worst":
        return [("worst", None, summary.images.clean_accuracy)]
    wanted = summary.epsilon if rule.epsilon is None else rule.epsilon
    rates: list[tuple[str, Any]]
    if rule.scope == "worst":
        rates = [("worst", rate) for rate in summary.worst]
    elif rule.scope == "class":
        rates = [(f"class {r.name}", r) for r in summary.classes if rule.of in (None, r.name)]
    else:
        short = dict(zip(summary.attacks, summary.attack_names, strict=True))
        rates = [
            (_shown(rate), rate)
            for rate in summary.rates
            if rule.of in (None, rate.attack, short.get(str(rate.attack)), _family(rate.attack))
        ]
    return [
        (scope, rate.epsilon, _share(rate, rule.metric))
        for scope, rate in rates
        if rate.epsilon == wanted
    ]


def _shown(rate: Rate) -> str:
    """The scope of an attack's rule; of a cascade it says that its rate is of what was left."""
    left = ", of what earlier attacks left" if rate.tally.settled else ""
    return f"attack {rate.attack}{left}"


def _family(label: str | None) -> str:
    return str(label).partition("(")[0]


def _share(rate: Any, metric: str) -> Share | None:
    if metric == "flip_rate":
        return rate.tally.flip_rate
    if metric == "robust_accuracy":
        return rate.robust_accuracy
    # Of one class: what was right before the attack, of what could be read.
    t = rate.tally
    right = t.flipped + t.robust + t.failed + t.settled
    return None if rate.robust_accuracy is None else Share.of(right, right + t.misclassified)


def _absent(rule: Rule, summary: Summary) -> str:
    epsilons = sorted({rate.epsilon for rate in summary.worst})
    if rule.epsilon is not None and rule.epsilon not in epsilons:
        known = ", ".join(f"{e:g}" for e in epsilons) or "none"
        return f"epsilon {rule.epsilon:g} was not audited (audited: {known})"
    if rule.scope == "attack":
        return f"no attack {rule.of!r} was run (run: {wording.listed(summary.attacks) or 'none'})"
    if rule.scope == "class":
        return f"no image of class {rule.of!r} was audited"
    return "nothing was measured"


def _open(rule: Rule, why: str) -> RuleResult:
    scope = f"{rule.scope} {rule.of}" if rule.of else rule.scope
    return RuleResult(
        *(rule.name, scope, rule.metric, rule.epsilon, None, None, None, rule.threshold, None),
        f"{rule.name}: cannot be judged, {why}.",
    )


def held(rule: Rule, scope: str, epsilon: float | None, share: Share | None) -> RuleResult:
    """Whether a share of the run meets a rule, and the sentence that says so."""
    if share is None or share.share is None or share.low is None or share.high is None:
        return replace(_open(rule, "no image counts"), scope=scope, epsilon=epsilon)
    at_least = METRICS[rule.metric] == AT_LEAST
    bad, good = (share.low, share.high) if at_least else (share.high, share.low)
    if rule.bound == "point":
        passed: bool | None = _meets(share.share, rule.threshold, at_least)
    elif _meets(bad, rule.threshold, at_least):
        passed = True
    else:
        passed = None if _meets(good, rule.threshold, at_least) else False
    return RuleResult(
        *(rule.name, scope, rule.metric, epsilon, share.share, share.low, share.high),
        *(rule.threshold, passed),
        _sentence(rule, scope, epsilon, share, passed),
    )


def _meets(value: float, threshold: float, at_least: bool) -> bool:
    return value >= threshold - _SLACK if at_least else value <= threshold + _SLACK


def _sentence(
    rule: Rule, scope: str, epsilon: float | None, share: Share, passed: bool | None
) -> str:
    where = "worst case" if scope == "worst" else wording.shorten(scope, 60)
    at = "" if epsilon is None else f" at epsilon {epsilon:g}"
    interval = wording.percents(share.low, share.high, " to ")
    limit = f"{METRICS[rule.metric]} {wording.percent(rule.threshold)}"
    name = rule.metric.replace("_", " ")
    said = f"{rule.name}: {name} ({where}){at} is {wording.percent(share.share)}"
    said += "" if rule.bound == "point" else f", 95 % interval {interval}"
    ending = {
        True: f"; demanded {limit}.",
        False: f"; demanded {limit}, which it is not.",
        None: f"; demanded {limit}, which {wording.plural(share.total, 'image')} cannot decide.",
    }
    return said + ending[passed]


def against(base: Baseline, summary: Summary) -> list[RuleResult]:
    """No worse than an earlier run: the worst case at every epsilon both have."""
    rule = Rule(BASELINE, "robust_accuracy", 0.0, "baseline")
    if why := _unlike(base, summary):
        return [_open(replace(rule, threshold=0.0), f"{base.source} is no baseline for it: {why}")]
    before = {epsilon: Share.of(count, total) for epsilon, count, total in base.worst}
    found = []
    for rate in summary.worst:
        old, new = before.get(rate.epsilon), rate.robust_accuracy
        if old is None or old.share is None or new is None or new.share is None:
            continue
        limit = old.share - base.max_drop
        passed = _meets(new.share, limit, at_least=True)
        drop = f", {wording.percent(base.max_drop)} less allowed" if base.max_drop else ""
        found.append(
            RuleResult(
                rule.name,
                "baseline",
                rule.metric,
                rate.epsilon,
                new.share,
                new.low,
                new.high,
                limit,
                passed,
                f"{rule.name}: robust accuracy at epsilon {rate.epsilon:g} is "
                f"{wording.percent(new.share)}, was {wording.percent(old.share)}{drop}.",
            )
        )
    return found or [_open(rule, "the two runs share no epsilon")]


def _unlike(base: Baseline, summary: Summary) -> str:
    data = summary.manifest.data.sha256
    if base.data_sha256 is None or base.data_sha256 != data:
        return "it audited other images"
    if base.norm != summary.norm or base.goal != summary.config.aim:
        return f"it has another threat ({base.norm}, {base.goal})"
    if set(base.attacks) != set(summary.attacks):
        return f"it ran other attacks ({wording.listed(base.attacks)})"
    return ""


def suppressed(result: RuleResult, suppressions: Iterable[Suppression], today: date) -> RuleResult:
    """The result with the suppression that covers it `today`, or with what is said of one that ran out."""
    for one in suppressions:
        if one.rule != result.name or result.passed is True:
            continue
        until = one.expires.isoformat()
        if today <= one.expires:
            return replace(result, suppressed=f"{one.reason} (until {until})")
        said = f"{result.sentence} Its suppression ({one.reason}) expired on {until}."
        result = replace(result, sentence=said)
    return result
