"""What verification expects of a model that answers at random: nothing that chance alone could break.

A class is at fault where draws name it surely less often than not; confidences are means of a few draws and
are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robustness.engine.votes import Vote, surely
from robustness.runs.records import ImageRow
from robustness.verification.rows import CLASS, Inconsistency, RunContents, fault


def clean(claims: RunContents, image: ImageRow, vote: Vote) -> Iterator[Inconsistency]:
    """An original's class must not be named surely less often than not; one that changes may."""
    said = image.clean_class
    if image.reason and said is not None:
        return
    known = said is not None and 0 <= said < len(vote.counts)
    times = int(vote.counts[said]) if known else 0
    if not known or surely(vote.draws - times, vote.draws):
        yield fault(
            CLASS,
            f"The model says {claims.class_name(said)} of the original in {times} of {vote.draws} draws; "
            "the row says that this is its class.",
            image,
            file=image.png or "",
        )


def flip(
    claims: RunContents, image: ImageRow, row: Mapping[str, Any], vote: Vote
) -> Iterator[Inconsistency]:
    """A flip's picture must not flip surely less often than not, and its class must come up."""
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
            f"In none of {vote.draws} draws the model says {claims.class_name(said)}, as the row does.",
            image,
            row,
            file=row["png"],
        )
