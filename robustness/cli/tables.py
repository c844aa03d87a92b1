"""The table an audit ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from robustness.text import printable, visible

if TYPE_CHECKING:
    from robustness.reports import Summary


def outcome_table(summary: Summary) -> Table:
    """A row an attack and epsilon: flips of the initially correct images, with their interval.

    In a cascade an attack sees what the ones before it left, and the last column is what it leaves.
    """
    from robustness.reports.wording import budget, percent, percents

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("attack", "epsilon", "flipped", "of", "flip rate", "95 % interval", "steps"):
        table.add_column(title, justify="left" if title == "attack" else "right", overflow="fold")
    cascade = summary.config.cascade
    if cascade:
        table.add_column("standing", justify="right")
    for rate in summary.rates:
        share = rate.tally.flip_rate
        table.add_row(
            Text(printable(visible(rate.attack or "all together"))),
            budget(summary.norm, rate.epsilon),
            str(share.count),
            str(share.total),
            percent(share.share),
            percents(share.low, share.high),
            "-" if rate.steps is None else f"{rate.steps:g}",
            *([str(rate.tally.robust)] if cascade else []),
        )
    return table
