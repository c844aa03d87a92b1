"""Tests of the preflight checks: each is silent on a healthy model and reports a model with its fault."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from robustness.diagnostics import preflight
from robustness.diagnostics.gradient_direction import agreement
from robustness.errors import ImagesError
from robustness.models.classifier import Classifier

# Keras itself still calls NumPy in the old way when it reads a variable.
SHAPE = (4, 4, 3)
RNG = np.random.default_rng(0)
# Class k is bright in channel k; noise makes every picture different.
LABELS = np.arange(42) % 3
IMAGES = RNG.integers(0, 100, (42, *SHAPE), dtype=np.uint8)
IMAGES[np.arange(42), ..., LABELS] += 120


def colour_model(*, before=(), after=(), weight=0.05, activation="softmax") -> keras.Model:
    """Logit k = weight * mean of channel k, which classifies every image correctly."""
    dense = layers.Dense(3, activation=activation, use_bias=False)
    model = keras.Sequential(
        [keras.Input(SHAPE), *before, layers.GlobalAveragePooling2D(), dense, *after]
    )
    dense.set_weights([weight * np.eye(3)])
    return model


class Own(keras.Model):
    """A subclassed model around a function of images and their colour means."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x, training=False):
        return self.function(x, ops.mean(x, axis=(1, 2)))


def own(function) -> Classifier:
    model = Own(function)
    model(np.zeros((1, *SHAPE), "float32"))
    return Classifier(model, scaling="0..255")


def check(classifier, images=IMAGES, labels=LABELS) -> dict[str, preflight.Finding]:
    found = preflight.run(classifier, images, labels)
    assert len({f.id for f in found}) == len(found)
    assert all(f.sentence.strip().endswith(".") for f in found)
    return {f.id: f for f in found}


def speaking(found) -> dict[str, str]:
    return {f.id: f.severity for f in found.values() if f.severity != "ok"}


@pytest.mark.parametrize("activation", ["softmax", None])
def test_a_healthy_model_has_no_findings(activation):
    found = check(Classifier(colour_model(activation=activation), scaling="0..255"))
    assert speaking(found) == {}
    assert "100 % of 42 images" in found["D21-clean-accuracy"].sentence
    assert "4x4" in found["P01-input"].sentence
    assert found.keys() == {
        *("P01-input", "D02-head", "P05-not-finite", "D01-random-outputs", "D21-clean-accuracy"),
        *("P03-label-order", "P02-scaling", "P06-logits", "P07-rows", "P04-saturation"),
        *("D04-gradient-zero", "D28-dead-model", "P09-mode"),
    }


def test_a_healthy_sigmoid_has_no_findings():
    labels = np.array([0, 1] * 15)
    images = np.full((30, *SHAPE), 60, np.uint8) + RNG.integers(0, 20, (30, *SHAPE), np.uint8)
    images[labels == 1] += 150
    dense = layers.Dense(1, activation="sigmoid")
    model = keras.Sequential([keras.Input(SHAPE), layers.GlobalAveragePooling2D(), dense])
    dense.set_weights([np.full((3, 1), 0.02), np.array([-7.5])])
    assert speaking(check(Classifier(model, scaling="0..255"), images, labels)) == {}


def test_without_labels_the_scaling_is_not_checked():
    found = check(Classifier(colour_model(), scaling="0..255"), labels=None)
    assert speaking(found) == {"P02-scaling": "note"}
    assert "D21-clean-accuracy" not in found


def test_linear_outputs_that_may_be_no_classes_are_told():
    boxes = Classifier(colour_model(activation=None), scaling="0..255")
    found = check(boxes, labels=None)
    assert speaking(found) == {"P02-scaling": "note", "D02-head": "warning"}
    assert "without labels nothing shows that" in found["D02-head"].sentence
    stated = Classifier(colour_model(activation=None), scaling="0..255", head="logits")
    assert "D02-head" not in speaking(check(stated, labels=None))
    # Labels that the outputs do not follow: the audit is inconclusive, and the cause is named.
    found = check(boxes, labels=RNG.permutation(LABELS))
    assert found["D21-clean-accuracy"].severity == "error"
    assert "no classes but other numbers (a box" in found["D21-clean-accuracy"].sentence
    softmax = check(Classifier(colour_model(), scaling="0..255"), labels=RNG.permutation(LABELS))
    assert "box" not in softmax["D21-clean-accuracy"].sentence


