"""P08 against a model that is right behind one way of resizing only."""

from __future__ import annotations

import numpy as np
import pytest

from robustness.diagnostics.pipelines import CANDIDATES, pipeline
from robustness.pipeline.named import parse_pipeline
from tests.robustness.helpers import linear

SHAPE = (4, 4, 3)
RNG = np.random.default_rng(3)


def pictures(count: int = 40, side: int = 12) -> tuple[list[np.ndarray], np.ndarray]:
    """Grey pictures whose class is in the pixels that nearest reads; the others say the opposite."""
    labels = np.arange(count) % 2
    middle = (np.arange(4) * side // 4) + side // 8
    some = []
    for label in labels:
        picture = np.full((side, side, 3), 80 if label else 170, np.uint8)
        picture[np.ix_(middle, middle)] = 200 if label else 50
        some.append(picture)
    return some, labels


def bright():
    """A model whose class 1 is a bright image."""
    size = int(np.prod(SHAPE))
    weights = np.stack([np.zeros(size), np.full(size, 1 / size)], axis=1)
    return linear(weights, np.array([0.0, -125.0]), SHAPE)


def test_the_pipeline_behind_which_the_model_is_right_is_found():
    some, labels = pictures()
    found = pipeline(bright(), some, labels, parse_pipeline("pillow:bilinear").convention)
    assert found is not None
    assert found.severity == "warning"
    assert "keras.load_img" in found.sentence.partition("--pipeline")[2]
    assert "by 100.0 points on 40 pictures" in found.sentence
    good = pipeline(bright(), some, labels, parse_pipeline("keras.load_img").convention)
    assert good is not None
    assert good.severity == "ok"
    assert "keras.load_img:nearest 100 %" in good.sentence


@pytest.mark.parametrize(("count", "side"), [(12, 12), (40, 4)], ids=["few", "nothing to resize"])
def test_it_is_not_made_where_it_says_nothing(count, side):
    some, labels = pictures(count, side)
    chosen = parse_pipeline("pillow:bilinear").convention
    assert pipeline(bright(), some, labels, chosen) is None


def test_chance_is_no_finding():
    some, _ = pictures()
    labels = RNG.integers(0, 2, len(some))
    found = pipeline(bright(), some, labels, parse_pipeline("pillow:bilinear").convention)
    assert found is None or found.severity == "ok"


def test_every_candidate_is_known():
    for text in CANDIDATES:
        if text.startswith("opencv"):
            pytest.importorskip("cv2")
        parse_pipeline(text.format(short=5, height=4, width=4))
