"""The flip rate of each attack at each epsilon."""

from __future__ import annotations

from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.summary import Rate, Summary


def section(page: PageData) -> Section:
    """The table of rates, and the attacks that failed."""
    summary = page.summary
    return Section(
        anchor="rates",
        title="Flip rates",
        template=read_template("sections/flip_rates.html.j2"),
        data={"summary": summary, "rows": rates_by_attack(summary), "cascade": summary.has_spared},
        link="Flip rates",
    )


def rates_by_attack(summary: Summary) -> list[tuple[str, list[Rate]]]:
    """Return the rates attack by attack, with all attacks together last if there are several."""
    groups = [
        (name, [rate for rate in summary.rates if rate.attack == name]) for name in summary.attacks
    ]
    if len(summary.attacks) > 1:
        groups.append(("All together (worst case per image)", list(summary.worst)))
    return groups
