"""JUnit XML: a test case for every demand, diagnostic and attack, and one for the verdict."""

from __future__ import annotations

from xml.etree import ElementTree

from robustness.reports import wording
from robustness.reports.gate.rule_results import RuleResult
from robustness.reports.gate.verdict import DIAGNOSTIC, NOTHING, PASS, Verdict
from robustness.reports.summary.summary import Summary


def junit(summary: Summary, verdict: Verdict) -> str:
    """One suite. A case fails exactly where the verdict counts against the run; the element's text
    says everything, since some readers show nothing else. A case is called the same whatever came of
    it: pipelines tell by the name what fails newly.
    """
    suite = ElementTree.Element("testsuite", {"name": _text(summary.model_name)})
    said = f"{verdict.label}: {verdict.sentence}"
    _case(suite, "verdict", "the run as a whole", said, _kind(verdict))
    titles = {one.id: f"{one.id} {one.title}" for one in summary.diagnostics}
    for rule in verdict.rules:
        name = titles.get(rule.name, rule.name) if rule.scope == DIAGNOSTIC else _named(rule)
        _case(suite, _text(rule.scope), name, _said(rule), _came(rule))
    failed = {r.name for r in verdict.rules if r.scope == DIAGNOSTIC}
    for one in summary.diagnostics:
        if one.id not in failed:
            kind = "skipped" if one.status == "skipped" else ""
            said = f"{one.status}: {one.title}: {one.sentence}"
            _case(suite, DIAGNOSTIC, f"{one.id} {one.title}", said, kind)
    for rate in summary.rates:
        share = rate.tally.flip_rate
        left = " that earlier attacks left" if rate.tally.settled else ""
        said = (
            f"{share.count} of {share.total}{left} flip, {wording.percent(share.share)}, 95 % interval "
            f"{wording.percents(share.low, share.high)}"
        )
        name = f"{summary.norm} epsilon {wording.budget(summary.norm, rate.epsilon)}"
        said += "; the attack could not use all of epsilon" if rate.unreached else ""
        _case(suite, f"attack {rate.attack}", name, said, "" if share.total else "skipped")
    for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(kind, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(suite)))
    suite.set("time", f"{summary.cost.seconds or 0:.3f}")
    # Jenkins' schema knows no count of skipped cases up here.
    counts = {name: suite.get(name, "0") for name in ("tests", "failures", "errors")}
    root = ElementTree.Element("testsuites", counts)
    root.append(suite)
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _kind(verdict: Verdict) -> str:
    if verdict.status == PASS:
        return ""
    return "error" if verdict.status == NOTHING else "failure"


def _came(rule: RuleResult) -> str:
    if rule.passed is True:
        return ""
    return "skipped" if rule.suppressed else "failure"


def _named(rule: RuleResult) -> str:
    at = "" if rule.epsilon is None else f" epsilon {rule.epsilon:g}"
    return f"{rule.name}: {rule.metric}{at}"


def _said(rule: RuleResult) -> str:
    return rule.sentence + (f" Suppressed: {rule.suppressed}" if rule.suppressed else "")


def _case(suite: ElementTree.Element, group: str, name: str, said: str, kind: str) -> None:
    place = {"classname": _text(group), "name": _text(name)}
    taken = {(c.get("classname"), c.get("name")) for c in suite}
    number = 2
    # Readers drop the second of two cases of one name.
    while (place["classname"], place["name"]) in taken:
        place["name"] = f"{_text(name)} ({number})"
        number += 1
    case = ElementTree.SubElement(suite, "testcase", {**place, "time": "0"})
    inner = ElementTree.SubElement(case, kind or "system-out")
    if kind:
        inner.set("message", _text(said, 300))
    if kind in ("failure", "error"):
        inner.set("type", "robustness")
    inner.text = _text(said, 4000)


def _text(text: str, most: int = 200) -> str:
    """Text that XML can carry, whole characters only."""
    return wording.shorten(text, most)
