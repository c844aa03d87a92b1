"""Tests of the classifier: logits, probabilities, scalings, names and digests for all kinds of models."""

from __future__ import annotations

import json
import pickle

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

from robustness import backend
from robustness.engine import batch_size
from robustness.errors import ModelError, SettingError
from robustness.models.classifier import Classifier, input_shape
from robustness.models.fixed_size_calls import (
    LARGE_BATCH,
    SMALL_BATCH,
    CallError,
    FixedSizeCalls,
    _cause,
    naming,
)
from robustness.models.scaling_choice import choose_scaling
from robustness.models.scalings import SCALINGS, Scaling, parse_scaling

# Keras itself still calls NumPy in the old way when it reads a variable.
SHAPE = (6, 5, 3)
RNG = np.random.default_rng(1)
IMAGES = RNG.integers(0, 256, (7, *SHAPE), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(3)


def body() -> list:
    return [
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dropout(0.5),
    ]


def sequential(*head) -> keras.Model:
    return keras.Sequential([keras.Input(SHAPE), *body(), *head])


def functional(*head) -> keras.Model:
    image = x = keras.Input(SHAPE)
    for layer in [*body(), *head]:
        x = layer(x)
    return keras.Model(image, x)


class Subclassed(keras.Model):
    def __init__(self, *head):
        super().__init__()
        self.parts = [*body(), *head]

    def call(self, x, training=False):
        for layer in self.parts:
            x = layer(x)
        return x


def subclassed(*head) -> keras.Model:
    model = Subclassed(*head)
    model(np.zeros((1, *SHAPE), "float32"))
    return model


def nested(*head) -> keras.Model:
    inner = keras.Sequential([keras.Input((16,)), *head])
    return functional(layers.Dense(16, activation="relu"), inner)


def doubly_nested(*head) -> keras.Model:
    inner = keras.Sequential([keras.Input((16,)), *head])
    middle = keras.Sequential([keras.Input((16,)), layers.Dense(16), inner])
    return sequential(layers.Dense(16, activation="relu"), middle)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def own(model: keras.Model) -> np.ndarray:
    return np.asarray(model(IMAGES.astype("float32"), training=False))


def logits(classifier: Classifier) -> np.ndarray:
    return np.asarray(classifier.logits(IMAGES.astype("float32")))


SOFTMAX_HEADS = {
    "dense": lambda: [layers.Dense(4, activation="softmax")],
    "no bias": lambda: [layers.Dense(4, activation="softmax", use_bias=False)],
    "softmax layer": lambda: [layers.Dense(4), layers.Softmax()],
    "activation layer": lambda: [layers.Dense(4), layers.Activation("softmax")],
    "dropout after": lambda: [layers.Dense(4, activation="softmax"), layers.Dropout(0.1)],
}


@pytest.mark.slow
@pytest.mark.parametrize("build", [sequential, functional, nested, doubly_nested])
@pytest.mark.parametrize("head", SOFTMAX_HEADS)
def test_the_softmax_is_removed_in_every_kind_of_model(build, head):
    model = build(*SOFTMAX_HEADS[head]())
    classifier = Classifier(model)
    assert classifier.head.kind == "softmax"
    assert classifier.head.rebuilt
    z = logits(classifier)
    np.testing.assert_allclose(softmax(z), own(model), atol=1e-6)
    np.testing.assert_allclose(classifier.probabilities(IMAGES), own(model), atol=1e-6)
    # Logarithms of probabilities would sum to one after exp; the logits do not.
    assert np.abs(np.exp(z).sum(axis=1) - 1).max() > 1e-3


def test_a_saturated_softmax_keeps_its_logits():
    dense = layers.Dense(3, activation="softmax")
    model = sequential(dense)
    dense.set_weights([dense.get_weights()[0] * 1e4, np.array([5e3, 0, -5e3])])
    classifier = Classifier(model)
    features = keras.Model(model.inputs[0], dense.input)(IMAGES.astype("float32"), training=False)
    expected = np.asarray(features) @ np.asarray(dense.kernel) + np.asarray(dense.bias)
    assert own(model).max() == 1.0
    np.testing.assert_allclose(logits(classifier), expected, rtol=1e-4, atol=1e-1)
    assert np.unique(logits(classifier)).size > 2 * len(IMAGES)


@pytest.mark.parametrize("build", [sequential, functional, nested, subclassed])
def test_logits_are_unchanged(build):
    model = build(layers.Dense(4))
    classifier = Classifier(model)
    assert classifier.head.kind == "logits"
    np.testing.assert_allclose(logits(classifier), own(model), atol=1e-6)
    np.testing.assert_allclose(classifier.probabilities(IMAGES), softmax(own(model)), atol=1e-6)


@pytest.mark.parametrize("build", [sequential, functional, nested, subclassed])
def test_one_sigmoid_unit_becomes_two_logits(build):
    model = build(layers.Dense(1, activation="sigmoid"))
    classifier = Classifier(model, class_names=["cat", "dog"])
    assert classifier.head.kind == "sigmoid"
    assert classifier.head.rebuilt
    assert classifier.head.followed == (build is subclassed)
    p = own(model)[:, 0]
    expected = np.stack([1 - p, p], axis=1)
    np.testing.assert_allclose(classifier.probabilities(IMAGES), expected, atol=1e-6)
    # The closed form: softmax of (0, z) is (1 - p, p) for z = log p/(1-p).
    z = np.stack([0 * p, np.log(p / (1 - p))], axis=1)
    np.testing.assert_allclose(logits(classifier), z, atol=1e-4)


def test_one_unit_without_sigmoid_needs_an_explicit_head():
    model = sequential(layers.Dense(1))
    with pytest.raises(ModelError, match="sigmoid-logit"):
        Classifier(model)
    classifier = Classifier(model, head="sigmoid-logit")
    z = own(model)[:, 0]
    np.testing.assert_allclose(logits(classifier), np.stack([0 * z, z], axis=1), atol=1e-6)
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(classifier.probabilities(IMAGES)[:, 1], p, atol=1e-6)


def test_several_sigmoids_are_refused():
    with pytest.raises(ModelError, match="4 independent sigmoid units"):
        Classifier(sequential(layers.Dense(4, activation="sigmoid")))


def powers(z):
    """A softmax that the toolkit does not recognise: a power with the logits as exponent."""
    weights = ops.power(2.718281828, z - ops.max(z, axis=-1, keepdims=True))
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def test_a_subclassed_softmax_is_followed_to_its_logits():
    model = subclassed(layers.Dense(3), layers.Softmax())
    classifier = Classifier(model)
    assert classifier.head.rebuilt and classifier.head.followed
    flat = model.parts[:-1]
    z = IMAGES.astype("float32")
    for layer in flat:
        z = layer(z)
    np.testing.assert_allclose(logits(classifier), ops.convert_to_numpy(z), atol=1e-5)
    assert "operations at its end" in classifier.card()["head_sentence"]


def test_an_unknown_softmax_uses_logarithms_with_a_note():
    model = subclassed(layers.Dense(3), layers.Lambda(powers))
    classifier = Classifier(model)
    assert not classifier.head.rebuilt
    np.testing.assert_allclose(logits(classifier), np.log(own(model)), atol=1e-5)
    assert "logarithm" in classifier.card()["head_sentence"]


def test_an_average_of_softmaxes_has_no_logits():
    image = keras.Input(SHAPE)
    flat = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    votes = [layers.Dense(3, activation="softmax")(flat) for _ in range(2)]
    model = keras.Model(image, layers.Average()(votes))
    classifier = Classifier(model)
    assert classifier.head.kind == "softmax"
    np.testing.assert_allclose(classifier.probabilities(IMAGES), own(model), atol=1e-6)
    np.testing.assert_allclose(softmax(logits(classifier)), own(model), atol=1e-6)


def test_a_function_merely_named_softmax_is_not_removed():
    def softmax(x):  # with a temperature
        return ops.softmax(x / 50.0)

    dense = layers.Dense(3, activation=softmax, kernel_initializer="random_normal")
    model = sequential(layers.Rescaling(30.0), dense)
    classifier = Classifier(model)
    assert classifier.head.followed
    e = np.exp(logits(classifier))
    np.testing.assert_allclose(e / e.sum(axis=1, keepdims=True), own(model), atol=1e-5)


def test_mixed_precision_models_return_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        classifier = Classifier(sequential(layers.Dense(3, activation="softmax")))
    finally:
        keras.config.set_dtype_policy("float32")
    probabilities = classifier.probabilities(IMAGES)
    assert probabilities.dtype == np.float32
    assert str(logits(classifier).dtype) == "float32"
    np.testing.assert_allclose(softmax(logits(classifier)), probabilities, atol=1e-2)


def test_batches_of_any_size_give_the_same_results():
    classifier = Classifier(sequential(layers.Dense(3, activation="softmax")))
    many = RNG.integers(0, 256, (87, *SHAPE), dtype=np.uint8)
    together = classifier.probabilities(many)
    alone = np.concatenate([classifier.probabilities(many[i : i + 1]) for i in range(87)])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert classifier.probabilities(many[:0]).shape == (0, 3)
    with pytest.raises(ModelError, match="takes"):
        classifier.probabilities(many[:, :4])


def test_logits_give_gradients_inside_a_compiled_function():
    dense = layers.Dense(2, activation="softmax")
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), dense])
    classifier = Classifier(model, scaling="0..1")

    def loss(points):
        return classifier.logits(points)[:, 0], ()

    call = backend.compile(lambda points: backend.value_and_grad(loss)(points)[1])
    gradient = np.asarray(call(IMAGES.astype("float32")))
    expected = np.asarray(dense.kernel)[:, 0].reshape(SHAPE) / 255
    np.testing.assert_allclose(gradient, np.broadcast_to(expected, gradient.shape), rtol=1e-5)


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CLOSED_FORMS = {
    "0..255": lambda x: x,
    "0..1": lambda x: x / 255,
    "-1..1": lambda x: x / 127.5 - 1,
    "caffe": lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68]),
    "torch": lambda x: (x / 255 - MEAN) / STD,
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_scalings_match_their_definitions(name):
    counts = IMAGES.astype("float64")
    found = np.asarray(SCALINGS[name].apply(IMAGES))
    np.testing.assert_allclose(found, CLOSED_FORMS[name](counts), rtol=1e-5, atol=1e-4)
    assert SCALINGS.keys() == CLOSED_FORMS.keys()


