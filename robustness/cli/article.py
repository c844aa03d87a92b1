"""The command `robustness article`: reproduces an article on gradient descent in one page."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from robustness.cli.options import Quiet
from robustness.errors import INCONCLUSIVE

PAGE = "article.html"


def article(
    data: Annotated[
        Path | None,
        typer.Option(
            help="The article's data: a folder with height_v_weight.csv and photographs. Without it the "
            "bundled cat, a rendered dog and synthetic heights are used."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The model of the third part, by name or file.")
    ] = "dogs-vs-cats",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The folder to write. [default: article-DATE-TIME]"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Reproduce the article's three parts in one page, with its printed figures beside the reproduced ones.

    A regression of weights on heights, unit vectors that spread, and photographs that flip within four steps
    of the sign of the gradient. Exit code 4: with the article's own table, a figure differs from the
    printed one.

    \b
    Examples:
      robustness article
      robustness article --data article-data/ --out article
    """
    from robustness.cli import article_parts as parts
    from robustness.cli.terminal import Display, insisting, stderr, stdout, wake_backend
    from robustness.errors import RunUsageError
    from robustness.files import disk_errors
    from robustness.reports.article.page import Article, write_article

    folder = out or Path(datetime.now().strftime("article-%Y%m%d-%H%M%S"))
    if folder.exists():
        raise RunUsageError(f"{folder} exists already; expected a new folder. Name another --out.")
    disk_errors.expect_place(folder)
    table = parts.heights(data)
    source = parts.photographs(data)
    console, results = stderr(), stdout()

    def tell(part: str) -> None:
        if not quiet:
            console.print(f"{part} ...", markup=False)

    tell("Loading the model")
    wake_backend()
    from robustness.model_zoo import load

    classifier = load(model)
    folder.mkdir(parents=True)
    tell("1 of 3: regression")
    fitted = parts.regression(parts.fitted(*table[:2]), table, folder)
    tell("2 of 3: spreading vectors")
    spread = parts.spreading(folder)
    tell("3 of 3: flipping photographs")
    with insisting(), Display(console, quiet=quiet) as display:
        flips = parts.flipping(classifier, source, folder, display)
    command = shlex.join(["robustness", *sys.argv[1:]])
    page = write_article(Article(fitted, spread, flips, command), folder / PAGE)
    if fitted.own:
        agreeing = (
            f"{fitted.agreeing} of {len(fitted.fits)} fits have the article's printed figures"
        )
    else:
        agreeing = "other data than the article's, so its figures are not compared"
    force = spread.rows[-1]
    kind = "correctly classified images" if flips.labelled else "images"
    for line in (
        f"regression: {agreeing}",
        f"spreading: smallest angle {force.angle:.3f}° of {spread.bound:.0f}° by the force",
        f"flipping: {flips.flipped} of {flips.correct} {kind} flip within four steps of one count",
        f"page: {page}",
    ):
        results.print(line, markup=False, soft_wrap=True)
    if fitted.own and fitted.agreeing < len(fitted.fits):
        raise typer.Exit(INCONCLUSIVE)
