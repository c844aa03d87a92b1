"""Tests of the texts of named pipelines."""

from __future__ import annotations

import subprocess
import sys
from importlib import util

import pytest

from robustness.errors import SettingError
from robustness.pipeline import named
from robustness.pipeline.keys import Choice
from robustness.pipeline.named import CONVENTIONS, parse_pipeline


@pytest.fixture(autouse=True)
def everything_installed(monkeypatch):
    monkeypatch.setattr(named, "find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("text", "canonical", "scaling"),
    [
        ("pillow", "pillow:bilinear", None),
        ("PIL:Lanczos", "pillow:lanczos", None),
        ("opencv:area", "opencv:area", None),
        ("cv2:method=cubic , pad=0", "opencv:cubic,pad=0", None),
        ("keras.utils.load_img", "keras.load_img:nearest", None),
        ("tf.image.resize:antialias=yes", "tf.image.resize:bilinear,antialias=true", None),
        ("keras_hub:pad_to_aspect_ratio=no", "keras_hub:bilinear", None),
        ("pillow:resize=256,crop=224x224", "pillow:bilinear,resize=256,crop=224", None),
        ("pillow:resize=256x300", "pillow:bilinear,resize=256x300", None),
        ("keras.layers.Resizing:divide=255", "keras.layers.Resizing:bilinear", "divide=255"),
        (
            "torchvision:resize=256,crop=224,mean=0.5,0.4,0.3,std=0.2/0.2/0.2",
            "torchvision:bilinear,resize=256,crop=224",
            "mean=0.5/0.4/0.3,std=0.2/0.2/0.2,of=0..1",
        ),
        (
            "opencv:linear,mean=104/117/124,of=0..255,order=BGR",
            "opencv:linear",
            "mean=104/117/124,std=1,of=0..255,order=BGR",
        ),
    ],
)
def test_texts_are_read_and_written_again(text, canonical, scaling):
    parsed = parse_pipeline(text)
    assert parsed.convention.text == canonical
    assert parsed.scaling == scaling
    assert parse_pipeline(canonical).convention == parsed.convention


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_interpolation_is_read_and_written_again(name):
    interpolations = CONVENTIONS[name].keys["interpolation"].kind
    assert isinstance(interpolations, Choice)
    for interpolation in interpolations.names:
        text = f"{name}:{interpolation}"
        assert parse_pipeline(text).convention.text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The pipeline '' is not known; expected one of pillow, "),
        ("pilow", "Did you mean pillow"),
        ("keras.utils.load_image", "Did you mean keras.utils.load_img"),
        ("pillow:bilinar", "interpolation .* 'bilinar'; expected one of .*Did you mean bilinear"),
        ("opencv:bilinear", "expected one of linear, nearest, cubic, area, lanczos4"),
        ("pillow:crp=3", "no key 'crp'; it has interpolation, .*Did you mean crop"),
        ("pillow:crop=0", "crop .* is '0'; expected pixels such as 224"),
        ("pillow:crop=1x2x3", "expected pixels such as 224, or HEIGHTxWIDTH, or aspect"),
        ("pillow:crop=99999999999999", "expected pixels"),
        ("pillow:pad=300", "expected whole counts from 0 to 255"),
        ("pillow:pad=nan", "expected whole counts from 0 to 255"),
        ("pillow:pad=0,crop=3", "states pad, and resize or crop"),
        ("pillow:resize=256", "Add crop=N, or resize=256x256"),
        ("pillow:resize=256,crop=aspect", "states resize and crop=aspect"),
        ("pillow:bilinear,box", "followed by 'box'; expected KEY=VALUE"),
        ("pillow:box,filter=box", "states interpolation twice"),
        ("pillow:file=stats.json", "has no key 'file'"),
        ("pillow:mean=3", "`of` of the scaling is missing"),
        ("torchvision:mean=120", "none above 1"),
        ("torchvision:antialias=no", "expected kind=tensor beside it"),
        ("torchvision:lanczos,kind=tensor", "which tensors do not have"),
        ("tf.image.resize:antialias=maybe", "expected true or false"),
        ("keras_hub:pad_to_aspect_ratio=yes", "expected one of them"),
        ("keras.image_dataset_from_directory:gaussian,crop_to_aspect_ratio=1", "does not do with"),
    ],
)
def test_wrong_texts_are_refused_with_what_was_expected(text, message):
    with pytest.raises(SettingError, match=message):
        parse_pipeline(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("opencv", r"cv2.resize, and cv2 is not installed. .*robustness-toolkit\[opencv\]"),
        ("torchvision:kind=tensor", "pip install torchvision"),
    ],
)
def test_a_missing_library_is_named(text, message, monkeypatch):
    monkeypatch.setattr(named, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=message):
        parse_pipeline(text)
    assert parse_pipeline("torchvision").convention.text == "torchvision:bilinear"


def test_torchvision_is_refused_after_tensorflow_where_that_would_crash(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(SettingError, match="after TensorFlow was imported"):
        parse_pipeline("torchvision:kind=tensor")


def test_no_framework_is_imported_to_read_a_text():
    code = (
        "import sys; from robustness.pipeline.named import CONVENTIONS, parse_pipeline\n"
        f"there = {bool(util.find_spec('cv2'))}\n"
        "[parse_pipeline(name) for name in CONVENTIONS if name != 'opencv' or there]\n"
        "assert not {'tensorflow', 'keras', 'torch', 'cv2'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
