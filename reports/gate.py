"""The gate: what a run must show to pass. One `Verdict`; page, JSON, JUnit and exit code are its.

A rule holds a share of the run against a threshold. Judged on its bound (the rule), it holds if even
the unfavourable end of the 95 % interval does, is broken if even the favourable end is on the wrong
side, and stays open between: too few images to tell. Judged on the point, it holds or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any

from reports import words
from reports.intervals import Share
from reports.summary import Summary, section
from robustness.errors import RunError

PASS, FAIL, INCONCLUSIVE, NOTHING = "pass", "fail", "inconclusive", "nothing evaluated"
EXIT_CODES = {PASS: 0, FAIL: 1, INCONCLUSIVE: 4, NOTHING: 5}
"""2 (usage) and 3 (run error) are those of commands that never came to a verdict."""

AT_LEAST, AT_MOST = "at least", "at most"
METRICS = {"robust_accuracy": AT_LEAST, "clean_accuracy": AT_LEAST, "flip_rate": AT_MOST}
"""What a rule can measure, and on which side of its threshold it must lie."""
DIAGNOSTIC, BASELINE = "diagnostic", "no worse than baseline"
SCOPES, BOUNDS = ("worst", "attack", "class"), ("lower", "point")
_SLACK = 1e-12


@dataclass(frozen=True)
class Rule:
    """One demand. `of` is an attack or a class by name, None for each; `epsilon` None the largest.

    `bound` "lower" judges on the unfavourable end of the interval (for a flip rate the upper one).
    """

    name: str
    metric: str
    threshold: float
    scope: str = "worst"
    of: str | None = None
    epsilon: float | None = None
    bound: str = "lower"


@dataclass(frozen=True)
class Suppression:
    """A rule or diagnostic that does not count, why, and until which day (that day included)."""

    rule: str
    reason: str
    expires: date


@dataclass(frozen=True)
class Baseline:
    """An earlier run to be no worse than: its worst case by epsilon, (epsilon, count, total) each."""

    source: str
    data_sha256: str | None
    norm: str
    goal: str
    attacks: tuple[str, ...]
    worst: tuple[tuple[float, int, int], ...]
    max_drop: float = 0.0


@dataclass(frozen=True)
class Gate:
    """Everything a run is held against. `to_dict` goes into `run.json`, `from_dict` comes out."""

    rules: tuple[Rule, ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    baseline: Baseline | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain = asdict(self)
        for one in plain["suppressions"]:
            one["expires"] = one["expires"].isoformat()
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Gate:
        """The gate that `to_dict` wrote; RunError if it is none."""
        try:
            base = plain.get("baseline")
            return cls(
                tuple(Rule(**one) for one in plain["rules"]),
                tuple(
                    Suppression(s["rule"], s["reason"], date.fromisoformat(s["expires"]))
                    for s in plain["suppressions"]
                ),
                Baseline(
                    **base
                    | {
                        "attacks": tuple(base["attacks"]),
                        "worst": tuple((float(e), int(k), int(n)) for e, k, n in base["worst"]),
                    }
                )
                if base
                else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"The gate of this run cannot be read ({error}); run.json is damaged."
            ) from None


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


@dataclass(frozen=True)
class Verdict:
    """Pass, fail, inconclusive or nothing evaluated; the process leaves with `exit_code`."""

    status: str
    exit_code: int
    sentence: str
    rules: tuple[RuleResult, ...] = field(default=())

    @property
    def gated(self) -> bool:
        """Whether anything was demanded: without a gate a "pass" only says that the run is sound."""
        return any(rule.scope != DIAGNOSTIC for rule in self.rules)

    @property
    def label(self) -> str:
        """The word for a badge: PASS only where something was demanded."""
        return "NO GATE" if self.status == PASS and not self.gated else self.status.upper()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"label": self.label, "gated": self.gated}


def verdict_of(summary: Summary) -> Verdict:
    """The verdict on a run by the gate and the diagnostics that its `run.json` holds."""
    gate = section(summary.manifest, "gate")
    found = summary.manifest.get("diagnostics") or ()
    return decide(summary, Gate.from_dict(gate) if gate else None, found)


def decide(
    summary: Summary,
    gate: Gate | None,
    diagnostics: Sequence[Mapping[str, Any]],
    today: date | None = None,
) -> Verdict:
    """Hold a run against `gate`; without one, only whether it is sound.

    The gravest first: nothing evaluated, a diagnostic that failed or a run that is not finished
    (inconclusive), a broken rule, a rule that stays open (inconclusive), and else pass. Suppressions
    are judged on `today`, by default the day the run was made, so that its report says the same on
    any day.
    """
    gate = gate or Gate()
    day = today or _day(summary)
    results = [*_diagnostics(diagnostics)]
    for rule in gate.rules:
        results += _judged(rule, summary)
    if gate.baseline:
        results += _against(gate.baseline, summary)
    results = [_suppressed(result, gate.suppressions, day) for result in results]
    status, sentence = _status(summary, [r for r in results if not r.suppressed])
    left_out = [r.name for r in results if r.suppressed and r.passed is not True]
    if left_out and status != NOTHING:
        sentence += f" Suppressed: {_list(left_out)}."
    return Verdict(status, EXIT_CODES[status], sentence, tuple(results))


def _day(summary: Summary) -> date:
    said = summary.manifest.get("finished") or summary.manifest.get("created")
    try:
        return date.fromisoformat(str(said)[:10])
    except ValueError:
        return date.today()


def _status(summary: Summary, results: list[RuleResult]) -> tuple[str, str]:
    if not summary.overall.flip_rate.total:
        return NOTHING, _nothing(summary)
    if doubt := _doubt(summary, [r for r in results if r.scope == DIAGNOSTIC]):
        return INCONCLUSIVE, doubt
    rules = [r for r in results if r.scope != DIAGNOSTIC]
    for status, value, word in ((FAIL, False, "broken"), (INCONCLUSIVE, None, "undecided")):
        if some := [r for r in rules if r.passed is value]:
            head = f"{len(some)} of {words.plural(len(rules), 'rule')} {word}: "
            return status, head + _sentences(some)
    if not rules:
        return PASS, "No gate was set, so nothing was demanded of the model."
    if len(rules) == 1:
        return PASS, f"The rule holds: {rules[0].sentence}"
    return PASS, f"All {len(rules)} rules hold."


def _doubt(summary: Summary, failed: list[RuleResult]) -> str:
    """Why no rule can decide anything; nothing where the run is sound."""
    if failed:
        verb = "diagnostic says" if len(failed) == 1 else "diagnostics say"
        also = f" Also {_list([r.name for r in failed[1:]])}." if failed[1:] else ""
        return (
            f"{len(failed)} {verb} that the numbers cannot be relied on: {failed[0].sentence}{also}"
        )
    return "" if summary.finished else "The run is not finished, so nothing is decided yet."


def _nothing(summary: Summary) -> str:
    images, lost = summary.images, summary.overall.failed
    if not images.readable:
        return "Nothing was evaluated: no image could be read."
    if lost:
        return f"Nothing was evaluated: the attacks broke down on all {lost} images."
    return "Nothing was evaluated: no image was classified correctly, so none was attacked."


def _sentences(results: list[RuleResult], most: int = 3) -> str:
    said = " ".join(r.sentence for r in results[:most])
    more = len(results) - most
    return said + (f" And {more} more." if more > 0 else "")


def _list(names: Sequence[str]) -> str:
    return ", ".join(words.shorten(n, 60) for n in names)


def _diagnostics(found: Iterable[Mapping[str, Any]]) -> Iterable[RuleResult]:
    for one in found:
        if one.get("status") == FAIL:
            said = f"{one.get('id')} {one.get('title')}: {one.get('sentence')}"
            yield RuleResult(
                str(one.get("id")), DIAGNOSTIC, DIAGNOSTIC, None, None, None, None, None, None, said
            )


def _judged(rule: Rule, summary: Summary) -> list[RuleResult]:
    found = _measured(rule, summary)
    if not found:
        return [_open(rule, _absent(rule, summary))]
    return [_held(rule, scope, epsilon, share) for scope, epsilon, share in found]


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
            (f"attack {rate.attack}", rate)
            for rate in summary.rates
            if rule.of in (None, rate.attack, short.get(str(rate.attack)), _family(rate.attack))
        ]
    return [
        (scope, rate.epsilon, _share(rate, rule.metric))
        for scope, rate in rates
        if rate.epsilon == wanted
    ]


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
        return f"no attack {rule.of!r} was run (run: {_list(summary.attacks) or 'none'})"
    if rule.scope == "class":
        return f"no image of class {rule.of!r} was audited"
    return "nothing was measured"


def _open(rule: Rule, why: str) -> RuleResult:
    scope = f"{rule.scope} {rule.of}" if rule.of else rule.scope
    return RuleResult(
        *(rule.name, scope, rule.metric, rule.epsilon, None, None, None, rule.threshold, None),
        f"{rule.name}: cannot be judged, {why}.",
    )


def _held(rule: Rule, scope: str, epsilon: float | None, share: Share | None) -> RuleResult:
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
    where = "worst case" if scope == "worst" else words.shorten(scope, 60)
    at = "" if epsilon is None else f" at epsilon {epsilon:g}"
    interval = words.percents(share.low, share.high, " to ")
    limit = f"{METRICS[rule.metric]} {words.percent(rule.threshold)}"
    name = rule.metric.replace("_", " ")
    said = f"{rule.name}: {name} ({where}){at} is {words.percent(share.share)}"
    said += "" if rule.bound == "point" else f", 95 % interval {interval}"
    ending = {
        True: f"; demanded {limit}.",
        False: f"; demanded {limit}, which it is not.",
        None: f"; demanded {limit}, which {words.plural(share.total, 'image')} cannot decide.",
    }
    return said + ending[passed]


def _against(base: Baseline, summary: Summary) -> list[RuleResult]:
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
        drop = f", {words.percent(base.max_drop)} less allowed" if base.max_drop else ""
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
                f"{words.percent(new.share)}, was {words.percent(old.share)}{drop}.",
            )
        )
    return found or [_open(rule, "the two runs share no epsilon")]


def _unlike(base: Baseline, summary: Summary) -> str:
    config = summary.config
    data = section(summary.manifest, "data").get("sha256")
    if base.data_sha256 is None or base.data_sha256 != data:
        return "it audited other images"
    if base.norm != summary.norm or base.goal != config.get("goal"):
        return f"it has another threat ({base.norm}, {base.goal})"
    if set(base.attacks) != set(summary.attacks):
        return f"it ran other attacks ({_list(base.attacks)})"
    return ""


def _suppressed(result: RuleResult, suppressions: Iterable[Suppression], today: date) -> RuleResult:
    for one in suppressions:
        if one.rule != result.name or result.passed is True:
            continue
        until = one.expires.isoformat()
        if today <= one.expires:
            return replace(result, suppressed=f"{one.reason} (until {until})")
        said = f"{result.sentence} Its suppression ({one.reason}) expired on {until}."
        result = replace(result, sentence=said)
    return result