def test_a_misspelt_scaling_suggests_the_nearest():
    with pytest.raises(SettingError, match=r"Did you mean 0\.\.1"):
        parse_scaling("0-1")
    with pytest.raises(SettingError, match="RGB or BGR"):
        Scaling("x", (1.0,), (0.0,), order="RBG")
    with pytest.raises(SettingError, match="finite"):
        Scaling("x", (float("nan"),), (0.0,))


def plain(*first) -> keras.Model:
    return keras.Sequential([keras.Input(SHAPE), *first, layers.Flatten(), layers.Dense(2)])


def test_a_scaling_inside_the_model_is_found():
    counts = layers.Normalization(mean=[120.0] * 3, variance=[4000.0] * 3)
    for first in (layers.Rescaling(1 / 255), layers.Rescaling(1 / 127.5, offset=-1), counts):
        assert Classifier(plain(layers.RandomFlip(), first)).scaling.name == "0..255"
    inner = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255)])
    assert Classifier(plain(inner)).scaling.name == "0..255"


def test_a_scaling_is_never_guessed():
    unit = layers.Normalization(mean=[0.5] * 3, variance=[0.05] * 3)
    late = [layers.Conv2D(3, 1), layers.Rescaling(1 / 255)]
    for first in ([], [layers.Rescaling(2.0, offset=-1.0)], [unit], late):
        with pytest.raises(ModelError, match="not known which numbers"):
            Classifier(plain(*first))


