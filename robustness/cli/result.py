"""Prints the result of an audit: table, sentences, what was not read or converted, and the time taken."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from robustness.cli.terminal import duration
from robustness.text import first_few, plural

if TYPE_CHECKING:
    import pandas as pd

    from robustness.reports import Summary
    from robustness.reports.gate.verdict import Verdict
    from robustness.runs.schema import Data, Manifest, Timing

SHOWN_SECONDS = 0.5
"""Stages that took less are not listed."""


def show(path: Path, pages: Iterable[Path], *, as_json: bool) -> Verdict:
    """Print the result of the run in `path`, and the reports that were written; return its verdict."""
    from robustness.cli.tables import outcome_table, print_table
    from robustness.cli.terminal import stdout
    from robustness.reports import summarise
    from robustness.reports.formats.report_json import dumps
    from robustness.reports.gate.verdict import verdict_of
    from robustness.runs.store import Run

    with Run.open(path) as run:
        summary, images = summarise(run), run.images()
    verdict = verdict_of(summary)
    if as_json:
        typer.echo(dumps(summary, verdict), nl=False)
        return verdict
    console = stdout()
    print_table(console, outcome_table(summary), grouped=True)
    console.print()
    for line in lines(summary, verdict, images):
        console.print(line, markup=False, soft_wrap=True)
    for page in pages:
        console.print(f"report: {page}", markup=False, soft_wrap=True)
    if took := times(summary.manifest.timing):
        console.print(took, markup=False, soft_wrap=True)
    return verdict


def lines(summary: Summary, verdict: Verdict, images: pd.DataFrame) -> Iterator[str]:
    """Yield the lines below the table: results, inputs, notes, diagnostics and the verdict."""
    from robustness.reports.page.headline import figures_sentence
    from robustness.reports.summary.unjudged import reasons

    yield summary.sentence
    yield figures_sentence(summary, verdict)
    if summary.manifest.data.description:
        part = f"; shard {summary.config.shard}" if summary.config.shard else ""
        chosen = selected(summary.manifest.data)
        yield f"images: {summary.manifest.data.description}{part}{chosen}."
    for said in summary.deployed.sentences if summary.deployed else ():
        yield f"{said[0].lower()}{said[1:]}"
    if why := reasons(summary.skipped, summary.images.selected):
        yield f"not read: {why}."
    if made := conversions(images["note"].fillna("").astype(str)):
        yield f"converted: {summary.converted:,} of {plural(summary.images.selected, 'image')}: {made}."
    if absent := absent_classes(
        summary.manifest.class_names, images["label"], _target(summary.manifest)
    ):
        yield f"classes: {absent}."
    for note in summary.config.replaced:
        yield f"replaced: {note}."
    for note in summary.manifest.notes:
        yield f"note: {note}."
    for one in summary.manifest.diagnostics:
        if one.status in ("warn", "fail"):
            yield f"{one.status} {one.id} {one.title}? {one.sentence}"
    yield f"verdict: {verdict.label}. {verdict.sentence}"


def selected(data: Data) -> str:
    """How many images of the source were selected, in words; "" for all of them."""
    if data.selected is None or data.available is None or data.selected >= data.available:
        return ""
    return f"; {data.selected:,} of {data.available:,} selected"


def conversions(notes: Iterable[str]) -> str:
    """Count the conversions that the notes of images name, as in `12 resized; 3 CMYK converted to RGB`."""
    counted: Counter[str] = Counter()
    for note in notes:
        counted.update(
            {re.sub(r"^resized from \d+x\d+", "resized", one) for one in note.split("; ")}
        )
    del counted[""]
    return "; ".join(f"{count:,} {kind}" for kind, count in counted.most_common())


def absent_classes(names: Iterable[str], labels: pd.Series, target: int | None = None) -> str:
    """Return which classes no image has, if the images have labels; "" if every class has some.

    Images of the class `target` are left out of the audit, so that it is not counted.
    """
    seen, names = set(labels.dropna().astype(int)), list(names)
    absent = [name for number, name in enumerate(names) if number not in seen | {target}]
    if not seen or not absent:
        return ""
    count = plural(len(names) - (target is not None), "class", "classes")
    other = "" if target is None else " other than the target"
    return f"no images of {len(absent):,} of {count}{other} ({first_few(absent)})"


def _target(manifest: Manifest) -> int | None:
    """The number of the class that attacks should reach; None for any other class."""
    goal = manifest.config.goal
    return None if goal is None else goal.target


def times(timing: Timing) -> str:
    """Return the wall-clock time of a run and of its stages; "" if it is not recorded."""
    if timing.seconds is None:
        return ""
    total = timing.seconds + timing.stages.get("reports", 0.0)
    long = [
        f"{name.removeprefix('attack ')} {duration(seconds)}"
        for name, seconds in timing.stages.items()
        if seconds >= SHOWN_SECONDS
    ]
    listed = f" ({', '.join(long)})" if long else ""
    return f"time: {duration(total)}{listed}"
