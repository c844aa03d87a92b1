"""Measure how close each attack comes to the best of all attacks, as the judge counts, at equal passes.

    python benchmarks/optimality.py [--images 24] [--passes 1000,5000] [--norms linf,l2] [--hardened]

Computes the local optimality of AttackBench (Cina et al. 2024, arXiv:2404.19460): the area under the curve of
robust accuracy over the size of the change, of an attack and of the lower envelope of all attacks in the run
(for each image the nearest flip that any attack finds). 1 is the envelope; 0 is an attack that
flips nothing up to the size at which the envelope has flipped all images. Sizes are those of 8-bit files that
flip the model, for our attacks and those of other libraries alike.

Each attack gets the largest number of steps that the budget of forward plus backward passes allows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from subjects import digits

from robustness.contract.attack import Attack
from robustness.contract.cost import passes
from robustness.contract.registry import find
from robustness.engine import jobs
from robustness.engine.search import run_attack
from robustness.models.classifier import Classifier
from robustness.threat.norms import NORMS, Norm
from robustness.threat.threat import Threat

TOP = {"linf": 255.0, "l2": 255.0 * 8}
"""Budgets that allow any change of a digit's picture."""

OURS: dict[str, Callable[[int], Attack]] = {
    "bisection:of=apgd": lambda n: find("bisection").from_parameters(
        {"of": "apgd", "steps": "20", "rounds": str(min(n, 100))}
    ),
    "fmn": lambda n: find("fmn")(steps=n),
    "ddn": lambda n: find("ddn")(steps=n),
    "fab": lambda n: find("fab")(steps=n),
}


def optimality(sizes: np.ndarray, envelope: np.ndarray) -> float:
    """Local optimality of an attack from `sizes` and `envelope`, both (images,), infinite without a flip.

    The area under a curve of robust accuracy is the mean size of the flips, each clipped to the largest size
    of the envelope.
    """
    end = envelope[np.isfinite(envelope)].max()
    nearest = np.minimum(envelope, end)
    spare = float((end - nearest).sum())
    beyond = float((np.minimum(sizes, end) - nearest).sum())
    return 1.0 if beyond == 0 else 1 - beyond / spare


def fitted(make: Callable[[int], Attack], budget: int, classes: int) -> Attack:
    """The attack among ``make(2), make(3), ...`` with the most steps that `budget` passes allow."""

    def price(count: int) -> int:
        return sum(passes(make(count), classes))

    low, high = 2, 4
    while price(high) <= budget and price(high) > price(low):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if price(middle) <= budget else (low, middle)
    return make(low)


def sizes_of(
    classifier: Classifier, attack: Attack, norm: Norm, some: list[jobs.Example]
) -> tuple[np.ndarray, float]:
    """The size of each image's nearest flip (images,), and the mean number of passes for an image."""
    threat = Threat((TOP[norm.name],), norm)
    results = run_attack(classifier, attack, threat, some, batch_size=24)
    by_key = {example.key: outcomes[0] for example, outcomes in results}
    found = [by_key[example.key] for example in some]
    sizes = [o.flip.distances.of(norm.name) if o.flip else np.inf for o in found]
    return np.array(sizes), float(np.mean([o.forward + o.backward for o in found]))


def table(told: dict[str, tuple[np.ndarray, float]], best: np.ndarray) -> list[str]:
    """One line for each attack: passes used, median size, share flipped, optimality."""
    return [
        f"{name:28} {paid:7.0f} {np.median(far):9.2f} {np.isfinite(far).mean():7.0%} "
        f"{optimality(far, best):9.3f}"
        for name, (far, paid) in told.items()
    ]


def main(arguments: Any = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument(
        "--passes", default="1000,5000", help="passes for each image, comma-separated"
    )
    parser.add_argument("--norms", default="linf,l2")
    parser.add_argument(
        "--hardened", action="store_true", help="use the adversarially trained digits model"
    )
    given = parser.parse_args(arguments)
    classifier, some = digits(given.images, hardened=given.hardened)
    classes = len(classifier.class_names)
    for name in given.norms.split(","):
        norm, budgets = NORMS[name], [int(budget) for budget in given.passes.split(",")]
        told: dict[int, dict[str, tuple[np.ndarray, float]]] = {}
        for budget in budgets:
            attacks = {
                k: fitted(m, budget, classes) for k, m in OURS.items() if name in find_norms(k)
            }
            told[budget] = {
                k: sizes_of(classifier, attack, norm, some) for k, attack in attacks.items()
            }
        # One envelope for all budgets, so that the effect of more passes is visible.
        best = np.min([far for run in told.values() for far, _ in run.values()], axis=0)
        for budget, run in told.items():
            print(f"\n{name}, {len(some)} digits, at most {budget} passes an image")
            print(f"{'attack':28} {'passes':>7} {'median':>9} {'flipped':>7} {'optimality':>9}")
            print("\n".join(table(run, best)), flush=True)


def find_norms(name: str) -> tuple[str, ...]:
    """The norms of an attack of `OURS`."""
    return OURS[name](2).norms


if __name__ == "__main__":
    main()