def threshold_model(scale: float) -> keras.Model:
    """Class 1 where the mean is above the middle of the range 0..scale."""
    model = keras.Sequential([keras.Input(SHAPE), layers.GlobalAveragePooling2D(), layers.Dense(2)])
    model.layers[-1].set_weights([np.array([[0, 1.0]] * 3), np.array([0, -1.5 * scale])])
    return model


# Above or below 127.5, many between that value and the thresholds of other scalings.
LEVELS = np.concatenate(
    [np.linspace(*ends, 10) for ends in ((20, 110), (119, 126), (129, 140), (195, 250))]
)
BRIGHT = (LEVELS > 127.5).astype(int)
GREYS = np.stack([np.full(SHAPE, level, np.uint8) for level in LEVELS])


def test_accuracy_decides_the_scaling():
    model = threshold_model(1.0)
    classifier = Classifier.decide(model, GREYS, BRIGHT, class_names=["dark", "bright"])
    assert classifier.scaling.name == "0..1"
    assert classifier.class_names == ("dark", "bright")
    choice = classifier.choose_scaling(GREYS, BRIGHT)
    assert choice.accuracies["0..1"] == 1.0
    # Every count above 1.5 is "bright" for a model of 0..1, so half are correct.
    assert choice.accuracies["0..255"] == 0.5
    given = Classifier.decide(model, GREYS, BRIGHT, scaling="-1..1")
    assert given.scaling.name == "-1..1"


