"""What a reader must know before believing the number of a report."""

from __future__ import annotations

import pandas as pd

from robustness.images import tallied
from robustness.reports import wording
from robustness.reports.summary.metrics import Tally
from robustness.runs.schema import Manifest


def doubts(
    manifest: Manifest, images: pd.DataFrame, overall: Tally, found: int, expected: int
) -> tuple[str, ...]:
    """Sentences, the gravest first; none where all is well.

    `found` of `expected` outcomes are there; `images` has label, clean_class and reason.
    """
    said = []
    config = manifest.config
    for note in config.replaced:
        said.append(f"{note}.")
    if not manifest.finished:
        said.append("This run is not finished: the numbers cover what it had done so far.")
    elif found < expected:
        said.append(f"{expected - found:,} of {expected:,} outcomes are missing from this run.")
    if config.draws != 1:
        said.append(
            f"The model answers at random: each picture was asked about {config.draws} times or more, and "
            "is a flip only where its file, drawn anew each time, flips more often than not."
        )
    steady = images["reason"].fillna("").eq("") | images["clean_class"].isna()
    wrong = images["label"].notna() & images["label"].ne(images["clean_class"])
    wandering = int((~steady & ~wrong).sum())
    if wandering:
        said.append(
            f"The class of {wording.plural(wandering, 'image')} changes from draw to draw by itself: nothing "
            "could be told of these, and they count neither as flipped nor as robust."
        )
    if overall.failed > wandering:
        low, high = wording.percent(overall.lowest), wording.percent(overall.highest)
        said.append(
            f"Attacks broke down on {wording.plural(overall.failed - wandering, 'image')}, which the rate "
            f"leaves out; counting them, it lies between {low} and {high}."
        )
    problems = [check for check in manifest.preflight if check.severity == "error"]
    if problems:
        verb = "check says" if len(problems) == 1 else "checks say"
        said.append(
            f"{len(problems)} {verb} that this model may be read wrongly (see Checks below); the "
            "numbers mean little until that is mended."
        )
    lost = images[images["clean_class"].isna()]
    if len(lost):
        have = "have" if len(lost) > 1 else "has"
        why = tallied(lost["reason"].fillna("").astype(str), len(images))
        said.append(
            f"{wording.plural(len(lost), 'image')} of {len(images):,} could not be read and {have} no "
            f"verdict{f' ({why})' if why else ''}."
        )
    if len(images) and not images["label"].notna().any():
        said.append(
            "The images have no labels: the model's own answer is taken for the true class, so "
            "accuracy is not known."
        )
    elif without := int((images["label"].isna() & images["clean_class"].notna()).sum()):
        said.append(
            f"{wording.plural(without, 'image has', 'images have')} no label: the model's own answer is "
            "taken for the true class there, and accuracies are those of the others."
        )
    return tuple(said)
