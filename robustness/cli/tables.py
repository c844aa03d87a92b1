"""Makes the table of outcomes that an audit prints at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from robustness.text import printable, visible

if TYPE_CHECKING:
    from robustness.reports import Summary


def outcome_table(summary: Summary) -> Table:
    """Return a table with a row per attack and epsilon: flips of correctly classified images, 95 % interval.

    In a cascade an attack runs on the images that no earlier attack flips; the column "robust" counts
    those that it does not flip either. The column "failed" counts the images on which the attack failed; it
    is left out if there are none.
    """
    from robustness.reports.wording import budget, percent, percent_range

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("attack", "epsilon", "flipped", "of", "flip rate", "95 % interval", "steps"):
        table.add_column(title, justify="left" if title == "attack" else "right", overflow="fold")
    cascade = summary.config.cascade
    if cascade:
        table.add_column("robust", justify="right")
    broken = any(rate.tally.failed for rate in summary.rates)
    if broken:
        table.add_column("failed", justify="right")
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