def test_images_that_cannot_decide_the_scaling_are_reported():
    model = threshold_model(1.0)
    with pytest.raises(ModelError, match="Without labelled images"):
        Classifier.decide(model, GREYS, None)
    with pytest.raises(ModelError, match="none is clearly better than chance"):
        Classifier.decide(model, GREYS, 1 - BRIGHT)
    tie = choose_scaling(lambda scaling, images: BRIGHT, GREYS, BRIGHT, SCALINGS, 2)
    assert tie.scaling is None
    assert "it could be" in tie.sentence
    assert tie.sentence.endswith("More labelled images may decide it.")


def test_images_of_another_kind_are_named_as_a_cause_of_chance():
    labels = np.arange(40) % 2
    noise = np.random.default_rng(3).permutation(labels)
    images = np.zeros((40, 2, 2, 1), "uint8")
    choice = choose_scaling(lambda scaling, some: noise, images, labels, SCALINGS, 2)
    assert choice.scaling is None
    assert (
        "none is clearly better than chance (50.0 %). Perhaps the images are of other"
        in choice.sentence
    )
    unlike = np.tile([0, 1], len(GREYS))[: len(GREYS)]
    with pytest.raises(ModelError, match=r"(?s)Perhaps.*classes.*--scaling") as told:
        Classifier.decide(threshold_model(1.0), GREYS, unlike)
    # Labels the other way round are another cause, which is named instead.
    with pytest.raises(ModelError, match="order of the classes") as other:
        Classifier.decide(threshold_model(1.0), GREYS, 1 - BRIGHT)
    assert "order of the classes" not in str(told.value) and "Perhaps" not in str(other.value)


def test_one_channel_has_no_colour_scalings():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(SettingError, match="three channels"):
        Classifier(model, scaling="caffe")
    images = np.zeros((4, 4, 4, 1), np.uint8)
    choice = Classifier(model, scaling="0..1").choose_scaling(images, np.zeros(4, int))
    assert set(choice.accuracies) == {"0..255", "0..1", "-1..1"}


