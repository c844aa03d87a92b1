"""What a reader must know before relying on the numbers of a report."""

from __future__ import annotations

import pandas as pd

from robustness.images import tallied
from robustness.reports import wording
from robustness.reports.summary.metrics import Tally
from robustness.runs.schema import Manifest


def caveats(
    manifest: Manifest, images: pd.DataFrame, overall: Tally, stored: int, expected: int
) -> tuple[str, ...]:
    """Return the caveats, a sentence each, the most serious first.

    Parameters
    ----------
    manifest
        `run.json`.
    images
        A row per image, with the columns label, clean_class and reason.
    overall
        The outcomes at the largest epsilon.
    stored, expected
        How many outcomes the run holds, and how many it should hold.
    """
    config = manifest.config
    sentences = [f"{note}." for note in config.replaced]
    if config.shard is not None:
        sentences.append(
            f"This run is shard {config.shard} of an audit of {manifest.data.undivided or 0:,} images: the "
            "numbers cover only its part of them. `robustness merge` makes one run of all shards."
        )
    if not manifest.finished:
        sentences.append("This run is not finished: the numbers cover only the outcomes so far.")
    elif stored < expected:
        sentences.append(
            f"{expected - stored:,} of {expected:,} outcomes are missing from this run."
        )
    if config.draws != 1:
        sentences.append(
            f"The outputs of the model are random: it judged each picture {config.draws} times or more, and "
            "a picture is a flip only if its file flips more often than not."
        )
    steady = images["reason"].fillna("").eq("") | images["clean_class"].isna()
    wrong = images["label"].notna() & images["label"].ne(images["clean_class"])
    unstable = int((~steady & ~wrong).sum())
    if unstable:
        sentences.append(
            f"The class of {wording.plural(unstable, 'image')} changes at random without any "
            "attack: these images count neither as flipped nor as robust."
        )
    if overall.failed > unstable:
        low, high = wording.percent(overall.lowest), wording.percent(overall.highest)
        sentences.append(
            f"Attacks failed on {wording.plural(overall.failed - unstable, 'image')}, which the flip rate "
            f"leaves out; with them it is between {low} and {high}."
        )
    if overall.partly_failed:
        sentences.append(
            f"Some attack failed on {wording.plural(overall.partly_failed, 'image')} that the others did "
            "not flip: these count as robust under fewer attacks than the run has."
        )
    problems = [check for check in manifest.preflight if check.severity == "error"]
    if problems:
        verb = "check says" if len(problems) == 1 else "checks say"
        sentences.append(
            f"{len(problems)} {verb} that the model may be used wrongly (see Diagnostics below). Fix this "
            "before you use the numbers."
        )
    unread = images[images["clean_class"].isna()]
    if len(unread):
        verb = "have" if len(unread) > 1 else "has"
        why = tallied(unread["reason"].fillna("").astype(str), len(images))
        sentences.append(
            f"{wording.plural(len(unread), 'image')} of {len(images):,} could not be read and {verb} no "
            f"outcome{f' ({why})' if why else ''}."
        )
    if len(images) and not images["label"].notna().any():
        sentences.append(
            "The images have no labels: the predicted class is used as the true class, so the "
            "accuracy is not known."
        )
    elif without := int((images["label"].isna() & images["clean_class"].notna()).sum()):
        sentences.append(
            f"{wording.plural(without, 'image has', 'images have')} no label: the predicted class is "
            "used as their true class, and accuracies are those of the other images."
        )
    return tuple(sentences)
