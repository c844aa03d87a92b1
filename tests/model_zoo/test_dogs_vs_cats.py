"""Tests of the bundled CNN against its card and the README: renderings, photographs, attacks."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

import robustness
from robustness.attacks import BIM, PGD
from robustness.images import open_source, select
from robustness.images.png import from_png
from robustness.model_zoo import load
from robustness.model_zoo.dogs_vs_cats.demo import Pets
from robustness.model_zoo.dogs_vs_cats.photos import held_out
from robustness.model_zoo.dogs_vs_cats.zoo import WEIGHTS
from robustness.runs.store import Run

ARTICLE = {"img_0": "dog", "img_1": "cat", "img_2": "cat", "img_3": "dog", "img_4": "cat"}


@pytest.fixture(scope="module")
def classifier():
    return load("dogs-vs-cats")


@pytest.fixture(scope="module")
def card():
    return json.loads((WEIGHTS.parent / "card.json").read_text())


@pytest.mark.slow
def test_the_network_matches_the_notebook(classifier):
    # Conv 3x3: (27+1)32, (288+1)64, (576+1)128; batch norms 4 each; Dense 25088x512, 512x2.
    convolutions = 28 * 32 + 289 * 64 + 577 * 128 + 4 * (32 + 64 + 128)
    dense = (14 * 14 * 128 + 1) * 512 + 4 * 512 + 513 * 2
    assert classifier.model.count_params() == convolutions + dense == 12_942_786
    assert classifier.class_names == ("cat", "dog")
    assert classifier.scaling.name == "0..1"


def test_the_weights_match_the_card(card):
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == card["weights"]["sha256"]
    assert WEIGHTS.stat().st_size <= 30_000_000
    assert card["held_out_photographs"]["of"] > 2000


@pytest.mark.slow
def test_held_out_renderings_are_classified_and_flip(classifier, card, tmp_path):
    result = robustness.audit(
        classifier, Pets(128, seed=5), attacks=["bim"], epsilons=[4], out=tmp_path / "r"
    )
    frame = result.to_frame()
    assert card["renderings"]["of"] >= 1000
    assert card["renderings"]["accuracy"] >= 0.97
    assert (frame.status != "misclassified").mean() >= 0.97
    assert frame[frame.image == "chelsea.png"].clean_class.item() == "cat"
    assert result.flip_rate >= 0.95


@pytest.mark.slow
@pytest.mark.photos
def test_the_articles_five_photos_flip_in_both_directions(classifier, article_photos, tmp_path):
    result = robustness.audit(
        classifier, article_photos, attacks=[BIM(steps=4, step_size=1.0)], epsilons=[4],
        all_steps=True, out=tmp_path / "r",
    )  # fmt: skip
    frame = result.to_frame().set_index("image")
    with Run.open(tmp_path / "r") as run:
        outcomes = run.outcomes().set_index("image")
        originals = {row.key: row for row in run.image_rows()}
        for name, kind in ARTICLE.items():
            row = frame.loc[f"{name}.jpg"]
            assert row.clean_class == kind
            assert row.confidence_before >= 0.9
            assert row.status == "flipped"
            assert row.adversarial_class == {"cat": "dog", "dog": "cat"}[kind]
            assert row.confidence_after >= 0.95
            before = from_png(run.png(originals[f"{name}.jpg"].png or "")).astype(int)
            after = from_png(run.png(str(outcomes.loc[f"{name}.jpg"].png))).astype(int)
            assert np.abs(after - before).max() <= 4


@pytest.mark.slow
@pytest.mark.photos
def test_accuracy_on_held_out_photos_matches_the_card(classifier, card, photos_archive):
    source = open_source(photos_archive, classifier.class_names)
    some = select(
        source.entries(), limit=400, only=lambda e: e.label is not None and held_out(e.name)
    )
    pictures = [source.read(e, classifier.input_shape).pixels for e in some]
    pixels = np.stack([x for x in pictures if x is not None])
    assert len(pixels) == len(some)
    right = classifier.probabilities(pixels).argmax(1) == [e.label for e in some]
    # At least the accuracy of the card minus four standard errors.
    claimed = card["held_out_photographs"]["accuracy"]
    assert right.mean() >= claimed - 4 * np.sqrt(claimed * (1 - claimed) / len(some))
    assert claimed >= 0.92


@pytest.mark.photos
@pytest.mark.slow
def test_held_out_photos_flip_within_four_counts(classifier, photos_archive):
    result = robustness.audit(
        classifier, photos_archive, attacks=[PGD(steps=40, step_size=1.0)], epsilons=[4],
        limit=128, only=lambda e: held_out(e.name),
    )  # fmt: skip
    assert result.flip_rate >= 0.99


def test_held_out_is_a_stable_tenth():
    names = [f"{kind}.{n}.jpg" for kind in ("cat", "dog") for n in range(5000)]
    share = np.mean([held_out(name) for name in names])
    assert share == pytest.approx(0.1, abs=0.015)
    assert held_out("train/cat.17.jpg") == held_out("CAT.17.JPG") == held_out("cat.17.jpg")