def test_class_names_are_checked():
    model = sequential(layers.Dense(3))
    assert Classifier(model).class_names == ("class 0", "class 1", "class 2")
    model.class_names = ["a", "b", "c"]
    assert Classifier(model).class_names == ("a", "b", "c")
    assert Classifier(model, class_names=["x", "y", "z"]).class_names == ("x", "y", "z")
    with pytest.raises(ModelError, match="2 class names were given"):
        Classifier(model, class_names=["x", "y"])
    with pytest.raises(ModelError, match="repeat"):
        Classifier(model, class_names=["x", "y", "y"])


def test_models_without_a_single_image_input_are_refused():
    two = [keras.Input(SHAPE), keras.Input(SHAPE)]
    with pytest.raises(ModelError, match="2 inputs"):
        input_shape(keras.Model(two, layers.Add()(two)))
    with pytest.raises(ModelError, match="any size"):
        input_shape(keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)]))
    with pytest.raises(ModelError, match=r"10 numbers per image .*--input-size"):
        input_shape(keras.Sequential([keras.Input((10,)), layers.Dense(2)]))
    with pytest.raises(ModelError, match="expected images"):
        input_shape(keras.Sequential([keras.Input((4, 8, 8, 3)), layers.Flatten()]))
    with pytest.raises(ModelError, match="does not know its input shape"):
        input_shape(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ModelError, match="expected a Keras 3 model"):
        input_shape("model.keras")


def test_outputs_that_are_not_rows_of_classes_are_refused():
    image = keras.Input(SHAPE)
    both = keras.Model(image, [layers.Flatten()(image), layers.Flatten()(image)])
    with pytest.raises(ModelError, match="2 outputs"):
        Classifier(both, scaling="0..1")
    with pytest.raises(ModelError, match="one row of classes"):
        Classifier(keras.Model(image, layers.Conv2D(2, 3)(image)), scaling="0..1")


def test_a_head_that_does_not_fit_is_refused():
    model = sequential(layers.Dense(3))
    with pytest.raises(SettingError, match="expected one of"):
        Classifier(model, head="relu")
    with pytest.raises(ModelError, match="3 output"):
        Classifier(model, head="sigmoid")
    with pytest.raises(ModelError, match="no probabilities"):
        Classifier(model, head="softmax")


def test_dictionary_inputs_are_filled():
    image = keras.Input(SHAPE, name="image")
    out = layers.Dense(2, activation="softmax")(layers.Flatten()(image))
    classifier = Classifier(keras.Model({"image": image}, {"label": out}), scaling="0..1")
    assert classifier.head.rebuilt
    np.testing.assert_allclose(
        softmax(logits(classifier)), classifier.probabilities(IMAGES), atol=1e-6
    )


def test_the_digest_depends_only_on_the_weights():
    model = sequential(layers.Dense(2))
    first = Classifier(model).digest
    assert Classifier(model, class_names=["a", "b"]).digest == first
    for weight in model.weights:
        kept = np.array(ops.convert_to_numpy(weight))
        changed = kept.copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.inf)
        weight.assign(changed)
        assert Classifier(model).digest != first, weight.path
        weight.assign(kept)
    assert Classifier(model).digest == first


def test_loading_gives_a_model_card(tmp_path):
    sequential(layers.Dense(2, activation="softmax")).save(tmp_path / "pets.keras")
    classifier = Classifier.load(tmp_path / "pets.keras", class_names=["cat", "dog"])
    again = Classifier.load(tmp_path / "pets.keras")
    assert classifier.digest == again.digest
    card = json.loads(json.dumps(classifier.card()))
    assert card["name"] == "pets"
    assert card["file"] == "pets.keras"
    assert card["format"] == "keras"
    assert len(card["file_sha256"]) == len(card["weights_sha256"]) == 64
    assert card["parameters"] == 3 * 3 * 3 * 4 + 4 + 4 * 4 + (4 * 3 * 4) * 2 + 2
    assert card["input_shape"] == list(SHAPE)
    assert card["class_names"] == ["cat", "dog"]
    assert card["scaling"]["name"] == "0..255"
    assert str(tmp_path) not in json.dumps(card)


