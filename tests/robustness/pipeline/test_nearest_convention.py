"""The convention and the scaling nearest to a function are found, and how near they are is told truly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter

from robustness.errors import PipelineError
from robustness.models.scalings import SCALINGS, Scaling, parse_scaling
from robustness.pipeline.agreement import agreement_of, counts_of, scaled
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.nearest_convention import (
    NearestConvention,
    candidate_texts,
    fitted_scaling,
    nearest_convention,
)
from robustness.pipeline.user_function import UserFunction, checked_images, load_function

DOCS = Path(__file__).parents[3] / "docs" / "preprocessing-function.md"
SIDE = 24
SHAPE = (SIDE, SIDE, 3)
WITHOUT_TENSORFLOW = [
    text for text in candidate_texts(SHAPE) if text.startswith(("pillow", "torchvision", "opencv"))
]


def photograph(height: int, width: int, seed: int) -> np.ndarray:
    """Noise at several scales, as photographs have details at all."""
    rng = np.random.default_rng(seed)
    layers = [
        gaussian_filter(rng.standard_normal((height, width, 3)), (s, s, 0)) * s * s
        for s in (0.5, 2, 8)
    ]
    mixed = np.sum(layers, axis=0)
    spread = (mixed - mixed.min()) / (mixed.max() - mixed.min())
    return (spread * [255, 200, 160] + [0, 20, 60]).astype(np.uint8)


SIZES = [(60, 80), (80, 60), (50, 50), (90, 70), (61, 97)]
PICTURES = [photograph(*size, seed) for seed, size in enumerate(SIZES)]


def function(run, takes: str = "array") -> UserFunction:
    return UserFunction("own.py:prepare", takes, run)


def through(text: str, scaling: Scaling, shape=SHAPE) -> UserFunction:
    convention = parse_pipeline(text).convention
    return function(lambda x: scaled(scaling, convention.image(x, shape).astype(np.float64)))


@pytest.mark.parametrize(
    ("text", "scaling"),
    [
        ("pillow:bilinear", "torch"),
        ("pillow:nearest", "0..1"),
        ("pillow:bicubic,crop=aspect", "caffe"),
        (f"torchvision:bilinear,resize={round(SIDE * 256 / 224)},crop={SIDE}", "torch"),
        ("pillow:bilinear,pad=0", "-1..1"),
        ("pillow:lanczos", "0..255"),
    ],
)
def test_a_function_that_is_a_convention_is_recognised(text, scaling):
    nearest = nearest_convention(
        through(text, SCALINGS[scaling]), PICTURES, SHAPE, conventions=WITHOUT_TENSORFLOW
    )
    assert nearest.convention == parse_pipeline(text).convention
    assert nearest.scaling is SCALINGS[scaling]
    agreement = nearest.agreement
    assert agreement.near and agreement.largest < 0.01 and agreement.pictures == 5
    assert agreement.changes == pytest.approx(1)
    assert "is attacked through" in nearest.sentence and "100 % of its changes" in nearest.sentence


@pytest.mark.parametrize(
    "numbers",
    [
        "mean=0.5,std=0.25,of=0..1",
        "mean=104/117/123,std=58/57/57.4,of=0..255,order=BGR",
        "multiply=-0.00392156862745098,offset=1",
    ],
)
def test_a_scaling_that_has_no_name_is_fitted(numbers):
    scaling = parse_scaling(numbers)
    nearest = nearest_convention(
        through("pillow:bilinear", scaling), PICTURES, SHAPE, conventions=WITHOUT_TENSORFLOW
    )
    fitted = nearest.scaling
    assert fitted.order == scaling.order
    counts = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3))
    np.testing.assert_allclose(scaled(fitted, counts), scaled(scaling, counts), atol=1e-3)
    np.testing.assert_allclose(counts_of(fitted, scaled(fitted, counts)), counts, atol=1e-9)
    assert parse_scaling(fitted.name) == fitted
    assert nearest.agreement.near


def test_scaling_in_numpy_is_that_of_the_classifier():
    counts = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.float32)
    for scaling in SCALINGS.values():
        np.testing.assert_allclose(scaled(scaling, counts), scaling.apply(counts), atol=1e-5)


def test_a_single_number_does_not_decide_whether_a_convention_is_near():
    """One error of 30 counts among thousands; a hundredth of all numbers does decide."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (4, 40, 40, 3)).astype(np.float64)
    one, some = images.copy(), images.copy()
    one[0, 3, 3, 1] += 30
    some[:, 0, :16] += 30
    found = agreement_of(one / 255, images, SCALINGS["0..1"])
    assert found.near and found.usual == pytest.approx(0, abs=1e-9)
    assert found.largest == pytest.approx(30) and "at most 30" in found.sentence
    found = agreement_of(some / 255, images, SCALINGS["0..1"])
    assert found.mean < 1 and found.explained > 0.99
    assert found.usual == pytest.approx(30) and not found.near
    nearest = NearestConvention("f", parse_pipeline("pillow").convention, SCALINGS["0..1"], found)
    assert "No named convention is near" in nearest.sentence


