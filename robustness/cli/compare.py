"""The command `robustness compare`: compares two runs image by image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness.cli.options import AsJson, HtmlPage

if TYPE_CHECKING:
    from rich.table import Table

    from robustness.reports.comparison.compare import Comparison

SHOWN = 20


def compare(
    a: Annotated[Path, typer.Argument(help="A run folder or its report.json: the earlier run.")],
    b: Annotated[Path, typer.Argument(help="The later run on the same images.")],
    html: HtmlPage = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs image by image: newly flipped, newly robust, McNemar's test. Needs no TensorFlow.

    \b
    Examples:
      robustness compare before after
      robustness compare before after --html difference.html
    """
    from robustness.cli.terminal import stderr
    from robustness.files import disk_errors
    from robustness.reports.comparison.compare import compare as paired

    if html is not None:
        disk_errors.expect_place(html)
    comparison = paired(a, b)
    if as_json:
        typer.echo(json.dumps(comparison.to_dict()))
    else:
        show(comparison)
    # Last: if the page cannot be written, the comparison is shown all the same.
    if html is not None:
        from robustness.reports.comparison.page import write_comparison

        line = f"page: {write_comparison(comparison, html)}"
        stderr().print(line, markup=False, soft_wrap=True)


def show(comparison: Comparison) -> None:
    """Print a comparison."""
    from robustness.cli.tables import print_table
    from robustness.cli.terminal import stdout
    from robustness.reports.comparison.compare import by_image
    from robustness.text import shorten

    console = stdout()
    console.print(f"A  {comparison.a}\nB  {comparison.b}\n", markup=False, soft_wrap=True)
    print_table(console, _table(comparison))
    console.print()
    for title, moved in (
        ("newly flipped", comparison.newly_flipped),
        ("newly robust", comparison.newly_robust),
        ("newly misclassified", comparison.newly_wrong),
        ("newly right", comparison.newly_right),
    ):
        images = by_image(moved)
        names = [shorten(name) + (f" ({where})" if where else "") for name, where in images[:SHOWN]]
        more = f" and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
        if names:
            line = f"{title}: {', '.join(names)}{more}"
            console.print(line, markup=False, soft_wrap=True)
    for note in comparison.notes:
        console.print(note, markup=False, soft_wrap=True)
    console.print(comparison.sentence, markup=False, soft_wrap=True)


def _table(comparison: Comparison) -> Table:
    from rich.table import Table

    from robustness.reports.comparison.compare import p_text
    from robustness.reports.wording import budget, percent

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("share", "epsilon", "of", "A", "B", "only A", "only B", "p"):
        table.add_column(title, justify="left" if title == "share" else "right", no_wrap=True)
    for row in comparison.pairings:
        shares = [row.before / row.total, row.after / row.total] if row.total else [None, None]
        table.add_row(
            # Shortened to fit 80 columns.
            row.what.replace(" of the images", ","),
            "" if row.epsilon is None else budget(comparison.norm, row.epsilon),
            str(row.total),
            *map(percent, shares),
            str(row.lost),
            str(row.gained),
            p_text(row.p_value),
        )
    return table
