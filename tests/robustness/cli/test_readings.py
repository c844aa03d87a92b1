"""Heads, inputs, outputs and own layers from the command line, through verify, resume and rerun."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from tests.robustness.cli.test_commands import inside

# Trials in processes of their own are tested in models/scan.
pytestmark = pytest.mark.usefixtures("forked_trials")
SIDE = 8
ATTACK = ["-a", "pgd:steps=10", "-e", "6", "-q", "--scaling", "0..255"]


def unit(entry: keras.KerasTensor, name: str = "kind") -> layers.Layer:
    """Two units: plus and minus the mean less 128, a tenth of it."""
    size = int(np.prod(entry.shape[1:]))
    w = np.full((size, 1), 0.1 / size)
    last = layers.Dense(2, activation="softmax", name=name)
    last.build((None, size))
    last.set_weights([np.concatenate([-w, w], axis=1), np.array([12.8, -12.8])])
    return last


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with models and 24 labelled images, of which the mean decides the class."""
    folder = tmp_path_factory.mktemp("readings")
    rng = np.random.default_rng(2)
    labels = np.arange(24) % 2
    far = rng.integers(2, 12, 24)
    level = 128 + np.where(labels == 1, far, -far)
    images = np.broadcast_to(level[:, None, None, None], (24, SIDE, SIDE, 3)).astype("uint8")
    np.savez(folder / "data.npz", images=images, labels=labels)
    flat = keras.Input((SIDE * SIDE * 3,))
    keras.Model(flat, unit(flat)(flat)).save(folder / "flat.keras")
    image, age = keras.Input((SIDE, SIDE, 3), name="image"), keras.Input((1,), name="age")
    pixels = layers.Flatten()(image)
    older = layers.Add()([pixels, layers.Rescaling(100.0)(age)])
    outputs = {"box": layers.Dense(4)(pixels), "kind": unit(older)(older)}
    keras.Model({"image": image, "age": age}, outputs).save(folder / "several.keras")
    alpha = keras.Input((SIDE, SIDE, 4))
    colours = layers.Flatten()(layers.Cropping3D(((0, 0), (0, 0), (0, 1)))(alpha[..., None]))
    keras.Model(alpha, unit(colours)(colours)).save(folder / "alpha.keras")
    return folder


def closed_form(place: Path) -> int:
    """Images whose mean is within 6 counts of 128, which a change of 6 counts brings across."""
    with np.load(place / "data.npz") as data:
        return int((np.abs(data["images"][:, 0, 0, 0] - 128.0) < 6).sum())


def flips(run: Path) -> int:
    document = json.loads((run / "report.json").read_text())
    worst = document["summary"]["worst"] if "summary" in document else document["worst"]
    share = worst[-1]["robust_accuracy"]
    return int(share["total"] - share["count"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "note"),
    [
        ("flat", [], "read as 8x8x3 images"),
        ("flat", ["--input-size", "8x8x3"], "as given"),
        ("several", ["--output", "kind", "--constant", "age=0"], "age is 0 throughout"),
        ("alpha", [], "alpha, is 255 everywhere"),
    ],
)
def test_a_run_records_how_its_model_is_read(place, tmp_path, name, words, note):
    model = ["-m", str(place / f"{name}.keras"), "-i", str(place / "data.npz")]
    done = inside("audit", *model, *ATTACK, *words, "-o", "run", "--report", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert note in done.stdout
    assert flips(tmp_path / "run") == closed_form(place)
    verified = inside("verify", "run", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    if words:
        again = inside("rerun", "run", "-o", "again", "-q", cwd=tmp_path)
        assert again.returncode == 0 and "No difference" in again.stdout, again.stderr


@pytest.mark.slow
def test_the_file_states_it_too(place, tmp_path):
    shutil.copy(place / "several.keras", tmp_path / "several.keras")
    (tmp_path / "audit.toml").write_text(
        f'[model]\npath = "several.keras"\nscaling = "0..255"\noutput = "kind"\nconstants = {{ age = 10 }}\n'
        f'[images]\npath = "{(place / "data.npz").as_posix()}"\n[[attacks]]\nname = "fgsm"\n'
    )
    done = inside("audit", "-c", "audit.toml", "-q", "-o", "run", cwd=tmp_path)
    # All older by 1000 counts: every image is of class 1.
    assert "50.0 % (12 of 24" in done.stdout, done.stdout + done.stderr
    card = json.loads((tmp_path / "run" / "run.json").read_text())["model"]["adapter"]
    assert card["constants"] == ["age=10.0"] and card["output"] == "kind"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--head", "sofmax"], "Did you mean softmax"),
        (["--input-size", "28"], "HEIGHTxWIDTH"),
        (["--constant", "age"], "NAME=NUMBER"),
        (["--import", "nothing_here"], "Type --trust-model"),
        (["--output", "nothing"], "there is no output"),
        (["--image-input", "nothing"], "there is no input"),
    ],
)
def test_what_cannot_be_meant(place, tmp_path, words, said):
    model = ["-m", str(place / "several.keras"), "-i", str(place / "data.npz")]
    given = [] if "--constant" in words else ["--constant", "age=0"]
    done = inside("audit", *model, *ATTACK, *given, *words, cwd=tmp_path)
    assert done.returncode == 2 and said.lower() in done.stderr.lower(), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_fit_takes_what_says_how_a_model_is_read(place, tmp_path):
    words = ["fit", "change.npz", "-i", str(place / "data.npz"), "-e", "8", "--steps", "1"]
    several = [*words, "-m", str(place / "several.keras"), "--scaling", "0..255"]
    done = inside(*several, cwd=tmp_path)
    assert done.returncode == 2 and "--constant age=0" in done.stderr
    done = inside(*several, "--output", "kind", "--constant", "age=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "flips" in done.stdout and (tmp_path / "change.npz").is_file()
    done = inside(*words, "-m", str(place / "flat.keras"), "--head", "multi-label", cwd=tmp_path)
    assert done.returncode == 2 and "one class each" in done.stderr


@pytest.mark.slow
def test_a_surrogate_that_cannot_be_used_says_where_its_options_go(place, tmp_path):
    model = ["-m", str(place / "flat.keras"), "-i", str(place / "data.npz"), *ATTACK]
    done = inside("audit", *model, "--surrogate", str(place / "several.keras"), cwd=tmp_path)
    assert done.returncode != 0
    assert "The surrogate cannot be used." in done.stderr
    assert "surrogate=Classifier(model" in done.stderr
