"""Replays attacks step by step on images that survived them (D06 and D07)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from keras import ops

from robustness.contract.attack import Attack
from robustness.diagnostics import Diagnosis, fail, ok, skipped, warn
from robustness.diagnostics.model_queries import AT_RANDOM, margin
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import AttackJob, Example
from robustness.engine.model_input import by_canvas
from robustness.engine.replay import Replay, replay_pictures, replay_states
from robustness.engine.search import starting_epsilon
from robustness.threat.threat import Threat

REPLAYED = 16
LAST_STEPS, MOVING = 10, 0.05
"""Largest share of its total fall that the loss may fall in the last steps (Indicators of Attack Failure)."""


def paths(setup: RerunSetup) -> list[Diagnosis]:
    """Make D06 and D07 from every step of the attacks on images that survived them."""
    if setup.plan.draws > 1:
        return [skipped("D06", AT_RANDOM), skipped("D07", AT_RANDOM)]
    replayed = [replay(setup, attack) for attack in setup.gradient_attacks]
    return [overlooked(replayed), converged(replayed)]


@dataclass(frozen=True)
class Path:
    """Every step of an attack on images that survived it.

    Parameters
    ----------
    attack : the attack.
    margins : margins of its points in logits, (images, steps + 1).
    flips : the images for which the rounded picture of some step flips, although the outcome is robust.
    lost : those of `flips` with such a picture that was a candidate for the judge.
    """

    attack: Attack
    margins: np.ndarray
    flips: tuple[str, ...]
    lost: tuple[str, ...]


def replay(setup: RerunSetup, attack: Attack) -> Path:
    """Run an attack again on at most `REPLAYED` images that survived it, and check every step."""
    stood = setup.record.stood(attack.label)
    surviving = [e for e in setup.sample.examples if e.key in stood][:REPLAYED]
    # Pictures of several sizes: those of the most frequent canvas.
    canvas, examples = (
        by_canvas(setup.attacked_model, attack, surviving)[0] if surviving else (None, [])
    )
    margins = np.full((len(examples), attack.steps + 1), np.nan, np.float32)
    if not examples:
        return Path(attack, margins, (), ())
    threat, seed = setup.plan.threat, setup.plan.seed
    aims = threat.goal.aims(np.array([e.label for e in examples]))
    radius = starting_epsilon(attack, threat, setup.top)
    replays = [Replay(AttackJob(e, radius), attack.steps, setup.top) for e in examples]
    size = min(setup.plan.slots, REPLAYED)
    # The judge gets every point that flips in float, and always the last one.
    judged = np.zeros(margins.shape, bool)
    judged[:, -1] = True
    batch = CompiledBatch(
        setup.attacked_model, attack, threat, batch_size=size, seed=seed, canvas=canvas
    )
    for number, step, state, slot in replay_states(batch, replays):
        point = np.asarray(ops.convert_to_numpy(state["own"]["point"][slot]))
        example, aim = examples[number], aims[number]
        logits = setup.attacked_model.logits_of(example.cropped(point)[None])
        margins[number, step] = margin(logits, example.label)[0]
        judged[number, step] |= _reached(threat, int(logits[0].argmax()), example, aim)
    flips: set[str] = set()
    lost: set[str] = set()
    for number, step, _, probabilities in replay_pictures(batch, setup.classifier, replays):
        example = examples[number]
        if _reached(threat, int(probabilities.argmax()), example, aims[number]):
            flips.add(example.key)
            if judged[number, step]:
                lost.add(example.key)
    return Path(attack, margins, tuple(sorted(flips)), tuple(sorted(lost)))


def _reached(threat: Threat, predicted: int, example: Example, aim: int) -> bool:
    return predicted != example.label and bool(threat.goal.reached(predicted, int(aim)))


def overlooked(replayed: Iterable[Path]) -> Diagnosis:
    """Make D06: no step of an attack flips an image that counts as robust."""
    replayed = list(replayed)
    images = sum(len(p.margins) for p in replayed)
    if not images:
        return ok(
            "D06", "Every image tried was flipped by the gradient attacks; none was overlooked."
        )
    flips = {key for p in replayed for key in p.flips}
    certain = {key for p in replayed for key in p.lost}
    numbers = {"images": images, "flips": sorted(flips)[:10]}
    if certain:
        return fail(
            "D06",
            f"{len(certain)} of {images} images count as robust although a picture on the attack's "
            "way flips them: a flip was found and lost.",
            **numbers,
        )
    if flips:
        return warn(
            "D06",
            f"On the way of {len(flips)} of {images} images that count as robust a picture flips "
            "once it is rounded, which its point in float does not.",
            **numbers,
        )
    return ok(
        "D06", f"Walked again, {images} robust images are never flipped on the way.", **numbers
    )


def converged(replayed: Iterable[Path]) -> Diagnosis:
    """Make D07: the loss of surviving images no longer falls in the last steps."""
    falls = {p.attack.label: still_falling(p.margins) for p in replayed if len(p.margins)}
    if not falls:
        return ok("D07", "No image survived the gradient attacks, so nothing was left to converge.")
    label, fall = max(falls.items(), key=lambda item: item[1])
    if fall > MOVING:
        return warn(
            "D07",
            f"The loss of the survivors of {label} still falls by {fall:.0%} of its way in the last "
            "steps: the attack ended too early. Give it more steps.",
            falls=falls,
        )
    return ok(
        "D07", f"The loss of the survivors falls by {fall:.1%} in the last steps.", falls=falls
    )


def still_falling(margins: np.ndarray) -> float:
    """Return the mean share of the total fall of the margin that happens in the last steps.

    The last steps are the last `LAST_STEPS`, at most a quarter of all, at least one. The margins of each
    image are replaced by their running minimum, and its fall is divided by its total fall.

    Parameters
    ----------
    margins : margins in logits, (images, steps + 1).
    """
    best = np.minimum.accumulate(margins, axis=1)
    steps = best.shape[1] - 1
    window = min(LAST_STEPS, max(1, steps // 4))
    way = best[:, 0] - best[:, -1]
    fall = best[:, -1 - window] - best[:, -1]
    return float(np.mean(np.where(way > 0, fall / np.where(way > 0, way, 1), 0.0)))