def test_an_empty_set_of_images_is_refused():
    with pytest.raises(ImagesError):
        preflight.run(Classifier(colour_model(), scaling="0..255"), IMAGES[:0], None)


def test_already_scaled_images_are_found():
    found = check(Classifier(colour_model(), scaling="0..255"), IMAGES // 255, None)
    assert found["P01-input"].severity == "error"
    assert "from 0 to 0" in found["P01-input"].sentence


def test_a_better_scaling_is_suggested():
    # Made for BGR: with RGB it confuses red and blue and is correct on green only.
    dense = layers.Dense(3, use_bias=False)
    model = keras.Sequential([keras.Input(SHAPE), layers.GlobalAveragePooling2D(), dense])
    dense.set_weights([0.05 * np.eye(3)[::-1]])
    found = check(Classifier(model, scaling="0..255"))
    assert found["P02-scaling"].severity == "warning"
    assert "caffe is more accurate than the chosen 0..255 by 66.7 points on 24 images" in (
        found["P02-scaling"].sentence
    )
    assert speaking(check(Classifier(model, scaling="caffe"))) == {}


def test_permuted_labels_are_found():
    turned = (LABELS + 1) % 3
    names = ["red", "green", "blue"]
    classifier = Classifier(colour_model(), scaling="0..255", class_names=names)
    found = check(classifier, labels=turned)
    assert found["P03-label-order"].severity == "error"
    assert "green as red, blue as green" in found["P03-label-order"].sentence
    assert found["D21-clean-accuracy"].severity == "error"
    assert "0 % of 42" in found["D21-clean-accuracy"].sentence


def test_two_exchanged_classes_are_found():
    def two(x, means):
        return ops.stack([means[:, 0], means[:, 1]], axis=1) * 0.05

    keep = LABELS < 2
    found = check(own(two), IMAGES[keep], 1 - LABELS[keep])
    assert found["P03-label-order"].severity == "error"
    assert "class 0 as class 1" in found["P03-label-order"].sentence


def test_accuracy_at_chance_is_an_error_only_on_many_images():
    guess = RNG.permutation(LABELS)
    classifier = Classifier(colour_model(), scaling="0..255")
    found = check(classifier, labels=guess)
    assert found["D21-clean-accuracy"].severity == "error"
    assert found["P03-label-order"].severity == "ok"
    few = check(classifier, IMAGES[:2], LABELS[:2])
    assert few["D21-clean-accuracy"].severity == "note"


def test_not_finite_outputs_stop_the_checks():
    def logarithm(x, means):
        return ops.log(means - 60.0)

    found = check(own(logarithm))
    bad = int(np.sum(np.any(IMAGES.mean(axis=(1, 2)) <= 60, axis=1)))
    assert bad > 0
    assert found["P05-not-finite"].severity == "error"
    assert f"on {bad} of 42" in found["P05-not-finite"].sentence
    assert "D04-gradient-zero" not in found


def test_random_outputs_are_found():
    noise = keras.random.SeedGenerator(1)

    def noisy(x, means):
        return 0.05 * means + keras.random.normal(ops.shape(means), seed=noise)

    found = check(own(noisy))
    assert found["D01-random-outputs"].severity == "warning"
    assert "expectation" in found["D01-random-outputs"].sentence
    assert "P07-rows" not in found


@pytest.mark.parametrize("size", [0.0, 1e-6])
def test_rounding_that_depends_on_the_slot_is_found(size):
    def placed(x, means):
        place = ops.cast(ops.arange(ops.shape(means)[0]), "float32")
        return 0.05 * means * (1 + size * place[:, None])

    found = check(own(placed))
    assert speaking(found) == {}
    assert ("place in the batch" in found["P07-rows"].sentence) == (size > 0)


def test_dropout_for_training_is_not_a_finding():
    model = colour_model(before=[layers.Dropout(0.5)])
    assert speaking(check(Classifier(model, scaling="0..255"))) == {}


def powers(z):
    """A softmax that the toolkit does not recognise."""
    weights = ops.power(2.718281828, z - ops.max(z, axis=-1, keepdims=True))
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def test_a_softmax_that_cannot_be_removed_is_noted():
    found = check(own(lambda x, means: powers(0.05 * means)))
    assert speaking(found) == {"D02-head": "note"}


def test_saturation_is_harmless_with_logits_and_a_warning_without():
    found = check(Classifier(colour_model(weight=5.0), scaling="0..255"))
    assert speaking(found) == {"P04-saturation": "note"}
    assert "100 % of the images" in found["P04-saturation"].sentence
    # A softmax that is not a layer is removed, too.
    found = check(own(lambda x, means: ops.softmax(5.0 * means)))
    assert speaking(found) == {"P04-saturation": "note"}
    found = check(own(lambda x, means: powers(5.0 * means)))
    assert found["P04-saturation"].severity == "warning"
    # Where the float32 softmax ends just below 1, a meaningless gradient of 1e-7 remains.
    assert found["D04-gradient-zero"].severity in ("warning", "error")


def test_a_missing_gradient_is_found():
    found = check(own(lambda x, means: 0.05 * ops.stop_gradient(means)))
    assert found["D03-gradient-missing"].severity == "error"


def test_a_zero_gradient_is_found():
    found = check(own(lambda x, means: 0.05 * ops.relu(means - 300) + [[1.0, 0.0, 0.0]]))
    assert found["D04-gradient-zero"].severity == "error"
    assert "zero on 42 and NaN or infinite on 0 of 42" in found["D04-gradient-zero"].sentence


def test_gradients_are_those_of_the_surrogate_where_attacks_follow_one():
    healthy = Classifier(colour_model(), scaling="0..255")
    cut = own(lambda x, means: 0.05 * ops.stop_gradient(means))
    stuck = own(lambda x, means: powers(5.0 * means))
    found = {f.id: f for f in preflight.run(healthy, IMAGES, LABELS, surrogate=cut)}
    assert speaking(found) == {"D03-gradient-missing": "error"}
    assert found["D03-gradient-missing"].sentence.startswith("The surrogate: There is no gradient")
    assert not preflight.has_gradients(found.values())
    found = {f.id: f for f in preflight.run(healthy, IMAGES, LABELS, surrogate=stuck)}
    assert set(speaking(found)) == {"P04-saturation", "D04-gradient-zero"}
    # Nobody follows the gradients of the audited model.
    for own_model in (cut, stuck):
        found = {f.id: f for f in preflight.run(own_model, IMAGES, LABELS, surrogate=healthy)}
        assert not {"D03-gradient-missing", "P04-saturation"} & set(speaking(found))
        assert found["D04-gradient-zero"].severity == "ok"
        assert found["P06-logits"].severity == "ok"


def test_a_zero_gradient_on_a_few_images_is_a_warning():
    images = np.tile(IMAGES, (2, 1, 1, 1))[:40]
    images[3] = 0
    found = check(own(lambda x, means: 0.05 * ops.relu(means - 1)), images, None)
    assert found["D04-gradient-zero"].severity == "warning"
    assert "zero on 1" in found["D04-gradient-zero"].sentence


def test_a_gradient_of_nan_is_found():
    # The root has an infinite slope at zero; infinity minus infinity is NaN.
    def rooted(x, means):
        zero = ops.sqrt(means[:, :1] - means[:, :1])
        return 0.05 * means + zero * [[1.0, 2.0, 3.0]]

    found = check(own(rooted))
    assert found["D04-gradient-zero"].severity == "error"
    assert "NaN or infinite on 42 of 42" in found["D04-gradient-zero"].sentence


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        (lambda x: x, "ok"),
        # The value of x, and minus its gradient.
        (lambda x: 2 * ops.stop_gradient(x) - x, "error"),
        # A wave that whole counts do not show, and whose slope is 150 times that of x.
        (lambda x: x + 3 * ops.sin(50 * x), "error"),
        # A straight-through gradient of rounding to multiples of 16: right over larger steps.
        (lambda x: x + ops.stop_gradient(16 * ops.round(x / 16) - x), "ok"),
    ],
)
def test_d04_compares_gradients_with_the_changes_that_they_predict(change, severity):
    classifier = own(lambda x, _: ops.softmax(0.05 * ops.mean(change(x), axis=(1, 2))))
    found = check(classifier)["D04-gradient-zero"]
    assert found.severity == severity
    assert ("does not change the margin" in found.sentence) == (severity != "ok")