def test_figures_are_those_of_a_known_difference():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (4, 6, 6, 3)).astype(np.float64)
    apart = np.zeros_like(images)
    apart[:, :2] = 6.0
    agreement = agreement_of((images + apart) / 255, images, SCALINGS["0..1"])
    assert agreement.mean == pytest.approx(2) and agreement.median == pytest.approx(0)
    assert agreement.largest == pytest.approx(6) and agreement.changes is None
    total = (images + apart).reshape(-1, 3).var(axis=0)
    assert agreement.explained == pytest.approx(1 - ((apart**2).mean() / total).mean())
    assert not agreement.near


def test_grey_pictures():
    grey = [picture[..., :1] for picture in PICTURES]
    shape = (SIDE, SIDE, 1)
    nearest = nearest_convention(
        through("pillow:box", Scaling("", (1 / 128,), (-1.5,)), shape),
        grey,
        shape,
        conventions=[text for text in WITHOUT_TENSORFLOW if text.startswith("pillow")],
    )
    assert nearest.convention.text == "pillow:box"
    assert nearest.scaling.offset == pytest.approx((-1.5,))


def test_a_median_filter_is_no_convention():
    def prepare(pixels):
        picture = Image.fromarray(pixels).resize((SIDE, SIDE)).filter(ImageFilter.MedianFilter(5))
        return np.asarray(picture, np.float32) / 255

    nearest = nearest_convention(function(prepare), PICTURES, SHAPE, conventions=WITHOUT_TENSORFLOW)
    assert not nearest.agreement.near
    assert nearest.agreement.changes is not None
    assert nearest.agreement.changes < 0.5
    assert "No named convention is near" in nearest.sentence
    assert "may miss flips" in nearest.sentence and "own.py:prepare" in nearest.sentence


