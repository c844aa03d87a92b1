"""Tests of finding the layer that resizes pictures inside a model."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from robustness.errors import ModelError
from robustness.models.adapter import InputAdapter, adapt
from robustness.models.resizing_layers import resizing_inside
from robustness.pipeline.named import parse_pipeline

layers = keras.layers
ANY = (None, None, 3)


def model_of(*first: keras.Layer, shape: tuple[int | None, ...] = ANY, **options: str):
    """A classifier with these layers first."""
    last = [layers.Conv2D(2, 3), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    return keras.Sequential([layers.Input(shape, **options), *first, *last])


@pytest.mark.parametrize(
    ("first", "size", "pipeline"),
    [
        ([layers.Resizing(8, 9)], "8x9", "keras.layers.Resizing:bilinear"),
        (
            [layers.Rescaling(1 / 255), layers.Resizing(8, 8, "bicubic", antialias=True)],
            "8x8",
            "keras.layers.Resizing:bicubic,antialias=true",
        ),
        (
            [keras.Sequential([layers.Resizing(8, 8, crop_to_aspect_ratio=True)])],
            "8x8",
            "keras.layers.Resizing:bilinear,crop_to_aspect_ratio=true",
        ),
        (
            [layers.Resizing(8, 8, pad_to_aspect_ratio=True, fill_value=114)],
            "8x8",
            "keras.layers.Resizing:bilinear,pad_to_aspect_ratio=true,fill_value=114",
        ),
        # The fill has the unit of rescaled inputs, which a pipeline of counts does not know.
        ([layers.Rescaling(1 / 255), layers.Resizing(8, 8, pad_to_aspect_ratio=True)], "8x8", ""),
        ([layers.CenterCrop(8, 7)], "8x7", "keras.layers.CenterCrop:bilinear"),
        (
            [layers.Resizing(9, 9), layers.CenterCrop(8, 7)],
            "9x9",
            "keras.layers.Resizing:bilinear",
        ),
    ],
)
def test_a_resizing_layer_at_the_start_is_found(first, size, pipeline):
    found = resizing_inside(model_of(*first))
    assert found is not None
    assert (found.size, found.pipeline) == (size, pipeline)


def test_a_layer_behind_others_is_not_the_resize_of_pictures():
    assert resizing_inside(model_of(layers.Conv2D(3, 3), layers.Resizing(8, 8))) is None
    assert resizing_inside(model_of()) is None
    images = keras.Input(ANY)
    small = layers.GlobalAveragePooling2D()(layers.Resizing(8, 8)(images))
    both = keras.layers.Add()([small, layers.GlobalAveragePooling2D()(images)])
    assert resizing_inside(keras.Model(images, both)) is None


def test_no_pipeline_is_named_for_whole_numbers_which_keras_resizes_in_two_ways():
    model = model_of(layers.Resizing(8, 8), layers.Rescaling(1 / 255), dtype="uint8")
    found = resizing_inside(model)
    assert found is not None
    assert not found.pipeline
    picture = np.random.default_rng(0).integers(0, 256, (1, 21, 30, 3)).astype(np.uint8)
    assert not np.allclose(model(picture), model.predict_on_batch(picture), atol=1e-6)
    with pytest.raises(ModelError, match="no named pipeline does"):
        adapt(model)


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ([layers.Resizing(8, 10, crop_to_aspect_ratio=True)], "Resizing"),
        ([layers.CenterCrop(8, 10)], "CenterCrop"),
        ([layers.Resizing(8, 10), layers.CenterCrop(6, 5)], "Resizing"),
    ],
)
def test_the_named_pipeline_before_the_model_is_the_model_on_pictures(first, name):
    keras.utils.set_random_seed(0)
    model = model_of(*first, layers.Rescaling(1 / 255))
    with pytest.raises(
        ModelError, match=rf"--input-size 8x10 --pipeline keras\.layers\.{name}:bil"
    ):
        adapt(model)
    found = resizing_inside(model)
    assert found is not None
    adapted = adapt(model, InputAdapter(found.size))
    assert found.sentence in adapted.sentences
    pictures = [
        np.random.default_rng(n).integers(0, 256, size).astype(np.uint8)
        for n, size in enumerate([(31, 40, 3), (5, 9, 3), (8, 10, 3)])
    ]
    convention = parse_pipeline(found.pipeline).convention
    for picture in pictures:
        image = convention.image(picture, (8, 10, 3))[None].astype("float32")
        wanted = np.asarray(model(picture[None].astype("float32")))
        assert np.array_equal(np.asarray(adapted.model(image)), wanted)