def sizes_seen(monkeypatch, classifier, counts, answer=lambda answer, x: answer(x)) -> list[int]:
    """The batch sizes in which the model gets its images, for each requested batch size."""
    seen, predict = [], classifier._predict
    monkeypatch.setattr(classifier, "_predict", lambda x: seen.append(len(x)) or answer(predict, x))
    for count in counts:
        images = np.repeat(IMAGES[:1], count, axis=0)
        assert classifier.probabilities(images).shape == (count, len(classifier.class_names))
    return seen


def test_the_model_gets_only_two_batch_sizes(monkeypatch):
    classifier = Classifier(sequential(layers.Dense(3, activation="softmax")))
    few, many = SMALL_BATCH, LARGE_BATCH
    counts = (1, few - 1, few, few + 1, 2 * few, 2 * few + 1, many, 2 * many - few)
    # Before the first large batch, its answers to some of the images are compared.
    expected = [few, few, few, few, few, few, few, few, many, many, many, few, few]
    seen = sizes_seen(monkeypatch, classifier, counts)
    assert seen == expected


def test_a_model_that_depends_on_the_batch_size_gets_small_batches(monkeypatch):
    classifier = Classifier(sequential(layers.Dense(3, activation="softmax")))

    def other(answer, x):
        rows = np.asarray(answer(x))
        return np.nextafter(rows, 1) if len(x) == LARGE_BATCH else rows

    seen = sizes_seen(monkeypatch, classifier, (LARGE_BATCH, 2 * LARGE_BATCH), other)
    assert seen == [SMALL_BATCH, LARGE_BATCH] + [SMALL_BATCH] * 8


def test_a_model_too_large_for_memory_gets_small_batches(monkeypatch):
    classifier = Classifier(sequential(layers.Dense(3, activation="softmax")))
    exhausted = type("Exhausted", (Exception,), {})
    monkeypatch.setattr(backend, "OutOfMemory", (exhausted,))

    def small(answer, x):
        if len(x) == LARGE_BATCH:
            raise exhausted
        return answer(x)

    seen = sizes_seen(monkeypatch, classifier, (LARGE_BATCH, 2 * LARGE_BATCH), small)
    assert seen == [SMALL_BATCH, LARGE_BATCH] + [SMALL_BATCH] * 8


@pytest.mark.parametrize(
    ("share", "rows"), [(1e-9, 1), (1.0, 1), (5.9, 5), (11.9, 6), (13, 12), (1e9, 510)]
)
def test_the_number_of_slots_is_a_multiple_of_the_group_size(monkeypatch, share, rows):
    classifier = Classifier(sequential(layers.Dense(3, activation="softmax")))
    room = batch_size.row_bytes(classifier) / batch_size.SHARE
    monkeypatch.setattr(batch_size, "free_bytes", lambda: share * room)
    monkeypatch.setattr(batch_size.backend, "accelerated", lambda: False)
    assert batch_size.batch_size_for(classifier) == rows


@pytest.mark.parametrize(("each", "rows"), [(1 << 25, 48), (1 << 18, 126), (1 << 10, 510)])
def test_small_rows_get_more_slots(monkeypatch, each, rows):
    classifier = Classifier(sequential(layers.Dense(3, activation="softmax")))
    monkeypatch.setattr(batch_size, "row_bytes", lambda _: each)
    monkeypatch.setattr(batch_size, "free_bytes", lambda: 1 << 40)
    monkeypatch.setattr(batch_size.backend, "accelerated", lambda: False)
    assert batch_size.batch_size_for(classifier) == rows


