"""Reads the gate from the table [gate] of a TOML file, and the baseline from an earlier run."""

from __future__ import annotations

from pathlib import Path

from robustness.configuration.epsilons import parse_epsilon
from robustness.configuration.toml import Section
from robustness.errors import RunError, RunUsageError, SettingError
from robustness.files.reading import MOST_JSON, read_named
from robustness.reports.gate.rule_results import BASELINE
from robustness.reports.gate.rules import BOUNDS, METRICS, SCOPES, Baseline, Gate, Rule, Suppression
from robustness.reports.summary.summary import Summary, summarise
from robustness.runs.run_json import summary_of
from robustness.runs.schema import StoredSummary
from robustness.runs.store import Run


def read_gate(table: Section) -> Gate | None:
    """Read the gate from a TOML table [gate]; None if it is empty.

    Keys: `rules` and `suppress` (lists of tables), `baseline` (a table with `run` and `max_drop`).

    Raises
    ------
    SettingError
        If a value is wrong; the message names the key.
    """
    rules = tuple(_rule(entry, number) for number, entry in enumerate(table.sections("rules"), 1))
    names = [rule.name for rule in rules]
    if len(set(names)) < len(names):
        raise SettingError(f"{table.key('rules')}: names repeat ({', '.join(names)}).")
    known = {*names, BASELINE}
    suppressions = tuple(_suppression(entry, known) for entry in table.sections("suppress"))
    baseline = _baseline(table.section("baseline")) if "baseline" in table else None
    table.close()
    gate = Gate(rules, suppressions, baseline)
    return None if gate == Gate() else gate


def _rule(table: Section, number: int) -> Rule:
    metric = table.text("metric", "robust_accuracy", choices=METRICS)
    scope = table.text("scope", "worst", choices=SCOPES)
    rule = Rule(
        name=table.text("name", f"rule {number}"),
        metric=metric,
        threshold=table.number("threshold", low=0, high=1),
        scope=scope,
        of=table.text(scope, None) if scope != "worst" else None,
        epsilon=_epsilon(table),
        bound=table.text("bound", "lower", choices=BOUNDS),
    )
    if metric == "clean_accuracy" and scope == "attack":
        raise table.wrong("scope", "'worst' or 'class': no attack changes the clean accuracy")
    table.close()
    return rule


def _epsilon(table: Section) -> float | None:
    value = table.value("epsilon", None)
    try:
        return None if value is None else parse_epsilon(value)
    except SettingError as error:
        raise table.wrong("epsilon", f'counts such as 4, or "4/255" ({error})') from None


def _suppression(table: Section, known: set[str]) -> Suppression:
    suppression = Suppression(table.text("rule"), table.text("reason"), table.day("expires"))
    diagnostic = suppression.rule[:1] in ("D", "P") and suppression.rule[1:].isdigit()
    if suppression.rule not in known and not diagnostic:
        raise table.wrong("rule", f"a diagnostic such as D09, or one of {', '.join(sorted(known))}")
    table.close()
    return suppression


def _baseline(table: Section) -> Baseline:
    path, drop = table.text("run"), table.number("max_drop", 0.0, low=0, high=1)
    table.close()
    beside = Path(table.file).parent / path
    target = beside if beside.exists() else Path(path)
    if not target.exists():
        raise table.wrong("run", "a run folder or its report.json")
    return baseline(target, drop)


def baseline(path: Path, max_drop: float = 0.0) -> Baseline:
    """Read the baseline from a run folder or a `report.json`.

    Parameters
    ----------
    path
        The run folder or report.
    max_drop
        By how much the robust accuracy may be lower, a share.

    Raises
    ------
    RunUsageError
        If `path` is neither.
    """
    summary: Summary | StoredSummary
    if path.is_dir():
        with Run.open(path) as run:
            summary = summarise(run)
    else:
        summary = _summary_in(path)
    config = summary.manifest.config
    lacking = {
        "config.norm": config.norm is None,
        "config.goal": config.goal is None,
        "attacks": summary.attacks is None,
        "worst": summary.worst is None,
    }
    if any(lacking.values()):
        names = ", ".join(name for name, missing in lacking.items() if missing)
        raise RunUsageError(
            f"{path} is no baseline, since it lacks {names}; expected a run folder or its report.json."
        )
    shares = [(rate.epsilon, rate.robust_accuracy) for rate in summary.worst or ()]
    return Baseline(
        source=path.name,
        data_sha256=summary.manifest.data.sha256,
        norm=str(config.norm),
        goal=config.aim,
        attacks=summary.attacks or (),
        worst=tuple((float(e), share.count, share.total) for e, share in shares if share),
        max_drop=max_drop,
    )


def _summary_in(path: Path) -> StoredSummary:
    try:
        data = read_named(path, MOST_JSON)
    except RunError as error:
        raise RunUsageError(f"{path} cannot be read as a baseline: {error}") from None
    try:
        return summary_of(data, str(path))
    except RunError as error:
        raise RunUsageError(f"{path} is no baseline: {error}") from None
