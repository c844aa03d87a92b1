"""Tests of comparing two trainings of a model on the same pictures, with pairs counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

import robustness
from robustness.models.classifier import Classifier
from robustness.reports.comparison.compare import compare
from robustness.runs.store import Run
from tests.robustness.cli.test_commands import inside

pytestmark = pytest.mark.slow
SHAPE = (12, 12, 1)


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures with faint horizontal (class 0) or vertical lines (class 1)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    waves = 8 * np.sign(np.sin(np.arange(12) * 1.6 + rng.uniform(0, 6, (count, 1))))
    lines = np.where(labels[:, None, None] == 1, waves[:, None, :], waves[:, :, None])
    pictures = 128 + lines + rng.normal(0, 16, (count, 12, 12))
    return np.clip(pictures, 0, 255).astype(np.uint8)[..., None], labels


def trained(seed: int) -> Classifier:
    """A network trained for 250 steps; the seed sets its weights and the order of pictures."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input(SHAPE),
            keras.layers.Rescaling(1 / 32, offset=-4),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    images, labels = stripes(1600, seed=0)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=32, epochs=5, verbose=0)
    return Classifier(model, class_names=("lying", "standing"), name=f"training {seed}")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("trainings")
    images, labels = stripes(120, seed=7)
    for seed in (1, 2):
        robustness.audit(
            trained(seed), images, labels=labels, attacks=["bim"], epsilons=[1, 2, 4],
            out=folder / str(seed),
        )  # fmt: skip
    return folder / "1", folder / "2"


def statuses(path: Path, epsilon: float) -> dict[str, str]:
    with Run.open(path) as run:
        rows: pd.DataFrame = run.outcomes()
    rows = rows[rows.epsilon == epsilon]
    return dict(zip(rows.image, rows.status, strict=True))


def test_two_trainings_are_paired_by_image(two: tuple[Path, Path]) -> None:
    found = compare(*two)
    assert not any("same weights" in note for note in found.notes)
    told = 0
    for epsilon in (1.0, 2.0, 4.0):
        a, b = (statuses(path, epsilon) for path in two)
        newly = {k for k in a if (a[k], b[k]) == ("robust", "flipped")}
        gone = {k for k in a if (a[k], b[k]) == ("flipped", "robust")}
        assert {m.key for m in found.newly_flipped if m.epsilon == epsilon} == newly
        assert {m.key for m in found.newly_robust if m.epsilon == epsilon} == gone
        (one,) = [p for p in found.pairings if p.epsilon == epsilon and "accuracy" in p.what]
        lost = sum(a[k] == "robust" != b[k] for k in a)
        gained = sum(b[k] == "robust" != a[k] for k in a)
        assert (one.lost, one.gained, one.total) == (lost, gained, 120)
        even = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
        assert one.p_value == pytest.approx(even)
        told += len(newly) + len(gone)
    # The two trainings must differ, or the test would be void.
    assert told > 3, found.sentence


def test_the_command_gives_the_same_and_a_run_equals_itself(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    done = inside("compare", *map(str, two), "--html", str(tmp_path / "c.html"), cwd=tmp_path)
    assert compare(*two).sentence in " ".join(done.stdout.split())
    assert "training 2" in (tmp_path / "c.html").read_text(encoding="utf-8")
    assert not compare(two[0], two[0]).differs
    assert json.dumps(compare(*two).to_dict())
