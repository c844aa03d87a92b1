"""The sentences beside a comparison of two runs: how their audits differ, and what was not compared."""

from __future__ import annotations

from collections.abc import Iterable

from robustness.reports import wording
from robustness.reports.comparison.sides import Side, resized, respelled
from robustness.reports.summary.metrics import FAILED
from robustness.runs.audit_differences import code_differences
from robustness.runs.model_differences import differences
from robustness.runs.schema import Manifest
from robustness.text import first_few


def notes_on(a: Side, b: Side, epsilons: Iterable[float]) -> list[str]:
    """Return the sentences beside a comparison.

    Parameters
    ----------
    a, b
        The two runs.
    epsilons
        The epsilons at which they are compared.
    """
    return [*_audits(a, b), *_alone(a, b), *_undecided(a, b, epsilons)]


def _models(before: Manifest, after: Manifest) -> list[str]:
    """Sentences on how the models differ."""
    notes = []
    other = differences(before.model, after.model)
    if before.model.weights_sha256 == after.model.weights_sha256:
        notes.append("Both runs audited the same weights.")
        if other:
            notes.append(f"The weights are the same, but the models differ: {'; '.join(other)}.")
    elif other:
        notes.append(f"The models differ: {'; '.join(other)}.")
    if before.surrogate and after.surrogate:
        if other := differences(before.surrogate, after.surrogate):
            notes.append(f"The surrogates differ: {'; '.join(other)}.")
    elif before.surrogate or after.surrogate:
        notes.append(f"Only run {'A' if before.surrogate else 'B'} used a surrogate.")
    return notes


def _audits(a: Side, b: Side) -> list[str]:
    """Sentences on how the audits differ."""
    before, after = a.manifest, b.manifest
    notes = _models(before, after)
    if set(a.attacks) != set(b.attacks):
        notes.append(
            f"The attacks differ ({first_few(a.attacks)} in A, {first_few(b.attacks)} in B): a difference "
            "may come from the attacks rather than the models."
        )
    if coded := code_differences(before.config, after.config):
        notes.append(
            f"Another version in B than in A: {first_few(coded)}. A difference may come from there."
        )
    seeds = before.config.seed, after.config.seed
    if seeds[0] != seeds[1]:
        notes.append(f"The seeds differ ({seeds[0]} in A, {seeds[1]} in B).")
    other_names = respelled(before.class_names, after.class_names)
    if renamed := [f"{old} and {new}" for new, old in other_names.items() if new != old]:
        notes.append(f"Class names in A and B are spelled differently: {first_few(renamed)}.")
    if resized(a, b):
        notes.append(
            "The input sizes of the models differ, so images are matched by name, not by pixels."
        )
    for where, side in (("A", a), ("B", b)):
        if not side.manifest.finished:
            notes.append(
                f"Run {where} is not finished. Its shares are those of the images that are done, which are "
                "no fair sample: images that flip at once are done first."
            )
    return notes


def _alone(a: Side, b: Side) -> list[str]:
    """A sentence on the epsilons that one run has and the other has not, for each run that has some."""
    sides = (("A", a, b), ("B", b, a))
    alone = [(where, sorted(set(one.status) - set(other.status))) for where, one, other in sides]
    return [
        f"Not compared: epsilon {', '.join(wording.exact(e) for e in some)}, audited in {where} only."
        for where, some in alone
        if some
    ]


def _undecided(a: Side, b: Side, epsilons: Iterable[float]) -> list[str]:
    """Sentences on the images of each run on which every attack failed: neither flipped nor robust."""
    counted = [
        (where, epsilon, list(one.status[epsilon].values()).count(FAILED))
        for epsilon in epsilons
        for where, one in (("A", a), ("B", b))
    ]
    return [
        f"In {where} every attack failed on {count:,} of the images at epsilon {epsilon:.12g}: they count "
        "as not robust, and in no flip rate."
        for where, epsilon, count in counted
        if count
    ]