def test_a_linear_model_changes_as_its_gradient_says():
    """Also where steps leave 0..255, and with a class that never wins; not where all is rounding."""
    images = IMAGES[:6].astype("float32")
    images[0] = 255.0
    weights = np.array([[0.3, 0, 0], [0, 0.2, -0.1], [0.1, 0, 0.4]])

    def logits_of(points):
        some = points.mean(axis=(1, 2)) @ weights
        return np.concatenate([some, np.full((len(some), 1), -1e9)], axis=1)

    classes = logits_of(images).argmax(axis=1)
    other = np.argsort(logits_of(images), axis=1)[:, -2]
    slopes = np.broadcast_to(
        ((weights.T[other] - weights.T[classes]) / 16)[:, None, None, :], images.shape
    )
    assert agreement(logits_of, images, classes, slopes) == pytest.approx(1, rel=1e-6)
    # Over 8 counts a third class may take the lead.
    assert (agreement(logits_of, images, classes, -slopes) < -0.9).all()
    far = agreement(lambda p: logits_of(p) + 1e9, images, classes, slopes)
    assert np.isnan(far).all()


def test_logits_of_another_model_are_found():
    classifier = Classifier(colour_model(activation=None), scaling="0..255")
    # The logits that attacks use.
    classifier.logits = lambda images: -Classifier.logits(classifier, images)
    found = check(classifier)
    assert found["P06-logits"].severity == "error"
    assert "42 of 42 images get another class" in found["P06-logits"].sentence


