"""Tests of the adversarially trained CNN: it matches its card and resists attacks that flip the plain one."""

from __future__ import annotations

import hashlib
import json

import pytest

import robustness
from robustness.attacks import PGD
from robustness.model_zoo import load
from robustness.model_zoo.dogs_vs_cats.photos import held_out
from robustness.model_zoo.dogs_vs_cats.zoo import ROBUST_WEIGHTS, WEIGHTS


def card(weights):
    return json.loads((weights.parent / "card.json").read_text())


def test_the_card_matches_the_weights_and_meets_the_requirements():
    told, plain = card(ROBUST_WEIGHTS), card(WEIGHTS)
    assert hashlib.sha256(ROBUST_WEIGHTS.read_bytes()).hexdigest() == told["weights"]["sha256"]
    assert ROBUST_WEIGHTS.stat().st_size <= 30_000_000
    assert told["held_out_photographs"]["of"] == plain["held_out_photographs"]["of"]
    assert told["held_out_photographs"]["accuracy"] >= 0.80
    assert told["robust_accuracy"]["epsilon"]["2"]["accuracy"] >= 0.40


@pytest.mark.photos
@pytest.mark.slow
def test_the_robust_model_resists_better_than_the_plain_one(photos_archive):
    """Held-out photographs, PGD-40 at 2 counts; misclassified images count as not robust."""
    right = {}
    for name in ("dogs-vs-cats", "dogs-vs-cats-robust"):
        result = robustness.audit(
            load(name), photos_archive, attacks=[PGD(steps=40)], epsilons=[2], limit=60,
            only=lambda e: held_out(e.name), evidence="none",
        )  # fmt: skip
        right[name] = (result.to_frame().status == "robust").mean()
    # Forty percentage points on the card's 300 images; three standard errors less on 60.
    assert right["dogs-vs-cats-robust"] - right["dogs-vs-cats"] >= 0.40 - 3 * (0.25 / 60) ** 0.5
