"""A linear classifier has the logits of its weights, in every process."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from robustness.diagnostics.controls import linear_control, margins
from robustness.models.linear_classifier import linear_classifier

SHAPE = (8, 8, 3)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_logits_are_the_closed_form_under_any_global_policy(policy):
    rng = np.random.default_rng(1)
    weights, bias = rng.normal(0, 0.02, (192, 3)), rng.normal(0, 1, 3)
    images = rng.integers(0, 256, (5, *SHAPE)).astype(np.uint8)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        logits = linear_classifier(weights, bias, SHAPE).logits_of(images)
        classifier, normal, control = linear_control()
        scores = margins(classifier, control[:20])
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_allclose(logits, images.reshape(5, -1) @ weights + bias, atol=1e-3)
    assert np.ptp(scores - control[:20].reshape(20, -1) @ normal) < 1e-3
