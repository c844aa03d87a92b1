"""Tests that reordering layers for speed does not change the model."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import robustness
from robustness import backend
from robustness.models import layer_order


def normalised(factors, filters=8):
    """Batch normalisation with the given signs of its factors."""
    layer = layers.BatchNormalization()
    layer.build((None, None, None, filters))
    rng = np.random.default_rng(1)
    signs = np.resize(factors, filters)
    layer.set_weights(
        [signs * rng.uniform(0.2, 3, filters), *rng.normal(size=(2, filters)), signs**2]
    )
    return layer


def stack(*between, activation="relu"):
    inputs = keras.Input((11, 11, 3))
    x = layers.Conv2D(8, 3, activation=activation)(inputs)
    for layer in between:
        x = layer(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(4, 2)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def order(model):
    return [type(layer).__name__ for layer in model.layers]


def answers(model, images):
    """Logits and gradients of their first column."""
    call = backend.compile(backend.value_and_grad(lambda x: (model(x, training=False)[:, 0], x)))
    (values, _), slopes = call(ops.convert_to_tensor(images))
    return ops.convert_to_numpy(model(images, training=False)), ops.convert_to_numpy(values), slopes


@pytest.fixture
def images(rng=None):
    return np.random.default_rng(0).normal(size=(5, 11, 11, 3)).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    "between",
    [
        pytest.param(lambda: [normalised([1])], id="normalised"),
        pytest.param(lambda: [normalised([1, 0])], id="some factors are zero"),
        pytest.param(lambda: [normalised([1]), layers.ReLU()], id="then a ReLU"),
        pytest.param(
            lambda: [normalised([1]), layers.Activation("relu"), layers.Dropout(0.5)], id="long"
        ),
    ],
)
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_pooling_before_activation_changes_no_bit(images, between, activation):
    keras.utils.set_random_seed(3)
    model = stack(*between(), activation=activation)
    quick = layer_order.pool_before_activation(model)
    assert order(quick).index("MaxPooling2D") < order(quick).index("BatchNormalization")
    for one, other in zip(answers(model, images), answers(quick, images), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(lambda: [normalised([1, -1])], id="a factor is negative"),
        pytest.param(
            lambda: [normalised([1]), layers.Activation("silu")], id="what falls stands between"
        ),
    ],
)
def test_layers_that_may_decrease_are_not_moved(images, between):
    model = stack(*between())
    quick = layer_order.pool_before_activation(model)
    assert order(quick)[1:4] == order(model)[1:4]
    np.testing.assert_array_equal(answers(model, images)[0], answers(quick, images)[0])


@pytest.mark.parametrize("after", [layers.MaxPooling2D(2), layers.AveragePooling2D(2)])
def test_a_model_without_gain_is_returned_unchanged(after):
    inputs = keras.Input((11, 11, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    x = x if isinstance(after, layers.MaxPooling2D) else normalised([1])(x)
    model = keras.Model(inputs, after(x))
    assert layer_order.pool_before_activation(model) is model


def test_a_tensor_with_two_consumers_is_unchanged(images):
    inputs = keras.Input((11, 11, 3))
    x = normalised([1])(layers.Conv2D(8, 3, activation="relu")(inputs))
    both = layers.Concatenate()([layers.MaxPooling2D(2)(x), layers.AveragePooling2D(2)(x)])
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(both)))
    quick = layer_order.pool_before_activation(model)
    np.testing.assert_array_equal(answers(model, images)[0], answers(quick, images)[0])


def test_a_layer_called_with_training_is_not_moved():
    inputs = keras.Input((11, 11, 3))
    x = layers.Conv2D(8, 3)(inputs)
    x = normalised([1])(x, training=True)
    model = keras.Model(inputs, layers.Flatten()(layers.MaxPooling2D(2)(x)))
    assert order(layer_order.pool_before_activation(model)) == order(model)


def test_the_original_model_is_unchanged(images):
    model = stack(normalised([1]))
    before, config = answers(model, images), model.get_config()
    classifier = robustness.Classifier(model, scaling="0..1", head="logits")
    assert model.get_config() == config
    np.testing.assert_array_equal(answers(model, images)[0], before[0])
    found = classifier.logits_of((255 * np.clip(images, 0, 1)).astype(np.uint8))
    assert found.shape == (5, 3)