def test_standardising_each_picture_is_no_convention():
    def prepare(pixels):
        image = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE)), np.float32)
        return (image - image.mean()) / image.std()

    pictures = [*PICTURES, PICTURES[0] // 3, PICTURES[1] // 2 + 100]
    nearest = nearest_convention(function(prepare), pictures, SHAPE, conventions=WITHOUT_TENSORFLOW)
    assert not nearest.agreement.near and nearest.agreement.explained < 0.9


@dataclass(frozen=True)
class TopLeft:
    """A convention of a plug-in: the corner of a picture."""

    text: str = "corner"
    oriented: bool = True
    whole: bool = True
    clips: bool = True
    clips_between: bool = False
    fill: float = 0.0

    def image(self, pixels, shape):
        if min(pixels.shape[:2]) < SIDE:
            raise PipelineError("too small")
        return pixels[: shape[0], : shape[1]]

    def geometry(self, size, shape):
        from robustness.pipeline.geometry import Geometry

        return Geometry(np.eye(shape[0], size[0]), np.eye(shape[1], size[1]))


def test_conventions_as_objects_and_those_that_cannot_process_a_picture():
    corner = through("pillow:bilinear", SCALINGS["0..1"]), [PICTURES[0], PICTURES[0][:9]]
    kept: list[Any] = [TopLeft(), "pillow:bilinear", "opencv:linear,resize=3,crop=99"]
    assert nearest_convention(*corner, SHAPE, conventions=kept).convention.text == "pillow:bilinear"
    own = function(lambda pixels: pixels[:SIDE, :SIDE] / 255)
    assert nearest_convention(own, PICTURES, SHAPE, conventions=kept).convention == TopLeft()


def test_known_inputs_are_taken_as_they_are():
    prepared = through("pillow:bicubic", SCALINGS["-1..1"])
    inputs = checked_images(prepared, PICTURES, SHAPE)
    assert nearest_convention(
        prepared, PICTURES, SHAPE, inputs=inputs, conventions=WITHOUT_TENSORFLOW
    ) == nearest_convention(prepared, PICTURES, SHAPE, conventions=WITHOUT_TENSORFLOW)


def test_what_cannot_be_compared_is_refused():
    constant = function(lambda pixels: np.ones(SHAPE))
    with pytest.raises(PipelineError, match="the same number everywhere"):
        nearest_convention(constant, PICTURES, SHAPE)
    with pytest.raises(PipelineError, match="No picture"):
        nearest_convention(constant, [], SHAPE)
    random = function(lambda pixels: pixels[:SIDE, :SIDE])
    with pytest.raises(PipelineError, match="No named convention can process"):
        nearest_convention(
            random,
            [PICTURES[0][:, :9]],
            SHAPE,
            inputs=[PICTURES[0][:24, :24]],
            conventions=list[Any]([TopLeft()]),
        )


def test_no_scaling_is_fitted_to_pictures_of_one_colour():
    flat = np.full((2, 4, 4, 3), 90.0)
    assert fitted_scaling(flat / 255, flat) is None


EXAMPLES = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
LARGE = (224, 224, 3)


def example(folder: Path, number: int) -> UserFunction:
    (folder / f"example_{number}.py").write_text(EXAMPLES[number])
    return load_function(f"{folder / f'example_{number}.py'}:prepare")


def test_the_documented_function_with_opencv(tmp_path):
    cv2 = pytest.importorskip("cv2")
    prepare = example(tmp_path, 0)
    assert prepare.takes == "bytes"
    pictures = [photograph(300, 400, 0), photograph(380, 310, 1)]
    inputs = checked_images(prepare, pictures, LARGE)
    by_hand = cv2.resize(pictures[0], (224, 224), interpolation=cv2.INTER_AREA)[..., ::-1]
    expected = (by_hand.astype("float32") - [103.939, 116.779, 123.68]).astype("float32")
    np.testing.assert_array_equal(inputs[0], expected)
    texts = ["pillow:bilinear", "opencv:linear", "opencv:area", "pillow:box"]
    nearest = nearest_convention(prepare, pictures, LARGE, inputs=inputs, conventions=texts)
    assert nearest.convention.text == "opencv:area" and nearest.scaling is SCALINGS["caffe"]
    assert nearest.agreement.near and nearest.agreement.largest < 0.01


@pytest.mark.slow
def test_the_documented_function_with_the_steps_of_torchvision(tmp_path):
    prepare = example(tmp_path, 1)
    assert prepare.takes == "pil" and not prepare.oriented
    pictures = [photograph(300, 401, 0), photograph(380, 310, 1)]
    texts = [text for text in candidate_texts(LARGE) if text.startswith(("pillow:bi", "torchv"))]
    nearest = nearest_convention(prepare, pictures, LARGE, conventions=texts)
    assert nearest.convention == parse_pipeline("torchvision:resize=256,crop=224").convention
    assert nearest.scaling is SCALINGS["torch"] and nearest.agreement.largest < 0.01


@pytest.mark.slow
def test_the_documented_function_with_a_median_filter(tmp_path):
    prepare = example(tmp_path, 2)
    assert prepare.takes == "array"
    pictures = [photograph(300, 400, 0), photograph(380, 310, 1)]
    (first, _) = checked_images(prepare, pictures, LARGE)
    picture = Image.fromarray(pictures[0]).resize((224, 224)).filter(ImageFilter.MedianFilter(5))
    np.testing.assert_array_equal(first, np.asarray(picture, "float32") / 127.5 - 1)
    nearest = nearest_convention(
        prepare, pictures, LARGE, conventions=["pillow:bilinear", "pillow:bicubic"]
    )
    assert not nearest.agreement.near
    assert nearest.agreement.changes is not None
    assert nearest.agreement.changes < 0.5
    assert len(EXAMPLES) == 3


@pytest.mark.slow
def test_all_named_candidates_exist_and_tell_tensorflow_apart():
    for text in candidate_texts(SHAPE):
        if not text.startswith("opencv"):
            assert parse_pipeline(text).convention
    nearest = nearest_convention(
        through("tf.image.resize:bilinear", SCALINGS["0..1"]), PICTURES, SHAPE
    )
    assert nearest.convention == parse_pipeline("tf.image.resize:bilinear").convention
    assert nearest.scaling is SCALINGS["0..1"] and nearest.agreement.near
