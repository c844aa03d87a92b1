"""The result of each rule of a gate.

A rule compares a share of the run with a threshold. By default it judges the 95 % interval: it passes if
even the unfavourable end meets the threshold, fails if even the favourable end does not, and is
undecided otherwise, since there are too few images. With the bound "point" it judges the share itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from robustness.numerics.intervals import Share
from robustness.reports import wording
from robustness.reports.gate.rules import AT_LEAST, METRICS, Baseline, Rule, Suppression
from robustness.reports.summary import budgets
from robustness.reports.summary.metrics import Tally
from robustness.reports.summary.summary import Rate, Summary
from robustness.runs import smallest_epsilon

BASELINE = "no worse than baseline"
_SLACK = 1e-12


@dataclass(frozen=True)
class RuleResult:
    """The result of one rule; `passed` is None if it is undecided.

    `suppressed` says why the rule does not count, "" if it does. A failed diagnostic has a result too, with
    the scope "diagnostic".
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
    """Return the results of a rule, one for each attack or class that it applies to."""
    shares = _measured(rule, summary)
    if not shares:
        return [_undecided(rule, _absent(rule, summary))]
    return [_unless_unreached(_unless_failed(rule, *share), rule, summary) for share in shares]


def _unless_unreached(result: RuleResult, rule: Rule, summary: Summary) -> RuleResult:
    """The result, made undecided if it passes only because no attack could use the whole epsilon.

    A failed rule stays failed: a larger part of the budget flips no fewer images.
    """
    limit = budgets.at(summary.budgets, result.epsilon)
    alone = result.scope.removeprefix("attack ") if rule.scope == "attack" else ""
    if limit is None or rule.metric == "clean_accuracy" or result.passed is False:
        return result
    if alone in limit.short:
        why = smallest_epsilon.limited(alone, limit.short[alone])
    elif alone or limit.reached:
        return result
    else:
        why = limit.reason
    undecided = _undecided(rule, f"at epsilon {limit.epsilon:.12g} {why}")
    return replace(undecided, scope=result.scope, epsilon=result.epsilon)


def _unless_failed(
    rule: Rule, scope: str, epsilon: float | None, share: Share | None, tally: Tally | None
) -> RuleResult:
    """The result, undecided if the rule is met only because attacks failed."""
    result = compare(rule, scope, epsilon, share)
    if result.passed is not True or share is None or tally is None:
        return result
    lost = tally.failed + tally.partly_failed
    if not lost or compare(rule, scope, epsilon, _if_failed_flipped(rule, share, tally)).passed:
        return result
    return _undecided_by_failures(rule, result, lost)


def _undecided_by_failures(rule: Rule, result: RuleResult, lost: int) -> RuleResult:
    why = (
        f"attacks failed on {wording.plural(lost, 'image')}; if these flipped, it would not be met"
    )
    return replace(_undecided(rule, why), scope=result.scope, epsilon=result.epsilon)


def _if_failed_flipped(rule: Rule, share: Share, tally: Tally) -> Share:
    """The share if every image flipped on which an attack failed."""
    if rule.metric == "flip_rate":
        flips = share.count + tally.failed + tally.partly_failed
        return Share.of(flips, share.total + tally.failed)
    if rule.metric == "robust_accuracy":
        # Images on which every attack failed are in this total already, as not robust.
        return Share.of(max(0, share.count - tally.partly_failed), share.total)
    return share


Measured = tuple[str, float | None, Share | None, Tally | None]


def _measured(rule: Rule, summary: Summary) -> list[Measured]:
    """The shares that the rule is about: scope in words, epsilon, the share, and its images."""
    if rule.metric == "clean_accuracy" and rule.scope == "worst":
        return [("worst", None, summary.images.clean_accuracy, None)]
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
        (scope, rate.epsilon, _share(rate, rule.metric), rate.tally)
        for scope, rate in rates
        if rate.epsilon == wanted
    ]


def _shown(rate: Rate) -> str:
    """The scope of an attack's rule; of a cascade it says that its rate is of what was left."""
    left = ", of images that earlier attacks did not flip" if rate.tally.settled else ""
    return f"attack {rate.attack}{left}"


def _family(label: str | None) -> str:
    return str(label).partition("(")[0]


def _share(rate: Any, metric: str) -> Share | None:
    if metric == "flip_rate":
        return rate.tally.flip_rate
    if metric == "robust_accuracy":
        return rate.robust_accuracy
    # The clean accuracy of one class: the correct images among the readable ones.
    t = rate.tally
    right = t.flipped + t.robust + t.failed + t.settled
    return None if rate.robust_accuracy is None else Share.of(right, right + t.misclassified)


