"""Heads that the model does not show: decided by labels, or refused; saturated sigmoids in closed form."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import robustness
from robustness.errors import ModelError
from robustness.models.classifier import Classifier
from robustness.models.head_kinds import AmbiguousHeadError
from robustness.models.heads import find_head

SIDE, CLASSES = 8, 3
CASES = Path(__file__).resolve().parents[4] / "shared" / "cases" / "models"
RNG = np.random.default_rng(7)


def weights() -> np.ndarray:
    """Unit c is the mean of stripe c, in columns: (pixels, classes)."""
    w = np.zeros((SIDE, SIDE + 1, 1, CLASSES))
    for c in range(CLASSES):
        w[:, 3 * c : 3 * c + 3, :, c] = 1 / (3 * SIDE)
    return w.reshape(-1, CLASSES)


def stripes(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Images whose stripe of the class is brighter than the others by 1 to 20 counts."""
    labels = np.arange(count) % CLASSES
    x = np.full((count, SIDE, SIDE + 1, 1), 200)
    x += RNG.integers(-3, 4, x.shape)
    for n, label in enumerate(labels):
        x[n, :, 3 * label : 3 * label + 3] += 1 + n % 20
    return x.astype("uint8"), labels


def model(activation: str | None, gain: float = 1.0) -> keras.Model:
    """Units of gain * (mean of the stripe - 20): their sigmoids are exactly 1 for such bright images."""
    entry = keras.Input((SIDE, SIDE + 1, 1))
    last = layers.Dense(CLASSES, activation=activation)
    made = keras.Model(entry, last(layers.Flatten()(entry)))
    last.set_weights([gain * weights(), np.full(CLASSES, -20.0 * gain)])
    return made


def flipped(x: np.ndarray, labels: np.ndarray, epsilon: int) -> np.ndarray:
    """Which images another stripe can overtake: each pixel by epsilon, no count beyond 0 and 255."""
    low = np.clip(x.astype(int) - epsilon, 0, 255).reshape(len(x), -1) @ weights()
    high = np.clip(x.astype(int) + epsilon, 0, 255).reshape(len(x), -1) @ weights()
    own = low[np.arange(len(x)), labels]
    high[np.arange(len(x)), labels] = -np.inf
    return high.max(axis=1) > own


def statuses(
    audited: keras.Model, head: str | None, x: np.ndarray, labels: np.ndarray
) -> list[str]:
    result = robustness.audit(
        audited, x, labels=labels, attacks=["pgd"], epsilons=[4], scaling="0..255", head=head
    )
    assert result.manifest["model"]["head"] == (head or "sigmoid-argmax")
    frame = result.to_frame()
    by_key = frame.set_index("image").status
    return [by_key[f"row {n}"] for n in range(len(x))]


@pytest.mark.slow
def test_saturated_sigmoids_hide_no_flip():
    """The same weights under a softmax and under sigmoids flip the same images, those of the closed form."""
    x, labels = stripes()
    assert (np.asarray(model("sigmoid")(x)) == 1).all()
    right = (x.reshape(len(x), -1) @ weights()).argmax(axis=1) == labels
    expected = [
        "misclassified" if not r else "flipped" if f else "robust"
        for r, f in zip(right, flipped(x, labels, 4), strict=True)
    ]
    assert {"flipped", "robust"} <= set(expected)
    assert statuses(model("softmax"), "softmax", x, labels) == expected
    assert statuses(model("sigmoid"), "sigmoid-argmax", x, labels) == expected
    assert statuses(model("sigmoid"), None, x, labels) == expected


def test_several_sigmoids_are_read_by_their_inputs():
    x, _ = stripes(12)
    for one in (model("sigmoid"), _as_operations()):
        classifier = Classifier(one, scaling="0..255", head="sigmoid-argmax")
        z = x.reshape(len(x), -1).astype("float32") @ weights() - 20
        np.testing.assert_allclose(classifier.logits_of(x), z, rtol=1e-4)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        np.testing.assert_allclose(
            classifier.probabilities(x), e / e.sum(axis=1, keepdims=True), atol=1e-4
        )
        assert (classifier.probabilities(x).argmax(axis=1) == z.argmax(axis=1)).all()
        assert "pre-activation" in classifier.card()["head_sentence"]


class Operations(keras.Model):
    """Sigmoids that are no layer."""

    def __init__(self, inner: keras.Model) -> None:
        super().__init__()
        self.inner = inner

    def call(self, x):
        return ops.sigmoid(self.inner(x))


def _as_operations() -> keras.Model:
    made = Operations(model(None))
    made(np.zeros((1, SIDE, SIDE + 1, 1), "float32"))
    return made


def test_several_sigmoids_are_never_read_silently():
    x, labels = stripes(12)
    for one in (model("sigmoid"), _as_operations()):
        with pytest.raises(AmbiguousHeadError, match="--head sigmoid-argmax"):
            Classifier(one, scaling="0..255")
        with pytest.raises(AmbiguousHeadError):
            Classifier.decide(one, x, None, scaling="0..255")
        decided = Classifier.decide(one, x, labels, scaling="0..255")
        assert decided.head.kind == "sigmoid-argmax"
        assert any("one class per image" in note for note in decided.notes)
        assert "one class per image" in decided.card()["head_sentence"]


def test_sigmoids_whose_inputs_cannot_be_found_are_refused():
    entry = keras.Input((4, 4, 3))
    flat = layers.Dense(3)(layers.Flatten()(entry))
    hidden = layers.Lambda(lambda z: 1 / (1 + ops.power(2.718281828, -z)))(flat)
    one = keras.Model(entry, layers.Maximum()([hidden, hidden * 0.5]))
    with pytest.raises(ModelError, match="cannot be found"):
        Classifier(one, scaling="0..1", head="sigmoid-argmax")


