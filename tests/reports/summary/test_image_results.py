"""Each image over all attacks, against a loop over its rows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from robustness.reports.summary import cases, metrics
from robustness.reports.summary.image_results import image_results

NAMES = ("cat", "dog", "owl")


def tables(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images and outcomes with every status, ties, missing values and missing outcomes."""
    random = np.random.default_rng(seed)
    size = int(random.integers(0, 25))
    images = pd.DataFrame(
        {
            "key": [f"{n:02d}" for n in random.permutation(size)],
            "name": [f"{n}.png" if n % 3 else "" for n in range(size)],
            "position": random.permutation(size).astype(float),
            "label": random.choice([0.0, 1.0, 2.0, np.nan], size),
            "clean_class": random.choice([0.0, 1.0, 5.0, np.nan], size),
            "confidence": random.choice([0.5, 1.0, np.nan], size),
            "reason": random.choice(["", "broken"], size),
            "png": [None] * size,
        }
    )
    rows = [
        (key, attack, epsilon, random.choice(metrics.STATUSES))
        for attack in ("pgd", "bim", "fgsm")[: int(random.integers(1, 4))]
        for epsilon in (1.0, 2.0)
        for key in [*images["key"], "stray"]
        if random.random() < 0.9
    ]
    outcomes = pd.DataFrame(rows, columns=["image", "attack", "epsilon", "status"])
    numbers = {"linf": [0.5, 1.0], "confidence_after": [0.5, 1.0, np.nan]}
    drawn = {name: random.choice(some, len(rows)) for name, some in numbers.items()}
    outcomes = outcomes.assign(**drawn, adversarial_class=random.choice([0.0, 2.0], len(rows)))
    return images, outcomes


def class_of(number: float) -> str | None:
    if math.isnan(number):
        return None
    return NAMES[int(number)] if number < len(NAMES) else f"class {int(number)}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_results_are_those_of_a_loop_over_rows(seed: int) -> None:
    images, outcomes = tables(seed)
    found = image_results(images, outcomes, NAMES, "linf")
    worst, flips = metrics.worst_case(outcomes), outcomes[outcomes["status"] == "flipped"]
    first = cases.worst_first(images, flips.assign(png=None), "linf").drop_duplicates("image")
    ordered = images.sort_values("position").to_dict("records")
    assert [one.key for one in found] == [image["key"] for image in ordered]
    for one, image in zip(found, ordered, strict=True):
        mine = outcomes[outcomes["image"] == one.key]
        at = worst[worst["image"] == one.key]
        last = at[at["epsilon"] == worst["epsilon"].max()]["status"].tolist()
        assert one.name == (image["name"] or image["key"])
        assert (one.label, one.clean_class) == (
            class_of(image["label"]),
            class_of(image["clean_class"]),
        )
        assert one.status == (last[0] if last else "not reached")
        flipped = mine[mine["status"] == "flipped"]
        assert one.smallest_epsilon == (flipped["epsilon"].min() if len(flipped) else None)
        assert one.attacks == tuple(dict.fromkeys(flipped["attack"]))
        asked = []
        for attack in dict.fromkeys(mine["attack"]):
            seen = set(mine["status"][mine["attack"] == attack])
            if "flipped" in seen or ("robust" in seen and not seen & {"settled", "failed"}):
                asked.append(attack)
        assert one.asked == tuple(asked)
        assert one.undecided == tuple(at["epsilon"][at["status"] == "failed"])
        ends = first[first["image"] == one.key].to_dict("records")
        assert (one.change is None) == (not ends)
        for end in ends:
            assert (one.change, one.adversarial_class) == (
                end["linf"],
                class_of(end["adversarial_class"]),
            )
            sure = end["confidence_after"]
            assert one.confidence_after == (None if math.isnan(sure) else sure)
