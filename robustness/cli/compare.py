"""`robustness compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from robustness.reports.comparison.compare import Comparison

SHOWN = 20


def compare(
    a: Annotated[Path, typer.Argument(help="A run folder or its report.json, the one before.")],
    b: Annotated[Path, typer.Argument(help="Another one on the same images.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write a page to this file.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The comparison as JSON, and nothing else there.")
    ] = False,
) -> None:
    """Compare two runs image by image: newly flipped, newly robust, McNemar's test. No TensorFlow.

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
    found = paired(a, b)
    if html is not None:
        from robustness.reports.comparison.page import write_comparison

        said = f"page: {write_comparison(found, html)}"
        stderr().print(said, markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        show(found)


def show(found: Comparison) -> None:
    """Print a comparison."""
    from robustness.cli.terminal import stdout
    from robustness.reports.comparison.compare import by_image
    from robustness.text import shorten

    console = stdout()
    console.print(f"A  {found.a}\nB  {found.b}\n", markup=False, soft_wrap=True)
    console.print(_table(found))
    console.print()
    for title, moved in (
        ("newly flipped", found.newly_flipped),
        ("newly robust", found.newly_robust),
        ("newly misclassified", found.newly_wrong),
        ("newly right", found.newly_right),
    ):
        images = by_image(moved)
        names = [shorten(name) + (f" ({where})" if where else "") for name, where in images[:SHOWN]]
        more = f" and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
        if names:
            said = f"{title}: {', '.join(names)}{more}"
            console.print(said, markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(note, markup=False, soft_wrap=True)
    console.print(found.sentence, markup=False, soft_wrap=True)


def _table(found: Comparison) -> Table:
    from rich.table import Table

    from robustness.reports.comparison.compare import p_text
    from robustness.reports.wording import budget, percent

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("share", "epsilon", "of", "A", "B", "only A", "only B", "p"):
        table.add_column(title, justify="left" if title == "share" else "right", no_wrap=True)
    for row in found.pairings:
        shares = [row.before / row.total, row.after / row.total] if row.total else [None, None]
        table.add_row(
            # In 80 columns.
            row.what.replace(" of the images", ","),
            "" if row.epsilon is None else budget(found.norm, row.epsilon),
            str(row.total),
            *map(percent, shares),
            str(row.lost),
            str(row.gained),
            p_text(row.p_value),
        )
    return table
