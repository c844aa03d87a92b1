"""Attacks without gradients look through the user's own function, which need not be near any convention."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import robustness
from robustness import backend
from robustness.attacks.hopskipjump import HopSkipJump
from robustness.attacks.wrappers import EOT
from robustness.contract.attack import LEAST_PROBE
from robustness.engine.jobs import Example
from robustness.engine.model_input import PictureInput, QueriedInput, model_input, on_canvas
from robustness.errors import PipelineError
from robustness.models.classifier import Classifier
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.upload import PNG, parse_upload
from robustness.pipeline.user_function import load_function, taking_inputs
from robustness.runs.store import Run
from robustness.threat.threat import Threat
from robustness.verification.verify import verify
from tests.robustness.helpers import small_cnn

SHAPE = (12, 12, 3)
SIZES = [(40, 30), (33, 30), (12, 12)]
CODE = """
import numpy as np
from PIL import Image, ImageFilter

def median(pixels: np.ndarray):
    picture = Image.fromarray(pixels).resize((12, 12)).filter(ImageFilter.MedianFilter(3))
    return np.asarray(picture, "float32")

def posterised(pixels: np.ndarray):
    return np.asarray(Image.fromarray(pixels).resize((12, 12)), "float32") // 32 * 32

CALLS = []

def failing(pixels: np.ndarray):
    CALLS.append(pixels)
    if len(CALLS) > 150:
        raise ValueError("no more pictures")
    return posterised(pixels)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The functions, and pictures of several sizes."""
    folder = tmp_path_factory.mktemp("queries")
    (folder / "queried.py").write_text(CODE)
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(11)
    for number, size in enumerate(SIZES):
        rough = rng.integers(60, 196, (6, 5, 3)).astype(np.uint8)
        smooth = Image.fromarray(rough).resize(size[::-1], Image.Resampling.BICUBIC)
        smooth.save(folder / "pictures" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return small_cnn(8, SHAPE)


def audited(classifier: Classifier, folder: Path, name: str, out: Path, **options: Any) -> Path:
    given: dict[str, Any] = {"attacks": ["square:steps=60"], "epsilons": [60]} | options
    text = f"{folder / 'queried.py'}:{name}"
    return robustness.audit(classifier, folder / "pictures", out=out, preprocess=text, **given).path


def queried(classifier: Classifier, folder: Path, upload=PNG) -> tuple[Classifier, Classifier]:
    """The judge behind the function, and what is attacked."""
    function = load_function(f"{folder / 'queried.py'}:median")
    judge = taking_inputs(classifier).deployed(Deployment(function, SHAPE, upload))
    convention = parse_pipeline("pillow:bilinear").convention
    return judge, classifier.deployed(Deployment(convention, SHAPE, upload, judge))


@pytest.mark.parametrize("upload", ["png", "jpeg:80"])
def test_looks_are_those_of_the_judge(upload, folder, classifier):
    judge, attacked = queried(classifier, folder, parse_upload(upload))
    canvas, threat = (48, 40, 3), Threat((8.0,))
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]
    examples = [
        Example(str(n), on_canvas(picture, canvas), 0, size=picture.shape[:2])
        for n, picture in enumerate(pictures)
    ]
    assert isinstance(model_input(attacked, threat, canvas), PictureInput)
    entering = model_input(attacked, threat, canvas, gradients=False)
    assert isinstance(entering, QueriedInput)
    arrays = entering.arrays(examples)
    points = np.stack([example.pixels for example in examples]).astype(np.float32)
    # Two points of each picture; fractions are rounded, and the canvas around the picture is nothing.
    twice = np.repeat(points, 2, axis=0)
    twice[1::2] += 0.3
    see = backend.compile(entering.logits(None, arrays))  # type: ignore[arg-type]
    logits = np.asarray(see(twice))
    entering.expect_success()
    judged = np.repeat(judge.logits_of(pictures), 2, axis=0)
    np.testing.assert_allclose(logits, judged, rtol=1e-5, atol=1e-5)
    images = entering._images(twice, arrays["sizes"])
    for image, picture in zip(images, np.repeat(np.arange(3), 2), strict=True):
        np.testing.assert_array_equal(image, judge.deployment.image(pictures[picture]))


def test_points_that_are_not_finite_have_no_logits(folder, classifier):
    _, attacked = queried(classifier, folder)
    entering = model_input(attacked, Threat((8.0,)), (12, 12, 3), gradients=False)
    points = np.full((2, *SHAPE), 100, np.float32)
    points[1, 3, 3] = np.nan
    images = entering._images(points, np.array([[12, 12]] * 2, np.int32))  # type: ignore[attr-defined]
    assert np.isfinite(images[0]).all() and np.isnan(images[1]).all()


def test_probes_are_whole_counts():
    assert HopSkipJump().on_files() == HopSkipJump(probe=LEAST_PROBE)
    assert HopSkipJump(probe=3).on_files() == HopSkipJump(probe=3)
    assert EOT(of=HopSkipJump()).on_files() == EOT(of=HopSkipJump(probe=LEAST_PROBE))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["median", "posterised"])
def test_flips_through_functions_without_slopes_are_found_and_verified(
    name, folder, classifier, tmp_path
):
    attacks = ["square:steps=100", "hopskipjump:steps=60"]
    path = audited(classifier, folder, name, tmp_path / "run", attacks=attacks)
    with Run.open(path) as opened:
        rows, notes = opened.outcomes(), opened.manifest.notes
        checked = verify(
            opened,
            taking_inputs(classifier).deployed(
                Deployment(load_function(f"{folder / 'queried.py'}:{name}"), SHAPE)
            ),
        )
    assert set(rows[rows.status == "flipped"].attack.str.split("(").str[0]) == {
        "square",
        "hopskipjump",
    }
    assert checked.faults == () and checked.held == checked.checked > 0
    assert any("score or decision look through the function itself" in note for note in notes)


@pytest.mark.slow
def test_rows_do_not_depend_on_the_batch(folder, classifier, tmp_path):
    def rows(size: int) -> pd.DataFrame:
        path = audited(classifier, folder, "posterised", tmp_path / f"{size}", batch_size=size)
        with Run.open(path) as opened:
            columns = ["image", "epsilon", "status", "adversarial_class", "linf", "step", "png"]
            return opened.outcomes()[columns].sort_values("image").reset_index(drop=True)

    pd.testing.assert_frame_equal(rows(1), rows(16))


@pytest.mark.slow
def test_the_error_of_a_function_during_an_attack_is_its_own(folder, classifier, tmp_path):
    with pytest.raises(PipelineError, match="ValueError: no more pictures"):
        audited(classifier, folder, "failing", tmp_path / "run", attacks=["square:steps=100"])


@pytest.mark.slow
def test_a_function_for_a_model_with_channels_first_returns_them_first(tmp_path):
    (tmp_path / "first.py").write_text(
        "import numpy as np\n"
        "from PIL import Image\n"
        "def prepare(pixels: np.ndarray):\n"
        "    picture = Image.fromarray(pixels).resize((8, 6))\n"
        "    return np.asarray(picture, 'float32').transpose(2, 0, 1) / 255\n"
        "def last(pixels: np.ndarray):\n"
        "    return prepare(pixels).transpose(1, 2, 0)\n"
    )
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(2)
    for number in range(3):
        pixels = rng.integers(90, 160, (20, 30 + number, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    # The class is that of the larger of two weighted sums over the first channel, first in memory.
    model = keras.Sequential(
        [keras.layers.Input((3, 6, 8)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    weights = np.zeros((144, 2), np.float32)
    weights[:48, 1] = rng.normal(0, 1, 48)
    model.layers[-1].set_weights([weights, np.zeros(2, np.float32)])
    text = f"{tmp_path / 'first.py'}:prepare"
    options: dict[str, Any] = {"attacks": ["pgd:steps=8"], "epsilons": [30], "head": "logits"}
    path = robustness.audit(
        model, tmp_path / "pictures", out=tmp_path / "run", preprocess=text, **options
    ).path
    function = load_function(text)
    with Run.open(path) as opened:
        flips = opened.outcomes().dropna(subset=["png"])
        assert len(flips)
        for flip in flips.to_dict("records"):
            pixels = np.asarray(Image.open(io.BytesIO(opened.png(flip["png"]))))
            assert (
                np.argmax(function.function(pixels).ravel() @ weights) == flip["adversarial_class"]
            )
        judge = Classifier(model, scaling="0..255", head="logits")
        checked = verify(opened, judge, preprocess=text)
    assert checked.faults == () and checked.held == checked.checked == len(flips)
    with pytest.raises(PipelineError, match="channels are last"):
        robustness.audit(
            model,
            tmp_path / "pictures",
            out=tmp_path / "other",
            preprocess=text.replace("prepare", "last"),
            **options,
        )