def unit(scale: float, offset: float) -> keras.Model:
    """One unit: scale * (mean - 128) + offset."""
    entry = keras.Input((4, 4, 1))
    last = layers.Dense(1)
    made = keras.Model(entry, last(layers.Flatten()(entry)))
    last.set_weights([np.full((16, 1), scale / 16), np.array([offset - 128 * scale])])
    return made


def bright(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Dark images of class 0, bright ones of class 1."""
    labels = np.arange(count) % 2
    level = np.where(labels == 1, 168, 88) + RNG.integers(-30, 31, count)
    return np.tile(level[:, None, None, None], (1, 4, 4, 1)).astype("uint8"), labels


def decide(one: keras.Model, x: np.ndarray, labels: np.ndarray | None) -> Classifier:
    return Classifier.decide(one, x, labels, scaling="0..255")


def test_a_unit_is_a_logit_if_its_sign_agrees_with_the_labels():
    x, labels = bright()
    classifier = decide(unit(0.5, 0.0), x, labels)
    assert classifier.head.kind == "sigmoid-logit"
    z = 0.5 * (x[:, 0, 0, 0].astype("float32") - 128)
    np.testing.assert_allclose(classifier.logits_of(x)[:, 1], z, atol=1e-4)
    assert "z > 0 agrees with 100 % of the labels" in classifier.card()["head_sentence"]
    # A class order the other way round is another finding, not another head.
    assert decide(unit(0.5, 0.0), x, 1 - labels).head.kind == "sigmoid-logit"


def test_a_unit_with_another_threshold_is_a_regression():
    x, labels = bright()
    with pytest.raises(ModelError, match=r"regression to 0 and 1.*threshold is 0.5"):
        decide(unit(1 / 80, 0.5), x, labels)


def test_a_unit_that_does_not_follow_the_labels_is_refused():
    x, labels = bright()
    with pytest.raises(
        ModelError, match=r"does not tell.*ranges? from.*or it is no classifier but"
    ):
        decide(unit(0.5, 5000.0), x, labels)
    # That the pictures are others is the likelier cause of a logit without any relation to them.
    cause = r"not tell the classes.*images are of other classes \(cat, dog\).*scaling.*regression"
    with pytest.raises(ModelError, match=cause):
        Classifier.decide(
            unit(0.5, 0.0), x, RNG.permutation(np.repeat([0, 1], 30)), scaling="0..255",
            class_names=["cat", "dog"],
        )  # fmt: skip
    with pytest.raises(ModelError, match="one class"):
        decide(unit(0.5, 0.0), x, np.zeros(len(x), int))
    with pytest.raises(AmbiguousHeadError, match="--head sigmoid-logit"):
        decide(unit(0.5, 0.0), x, None)


def test_one_unit_of_another_activation_is_no_head():
    entry = keras.Input((4, 4, 1))
    one = keras.Model(entry, layers.Dense(1, activation="relu")(layers.Flatten()(entry)))
    with pytest.raises(ModelError, match="activation relu"):
        Classifier(one, scaling="0..1")


def test_a_linear_activation_behind_a_softmax_changes_nothing():
    entry = keras.Input((4, 4, 1))
    x = layers.Dense(3, activation="softmax")(layers.Flatten()(entry))
    one = keras.Model(entry, layers.Activation("linear")(x))
    assert Classifier(one, scaling="0..1").head.kind == "softmax"


def case(name: str) -> Path:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return path


def test_the_files_of_others():
    x = RNG.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(AmbiguousHeadError):
        Classifier.load(case("nsigmoid.keras"), scaling="0..1")
    several = Classifier.load(case("nsigmoid.keras"), scaling="0..1", head="sigmoid-argmax")
    own = np.asarray(several.model(x / np.float32(255), training=False), "float64")
    np.testing.assert_allclose(1 / (1 + np.exp(-several.logits_of(x))), own, atol=1e-5)
    with pytest.raises(AmbiguousHeadError):
        Classifier.load(case("tut_dense1_logit.keras"))
    given = Classifier.load(case("tut_dense1_logit.keras"), head="sigmoid-logit")
    z = np.asarray(given.model(x.astype("float32"), training=False))[:, 0]
    np.testing.assert_allclose(given.logits_of(x)[:, 1], z, rtol=1e-5)
    flat = Classifier.load(case("flat_784.keras"), scaling="0..1")
    assert flat.input_shape == (28, 28, 1)
    grey = RNG.integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    own = np.asarray(flat._adapted.original((grey / np.float32(255)).reshape(5, 784)))
    np.testing.assert_allclose(flat.probabilities(grey), own, atol=1e-6)


class WithoutCall(keras.Model):
    """A subclass whose own `call` is missing."""


class WithBrokenCall(keras.Model):
    """A subclass whose `call` raises what its author did not expect."""

    def call(self, images):
        raise KeyError("conv1")


@pytest.mark.parametrize(
    ("made", "cause"), [(WithoutCall, "does not have a `call"), (WithBrokenCall, "KeyError.*conv1")]
)
def test_a_model_whose_own_code_fails_is_refused_with_the_cause(made, cause):
    with pytest.raises(ModelError, match=f"(?s)cannot be called on images of shape.*{cause}"):
        find_head(made(), np.zeros((2, 4, 4, 1), "float32"), "softmax")