@pytest.mark.parametrize("count", [3, 12, 42])
def test_a_model_that_numbers_its_rows_is_no_random_one(count):
    def numbered(x, means):
        rows = ops.cast(ops.cumsum(ops.ones_like(means[:, :1]), axis=0), "float32")
        return 0.05 * means + rows * [[0.0, 0.02, 0.05]]

    found = check(own(numbered), IMAGES[:count], LABELS[:count])
    assert found["D01-random-outputs"].severity == "ok"
    assert found["P07-rows"].severity == "error"
    assert "at another place in the batch" in found["P07-rows"].sentence


def test_a_model_that_mixes_images_of_a_batch_is_found():
    found = check(own(lambda x, means: 0.05 * (means - ops.mean(means))))
    assert found["P07-rows"].severity == "ok", "a shift of all logits alike is no mixing"
    norm = layers.BatchNormalization()
    found = check(own(lambda x, means: norm(means, training=True)))
    assert found["P07-rows"].severity == "error"
    assert "mixes the images of a batch" in found["P07-rows"].sentence
    assert found["D01-random-outputs"].severity == "ok"
    alone = check(own(lambda x, means: norm(means, training=True)), IMAGES[:1], None)
    assert alone["P07-rows"].severity == "error"


def in_mode(layer, **said) -> Classifier:
    """A model with a layer that says its mode, in its graph or by itself."""
    start = keras.Input(SHAPE)
    means = layers.GlobalAveragePooling2D()(layer(start, **said))
    dense = layers.Dense(3, use_bias=False, kernel_initializer=keras.initializers.Identity(0.05))
    return Classifier(keras.Model(start, dense(means)), scaling="0..255", head="logits")


class ByDefault(keras.Model):
    """A subclassed model whose `call` takes training mode where none is said."""

    def __init__(self):
        super().__init__()
        self.drop = layers.Dropout(0.5, seed=1)

    def call(self, x, training=True):
        return 0.05 * self.drop(ops.mean(x, axis=(1, 2)), training=training)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "said", "severity"),
    [
        (layers.Dropout(0.5, seed=1), {"training": True}, "warning"),
        (layers.GaussianDropout(0.5, seed=1), {"training": True}, "warning"),
        (layers.BatchNormalization(), {"training": True}, "warning"),
        # It changes images unless it is told not to.
        (layers.RandomBrightness(0.5, seed=1), {}, "warning"),
        (layers.Dropout(0.5, seed=1), {}, "ok"),
        (layers.BatchNormalization(), {}, "ok"),
        (layers.BatchNormalization(), {"training": False}, "ok"),
    ],
)
def test_outputs_that_differ_from_inference_mode_are_told(layer, said, severity):
    classifier = in_mode(layer, **said)
    before = [np.array(weight) for weight in classifier.model.get_weights()]
    found = check(classifier)
    assert found["P09-mode"].severity == severity
    assert found["D01-random-outputs"].severity == "ok"
    assert ("in training mode" in found["P09-mode"].sentence) == (severity != "ok")
    for one, weight in zip(before, classifier.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, weight)


def test_a_default_of_training_in_the_code_of_a_model_is_told():
    model = ByDefault()
    model(np.zeros((1, *SHAPE), "float32"))
    found = check(Classifier(model, scaling="0..255", head="logits"))
    assert speaking(found) == {"P09-mode": "warning"}
    assert speaking(check(own(lambda x, means: ops.softmax(0.05 * means)))) == {}
