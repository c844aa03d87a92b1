"""Makes diagnoses of the images of a run and their labels: accuracy (D21), and number (D23)."""

from __future__ import annotations

import pandas as pd

from robustness.diagnostics import Diagnosis, fail, ok, skipped, warn
from robustness.diagnostics.finding import NO_CLASSES
from robustness.diagnostics.stored_run import StoredRun
from robustness.numerics.intervals import wilson_interval
from robustness.runs.records import FLIPPED, ROBUST
from robustness.text import percent, plural, shorten

WIDTH, FEW_OF_A_CLASS, TELLING = 0.20, 5, 20
DIFFERENT, COPIED = 0.95, 0.5
"""Share of different images below which D23 warns; share of independent ones below which it fails."""

_MOST = 5
"""The most classes that a sentence names."""


def accuracy(record: StoredRun) -> Diagnosis:
    """Make D21: the clean accuracy is better than chance, and no worse than declared."""
    known = record.images[record.images.label.notna() & record.images.clean_class.notna()]
    if known.empty:
        return _one_answer(record, record.images[record.images.clean_class.notna()]) or skipped(
            "D21", "The images have no labels, so the accuracy is not known."
        )
    right, n = int((known.label == known.clean_class).sum()), len(known)
    low, high = wilson_interval(right, n)
    chance = 1 / max(2, record.classes)
    declared = record.manifest.data.declared_accuracy
    said = (
        f"{percent(right / n)} of {plural(n, 'image is', 'images are')} classified as labelled "
        f"(95 % interval {percent(low)} to {percent(high)})"
    )
    evidence = {"right": right, "of": n, "chance": chance, "declared": declared}
    if declared is not None and high < declared:
        return fail(
            "D21",
            f"{said}, less than the {percent(declared)} that were declared: this is not the model, the "
            "data or the preprocessing that was meant.",
            **evidence,
        )
    if n < TELLING:
        return ok("D21", f"{said}; too few to tell from chance.", **evidence)
    if low <= chance:
        return fail(
            "D21",
            f"{said}, not clearly better than chance ({percent(chance)}): labels, class order or "
            "preprocessing are wrong, or the model is untrained"
            f"{NO_CLASSES.get(record.manifest.model.head or '', '')}.",
            **evidence,
        )
    return (
        _one_answer(record, known) or _most_common(known, said) or ok("D21", f"{said}.", **evidence)
    )


def _one_answer(record: StoredRun, known: pd.DataFrame) -> Diagnosis | None:
    """D21 for a model that names the same class for every image; None if it names several."""
    if len(known) < TELLING or known.clean_class.nunique() > 1:
        return None
    answer = int(known.clean_class.iloc[0])
    others = int((known.label.notna() & (known.label != answer)).sum())
    said = f"The model gives all {len(known)} images the same class ({record.class_name(answer)})"
    if others >= FEW_OF_A_CLASS:
        return fail(
            "D21",
            f"{said}, of which {others} are labelled otherwise: an answer that never changes has the same "
            "accuracy, and that nothing flips it is no robustness.",
            answer=answer,
            others=others,
        )
    if record.flipped():
        return None
    goal = record.manifest.config.goal
    # Images of the target class are left out.
    aimed = goal is not None and goal.target is not None and record.classes == 2
    advice = "Audit without a target too." if aimed else "Audit images of other classes too."
    return warn(
        "D21",
        f"{said}, and no attack changes that: nothing shows that it ever answers otherwise. {advice}",
        answer=answer,
        others=others,
    )


def _most_common(known: pd.DataFrame, said: str) -> Diagnosis | None:
    """D21 for a model that is right no more often than an answer that never changes; None if it is."""
    counts = known.label.value_counts()
    right = int((known.label == known.clean_class).sum())
    if len(counts) < 2 or right > counts.iloc[0]:
        return None
    return warn(
        "D21",
        f"{said}; {counts.iloc[0]} have the same label, so that an answer that never changes is right as "
        "often. Look at the rates by class, or audit as many images of each (--per-class).",
        right=right,
        of=len(known),
        most_common=int(counts.iloc[0]),
    )


def size(record: StoredRun) -> Diagnosis:
    """Make D23: the interval is narrow enough, and no class has only a few images."""
    judged = record.outcomes[record.outcomes.status.isin([FLIPPED, ROBUST])]
    n, k = judged.image.nunique(), len(record.flipped())
    if not n:
        return warn("D23", "No image was judged.")
    low, high = wilson_interval(min(k, n), n)
    truth = record.images.label.where(record.images.label.notna(), record.images.clean_class)
    by_class = truth[record.images.key.isin(record.attacked)].value_counts()
    names = record.manifest.class_names
    thin = {
        str(name): int(by_class.get(number, 0))
        for number, name in enumerate(names)
        if by_class.get(number, 0) < FEW_OF_A_CLASS and (truth == number).any()
    }
    evidence = {"images": n, "width": high - low, "thin_classes": thin}
    copies = _copies(record, set(judged.image))
    if copies is not None and copies.status == "fail":
        return copies
    reasons = []
    if high - low > WIDTH:
        reasons.append(f"the 95 % interval is {100 * (high - low):.0f} points wide")
    if thin:
        shown = ", ".join(f"{shorten(name)} {count}" for name, count in list(thin.items())[:_MOST])
        shown += f" and {len(thin) - _MOST:,} more" if len(thin) > _MOST else ""
        reasons.append(f"of some classes fewer than {FEW_OF_A_CLASS} were attacked ({shown})")
    if reasons:
        return warn(
            "D23",
            f"{plural(n, 'image is', 'images are')} few: {' and '.join(reasons)}. Audit more images.",
            **evidence,
        )
    return copies or ok(
        "D23",
        f"{plural(n, 'image gives', 'images give')} an interval {100 * (high - low):.1f} points wide.",
        **evidence,
    )


def _copies(record: StoredRun, judged: set[str]) -> Diagnosis | None:
    """D23 for images that are copies of each other, by their pixels; None if few are."""
    if "digest" not in record.images:
        return None
    counts = record.images[record.images.key.isin(judged)].digest.value_counts()
    n, different = int(counts.sum()), len(counts)
    if not n or different >= DIFFERENT * n:
        return None
    # Kish's effective sample size: copies have the same outcome.
    independent = float(n**2 / (counts**2).sum())
    said = (
        f"Only {different} of {n} judged images are different; the others are copies of them. The intervals "
        f"count every image, but these are worth {independent:.0f}. Leave the copies out."
    )
    make = fail if n >= TELLING and independent < COPIED * n else warn
    return make("D23", said, images=n, different=different, independent=independent)