@given(st.integers(1, 300), st.integers(1, 2000))
def test_the_number_of_slots_minimises_the_cost(most, count):
    def cost(slots):
        return -(-count // slots) * (slots + batch_size.CALL)

    slots, widest = batch_size.even_batches(most, count), batch_size.whole_groups(most)
    assert 1 <= slots <= widest and slots in (widest, batch_size.whole_groups(slots))
    assert all(cost(slots) <= cost(s) for s in range(6, widest + 1, 6))


def test_even_batches_leave_few_slots_empty():
    assert batch_size.even_batches(36, 60) == 30
    assert batch_size.even_batches(36, 96) == 24
    assert batch_size.even_batches(36, 467) == 36
    assert batch_size.even_batches(252, 10) == 12


@pytest.mark.parametrize(
    ("requested", "free", "rows"),
    [(1_000_000, 100, 96), (100, 100, 100), (7, 100, 7), (97, 96.5, 96), (50, 0.5, 1), (1, 0.5, 1)],
)
def test_a_batch_is_limited_by_the_available_memory(monkeypatch, requested, free, rows):
    classifier = Classifier(sequential(layers.Dense(3, activation="softmax")))
    each = 1 << 30
    monkeypatch.setattr(batch_size, "row_bytes", lambda _: each)
    monkeypatch.setattr(batch_size, "free_bytes", lambda: free * each)
    monkeypatch.setattr(batch_size.memory, "available", lambda: None)
    monkeypatch.setattr(batch_size.backend, "accelerated", lambda: False)
    assert batch_size.bounded(requested, classifier) == rows


class Choosy(layers.Layer):
    """Raises an error once it is told to."""

    refuses = False

    def call(self, x):
        if self.refuses:
            raise ValueError("expected pictures of cats")
        return x


def test_an_error_of_the_model_is_named():
    layer = Choosy()
    classifier = Classifier(sequential(layer, layers.Dense(3)), scaling="0..1")
    layer.refuses = True
    with pytest.raises(ModelError, match=r"raised .*ValueError: expected pictures of cats"):
        classifier.probabilities(IMAGES)


def test_the_images_on_which_a_model_fails_are_named():
    """Those on which it fails alone; all of the batch if it fails on none alone."""
    pictures = np.full((60, *SHAPE), 90, np.uint8)
    pictures[[7, 50]], pictures[51] = 255, 0
    names = [f"{n}.png" for n in range(60)]

    def see(images):
        if (images.min(axis=(1, 2, 3)) == 255).any():
            raise ValueError("too bright")
        return images[:, 0, 0]

    def compare(images):
        means = images.mean(axis=(1, 2, 3))
        if np.ptp(means) > 200:
            raise ValueError("too different")
        return images[:, 0, 0]

    with (
        pytest.raises(ModelError, match=r"too bright.*It fails on 1 image: 7\.png\.$"),
        naming(names),
    ):
        FixedSizeCalls()(pictures, see, 3)
    pictures[7] = 90
    with pytest.raises(ModelError, match=r"It fails on 1 image: 50\.png\.$"), naming(names):
        FixedSizeCalls()(pictures, see, 3)
    said = r"on none of them alone, but on the batch of 12 images: 48\.png, 49\.png, 50\.png, \.\.\.\.$"
    with pytest.raises(ModelError, match=said), naming(names):
        FixedSizeCalls()(pictures, compare, 3)
    error = CallError("ValueError: no", [3, 4], alone=True)
    again = pickle.loads(pickle.dumps(error.after(2)))
    assert (again.places, again.alone, str(again)) == ((5, 6), True, str(error))


def test_the_cause_is_found_in_an_error_of_a_graph():
    said = "Graph execution error:\n\nDetected at node a/b\n  File x\n\nKeyError: 'cat'\n\n[[{{node}}]]"
    assert _cause(RuntimeError(said)) == "KeyError: 'cat'"
    assert _cause(RuntimeError("")) == "RuntimeError"
