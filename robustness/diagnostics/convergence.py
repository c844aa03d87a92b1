"""D06 and D07: attacks walked again, step by step, on images that survived them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from robustness.contract.attack import Attack
from robustness.diagnostics import Diagnosis, fail, ok, skipped, warn
from robustness.diagnostics.model_queries import AT_RANDOM, margin
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.engine import search
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import AttackJob, Example
from robustness.engine.replay import Walk, replay, trace
from robustness.threat.threat import Threat

WALKED = 16
LAST_STEPS, MOVING = 10, 0.05
"""Of Indicators of Attack Failure: what the loss may still fall in the last steps."""


def paths(trial: RerunSetup) -> list[Diagnosis]:
    """D06 and D07: the attacks' ways on images that survived them."""
    if trial.plan.draws > 1:
        return [skipped("D06", AT_RANDOM), skipped("D07", AT_RANDOM)]
    walks = [walked(trial, attack) for attack in trial.gradient_attacks]
    return [overlooked(walks), converged(walks)]


@dataclass(frozen=True)
class Path:
    """How an attack went on images that survived it.

    `margins` (images, steps + 1) of its points; `flips` the images of which a picture on the way
    flips, though the outcome says robust; `lost` those whose picture was brought before the judge.
    """

    attack: Attack
    margins: np.ndarray
    flips: tuple[str, ...]
    lost: tuple[str, ...]


def walked(trial: RerunSetup, attack: Attack) -> Path:
    """Walk an attack again on images that survived it, looking at every step."""
    stood = trial.record.stood(attack.label)
    some = [s for s in trial.sample.subjects if s.key in stood][:WALKED]
    margins = np.full((len(some), attack.steps + 1), np.nan, np.float32)
    if not some:
        return Path(attack, margins, (), ())
    threat, seed = trial.plan.threat, trial.plan.seed
    aims = threat.goal.aims(np.array([s.label for s in some]))
    radius = search.budget(attack, threat, trial.top)
    walks = [Walk(AttackJob(s, radius), attack.steps, trial.top) for s in some]
    slots = min(trial.plan.slots, WALKED)
    # The judge sees every point that flips in float, and the last one in any case.
    judged = np.zeros(margins.shape, bool)
    judged[:, -1] = True

    def seen(walk: int, step: int, state: Any, row: int) -> None:
        point = np.asarray(ops.convert_to_numpy(state["own"]["point"][row]))
        logits = trial.eyes.logits_of(point[None])
        margins[walk, step] = margin(logits, some[walk].label)[0]
        judged[walk, step] |= _reached(threat, int(logits[0].argmax()), some[walk], aims[walk])

    rows = CompiledBatch(trial.eyes, attack, threat, slots=slots, seed=seed)
    trace(rows, walks, seen)
    flips: set[str] = set()
    lost: set[str] = set()

    def shown(walk: int, step: int, picture: np.ndarray, answer: np.ndarray) -> None:
        if _reached(threat, int(answer.argmax()), some[walk], aims[walk]):
            flips.add(some[walk].key)
            if judged[walk, step]:
                lost.add(some[walk].key)

    replay(rows, trial.classifier, walks, shown)
    return Path(attack, margins, tuple(sorted(flips)), tuple(sorted(lost)))


def _reached(threat: Threat, predicted: int, subject: Example, aim: int) -> bool:
    return predicted != subject.label and bool(threat.goal.reached(predicted, int(aim)))


def overlooked(walks: Iterable[Path]) -> Diagnosis:
    """D06: no point on the way of an image that counts as robust is a flip."""
    walks = list(walks)
    images = sum(len(p.margins) for p in walks)
    if not images:
        return ok(
            "D06", "Every image tried was flipped by the gradient attacks; none was overlooked."
        )
    flips = {key for p in walks for key in p.flips}
    certain = {key for p in walks for key in p.lost}
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


def converged(walks: Iterable[Path]) -> Diagnosis:
    """D07: the loss of what survives no longer falls at the end."""
    found = {p.attack.label: still_falling(p.margins) for p in walks if len(p.margins)}
    if not found:
        return ok("D07", "No image survived the gradient attacks, so nothing was left to converge.")
    label, fall = max(found.items(), key=lambda item: item[1])
    if fall > MOVING:
        return warn(
            "D07",
            f"The loss of the survivors of {label} still falls by {fall:.0%} of its way in the last "
            "steps: the attack ended too early. Give it more steps.",
            falls=found,
        )
    return ok(
        "D07", f"The loss of the survivors falls by {fall:.1%} in the last steps.", falls=found
    )


def still_falling(margins: np.ndarray) -> float:
    """The share of the way down that is done in the last ten steps (a quarter of few), on average.

    `margins` (images, steps + 1); each image is scaled to its own way and made monotone.
    """
    best = np.minimum.accumulate(margins, axis=1)
    steps = best.shape[1] - 1
    window = min(LAST_STEPS, max(1, steps // 4))
    way = best[:, 0] - best[:, -1]
    fall = best[:, -1 - window] - best[:, -1]
    return float(np.mean(np.where(way > 0, fall / np.where(way > 0, way, 1), 0.0)))
