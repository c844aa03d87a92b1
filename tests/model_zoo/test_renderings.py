"""Tests of the rendered cats and dogs: reproducible, varied, and distinguishable by shape only."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustness.model_zoo.dogs_vs_cats import renderings as module
from robustness.model_zoo.dogs_vs_cats.renderings import (
    KINDS,
    render,
    rendering_name,
    renderings,
    training_rendering,
)

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def supply() -> list[tuple[str, int, np.ndarray]]:
    return list(renderings(200, seed=7))


@pytest.mark.parametrize("kind", KINDS)
def test_a_rendering_is_a_small_colour_picture(kind: str) -> None:
    picture = render(kind, 3)
    assert picture.shape == (128, 128, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 15


def test_a_rendering_is_the_same_in_another_process() -> None:
    here = [hashlib.sha256(render(kind, 5).tobytes()).hexdigest() for kind in KINDS]
    code = (
        "import hashlib; from robustness.model_zoo.dogs_vs_cats.renderings import KINDS, render\n"
        "for kind in KINDS: print(hashlib.sha256(render(kind, 5).tobytes()).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    assert there.stdout.split() == here


def test_classes_and_seeds_give_different_pictures() -> None:
    pictures = [render(kind, seed).astype(int) for kind in KINDS for seed in (0, 1, 2**40)]
    for one, other in itertools.combinations(pictures, 2):
        assert abs(one - other).mean() > 5


@pytest.mark.slow
def test_training_uses_separate_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(module, "render", lambda kind, seed: drawn.append(seed))
    training_rendering("cat", 0)
    training_rendering("dog", 12)
    assert drawn == [1_000_000_000, 1_000_000_012]
    drawn.clear()
    assert len(list(renderings(1_000_000, seed=999))) == 1_000_000
    assert (min(drawn), max(drawn)) == (999_000_000, 999_999_999)


@pytest.mark.slow
def test_the_source_alternates_classes_and_renders_lazily(
    supply: list[tuple[str, int, np.ndarray]],
) -> None:
    names, labels, _ = zip(*supply, strict=True)
    assert names[:2] == ("cat.rendered.7000000.png", "dog.rendered.7000001.png")
    assert labels == (0, 1) * 100
    assert len(set(names)) == 200
    name, label, picture = next(renderings(1_000_000))
    assert (name, label) == (rendering_name("cat", 0), 0)
    assert np.array_equal(picture, render("cat", 0))


def test_names_contain_class_and_number() -> None:
    assert rendering_name("cat", 17) == "cat.rendered.00017.png"


def test_invalid_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="'bird'; it must be one of cat, dog"):
        render("bird", 0)
    with pytest.raises(ValueError, match="seed is -1; it must be 0 or more"):
        render("cat", -1)
    with pytest.raises(ValueError, match="number is -1; it must be 0 or more"):
        training_rendering("cat", -1)
    with pytest.raises(ValueError, match="seed is 1000; it must be from 0 to 999"):
        renderings(1, seed=1000)
    with pytest.raises(ValueError, match="count is -1; it must be from 0"):
        renderings(-1)


@pytest.mark.slow
def test_pictures_of_one_class_vary(supply: list[tuple[str, int, np.ndarray]]) -> None:
    for label in (0, 1):
        small = [picture[4::8, 4::8].astype(float) for _, of, picture in supply if of == label]
        distances = [abs(a - b).mean() for a, b in itertools.combinations(small[:40], 2)]
        assert np.mean(distances) > 35
        assert np.min(distances) > 8


@pytest.mark.slow
def test_colours_alone_do_not_separate_the_classes(
    supply: list[tuple[str, int, np.ndarray]],
) -> None:
    """Nearest class mean and least squares on colour statistics stay close to chance."""
    labels = np.array([label for _, label, _ in supply])
    pictures = np.stack([picture for _, _, picture in supply]) / 255.0
    corners = pictures[:, :24, :24]  # background only, nearly always
    for part in (pictures, corners):
        features = np.concatenate([part.mean(axis=(1, 2)), part.std(axis=(1, 2))], axis=1)
        features = (features - features.mean(axis=0)) / features.std(axis=0)
        for rule in (_nearest_mean, _least_squares):
            right = [
                rule(features[labels_in], labels[labels_in], features[~labels_in])
                == labels[~labels_in]
                for labels_in in (np.arange(200) < 100, np.arange(200) >= 100)
            ]
            assert np.mean(right) < 0.66  # four standard errors above one half are 0.64


def _nearest_mean(known: np.ndarray, labels: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    means = [known[labels == label].mean(axis=0) for label in (0, 1)]
    cat, dog = (((unknown - mean) ** 2).sum(axis=1) for mean in means)
    return (dog < cat).astype(int)


def _least_squares(known: np.ndarray, labels: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    columns = np.c_[known, np.ones(len(known))]
    weights = np.linalg.lstsq(columns, labels * 2.0 - 1, rcond=None)[0]
    return (np.c_[unknown, np.ones(len(unknown))] @ weights > 0).astype(int)
