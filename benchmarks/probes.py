"""Compare gradients estimated from losses of probes: their accuracy, and the queries until a flip.

    python benchmarks/probes.py digits [--norm linf] [--epsilon 24] [--images 100] [--probes 32] [--steps 40]

All estimators use the same number of queries in each step. Cosine: between one estimate and the true gradient
of the same loss at the image, over all pixels. Queries: until the first flip that the judge confirms; an
image that never flips counts with all queries. Differences are to antithetic NES, paired by image, with a
95 % interval over images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops
from starts import rungs
from subjects import SUBJECTS, difference

from robustness import backend
from robustness.attacks.score_gradient import NES, Regression
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.engine.jobs import Example
from robustness.models.classifier import Classifier
from robustness.numerics import prng
from robustness.threat.norms import NORMS, Norm
from robustness.threat.threat import Threat


def ways(probes: int, steps: int, low: int) -> dict[str, NES | Regression]:
    """The estimators to compare; `low` is the number of frequencies of each axis where these are limited."""
    how: dict[str, Any] = {"probes": probes, "steps": steps}
    return {
        "NES in pairs": NES(**how),
        "NES": NES(**how, antithetic=False),
        "regression on spread probes": Regression(**how, frequencies=None),
        f"NES in pairs, {low} frequencies": NES(**how, frequencies=low),
        f"NES, {low} frequencies": NES(**how, antithetic=False, frequencies=low),
        f"regression in pairs, {low} frequencies": Regression(
            **how, antithetic=True, frequencies=low
        ),
        f"regression on spread probes, {low} frequencies": Regression(**how, frequencies=low),
    }


def cosines(
    classifier: Classifier,
    attack: NES | Regression,
    some: Sequence[Example],
    norm: Norm,
    seed: int,
) -> np.ndarray:
    """Cosine between the first estimate at each image and the true gradient, (images,)."""
    attack = replace(attack, momentum=0.0)

    def both(images: Any, labels: Any, keys: Any) -> tuple[Any, Any]:
        zero = 0 * labels
        task = Task(
            images=images,
            aims=labels,
            epsilon=0 * images[:, 0, 0, 0] + 8.0,
            keys=keys,
            restart=zero,
            step=zero,
            norm=norm,
            goal=Threat((8,)).goal,
        )
        score = Look(classifier.logits, task, attack.loss, "score")
        guess = attack.step(task, attack.init(task), score)["average"]
        truth = Look(classifier.logits, task, attack.loss, "white-box")(images).gradient
        flat = [ops.reshape(x, (x.shape[0], -1)) for x in (guess, truth)]
        dot = ops.sum(flat[0] * flat[1], axis=1)
        return dot / (ops.norm(flat[0], axis=1) * ops.norm(flat[1], axis=1) + 1e-30)

    run = backend.compile(both)
    found = []
    for example in some:
        key = prng.key_for(seed, example.key, "probes")
        found.append(
            run(
                ops.convert_to_tensor(example.pixels[None].astype("float32")),
                ops.convert_to_tensor(np.array([example.label], "int32")),
                ops.convert_to_tensor(key[None]),
            )
        )
    return np.concatenate([ops.convert_to_numpy(x) for x in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(SUBJECTS))
    parser.add_argument("--norm", default="linf", choices=["linf", "l2"])
    parser.add_argument("--epsilon", type=float, default=24)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--probes", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--frequencies", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--skip", type=int, nargs="*", default=[], help="numbers of estimators to skip, from 0"
    )
    asked = parser.parse_args()
    norm = NORMS[asked.norm]
    classifier, some = SUBJECTS[asked.model](asked.images)
    threat = Threat((asked.epsilon,), norm)
    print(
        f"{asked.model}, {asked.norm} {asked.epsilon:g}, {len(some)} images, {asked.seeds} seeds, "
        f"{asked.probes} probes a step, {asked.steps} steps"
    )
    print("| probes | cosine | flipped | queries, median | mean | less than NES in pairs (95 %) |")
    print("|---|---|---|---|---|---|")
    most, plain = asked.probes * asked.steps, None
    every = ways(asked.probes, asked.steps, asked.frequencies)
    for number, (name, attack) in enumerate(every.items()):
        if number in asked.skip:
            continue
        began, spent, flipped, true = time.monotonic(), [], [], []
        for seed in range(asked.seeds):
            true.append(cosines(classifier, attack, some, norm, seed))
            found = rungs(classifier, attack, threat, some, seed)
            last = [found[s.key][0] for s in some]
            flipped.append([r.flip is not None for r in last])
            spent.append([r.forward if r.flip else most for r in last])
        queries = np.mean(spent, axis=0)
        plain = queries if plain is None else plain
        apart = "" if queries is plain else difference((plain - queries) / most)
        print(
            f"| {name} | {np.mean(true):.3f} | {np.mean(flipped):.3f} | {np.median(spent):.0f} | "
            f"{np.mean(spent):.0f} | {apart} | <!-- {time.monotonic() - began:.0f} s -->",
            flush=True,
        )


if __name__ == "__main__":
    main()
