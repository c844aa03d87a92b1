"""Tests of compact weight files: precision, reproducibility, refused files."""

import hashlib
import json

import keras
import numpy as np
import pytest

from robustness.errors import ModelError
from robustness.model_zoo.dogs_vs_cats import weights_file
from robustness.model_zoo.dogs_vs_cats.architecture import build

SIDE = 32  # the same layers as at 128, a fortieth of the first dense kernel


def network(seed):
    """The notebook's network with seeded weights and statistics as after training."""
    keras.utils.set_random_seed(seed)
    model = build(SIDE)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.5, 2, shape))
            layer.beta.assign(rng.normal(0, 0.3, shape))
            layer.moving_mean.assign(rng.normal(0, 0.3, shape))
            layer.moving_variance.assign(rng.uniform(0.01, 3, shape))
    return model


def margins(model, images):
    """The difference of the two logits, which unlike a probability does not saturate."""
    probabilities = model(images).numpy()
    return np.log(probabilities[:, 1]) - np.log(probabilities[:, 0])


def card(path, **weights):
    facts = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} | weights
    path.with_name("card.json").write_text(json.dumps({"weights": facts}))


@pytest.fixture(scope="module")
def original():
    return network(1)


@pytest.fixture
def saved(original, tmp_path):
    path = tmp_path / "small.npz"
    weights_file.save(original, path)
    card(path)
    return path


def test_a_model_read_back_predicts_nearly_the_same(original, saved):
    other = network(2)
    images = np.random.default_rng(0).uniform(0, 1, (32, SIDE, SIDE, 3)).astype("float32")
    before = margins(original, images)
    assert (
        np.abs(margins(other, images) - before).max() > 0.5
    )  # another model gives different margins
    weights_file.load(other, saved)
    after = margins(other, images)
    assert np.abs(after - before).max() < 0.02
    assert not np.array_equal(after, before)  # float16 rounding has an effect


def test_statistics_come_back_bit_for_bit_and_kernels_to_half_precision(original, saved):
    other = network(2)
    weights_file.load(other, saved)
    for old, new in zip(original.weights, other.weights, strict=True):
        if "seed" in old.path:
            continue
        if len(old.shape) < 2:
            assert np.array_equal(old.numpy(), new.numpy()), old.path
        else:
            np.testing.assert_allclose(new.numpy(), old.numpy(), rtol=2**-11, atol=2**-24)


def test_a_variance_outside_float16_survives(tmp_path):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.BatchNormalization()])
    model.layers[0].moving_variance.assign([1e9, 1e-12])
    sha256 = weights_file.save(model, tmp_path / "w.npz")
    model.layers[0].moving_variance.assign([1.0, 1.0])
    weights_file.load(model, tmp_path / "w.npz", sha256=sha256)
    assert (
        model.layers[0].moving_variance.numpy().tolist()
        == np.array([1e9, 1e-12], np.float32).tolist()
    )


def test_a_kernel_too_large_for_float16_is_kept_whole(tmp_path):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.layers[0].kernel.assign([[70_000.0], [0.1]])
    sha256 = weights_file.save(model, tmp_path / "w.npz")
    model.layers[0].kernel.assign([[0.0], [0.0]])
    weights_file.load(model, tmp_path / "w.npz", sha256=sha256)
    assert (
        model.layers[0].kernel.numpy().tolist() == np.array([[70_000], [0.1]], np.float32).tolist()
    )


def test_a_weight_that_is_not_finite_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.layers[0].kernel.assign([[np.nan], [0.1]])
    with pytest.raises(ModelError, match=r"00\.Dense\.kernel.*finite"):
        weights_file.save(model, tmp_path / "w.npz")
    assert not (tmp_path / "w.npz").exists()


def test_the_same_weights_give_the_same_file_whatever_was_built_before(original, saved, tmp_path):
    again = tmp_path / "again.npz"
    assert weights_file.save(network(1), again) == hashlib.sha256(saved.read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_full_network_takes_less_than_30_megabytes(tmp_path):
    path = tmp_path / "full.npz"
    model = build()
    weights_file.save(model, path)
    assert model.count_params() == 12_942_786
    assert path.stat().st_size < 30e6


def test_one_flipped_bit_is_detected_and_the_model_unchanged(saved):
    expected = hashlib.sha256(saved.read_bytes()).hexdigest()
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    saved.write_bytes(data)
    model = network(3)
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(ModelError, match=f"damaged.*expected {expected}"):
        weights_file.load(model, saved)
    after = [weight.numpy() for weight in model.weights]
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))


def test_weights_of_another_network_are_refused_with_the_difference(saved):
    other = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    with pytest.raises(ModelError, match=r"another network.*00\.Conv2D\.bias, 00\.Conv2D\.kernel"):
        weights_file.load(other, saved)


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, a=np.array([{"code": 1}], dtype=object))
    card(path)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ModelError, match=r"not a \.npz of numbers"):
        weights_file.load(model, path)


def test_a_file_that_is_not_a_zip_is_refused(tmp_path):
    path = tmp_path / "w.npz"
    path.write_bytes(b"hello")
    card(path)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ModelError, match=r"not a \.npz of numbers"):
        weights_file.load(model, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no model card"),
        ("{", "cannot be read"),
        ('{"weights": {}}', "cannot be read"),
        ('{"weights": {"file": "other.npz", "sha256": "00"}}', "not describe small.npz"),
    ],
)
def test_an_invalid_card_is_refused(saved, text, message):
    if text is None:
        saved.with_name("card.json").unlink()
    else:
        saved.with_name("card.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        weights_file.load(None, saved)
