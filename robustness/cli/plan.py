"""The command `robustness plan`: what an audit will cost, measured on a sample of its images."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness.cli import options as cli_options
from robustness.cli.options import AsJson, Quiet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table

    from robustness.auditing.cost_estimate import CostEstimate, ListCost, Range

EXAMPLES = """\b
Examples:
  robustness plan
  robustness plan model.keras photos/ --attack autoattack --epsilon 4
  robustness plan model.keras photos/ --attack pgd --workers 16 --json
"""


def plan(
    context: typer.Context,
    model_first: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="The same as --model.")
    ] = None,
    images_second: Annotated[
        str | None, typer.Argument(metavar="IMAGES", help="The same as --images.")
    ] = None,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="A TOML file (`robustness init`); options given here override it.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="How many machines like this one share the images.")
    ] = 1,
    sample: Annotated[
        int, typer.Option(help="How many images are looked at, evenly spread over all.")
    ] = 48,
    probe_seconds: Annotated[
        float, typer.Option(help="The longest search of one attack on the sample.")
    ] = 20.0,
    presets: Annotated[
        bool, typer.Option(help="Also measure the presets quick, standard and thorough.")
    ] = True,
    as_json: AsJson = False,
    quiet: Quiet = False,
    **arguments: object,
) -> None:
    """Measure on a sample of images what an audit will cost: passes, seconds, memory and disk.

    Takes the options of `robustness audit`, and stores nothing. Also says what the presets quick, standard
    and thorough would cost.
    """
    from robustness.cli.audit import with_file
    from robustness.cli.inputs import expect_models, open_images
    from robustness.cli.terminal import Display, insisting, stderr, wake_backend
    from robustness.configuration.audit_config import FOR_ALL
    from robustness.configuration.recorded import checked

    options = cli_options.typed_options(context, arguments)
    options |= cli_options.plain_arguments(options, model=model_first, images=images_second)
    chosen = checked(options)
    if config is not None:
        chosen = with_file(config, chosen)
    expect_models(chosen)
    source = open_images(chosen)
    wake_backend()
    from robustness.auditing.inputs import make_attacks
    from robustness.auditing.plan import PRESETS
    from robustness.auditing.plan import plan as measure

    attacks = make_attacks(chosen, str(config or ""))
    made = chosen.overridden_by({"attacks": attacks, **dict.fromkeys(FOR_ALL)})
    with insisting(), Display(stderr(), quiet=quiet) as display:
        estimate = measure(
            chosen.model,
            source,
            made,
            workers=workers,
            sample=sample,
            seconds=probe_seconds,
            presets=PRESETS if presets else (),
            progress=display,
        )
    if as_json:
        typer.echo(json.dumps(estimate.to_dict()))
        return
    show(estimate)


plan.__signature__ = cli_options.signature(plan)  # type: ignore[attr-defined]
plan.__doc__ = f"{inspect.cleandoc(plan.__doc__ or '')}\n\n{EXAMPLES}"


def show(estimate: CostEstimate) -> None:
    """Print an estimate: the attacks of the audit, then the audit and the presets as a whole."""
    from robustness.cli.tables import print_table
    from robustness.cli.terminal import duration, stdout
    from robustness.text import plural

    console = stdout()
    print_table(console, _attacks(estimate))
    console.print()
    print_table(console, _lists(estimate))
    console.print()
    machines = (
        "this machine" if estimate.workers == 1 else f"{estimate.workers:,} machines like this one"
    )
    lines = [
        f"{plural(estimate.images, 'image')} on {machines}; measured on {estimate.sample:,} of them in "
        f"{duration(estimate.probing)}.",
        "Ranges are 95 % intervals that the size of the sample allows. Images that took longer than the "
        "probe count as not flipped at the epsilon that they had reached.",
        "Times end with the last outcome: step pictures, diagnostics and reports follow, which look at a "
        "bounded number of images.",
    ]
    lines += estimate.notes
    lines += [f"{one.attack}: {one.reason}" for one in estimate.audit.attacks if one.reason]
    lines += [f"{one.name}: {one.reason}" for one in estimate.presets if one.reason]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _attacks(estimate: CostEstimate) -> Table:
    rows = [
        (
            one.attack,
            _count(one.images),
            _count(one.never_flip),
            f"{one.most_forward:,} + {one.most_backward:,}",
            f"{one.forward + one.backward:,.0f}",
            f"{one.batch_size:,}",
            _time(one.seconds(estimate.workers)),
            f"{one.memory / 2**20:,.0f} MiB",
        )
        for one in estimate.audit.attacks
    ]
    titles = (
        *("attack", "images", "never flip", "passes of such an image", "passes in all", "batch"),
        *("time", "memory"),
    )
    return _table(titles, rows)


def _lists(estimate: CostEstimate) -> Table:
    from robustness.cli.terminal import duration

    def row(cost: ListCost) -> tuple[str, ...]:
        if not cost.attacks:
            return (cost.name, "-", "-", "-", "-")
        return (
            cost.name,
            _time(estimate.seconds(cost)),
            duration(estimate.processor_seconds(cost).expected),
            f"{cost.memory * estimate.workers / 2**20:,.0f} MiB",
            f"{estimate.disk(cost) / 1e6:,.1f} MB",
        )

    titles = ("attacks", "time", "time of all processors", "memory", "disk")
    return _table(titles, [row(cost) for cost in (estimate.audit, *estimate.presets)])


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _count(count: Range) -> str:
    return f"{count.expected:,.0f} ({count.low:,.0f}–{count.high:,.0f})"


def _time(seconds: Range) -> str:
    from robustness.cli.terminal import duration

    low, middle, high = map(duration, (seconds.low, seconds.expected, seconds.high))
    return f"{middle} ({low}–{high})"
