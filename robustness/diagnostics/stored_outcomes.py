"""Makes diagnoses from the stored outcomes of a run; must not need the model or a framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from robustness.diagnostics import OK, SKIPPED, Diagnosis, fail, few, ok, skipped, warn
from robustness.diagnostics.epsilon_use import reachable
from robustness.diagnostics.images_and_labels import accuracy, size
from robustness.diagnostics.lost_gradients import blind
from robustness.diagnostics.pixels_read import reads_whole_picture
from robustness.diagnostics.stored_run import DECISION, SCORE, WHITE, StoredRun, is_noise
from robustness.runs.records import FAILED, FLIPPED, ROBUST
from robustness.runs.schema import AttackEntry
from robustness.text import percent, plural

MASKING = 0.002
"""Largest robust accuracy that a black-box attack may remove, as in AutoAttack (`check_square_sr`)."""
SURVIVING = 0.95
RISING = 0.1
"""Last share of the query budget in which flips mean that a larger budget would flip more."""
_BLACK = (SCORE, DECISION)
_OF_ATTACKS = ("D10", "D11", "D13", "D14", "D15", "D19", "D24", "D25", "D26")
"""Diagnostics that are about images judged under an attack."""


def diagnose_rows(record: StoredRun) -> list[Diagnosis]:
    """Make all diagnoses of this module; without a judged image, those about attacks are skipped, not ok."""
    diagnoses = [check(record) for check in CHECKS]
    if record.held or record.flipped():
        return diagnoses
    why = "Every attack failed on every image" if record.attacked else "No image was attacked"
    return [
        skipped(diagnosis.id, f"{why}, so there is nothing to judge.")
        if diagnosis.status in (OK, SKIPPED) and diagnosis.id in _OF_ATTACKS
        else diagnosis
        for diagnosis in diagnoses
    ]


def overlooked(record: StoredRun) -> Diagnosis:
    """Make D06 from rows: no outcome without a flip has the class or picture of a flip."""
    rows = record.outcomes
    held = rows[(rows.status != FLIPPED) & (rows.adversarial_class.notna() | rows.png.notna())]
    if len(held):
        return fail(
            "D06",
            f"{len(held)} outcomes are no flips but keep the class or the picture of one: a flip was "
            "found and not counted.",
            images=record.names(held.image),
        )
    return ok("D06", "No outcome that counts as robust keeps a flip.")


def last_restart(record: StoredRun) -> Diagnosis:
    """Make D10 from rows: how many images the last of several restarts flipped."""
    found, n = [], len(record.attacked)
    for attack in record.attacks:
        restarts = int(attack.parameters.get("restarts") or 1)
        if restarts > 1:
            rows = record.outcomes[record.outcomes.attack == attack.title]
            last = rows[(rows.status == FLIPPED) & (rows.restart == restarts - 1)].image.nunique()
            found.append((attack.title, restarts, last))
    if not found:
        return skipped("D10", "No attack had restarts; --thorough tries one more.")
    label, restarts, added = max(found, key=lambda f: f[2])
    evidence = {"added": {name: count for name, _, count in found}}
    if added > few(n):
        return warn(
            "D10",
            f"The last of {restarts} restarts of {label} flipped {added} of {plural(n, 'image')} more: "
            "further "
            "restarts would flip still more. Raise restarts.",
            **evidence,
        )
    return ok("D10", f"The last restart added {added} of {plural(n, 'image')}.", **evidence)


def larger_budgets(record: StoredRun) -> Diagnosis:
    """Make D11: an image that flips within a budget flips within each larger one."""
    rows = record.outcomes[record.outcomes.status.isin([FLIPPED, ROBUST, FAILED])]
    if rows.epsilon.nunique() < 2:
        return skipped("D11", "Only one epsilon was audited.")
    ordered = rows.sort_values("epsilon")
    flipped = ordered.status == FLIPPED
    before = flipped.groupby([ordered.attack, ordered.image]).cummax()
    broken = ordered[before & (ordered.status == ROBUST)]
    flips = max(1, int(flipped.sum()))
    share = len(broken) / flips
    names = record.names(broken.image)
    if share > 0.01:
        return warn(
            "D11",
            f"{plural(len(broken), 'outcome is', 'outcomes are')} robust although the same attack "
            "flips the image within a "
            f"smaller epsilon ({percent(share)} of all flips): the larger budget was used worse.",
            images=names,
        )
    return ok("D11", "Every flip holds within every larger epsilon.", violations=len(broken))


def single_step(record: StoredRun) -> Diagnosis:
    """Make D13: attacks of many steps flip every image that an attack of one step flips."""
    white = [a for a in record.attacks if a.knowledge == WHITE]
    one = [a.title for a in white if int(a.parameters.get("steps") or 0) == 1]
    many = [a.title for a in white if a.title not in one]
    if not one or not many:
        return skipped(
            "D13", "It takes an attack of one step and one of many; --thorough adds FGSM."
        )
    both = record.tried(one) & record.tried(many)
    single, iterative = record.flipped(one) & both, record.flipped(many) & both
    missed = single - iterative
    if record.spared and not both:
        return skipped("D13", f"{_APART} an attack of one step and to one of many.")
    said = f"Many steps flip {plural(len(iterative), 'image')}, one step {len(single)}{_of(record, both)}"
    evidence = {"only_by_one_step": record.names(missed)}
    if len(iterative) < len(single) - 1:
        return warn(
            "D13",
            f"{said}: the iterative attack is weaker than it must be. Look at its step size.",
            **evidence,
        )
    only = f"; {len(missed)} of them only a single one" if missed else ""
    return ok("D13", f"{said}{only}.", **evidence)


def black_box(record: StoredRun) -> Diagnosis:
    """Make D14: attacks without gradients flip no image that the gradient attacks do not."""
    if record.transferred:
        return skipped(
            "D14", "The attacks looked at another model, so none saw this one's gradient."
        )
    black, white = record.labels(*_BLACK), record.labels(WHITE)
    if not black or not white:
        why = "It takes a white-box attack and a score or decision based one; --thorough adds one."
        return skipped("D14", why)
    missed = (record.flipped(black) - record.flipped(white)) & record.tried(white)
    readable = int(record.images.clean_class.notna().sum())
    drop = len(missed) / readable if readable else 0.0
    evidence = {"only_black_box": record.names(missed), "robust_accuracy_lost": drop}
    if drop > MASKING:
        return warn(
            "D14",
            f"Attacks without gradients flip {plural(len(missed), 'image')} that white-box attacks do not "
            f"({percent(drop)} of the readable images): the gradient misleads (gradient masking), so the "
            "white-box numbers are too good.",
            **evidence,
        )
    unasked = record.flipped(black) - record.flipped(white) - record.tried(white)
    if unasked and not record.tried(black) & record.tried(white):
        return skipped("D14", f"{_APART} white-box attacks and to attacks without gradients.")
    rest = (
        f"; {len(unasked)} that they flip were not shown to white-box attacks (cascade)"
        if unasked
        else ""
    )
    return ok(
        "D14", f"Attacks without gradients add {plural(len(missed), 'image')}{rest}.", **evidence
    )


def transfer(record: StoredRun) -> Diagnosis:
    """Make D15: pictures made for another model flip no more images than those made for this one."""
    away = [
        a.title for a in record.attacks if a.knowledge == "transfer" or "transfer" in str(a.name)
    ]
    white = [label for label in record.labels(WHITE) if label not in away]
    if not away or not white:
        why = "No picture was made for another model (--surrogate)."
        asks = "--thorough attacks this model itself, to compare."
        return skipped("D15", asks if record.transferred else why)
    both = record.tried(away) & record.tried(white)
    if record.spared and not both:
        return skipped("D15", f"{_APART} attacks on this model and to those on another.")
    there, here = len(record.flipped(away) & both), len(record.flipped(white) & both)
    of = _of(record, both)
    if there > here:
        return warn(
            "D15",
            f"Pictures made for another model flip {plural(there, 'image')}, those made for this one "
            f"{here}{of}: "
            "the gradient of this model misleads (gradient masking).",
            transferred=there,
            white_box=here,
        )
    return ok(
        "D15", f"Transferred pictures flip {plural(there, 'image')}, white-box attacks {here}{of}."
    )


def saved(record: StoredRun) -> Diagnosis:
    """Make D19: of the points that flip in float, enough flip as saved files too."""
    rows = record.outcomes
    lost = rows[(rows.status != FLIPPED) & (rows.float_flip == 1)]
    worst, count, total = 1.0, 0, 0
    where = ""
    for (attack, epsilon), group in rows.groupby(["attack", "epsilon"]):
        flips = int((group.status == FLIPPED).sum())
        away = int(((group.status != FLIPPED) & (group.float_flip == 1)).sum())
        if away and flips / (flips + away) < worst:
            worst, count, total = flips / (flips + away), away, flips + away
            where = f"{attack}, epsilon {float(str(epsilon)):g}"
    evidence = {"lost": len(lost), "images": record.names(lost.image)}
    if worst < SURVIVING and count > 1:
        return warn(
            "D19",
            f"{count} of {total} points that flip in float do not flip as 8-bit files ({where}). They "
            "are not counted; an attack that minds the grid might save some.",
            **evidence,
        )
    return ok(
        "D19",
        f"{plural(len(lost), 'flip was', 'flips were')} lost in being saved; none counts.",
        **evidence,
    )


def kinds(record: StoredRun) -> Diagnosis:
    """Make D24: several kinds of attack ran on the survivors; attacks that add nothing are evidence."""
    flips = {a.title: record.flipped([a.title]) for a in record.attacks}
    # In a cascade, later attacks do not run on flipped images, so only attacks without a flip are redundant.
    rows = record.outcomes
    broke = set(rows[rows.status == FAILED].attack)
    redundant = [
        label
        for label, mine in flips.items()
        if len(flips) > 1
        and label not in broke
        and not (mine if record.spared else mine - _others(flips, label))
    ]
    judged = set(rows[rows.status.isin([FLIPPED, ROBUST])].attack)
    learners = [a for a in record.learners if a.title in judged]
    tried = sorted({str(a.knowledge) for a in learners} - {"none", "None"})
    left, lost = len(record.held), len(record.undecided)
    evidence = {"kinds": tried, "redundant": redundant, "survivors": left}
    if lost and not left and record.flipped():
        return warn(
            "D24",
            f"Every image that was judged flips, but on {lost} every attack failed.",
            **evidence,
        )
    if not left:
        return ok(
            "D24",
            "Every image that was attacked flips, so another attack could add nothing.",
            **evidence,
        )
    if not tried or record.transferred:
        return _untested(record, evidence)
    if not set(tried) & set(_BLACK) or len(tried) < 2:
        return warn(
            "D24",
            f"{plural(left, 'image survives', 'images survive')} attacks of one kind only "
            f"({', '.join(tried)}). Add one "
            f"{'that needs no gradient' if WHITE in tried else 'of another kind'} before calling "
            f"{'it' if left == 1 else 'them'} robust.",
            **evidence,
        )
    if few_kinds := _by_few_kinds(record, learners):
        return warn(
            "D24",
            f"Attacks failed on {len(few_kinds)} of the {plural(left, 'image')} that survived, so that these "
            "survived attacks of one kind only, or only such as need a gradient.",
            **evidence,
            images=record.names(few_kinds),
        )
    return ok(
        "D24",
        f"{plural(left, 'image survives', 'images survive')} attacks of {plural(len(tried), 'kind')}.",
        **evidence,
    )


def _untested(record: StoredRun, evidence: Mapping[str, object]) -> Diagnosis:
    """D24 for a run of which no attack learned from the audited model; under `free` noise is the threat."""
    left = int(str(evidence["survivors"]))
    if evidence["kinds"]:
        return warn(
            "D24",
            f"{plural(left, 'image survives', 'images survive')} pictures that were made for another model "
            f"(--surrogate). Attack this model itself before calling {'it' if left == 1 else 'them'} robust.",
            **evidence,
        )
    if record.manifest.config.norm == "free":
        return skipped("D24", "Only attacks that learn nothing from what they see were run.")
    return warn(
        "D24",
        f"{plural(left, 'image survives', 'images survive')}, but only attacks were run that learn "
        "nothing of the model (noise, grids, fitted changes): that says nothing of an attacker who looks for "
        "a flip. Add one that does: --attack standard.",
        **evidence,
    )


def _by_few_kinds(record: StoredRun, learners: list[AttackEntry]) -> set[str]:
    """Surviving images on which attacks failed, so that too few kinds of attack finished."""
    last = record.outcomes[record.outcomes.epsilon == record.last]
    kind = last.attack.map({a.title: str(a.knowledge) for a in learners}).dropna()
    done = kind[last.status == ROBUST].groupby(last.image).agg(set)
    enough = {i for i, some in done.items() if some & set(_BLACK) and len(some) > 1}
    return (record.held & set(last[last.status == FAILED].image)) - enough


def _others(flips: Mapping[str, set[str]], label: str) -> set[str]:
    return set().union(*(some for name, some in flips.items() if name != label))


_APART = "In this cascade no image was shown both to"


def _of(record: StoredRun, both: set[str]) -> str:
    """A phrase for the number of images on which two kinds of attack both ran, in a cascade; else ""."""
    return f" of the {plural(len(both), 'image')} that both were shown" if record.spared else ""


def queries(record: StoredRun) -> Diagnosis:
    """Make D25: few images flip in the last tenth of the query budget."""
    climbing = [a for a in record.learners if a.knowledge in _BLACK and a.seeks in (None, "any")]
    if not climbing:
        return skipped("D25", "No attack that climbs by queries was run.")
    if not record.held:
        return skipped("D25", "No image survives all attacks, so no budget hides a flip.")
    late: dict[str, int] = {}
    for attack in climbing:
        steps = int(attack.parameters.get("steps") or 0)
        rows = record.outcomes[
            (record.outcomes.attack == attack.title) & (record.outcomes.status == FLIPPED)
        ]
        late[attack.title] = rows[rows.step >= (1 - RISING) * steps].image.nunique()
    label, count = max(late.items(), key=lambda item: item[1])
    n = len(record.attacked)
    if count > few(n):
        return warn(
            "D25",
            f"{count} of {plural(n, 'image')} flipped in the last tenth of the queries of {label}: its "
            "budget "
            "ended before its successes did, so what survives is limited by the budget, not robust.",
            late=late,
        )
    return ok(
        "D25",
        f"{count} of {plural(n, 'image')} flipped in the last tenth of the queries.",
        late=late,
    )


CHECKS: tuple[Callable[[StoredRun], Diagnosis], ...] = (
    overlooked,
    last_restart,
    larger_budgets,
    single_step,
    black_box,
    transfer,
    saved,
    accuracy,
    size,
    kinds,
    queries,
    blind,
    reachable,
    reads_whole_picture,
)


def noise_rows(record: StoredRun) -> pd.DataFrame:
    """Return the outcomes in which noise flips an image."""
    labels = [a.title for a in record.attacks if is_noise(a)]
    rows = record.outcomes
    return rows[rows.attack.isin(labels) & (rows.status == FLIPPED)]
