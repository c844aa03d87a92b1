"""Compare starting points of PGD: flips at equal cost, paired by image, over several seeds.

    python benchmarks/starts.py digits [--norm linf] [--images 300] [--seeds 5] [--restarts 8] [--steps 10]

Every kind of start gets the same steps and restarts. A step is a forward and a backward pass; the steps of
output-diversified starts count. The epsilon is the one of a ladder at which plain PGD with one start flips
closest to half of the images. Differences are to random starts on the same images and seeds: the mean over
seeds, then over images, with a 95 % interval over images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from subjects import SUBJECTS, difference

from robustness.attacks.components.starts import STARTS
from robustness.attacks.pgd import PGD
from robustness.contract.attack import Attack
from robustness.engine.jobs import Example
from robustness.engine.outcomes import EpsilonOutcome
from robustness.engine.search import run_attack
from robustness.models.classifier import Classifier
from robustness.numerics.losses import LOSSES
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat

LADDERS = {
    ("digits", "linf"): (12, 16, 20, 24, 28, 32, 40, 48),
    ("digits", "l2"): (60, 80, 100, 120, 140, 160, 200),
    ("pets", "linf"): (1, 2, 3, 4),
    ("pets", "l2"): (10, 15, 20, 30, 40, 60, 80, 120, 160),
}


def outcomes_of(
    classifier: Classifier, attack: Attack, threat: Threat, some: Sequence[Example], seed: int
) -> dict[str, list[EpsilonOutcome]]:
    """The outcomes of each image, by image key."""
    points = 4096 if classifier.input_shape[0] < 32 else 32
    size = min(64, max(1, points // attack.width))
    results = run_attack(classifier, attack, threat, some, batch_size=size, seed=seed)
    return {example.key: outcomes for example, outcomes in results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(SUBJECTS))
    parser.add_argument("--norm", default="linf", choices=["linf", "l2"])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--restarts", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--epsilon", type=float)
    parser.add_argument("--loss", default="cross_entropy", choices=sorted(LOSSES))
    parser.add_argument("--starts", nargs="*", default=list(STARTS), choices=list(STARTS))
    asked = parser.parse_args()
    norm = NORMS[asked.norm]
    classifier, some = SUBJECTS[asked.model](asked.images)
    epsilon = asked.epsilon
    if epsilon is None:
        ladder = Threat(LADDERS[asked.model, asked.norm], norm)
        once = outcomes_of(classifier, PGD(steps=asked.steps, loss=asked.loss), ladder, some, 0)
        shares = np.mean([[r.flip is not None for r in rs] for rs in once.values()], axis=0)
        epsilon = ladder.epsilons[int(np.argmin(np.abs(shares - 0.5)))]
        print("one random start flips", dict(zip(ladder.epsilons, shares.round(3), strict=True)))
    threat = Threat((epsilon,), norm)
    flips: dict[str, np.ndarray] = {}
    print(
        f"{asked.model}, {asked.norm} {epsilon:g}, {len(some)} images, {asked.seeds} seeds, "
        f"{asked.restarts} restarts of {asked.steps} steps, {asked.loss}"
    )
    print("| start | flipped | passes an image | more than random (95 %) | than unspread (95 %) |")
    print("|---|---|---|---|---|")
    for name in [s for s in STARTS if s == "random" or s in asked.starts]:
        attack = PGD(steps=asked.steps, restarts=asked.restarts, start=name, loss=asked.loss)
        began, rows, passes = time.monotonic(), [], []
        for seed in range(asked.seeds):
            found = outcomes_of(classifier, attack, threat, some, seed)
            rows.append([found[s.key][0].flip is not None for s in some])
            passes.append([found[s.key][0].forward + found[s.key][0].backward for s in some])
        flips[name] = np.mean(rows, axis=0)
        apart = "" if name == "random" else difference(flips[name] - flips["random"])
        twin = "ods" if name == "ods-spread" else "random"
        twins = name.endswith("spread") and twin in flips
        spread = difference(flips[name] - flips[twin]) if twins else ""
        print(
            f"| {name} | {flips[name].mean():.4f} | {np.mean(passes):.1f} | {apart} | {spread} |"
            f" <!-- {time.monotonic() - began:.0f} s -->",
            flush=True,
        )


if __name__ == "__main__":
    main()
