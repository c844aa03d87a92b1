"""D26: robust images that rest on gradients which were zero or not finite."""

from __future__ import annotations

from robustness.diagnostics import Diagnosis, fail, ok, skipped, warn
from robustness.diagnostics.stored_run import SCORE, WHITE, StoredRun
from robustness.runs.records import FLIPPED
from robustness.text import percent, plural

MOSTLY, BLIND, RARE = 0.5, 0.05, 0.01
"""Shares above which D26 reports: of the steps without a gradient in one search, which is then blind; of the
surviving images with blind searches only (the limit of D04); of the steps without a gradient in all searches
that ended as robust."""


EVEN = 1.05
"""The best class is hardly more probable than others below this multiple of their mean."""
FLAT = 1 - 1e-7
"""A probability that differs from 1 by at most one bit of float32."""


def blind(record: StoredRun) -> Diagnosis:
    """Make D26: on images that count as robust, the attacks had gradients to follow.

    An image counts against the run if every attack that computes gradients had a zero or non-finite one in
    most of its steps there: no gradient attack was effective on it.
    """
    watched = record.gradients
    if not record.labels(WHITE):
        return _flat_scores(record)
    if watched.empty:
        why = "No image withstood an attack that follows gradients, or the run did not note its steps."
        if not record.survivors:
            return ok("D26", "Every correct image flips.")
        lost = "Every image flips on which at least one attack did not fail."
        return skipped("D26", why if record.held else lost)
    rows = watched.assign(lost=watched.blind > MOSTLY * watched.watched)
    first = record.outcomes[record.outcomes.status == FLIPPED].groupby("image").epsilon.min()
    standing = rows[rows.epsilon < rows.image.map(first).fillna(float("inf"))]
    by_image = standing.groupby(["epsilon", "image"]).lost.all()
    shares = by_image.groupby("epsilon").mean()
    share = float(shares.max()) if len(shares) else 0.0
    steps = float(rows.blind.sum() / max(1, rows.watched.sum()))
    worst = rows.groupby("attack").lost.mean()
    count = int(rows.lost.sum())
    evidence = {
        "deciding_share": share,
        "rows": len(rows),
        "rows_without": count,
        "steps_without": steps,
        "by_attack": worst[worst > 0].to_dict(),
        "images": record.names(by_image[by_image].reset_index().image),
    }
    said = (
        f"In {count:,} of {plural(len(rows), 'search', 'searches')} (image x attack x epsilon) that "
        "ended as robust the attack's "
        f"own gradient was zero or not finite in most steps ({percent(steps)} of all their steps)"
    )
    if share > BLIND:
        at = f"epsilon {float(str(shares.idxmax())):g}"
        return fail(
            "D26",
            f"{said}: {percent(share)} of the images that stand at {at} were attacked without any direction, "
            "and only look robust.",
            **evidence,
        )
    if count or steps > RARE:
        return warn("D26", f"{said}: those say nothing of robustness.", **evidence)
    return _even(record) or ok(
        "D26",
        f"The attacks had a gradient in {percent(1 - steps)} of the steps on what stands.",
        **evidence,
    )


def _even(record: StoredRun) -> Diagnosis | None:
    """D26 where all classes are nearly equally probable, and attacks followed the cross-entropy alone.

    Its gradient weighs the other classes by their probabilities, and so points to their mean, not to the
    nearest one. None where that is not so.
    """
    followed = [a for a in record.learners if a.knowledge == WHITE]
    other = [
        a for a in followed if a.seeks == "closest" or a.parameters.get("loss") != "cross_entropy"
    ]
    images = record.images[record.images.key.isin(record.attacked)]
    # The recorded confidences are not those of a surrogate.
    if (
        record.transferred
        or other
        or not followed
        or record.classes < 3
        or "confidence" not in images
    ):
        return None
    best = float(images.confidence.median())
    if record.manifest.model.head == "multi-label" or not best < EVEN / record.classes:
        return None
    return warn(
        "D26",
        f"The {record.classes} classes are nearly equally probable (the best one has {best:.3g} in the "
        "median): the cross-entropy, the only loss that attacks followed, then leads to the mean of the "
        "others and not to the nearest class, so that flips are missed. Attack the margin too "
        "(pgd:loss=margin, or --attack standard).",
        best=best,
    )


def _flat_scores(record: StoredRun) -> Diagnosis:
    """D26 for score-based attacks: probabilities of exactly 1 do not distinguish pictures.

    Only for logits that are logarithms of probabilities; exact ones (`Head.rebuilt`) do not saturate.
    """
    scored = [a.title for a in record.learners if a.knowledge == SCORE]
    rebuilt = record.manifest.model.logits_rebuilt
    if not scored or rebuilt or record.transferred:
        return skipped("D26", "No attack that follows gradients was run.")
    standing = record.outcomes[
        record.outcomes.attack.isin(scored) & record.outcomes.image.isin(record.held)
    ]
    sure = standing.groupby("image").confidence_before.max() >= FLAT
    share = float(sure.mean()) if len(sure) else 0.0
    evidence = {"deciding_share": share, "images": record.names(sure[sure].index)}
    if share > BLIND:
        return fail(
            "D26",
            f"The model gives {percent(share)} of the images that stand a probability that rounds to "
            "1, and its "
            "logits cannot be had: attacks that compare scores saw no difference there, and they only look "
            "robust.",
            **evidence,
        )
    return ok("D26", "The scores of what stands are not saturated.", **evidence)
