"""The command `robustness case`: draws one flip of a run as a PNG strip or as a GIF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustness.cli.options import RunFolder


def case(
    run: RunFolder,
    image: Annotated[str, typer.Argument(help="The name of an image, or the end of its path.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file to write: a .png or a .gif.")
    ] = Path("strip.png"),
    attack: Annotated[
        str | None,
        typer.Option("--attack", "-a", help="The attack; by default that of the smallest change."),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            "--epsilon", "-e", help="The epsilon; by default that of the smallest change."
        ),
    ] = None,
    pixels: Annotated[
        bool,
        typer.Option("--pixels", help="Show the square of pixel values that changes most, too."),
    ] = False,
) -> None:
    """Draw one flip of a run: original, difference and adversarial picture, with confidences.

    A .gif shows original and adversarial picture in turn. Needs no TensorFlow.

    \b
    Examples:
      robustness case audit-run-20261123-101500 cat.8023.jpg --out strip.png
      robustness case audit-run-20261123-101500 cat.8023.jpg --attack pgd --pixels
      robustness case audit-run-20261123-101500 cat.8023.jpg --out flip.gif
    """
    from robustness.reports.case_pictures import write_case

    typer.echo(write_case(run, image, out, attack, epsilon, pixels))
