"""Makes diagnoses by running attacks again on a few images, for thorough audits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import wraps

import numpy as np

from robustness import plugins
from robustness.configuration import attack_parameters
from robustness.contract.attack import Attack
from robustness.contract.registry import find
from robustness.diagnostics import Diagnosis, fail, few, ok, skipped, warn
from robustness.diagnostics.controls import break_control, masked_control_is_flagged
from robustness.diagnostics.convergence import paths
from robustness.diagnostics.model_queries import AT_RANDOM
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.diagnostics.stored_outcomes import MASKING
from robustness.diagnostics.stored_run import DECISION, SCORE
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import AttackJob, Example
from robustness.engine.model_input import by_canvas
from robustness.engine.replay import Replay, replay_pictures
from robustness.errors import SettingError
from robustness.numerics.intervals import wilson_interval
from robustness.text import percent

MAX_IMAGES, UNBOUNDED = 64, 16
CONTROL = 0.99


Reruns = Callable[[RerunSetup, Callable[[str], None]], list[Diagnosis]]
"""Makes the diagnoses that run attacks again, and calls the function with the name of each rerun."""


def title(rerun: Callable[[RerunSetup], list[Diagnosis]]) -> str:
    """Return the name of a rerun for the progress."""
    return rerun.__name__.replace("_", " ")


def diagnose_reruns(
    setup: RerunSetup, progress: Callable[[str], None] = lambda part: None
) -> list[Diagnosis]:
    """Make the diagnoses that run attacks again: D06 to D10, D12 to D15, D17, D20 and D22.

    Parameters
    ----------
    setup : the run, and images to run on.
    progress : called with the name of each rerun before it starts.
    """
    diagnoses: list[Diagnosis] = []
    for rerun in RERUNS:
        progress(title(rerun))
        diagnoses += rerun(setup)
    return diagnoses


def with_longer_steps(attack: Attack, ratio: float) -> Attack:
    """Return the attack with its step size multiplied by `ratio`, at most the largest one allowed.

    An attack without a fixed step size is returned unchanged.
    """
    known = attack_parameters.settings(type(attack))
    size = getattr(attack, "step_size", None)
    if "step_size" not in known or not isinstance(size, (int, float)):
        return attack
    most = known["step_size"][1].high
    return replace(attack, step_size=min(size * ratio, most if most is not None else np.inf))  # type: ignore[call-arg]


def unbounded(setup: RerunSetup) -> list[Diagnosis]:
    """Make D08 and D17: within the whole range every image flips; within half of it, all but chance."""
    attacks = [a for a in setup.gradient_attacks if a.steps > 1]
    norm, some = setup.plan.threat.norm, setup.sample.examples[:UNBOUNDED]
    if not attacks or not some:
        why = "It takes a gradient attack of more than one step and an image that was attacked."
        return [skipped("D08", why), skipped("D17", why)]
    if setup.surrogate is not None or setup.plan.threat.mask is not None:
        why = "With a surrogate or a mask nobody says that everything can be flipped."
        return [skipped("D08", why), skipped("D17", why)]
    largest = max((example.pixels.shape for example in some), key=math.prod)
    whole = norm.largest(largest[0] * largest[1], largest[2])

    def left(epsilon: float) -> list[Example]:
        standing = list(some)
        for attack in attacks:
            if standing:
                grown = with_longer_steps(attack, epsilon / setup.top)
                flipped = setup.flips(grown, standing, epsilon)
                standing = [s for s in standing if s.key not in flipped]
        return standing

    held = left(whole)
    numbers = {"images": len(some), "held": setup.record.names(s.key for s in held)}
    targeted = setup.plan.threat.goal.target is not None
    if held:
        make = warn if targeted else fail
        first = make(
            "D08",
            f"{len(held)} of {len(some)} images hold even against a change of any size: the gradient "
            "does not lead to the flips there are (gradient masking), or the attack is broken.",
            **numbers,
        )
    else:
        first = ok(
            "D08", f"Against a change of any size none of {len(some)} images holds.", **numbers
        )
    if norm.grey == math.inf or targeted:
        return [first, skipped("D17", "It is asked of untargeted attacks in linf.")]
    stands = len(left(norm.grey))
    low, high = wilson_interval(stands, len(some))
    chance = 1 / len(setup.classifier.class_names)
    said = f"At epsilon {norm.grey:g} {stands} of {len(some)} images hold"
    if low > chance:
        second = fail(
            "D17",
            f"{said}, more than chance ({percent(chance)}), although each can be made plain grey there.",
        )
    else:
        second = ok("D17", f"{said}; chance is {percent(chance)}.", low=low, high=high)
    return [first, second]


def _able(attack: Attack, name: str) -> bool:
    return name in attack_parameters.settings(type(attack))


def more_steps(setup: RerunSetup) -> list[Diagnosis]:
    """Make D09 and D12: twice the steps flip few more images, and lose few."""
    added: dict[str, int] = {}
    lost: dict[str, int] = {}
    tried = 0
    for attack in setup.gradient_attacks:
        if not _able(attack, "steps"):
            # The number of steps of a wrapper follows from the attack that it wraps.
            continue
        field = attack_parameters.settings(type(attack))["steps"][1]
        if field.high is not None and 2 * attack.steps > field.high:
            continue
        mine = setup.record.flipped([attack.label])
        known = setup.record.tried([attack.label])
        some = [s for s in setup.sample.examples if s.key in known][:MAX_IMAGES]
        tried = max(tried, len(some))
        flipped = setup.flips(replace(attack, steps=2 * attack.steps), some, setup.top)
        added[attack.label] = len(flipped - mine)
        lost[attack.label] = len({s.key for s in some if s.key in mine} - flipped)
    if not added:
        why = "No gradient attack can take more steps."
        return [skipped("D09", why), skipped("D12", why)]
    worst, missing = max(added, key=lambda k: added[k]), max(lost, key=lambda k: lost[k])
    if added[worst] > few(tried):
        first = warn(
            "D09",
            f"Twice the steps of {worst} flip {added[worst]} of {tried} images more: it has not "
            "converged. Give it more steps.",
            added=added,
        )
    else:
        first = ok(
            "D09", f"Twice the steps flip {added[worst]} of {tried} images more.", added=added
        )
    if lost[missing] > few(tried):
        second = fail(
            "D12",
            f"{lost[missing]} of {tried} images that {missing} flips it no longer flips with twice "
            "the steps: it does not keep the best it found.",
            lost=lost,
        )
    else:
        second = ok("D12", f"Twice the steps lose {lost[missing]} of {tried} images.", lost=lost)
    return [first, second]


def one_restart_more(setup: RerunSetup) -> Diagnosis:
    """Make D10: one more random start flips few of the surviving images."""
    able = [a for a in setup.plan.attacks if _able(a, "restarts")]
    if not able or not setup.sample.standing:
        return skipped("D10", "No attack starts at random, or no image survived.")
    added: dict[str, int] = {}
    for attack in able:
        more = replace(attack, restarts=attack.restarts + 1)  # type: ignore[call-arg]
        added[attack.label] = len(setup.flips(more, setup.sample.standing[:MAX_IMAGES], setup.top))
    worst, n = max(added, key=lambda k: added[k]), len(setup.record.attacked)
    said = f"One more restart of {worst} flips {added[worst]} images more"
    if added[worst] > few(n):
        return warn("D10", f"{said} of {n}. Raise restarts.", added=added)
    return ok("D10", f"{said}.", added=added)


def one_step(setup: RerunSetup) -> Diagnosis:
    """Make D13: FGSM flips no image that survived attacks of many steps."""
    if "fgsm" not in plugins.names(plugins.ATTACKS):
        return skipped("D13", "FGSM is not installed.")
    attack = find("fgsm")()
    try:
        attack.expect_norm(setup.plan.threat.norm)
    except SettingError as error:
        return skipped("D13", str(error))
    if not setup.sample.standing:
        return ok("D13", "No image survived, so a single step has nothing to add.")
    flipped = setup.flips(attack, setup.sample.standing[:MAX_IMAGES], setup.top)
    said = f"FGSM flips {len(flipped)} of {len(setup.sample.standing[:MAX_IMAGES])} survivors"
    if len(flipped) > 1:
        return warn(
            "D13",
            f"{said}: the attacks of many steps are weaker than they must be.",
            only_by_one_step=setup.record.names(flipped),
        )
    return ok("D13", f"{said}.", only_by_one_step=setup.record.names(flipped))


QUERIES = 300
"""Steps of the black-box attack on survivors."""


def without_gradient(setup: RerunSetup) -> Diagnosis:
    """Make D14: an attack without gradients flips no image that survived the gradient attacks."""
    attackers = [a for a in setup.gradient_attacks if not a.baseline]
    if not attackers or setup.surrogate is not None or setup.record.labels(SCORE, DECISION):
        return skipped(
            "D14", "It is tried where attacks followed this model's gradient, and only such."
        )
    if not setup.sample.standing:
        return ok("D14", "No image survived, so an attack without gradients has nothing to add.")
    try:
        attack = find("square").from_parameters({"steps": QUERIES})
        attack.expect_norm(setup.plan.threat.norm)
    except SettingError as error:
        return skipped("D14", str(error))
    some = setup.sample.standing[:UNBOUNDED]
    flipped = setup.flips(attack, some, setup.top)
    readable = int(setup.record.images.clean_class.notna().sum())
    drop = len(flipped) / readable
    numbers = {"only_black_box": setup.record.names(flipped), "robust_accuracy_lost": drop}
    said = f"{QUERIES} steps of Square flip {len(flipped)} of {len(some)} survivors"
    if drop > MASKING:
        return warn(
            "D14",
            f"{said}: the gradient misleads (gradient masking) or is followed for too few steps, so "
            "the white-box numbers are too good.",
            **numbers,
        )
    return ok("D14", f"{said}.", **numbers)


def own_gradient(setup: RerunSetup) -> Diagnosis:
    """Make D15: attacks on this model flip at least as many images as the same attacks on the surrogate."""
    attacks, some = setup.gradient_attacks, setup.sample.examples[:MAX_IMAGES]
    if setup.surrogate is None:
        return skipped("D15", "No picture was made for another model (--surrogate).")
    if not attacks or not some:
        return skipped("D15", "It takes a gradient attack and an image that was attacked.")
    direct, here = replace(setup, surrogate=None), set[str]()
    for attack in attacks:
        here |= direct.flips(attack, [s for s in some if s.key not in here], setup.top)
    labels = [a.label for a in attacks]
    there = setup.record.flipped(labels) & {s.key for s in some}
    numbers = {"transferred": len(there), "white_box": len(here), "images": len(some)}
    if len(there) > len(here):
        return warn(
            "D15",
            f"Pictures made for another model flip {len(there)} of {len(some)} images, those made for "
            f"this one {len(here)}: the gradient of this model misleads (gradient masking).",
            **numbers,
        )
    return ok(
        "D15",
        f"Of {len(some)} images transferred pictures flip {len(there)}, the same attacks on this "
        f"model itself {len(here)}.",
        **numbers,
    )


def no_budget(setup: RerunSetup) -> Diagnosis:
    """Make D20: with epsilon 0 no attack changes an image or its class."""
    if setup.plan.draws > 1:
        return skipped("D20", AT_RANDOM)
    some = setup.sample.examples[:8]
    if not some:
        return skipped("D20", "No image was attacked.")
    changed: dict[str, int] = {}
    for attack in setup.plan.attacks:
        moved: set[int] = set()
        steps = min(attack.steps, 10)
        model, threat = setup.attacked_model, setup.plan.threat
        canvas, placed = by_canvas(model, attack, some)[0]
        replays = [Replay(AttackJob(s, 0.0), steps, 0.0) for s in placed]
        batch = CompiledBatch(model, attack, threat, batch_size=8, seed=0, canvas=canvas)
        for number, _, picture, row in replay_pictures(batch, setup.classifier, replays):
            original = placed[number].cropped(placed[number].pixels)
            same = np.array_equal(picture, original)
            if not same or int(row.argmax()) != placed[number].label:
                moved.add(number)
        changed[attack.label] = len(moved)
    worst = max(changed, key=lambda k: changed[k])
    if changed[worst]:
        return fail(
            "D20",
            f"With a budget of nothing {worst} changes {changed[worst]} of {len(some)} images or "
            "their class.",
            changed=changed,
        )
    return ok("D20", f"With a budget of nothing no attack changes any of {len(some)} images.")


def controls(setup: RerunSetup) -> Diagnosis:
    """Make D22: the attacks break the linear control model, and the checks detect one without gradients."""
    shares = {
        a.label: share
        for a in setup.plan.attacks
        if not a.baseline and (share := break_control(a, setup.plan.threat)) is not None
    }
    if not masked_control_is_flagged():
        return fail("D22", "A model without gradients was not noticed by the checks.")
    if not shares:
        return skipped("D22", "There is no control in this norm.")
    worst = min(shares, key=lambda k: shares[k])
    if shares[worst] < CONTROL:
        white = worst in {a.label for a in setup.gradient_attacks}
        return (fail if white else warn)(
            "D22",
            f"{worst} flips {percent(shares[worst])} of images next to the edge of a linear model, where "
            "all can be flipped: the attack does not work as it should.",
            shares=shares,
        )
    return ok(
        "D22", "The attacks break a linear model, and a masked one is noticed.", shares=shares
    )


def _single(ask: Callable[[RerunSetup], Diagnosis]) -> Callable[[RerunSetup], list[Diagnosis]]:
    @wraps(ask)
    def asked(setup: RerunSetup) -> list[Diagnosis]:
        return [ask(setup)]

    return asked


RERUNS: tuple[Callable[[RerunSetup], list[Diagnosis]], ...] = (
    paths,
    unbounded,
    more_steps,
    *map(
        _single,
        (one_restart_more, one_step, without_gradient, own_gradient, no_budget, controls),
    ),
)
