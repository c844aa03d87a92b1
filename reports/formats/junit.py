"""JUnit XML: a test case for every rule, diagnostic and attack, and one for the verdict."""

from __future__ import annotations

from xml.etree import ElementTree

from robustness.reports import wording
from robustness.reports.gate.rule_results import RuleResult
from robustness.reports.gate.verdict import DIAGNOSTIC, NOTHING, PASS, Verdict
from robustness.reports.summary.summary import Summary


def junit(summary: Summary, verdict: Verdict) -> str:
    """Return one test suite as XML; the deployed pipeline is in its properties.

    A case fails exactly if it counts against the run in the verdict. The text of its element says
    everything, since some readers show nothing else. The name of a case does not depend on its result,
    since pipelines compare results by name.
    """
    suite = ElementTree.Element("testsuite", {"name": _text(summary.model_name)})
    text = f"{verdict.label}: {verdict.sentence}"
    _case(suite, "verdict", "the run as a whole", text, _kind(verdict))
    titles = {d.id: f"{d.id} {d.title}" for d in summary.diagnostics}
    for rule in verdict.rules:
        name = titles.get(rule.name, rule.name) if rule.scope == DIAGNOSTIC else _rule_name(rule)
        _case(suite, _text(rule.scope), name, _rule_text(rule), _rule_kind(rule))
    failed = {r.name for r in verdict.rules if r.scope == DIAGNOSTIC}
    for diagnosis in summary.diagnostics:
        if diagnosis.id not in failed:
            kind = "skipped" if diagnosis.status == "skipped" else ""
            text = f"{diagnosis.status}: {diagnosis.title}: {diagnosis.sentence}"
            _case(suite, DIAGNOSTIC, titles[diagnosis.id], text, kind)
    for rate in summary.rates:
        share = rate.tally.flip_rate
        left = " left by earlier attacks" if rate.tally.settled else ""
        text = (
            f"{share.count} of {share.total}{left} flip, {wording.percent(share.share)}, 95 % interval "
            f"{wording.percent_range(share.low, share.high)}"
        )
        text += f"; it failed on {rate.tally.failed} more" if rate.tally.failed else ""
        name = f"{summary.norm} epsilon {wording.budget(summary.norm, rate.epsilon)}"
        text += "; the attack could not use the whole epsilon" if rate.unreached else ""
        _case(suite, f"attack {rate.attack}", name, text, "" if share.total else "skipped")
    cases = len(suite)
    for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(kind, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(cases))
    suite.set("time", f"{summary.cost.seconds or 0:.3f}")
    if summary.deployed:
        properties = ElementTree.Element("properties")
        for name, said in summary.deployed.properties().items():
            ElementTree.SubElement(
                properties, "property", {"name": name, "value": _text(said, 1000)}
            )
        suite.insert(0, properties)
    # The schema of Jenkins has no count of skipped cases here.
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


def _rule_kind(rule: RuleResult) -> str:
    if rule.passed is True:
        return ""
    return "skipped" if rule.suppressed else "failure"


def _rule_name(rule: RuleResult) -> str:
    at = "" if rule.epsilon is None else f" epsilon {rule.epsilon:.12g}"
    return f"{rule.name}: {rule.metric}{at}"


def _rule_text(rule: RuleResult) -> str:
    return rule.sentence + (f" Suppressed: {rule.suppressed}" if rule.suppressed else "")


def _case(suite: ElementTree.Element, group: str, name: str, text: str, kind: str) -> None:
    names = {"classname": _text(group), "name": _text(name)}
    taken = {(c.get("classname"), c.get("name")) for c in suite}
    number = 2
    # Readers drop the second of two cases with the same name.
    while (names["classname"], names["name"]) in taken:
        names["name"] = f"{_text(name)} ({number})"
        number += 1
    case = ElementTree.SubElement(suite, "testcase", {**names, "time": "0"})
    inner = ElementTree.SubElement(case, kind or "system-out")
    if kind:
        inner.set("message", _text(text, 300))
    if kind in ("failure", "error"):
        inner.set("type", "robustness")
    inner.text = _text(text, 4000)


def _text(text: str, most: int = 200) -> str:
    """Text that XML can carry, whole characters only."""
    return wording.shorten(text, most)
