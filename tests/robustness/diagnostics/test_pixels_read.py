"""Tests of D29: a resize that skips pixels is warned of, a crop and an averaging resize are not."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pytest

from robustness.auditing.pixels_read import pixels_read
from robustness.diagnostics import Diagnosis
from robustness.diagnostics.pixels_read import reads_whole_picture
from robustness.diagnostics.stored_run import StoredRun
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.named import parse_pipeline
from robustness.runs.schema import Manifest


@dataclass
class Behind:
    """What `pixels_read` needs of a classifier."""

    deployment: Deployment | None


def entry(text: str, sizes, stand_in: str | None = None, side: int = 128):
    named = parse_pipeline(stand_in or text).convention
    deployment = Deployment(named, (side, side, 3))
    return pixels_read(Behind(deployment), sizes, stands_in=stand_in is not None)


def diagnosis(read, at: str = "full") -> Diagnosis:
    manifest = Manifest.model_validate({"config": {"deployment": {"at": at}}})
    stored = manifest.with_changes(pixels_read=read)
    return reads_whole_picture(StoredRun(stored, pd.DataFrame(), pd.DataFrame()))


def test_nearest_ignores_most_of_a_photograph():
    found = diagnosis(entry("keras.load_img", [(375, 500)] * 3 + [(64, 64)] * 2))
    assert found.status == "warn"
    assert "ignores 91.3 % of the picture" in found.sentence and "500 × 375" in found.sentence
    assert "keras.load_img" in found.sentence and "Xiao et al. 2019" in found.sentence
    assert found.evidence["share"] == 128 * 128 / (375 * 500)
    assert found.evidence["pictures"] == "3 of 5"


@pytest.mark.parametrize("text", ["pillow:bilinear", "pillow:box"])
def test_an_averaging_resize_reads_everything(text):
    found = diagnosis(entry(text, [(375, 500)]))
    assert found.status == "ok" and "reads 100 % of the pixels" in found.sentence


def test_a_crop_is_no_finding_and_is_mentioned():
    found = diagnosis(entry("torchvision:resize=256,crop=224", [(300, 1200)], side=224))
    assert found.status == "ok" and "the crop cuts off" in found.sentence
    assert found.evidence["median_share"] < 0.5


def test_the_median_picture_decides_and_the_most_frequent_size_is_drawn():
    read = entry("pillow:nearest", [(64, 64)] * 3 + [(300 + n, 400) for n in range(4)])
    assert (read.height, read.width, read.pictures, read.total) == (64, 64, 3, 7)
    assert read.share == 1 and len(read.rows) == len(read.columns) == 64
    assert read.median == (300, 400)
    assert diagnosis(read).status == "warn"
    assert Manifest.model_validate({"pixels_read": read.to_json()}).pixels_read == read


def test_a_stand_in_is_named_as_one():
    found = diagnosis(entry("pillow:nearest", [(300, 400)], stand_in="opencv:nearest"))
    assert "opencv:nearest, which stands in for the own function" in found.sentence


def test_without_a_picture_at_its_own_size_it_is_skipped():
    assert diagnosis(None).status == diagnosis(None, at="model").status == "skipped"
    assert pixels_read(Behind(None), [(3, 3)]) is None
    assert entry("pillow:nearest", []) is None
