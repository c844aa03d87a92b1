"""The rules of the gate, and whether each holds."""

from __future__ import annotations

from robustness.reports.gate.verdict import DIAGNOSTIC
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template


def section(page: PageData) -> Section | None:
    """The rules; None without a gate."""
    rules = [rule for rule in page.verdict.rules if rule.scope != DIAGNOSTIC]
    if not rules:
        return None
    return Section(
        anchor="gate",
        title="Gate",
        template=read_template("sections/gate.html.j2"),
        data={"rules": rules},
        link="Gate",
    )
