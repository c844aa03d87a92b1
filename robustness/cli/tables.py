"""The table that an audit prints at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from robustness.text import printable, visible

if TYPE_CHECKING:
    from robustness.reports import Summary


def outcome_table(summary: Summary) -> Table:
    """A row per attack and epsilon: the flips of initially correct images, with their 95 % interval.

    In a cascade an attack runs on the images that the attacks before it did not flip, and a column counts
    the images that it does not flip either. Another column counts the images on which an attack broke down,
    where one did.
    """
    from robustness.reports.wording import budget, percent, percent_range

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("attack", "epsilon", "flipped", "of", "flip rate", "95 % interval", "steps"):
        table.add_column(title, justify="left" if title == "attack" else "right", overflow="fold")
    cascade = summary.config.cascade
    if cascade:
        table.add_column("standing", justify="right")
    broken = any(rate.tally.failed for rate in summary.rates)
    if broken:
        table.add_column("broke down", justify="right")
    for rate in summary.rates:
        share = rate.tally.flip_rate
        table.add_row(
            Text(printable(visible(rate.attack or "all together"))),
            budget(summary.norm, rate.epsilon),
            str(share.count),
            str(share.total),
            percent(share.share),
            percent_range(share.low, share.high),
            "-" if rate.steps is None else f"{rate.steps:g}",
            *([str(rate.tally.robust)] if cascade else []),
            *([str(rate.tally.failed)] if broken else []),
        )
    return table
