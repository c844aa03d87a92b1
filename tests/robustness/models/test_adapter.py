"""Models that take no (n, height, width, channels), or have several inputs or outputs, in closed form."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from robustness.configuration.model_inputs import constant_texts, size_text
from robustness.configuration.option_errors import UnexpectedValueError
from robustness.errors import ModelError, SettingError
from robustness.models.adapter import InputAdapter, adapt
from robustness.models.channels_first import with_channels_last
from robustness.models.classifier import Classifier
from robustness.models.layouts import layout_of

RNG = np.random.default_rng(4)
CLASSES = 3


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(5)


def images(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (5, *shape), dtype=np.uint8)


def linear(shape: tuple[int | None, ...], dtype: str | None = None) -> keras.Model:
    entry = keras.Input(shape, dtype=dtype)
    flat = layers.Flatten()(layers.Rescaling(1 / 255)(entry))
    return keras.Model(entry, layers.Dense(CLASSES, activation="softmax")(flat))


def agree(classifier: Classifier, pictures: np.ndarray, given: object) -> None:
    """The classifier's answers to pictures are the model's own to what they become."""
    own = np.asarray(classifier._adapted.original(given, training=False))
    np.testing.assert_allclose(classifier.probabilities(pictures), own, atol=1e-6)
    z = classifier.logits_of(pictures)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    np.testing.assert_allclose(e / e.sum(axis=1, keepdims=True), own, atol=1e-5)
    assert classifier.head.rebuilt


@pytest.mark.parametrize(
    ("sizes", "stated", "shape"),
    [
        ((784,), "", (28, 28, 1)),
        ((3072,), "", (32, 32, 3)),
        ((784,), "14x56", (14, 56, 1)),
        ((784,), "14x14x4", (14, 14, 4)),
        ((784, 1), "", (28, 28, 1)),
        ((28, 30), "", (28, 30, 1)),
        ((3, 20, 30), "", (20, 30, 3)),
        ((20, 30, 3), "", (20, 30, 3)),
        ((20, 30, 1), "", (20, 30, 1)),
        ((20, 30, 3), "20x30", (20, 30, 3)),
        ((None, None, 3), "20x30", (20, 30, 3)),
        ((1, None, None), "20x30x1", (20, 30, 1)),
        ((20, 30, 4), "", (20, 30, 3)),
        ((20, 30, 4), "20x30x4", (20, 30, 4)),
    ],
)
def test_how_images_enter(sizes, stated, shape):
    layout = layout_of(sizes, stated)
    assert layout.shape == shape
    # What is recorded gives the same layout again.
    assert layout_of(sizes, layout.stated).shape == shape
    assert layout_of(sizes, layout.stated).target == layout.target


@pytest.mark.parametrize(
    ("sizes", "stated", "cause"),
    [
        ((1000,), "", "no square image.*--input-size.*features"),
        ((784,), "14x14", "784 numbers"),
        ((784,), "28x28x3", "784 numbers"),
        ((None, None, 3), "", "any size.*--input-size"),
        ((20, 30, 3), "30x20", "takes 20x30x3"),
        ((20, 30, 3), "20x30x1", "takes 20x30x3"),
        ((20, 30, 2), "", "1, 3 or 4 channels"),
        ((4, 20, 30, 3), "", "expected images"),
        ((None,), "", "any size"),
    ],
)
def test_what_no_image_enters(sizes, stated, cause):
    with pytest.raises(ModelError, match=cause):
        layout_of(sizes, stated)


def test_rows_of_numbers_are_images_in_the_order_of_their_pixels():
    model = linear((6 * 6,))
    classifier = Classifier(model)
    pictures = images(6, 6, 1)
    agree(classifier, pictures, pictures.reshape(5, 36).astype("float32"))
    assert classifier.digest == Classifier(model, adapter=InputAdapter("4x9")).digest
    assert any("6x6x1" in note for note in classifier.notes)
    assert classifier.card()["adapter"]["size"] == "6x6x1"
    assert classifier.card()["parameters"] == model.count_params()


def test_the_model_as_it_is_needs_no_adapter():
    model = linear((6, 5, 3))
    adapted = adapt(model)
    assert adapted.model is model and adapted.card() is None and not adapted.sentences


def test_images_without_channels_are_grey():
    classifier = Classifier(linear((6, 5)))
    pictures = images(6, 5, 1)
    agree(classifier, pictures, pictures[..., 0].astype("float32"))


def first() -> keras.Model:
    """Every layer whose kernels a processor may lack with channels first."""
    where = {"data_format": "channels_first"}
    entry = x = keras.Input((3, 16, 18))
    for layer in (
        layers.Conv2D(4, 3, padding="same", activation="relu", **where),
        layers.BatchNormalization(axis=1),
        layers.MaxPooling2D(**where),
        layers.SeparableConv2D(5, 3, **where),
        layers.DepthwiseConv2D(3, **where),
        layers.Conv2DTranspose(4, 3, **where),
        layers.AveragePooling2D(2, **where),
        layers.Flatten(),
        layers.Dense(CLASSES, activation="softmax"),
    ):
        x = layer(x)
    return keras.Model(entry, x)


@pytest.mark.slow
def test_channels_first_and_their_conversion_answer_alike():
    model = first()
    classifier = Classifier(model, scaling="0..1")
    pictures = images(16, 18, 3)
    given = np.moveaxis(pictures / np.float32(255), -1, 1)
    agree(classifier, pictures, given)
    converted = with_channels_last(model)
    np.testing.assert_allclose(converted(given), model(given), atol=1e-6)
    # The very same variables, and the user's layers unchanged.
    assert [id(w) for w in converted.weights] == [id(w) for w in model.weights]
    assert model.layers[1].data_format == "channels_first"


def test_the_fourth_channel_is_opaque_unless_stated():
    model = keras.Sequential(
        [keras.Input((4, 4, 4)), layers.Flatten(), layers.Dense(CLASSES, activation="softmax")]
    )
    pictures = images(4, 4, 3)
    for name, most in (("0..255", 255.0), ("0..1", 1.0), ("-1..1", 1.0)):
        classifier = Classifier(model, scaling=name)
        scaled = np.asarray(classifier.scaling.apply(pictures))
        opaque = np.full((5, 4, 4, 1), most, "float32")
        agree(classifier, pictures, np.concatenate([scaled, opaque], axis=-1))
    assert set(classifier.choose_scaling(pictures, np.zeros(5, int)).accuracies) == {
        *("0..255", "0..1", "-1..1")
    }
    with pytest.raises(SettingError, match="takes 4"):
        Classifier(model, scaling="torch")
    own = Classifier(model, scaling="0..1", adapter=InputAdapter("4x4x4"))
    pictures = images(4, 4, 4)
    agree(own, pictures, pictures / np.float32(255))


def test_any_size_is_the_one_that_is_stated():
    entry = keras.Input((None, None, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(entry))
    model = keras.Model(entry, layers.Dense(CLASSES, activation="softmax")(pooled))
    classifier = Classifier(model, scaling="0..1", adapter=InputAdapter("9x7"))
    pictures = images(9, 7, 3)
    agree(classifier, pictures, pictures / np.float32(255))
    assert (
        classifier.digest == Classifier(model, scaling="0..1", adapter=InputAdapter("8x8")).digest
    )


def two_outputs() -> keras.Model:
    entry = keras.Input((4, 4, 3))
    flat = layers.Flatten()(entry)
    box = layers.Dense(4, name="b")(flat)
    kind = layers.Dense(CLASSES, activation="softmax", name="k")(flat)
    return keras.Model(entry, {"box": box, "class": kind})


@pytest.mark.parametrize("output", ["class", "1"])
def test_one_of_several_outputs(output):
    model = two_outputs()
    classifier = Classifier(model, scaling="0..1", adapter=InputAdapter(output=output))
    pictures = images(4, 4, 3)
    own = np.asarray(model(pictures / np.float32(255))["class"])
    np.testing.assert_allclose(classifier.probabilities(pictures), own, atol=1e-6)
    assert classifier.head.way == "layer"
    assert classifier.card()["adapter"]["output"] == "class"
    # The weights of the whole model.
    assert classifier.card()["parameters"] == model.count_params()


def test_several_outputs_are_listed():
    with pytest.raises(ModelError, match=r"'box' \(4,\), 'class' \(3,\).*--output"):
        Classifier(two_outputs(), scaling="0..1")
    with pytest.raises(ModelError, match="Did you mean class"):
        adapt(two_outputs(), InputAdapter(output="klass"))


class TwoOutputs(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.kind, self.box = (
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
            layers.Dense(4),
        )

    def call(self, x):
        flat = self.flat(x)
        return {"a": self.kind(flat), "b": self.box(flat)}


def test_an_output_of_a_model_without_a_graph():
    model = TwoOutputs()
    model(np.zeros((1, 4, 4, 3), "float32"))
    with pytest.raises(ModelError, match=r"2 outputs.*--output"):
        Classifier(model, scaling="0..1")
    classifier = Classifier(model, scaling="0..1", adapter=InputAdapter(output="a"))
    pictures = images(4, 4, 3)
    own = np.asarray(model(pictures / np.float32(255))["a"])
    np.testing.assert_allclose(classifier.probabilities(pictures), own, atol=1e-6)


def two_inputs(in_dict: bool) -> keras.Model:
    image, age = keras.Input((4, 4, 3), name="image"), keras.Input((2,), name="age")
    joined = layers.Concatenate()([layers.Flatten()(image), age])
    result = layers.Dense(CLASSES, activation="softmax")(joined)
    return keras.Model({"age": age, "image": image} if in_dict else [image, age], result)


@pytest.mark.slow
@pytest.mark.parametrize("in_dict", [True, False])
def test_other_inputs_have_their_constants(in_dict):
    model = two_inputs(in_dict)
    pictures = images(4, 4, 3)
    for stated, age in (("age=2.5", 2.5), ("age=0", 0.0), ("age=0.1234567891", 0.1234567891)):
        adapter = InputAdapter(constants=(stated,))
        classifier = Classifier(model, scaling="0..1", adapter=adapter)
        ages, scaled = np.full((5, 2), age, "float32"), pictures / np.float32(255)
        agree(classifier, pictures, {"image": scaled, "age": ages} if in_dict else [scaled, ages])
        recorded = adapt(model, InputAdapter(**_stated(classifier.card()["adapter"])))
        assert recorded.adapter == classifier._adapted.adapter
    assert classifier.in_precision("bfloat16").logits_of(pictures).shape == (5, CLASSES)


def _stated(card: dict) -> dict:
    kept = ("size", "image_input", "constants", "output")
    return {k: tuple(v) if k == "constants" else v or "" for k, v in card.items() if k in kept}


def test_what_other_inputs_lack_is_said():
    with pytest.raises(ModelError, match=r"2 inputs.*--constant age=0"):
        adapt(two_inputs(True))
    with pytest.raises(ModelError, match="takes the image, and a constant"):
        adapt(two_inputs(True), InputAdapter(image_input="image", constants=("image=0", "age=1")))
    with pytest.raises(ModelError, match=r"no input 'agee'.*Did you mean age"):
        adapt(two_inputs(True), InputAdapter(constants=("agee=0",)))


def test_whole_numbers_keep_their_twin_behind_an_adapter():
    classifier = Classifier(linear((36,), dtype="uint8"))
    assert classifier.whole_inputs and not classifier.without_gradient
    pictures = images(6, 6, 1)
    agree(classifier, pictures, pictures.reshape(5, 36))


@pytest.mark.parametrize(
    ("value", "text"),
    [("28x28x1", "28x28x1"), ("28X30", "28x30"), ([224, 200], "224x200"), ((8, 8, 4), "8x8x4")],
)
def test_sizes_are_read(value, text):
    assert size_text(value) == text


@pytest.mark.parametrize("value", ["28", "28x", "0x5", "28x28x2x1", "28x28x9", "a", "99999x4", []])
def test_sizes_that_are_none(value):
    with pytest.raises(UnexpectedValueError):
        size_text(value)


@pytest.mark.parametrize(
    "value", ["age", "age=", "=1", "age=x", "age=nan", "age=inf", ["a=1", "a=2"]]
)
def test_constants_that_are_none(value):
    with pytest.raises(UnexpectedValueError):
        constant_texts(value)