def _absent(rule: Rule, summary: Summary) -> str:
    epsilons = sorted({rate.epsilon for rate in summary.worst})
    if rule.epsilon is not None and rule.epsilon not in epsilons:
        known = ", ".join(f"{e:.12g}" for e in epsilons) or "none"
        return f"epsilon {rule.epsilon:.12g} was not audited (audited: {known})"
    if rule.scope == "attack":
        return f"no attack {rule.of!r} was run (run: {wording.listed(summary.attacks) or 'none'})"
    if rule.scope == "class":
        return f"no image of class {rule.of!r} was audited"
    return "nothing was measured"


def _undecided(rule: Rule, why: str) -> RuleResult:
    scope = f"{rule.scope} {rule.of}" if rule.of else rule.scope
    return RuleResult(
        *(rule.name, scope, rule.metric, rule.epsilon, None, None, None, rule.threshold, None),
        f"{rule.name}: cannot be judged: {why}.",
    )


def compare(rule: Rule, scope: str, epsilon: float | None, share: Share | None) -> RuleResult:
    """Compare a share of the run with a rule."""
    if share is None or share.share is None or share.low is None or share.high is None:
        return replace(_undecided(rule, "no image counts for it"), scope=scope, epsilon=epsilon)
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
    at = "" if epsilon is None else f" at epsilon {epsilon:.12g}"
    interval = wording.percent_range(share.low, share.high, " to ")
    limit = f"{METRICS[rule.metric]} {wording.percent(rule.threshold)}"
    name = rule.metric.replace("_", " ")
    text = f"{rule.name}: {name} ({where}){at} is {wording.percent(share.share)}"
    text += "" if rule.bound == "point" else f", 95 % interval {interval}"
    ending = {
        True: f"; required {limit}.",
        False: f"; required {limit}: failed.",
        None: f"; required {limit}: undecided, {wording.plural(share.total, 'image')} are too few.",
    }
    return text + ending[passed]


def against(base: Baseline, summary: Summary) -> list[RuleResult]:
    """Compare the worst case with an earlier run, at every epsilon that both have."""
    rule = Rule(BASELINE, "robust_accuracy", 0.0, "baseline")
    if why := _difference(base, summary):
        return [
            _undecided(replace(rule, threshold=0.0), f"{base.source} cannot be its baseline: {why}")
        ]
    before = {epsilon: Share.of(count, total) for epsilon, count, total in base.worst}
    results = []
    for rate in summary.worst:
        old, new = before.get(rate.epsilon), rate.robust_accuracy
        if old is None or old.share is None or new is None or new.share is None:
            continue
        limit = old.share - base.max_drop
        passed = _meets(new.share, limit, at_least=True)
        sure = _if_failed_flipped(rule, new, rate.tally).share
        if passed and (sure is None or not _meets(sure, limit, at_least=True)):
            here = replace(_undecided(rule, ""), scope="baseline", epsilon=rate.epsilon)
            results.append(
                _undecided_by_failures(
                    replace(rule, threshold=limit), here, rate.tally.partly_failed
                )
            )
            continue
        drop = f", {wording.percent(base.max_drop)} less allowed" if base.max_drop else ""
        results.append(
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
                f"{rule.name}: robust accuracy at epsilon {rate.epsilon:.12g} is "
                f"{wording.percent(new.share)}, was {wording.percent(old.share)}{drop}.",
            )
        )
    return results or [_undecided(rule, "the two runs share no epsilon")]


def _difference(base: Baseline, summary: Summary) -> str:
    data = summary.manifest.data.sha256
    if base.data_sha256 is None or base.data_sha256 != data:
        return "it audited other images"
    if base.norm != summary.norm or base.goal != summary.config.aim:
        return f"it has another norm or goal ({base.norm}, {base.goal})"
    if set(base.attacks) != set(summary.attacks):
        return f"it ran other attacks ({wording.listed(base.attacks)})"
    return ""


def suppressed(result: RuleResult, suppressions: Iterable[Suppression], today: date) -> RuleResult:
    """Return the result with the suppression that covers it `today`, or a note on one that expired."""
    for suppression in suppressions:
        if suppression.rule != result.name or result.passed is True:
            continue
        until = suppression.expires.isoformat()
        if today <= suppression.expires:
            return replace(result, suppressed=f"{suppression.reason} (until {until})")
        sentence = f"{result.sentence} Its suppression ({suppression.reason}) expired on {until}."
        result = replace(result, sentence=sentence)
    return result
