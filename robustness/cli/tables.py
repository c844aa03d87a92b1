"""Prints tables, and makes the table of outcomes that an audit prints at its end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustness.text import printable, visible

if TYPE_CHECKING:
    from robustness.reports import Summary

WIDEST = 10_000
"""The largest width of a table in characters; names in a run may be as long as its file."""


def print_table(console: Console, table: Table, *, grouped: bool = False) -> None:
    """Print a table in which no name is broken into two lines.

    A file or a pipe gets lines as long as the table needs. In a terminal the first column is never broken;
    if the table is too wide and `grouped`, the first column gets lines of its own, where its text changes.
    """
    table.columns[0].no_wrap = True
    whole = _rendered(table)
    if not console.is_terminal:
        for line in whole:
            console.print(Text(line), soft_wrap=True)
    elif not grouped or max(map(len, whole)) <= console.width:
        console.print(table)
    else:
        for line in _by_first_column(table):
            console.print(Text(line), soft_wrap=True)


def _rendered(table: Table) -> list[str]:
    """The lines of a table as wide as it needs, without styles."""
    console = Console(width=WIDEST, file=io.StringIO(), color_system=None, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().rstrip("\n").split("\n")]


def _by_first_column(table: Table) -> Iterator[str]:
    """Yield the lines of a table whose first column is in lines of its own above the rest."""
    first, *columns = table.columns
    rest = Table(box=None, pad_edge=False)
    for column in columns:
        rest.add_column(column.header, justify=column.justify, no_wrap=True)
    for cells in zip(*(column.cells for column in columns), strict=True):
        rest.add_row(*cells)
    header, *rows = _rendered(rest)
    yield f"{first.header}"
    yield f"  {header}"
    before = ""
    for name, row in zip(map(str, first.cells), rows, strict=True):
        if name != before:
            yield name
        yield f"  {row}"
        before = name


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
