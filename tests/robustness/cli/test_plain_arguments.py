"""Tests of `robustness audit MODEL IMAGES`, and that wrong options cost no model load."""

from __future__ import annotations

import time

import numpy as np
import pytest

from robustness.models import loading
from robustness.runs.store import Run
from tests.robustness.cli.test_commands import inside
from tests.robustness.helpers import small_cnn


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    classifier = small_cnn(9)
    images = np.random.default_rng(4).integers(0, 256, (4, 12, 12, 3)).astype(np.uint8)
    classifier.model.save(folder / "model.keras")
    np.savez(folder / "data.npz", images=images, labels=classifier.probabilities(images).argmax(1))
    (folder / "photos").mkdir()
    return folder


@pytest.mark.slow
def test_two_plain_arguments_are_the_model_and_the_images(folder):
    words = ("-a", "fgsm", "-e", "2", "--scaling", "0..1", "--report", "json")
    plain = inside("audit", "model.keras", "data.npz", *words, "-o", "plain", cwd=folder)
    named = inside(
        "audit", "-m", "model.keras", "-i", "data.npz", *words, "-o", "named", cwd=folder
    )
    assert plain.returncode == named.returncode == 0, plain.stderr
    runs = [Run.open(folder / name) for name in ("plain", "named")]
    first, second = (run.manifest.origin.options for run in runs)
    assert first == second
    assert runs[0].outcomes().equals(runs[1].outcomes())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("x.keras data.npz -m model.keras", "MODEL is given twice: 'x.keras', and --model 'mod"),
        ("model.keras data.npz -i a.npz", "IMAGES is given twice: 'data.npz', and --images"),
        ("photos", "'photos' is a folder, and the first argument is the model."),
        ("photos model.keras", "for the images alone write --images photos."),
        ("dogs-vs-cat", "Did you mean dogs-vs-cats?"),
        ("model.keras nowhere", "There is nothing at 'nowhere'"),
        ("--surrogate dogs-vs-cat", "Did you mean dogs-vs-cats?"),
        ("-i data.npz --surrogate no.keras", "There is no model file 'no.keras'"),
        ("-i data.npz --scaling odd", "Scaling 'odd' is not known"),
        ("-i data.npz --mask no.png", "There is no mask 'no.png'"),
        ("-i data.npz --target cow", "Unknown target class 'cow'; expected one of cat, dog"),
        ("-m model.keras -i data.npz --classes a,b,c --target d", "Unknown target class 'd'"),
        ("-i data.npz -a bim --norm l2", "bim has no l2 version"),
        ("-i data.npz -a pgd:stps=3", "Did you mean steps?"),
    ],
)
def test_a_wrong_argument_is_refused_before_any_model_is_read(folder, monkeypatch, words, message):
    def read(*_: object, **__: object) -> None:
        raise AssertionError("a model was read")

    monkeypatch.setattr(loading, "load_model", read)
    monkeypatch.setattr("robustness.model_zoo.registry._made", read)
    done = inside("audit", *words.split(), "-o", "never", cwd=folder)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not (folder / "never").exists()


def test_a_wrong_option_is_answered_at_once_and_shortly(folder):
    started = time.monotonic()
    done = inside("audit", "--epsilonz", "4", cwd=folder)
    assert time.monotonic() - started < 5
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) <= 5
    assert "--epsilon" in done.stderr
