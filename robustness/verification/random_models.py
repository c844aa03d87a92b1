"""Verifies outcomes of a model with random outputs, without objecting to what chance alone explains.

A class is a fault if the draws prove (`votes.surely`) that the model predicts it less often than not.
Confidences are means of a few draws, and are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robustness.engine.votes import Vote, surely
from robustness.runs.records import ImageRow
from robustness.verification.rows import CLASS, Inconsistency, RunContents, fault


def clean(claims: RunContents, image: ImageRow, vote: Vote) -> Iterator[Inconsistency]:
    """Yield a fault if the model provably predicts the class of an original in less than half of all draws.

    Parameters
    ----------
    claims : RunContents
        The content of the run.
    image : ImageRow
        The row of the original; one without a stable class, which has a reason, is not checked.
    vote : Vote
        The model's outputs for the original.
    """
    said = image.clean_class
    if image.reason and said is not None:
        return
    known = said is not None and 0 <= said < len(vote.counts)
    times = int(vote.counts[int(said)]) if known and said is not None else 0
    if not known or surely(vote.draws - times, vote.draws):
        yield fault(
            CLASS,
            f"The model predicts {claims.class_name(said)} for the original in {times} of {vote.draws} "
            "draws; the row says that this is its class.",
            image,
            file=image.png or "",
        )


def flip(
    claims: RunContents, image: ImageRow, row: Mapping[str, Any], vote: Vote
) -> Iterator[Inconsistency]:
    """Yield a fault if a picture provably flips in less than half of all draws, or never to its class.

    Parameters
    ----------
    claims : RunContents
        The content of the run.
    image : ImageRow
        The row of the original.
    row : mapping
        The outcome of the flip.
    vote : Vote
        The model's outputs for the flip.
    """
    said, target = row["adversarial_class"], claims.target
    known = said is not None and 0 <= said < len(vote.counts)
    reached = [n for n in range(len(vote.counts)) if n != image.clean_class and target in (None, n)]
    times = int(vote.counts[reached].sum())
    if surely(vote.draws - times, vote.draws):
        yield fault(
            CLASS,
            f"The picture flips in {times} of {vote.draws} draws; the row says that it flips.",
            image,
            row,
            file=row["png"],
        )
    elif not known or vote.counts[int(said)] == 0 or int(said) not in reached:
        yield fault(
            CLASS,
            f"The row says {claims.class_name(said)}; expected a class that is a flip and that the model "
            f"predicts in at least one of {vote.draws} draws.",
            image,
            row,
            file=row["png"],
        )
