"""The table an audit ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from reports import Summary


def outcome_table(summary: Summary) -> Table:
    """A row an attack and epsilon: flips of the initially correct images, with their interval."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("attack", "epsilon", "flipped", "of", "flip rate", "95 % interval"):
        table.add_column(title, justify="left" if title == "attack" else "right")
    for row in summary.rows:
        low, high = row.interval
        table.add_row(
            Text(row.attack),
            f"{row.epsilon:g}",
            str(row.flipped),
            str(row.correct),
            "-" if row.flip_rate is None else f"{row.flip_rate:.1%}",
            "-" if row.flip_rate is None else f"{low:.1%} .. {high:.1%}",
        )
    return table
