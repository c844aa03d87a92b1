"""Models and images shared by the benchmarks of attacks.

`digits`: scikit-learn's digits (8x8, ten classes) and a CNN trained on half of them in seconds.
`pets`: the bundled Dogs-vs-Cats CNN on rendered cats and dogs.
"""

from __future__ import annotations

import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from robustness.engine import jobs
from robustness.images import open_source, select
from robustness.model_zoo import load
from robustness.model_zoo.dogs_vs_cats.demo import Pets
from robustness.model_zoo.dogs_vs_cats.hardening import adversary
from robustness.model_zoo.dogs_vs_cats.photos import held_out
from robustness.models.classifier import Classifier


class Moved(keras.utils.PyDataset):
    """Training batches of images in counts, perturbed by an adversary against the model in training."""

    def __init__(self, model: keras.Model, images: np.ndarray, labels: np.ndarray, epsilon: float):
        super().__init__()
        ends = [keras.layers.Rescaling(255.0), model, keras.layers.Softmax()]
        self.move = adversary(keras.Sequential([keras.Input(images.shape[1:]), *ends]), epsilon)
        self.images, self.labels, self.rng = images, labels, np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.images) // 32

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        some = self.rng.integers(0, len(self.images), 32)
        moved = self.move(self.images[some].astype("float32") / 255, self.labels[some], self.rng)
        return np.asarray(moved) * 255, self.labels[some]


def digits(
    count: int, seed: int = 0, *, hardened: bool = False
) -> tuple[Classifier, list[jobs.Example]]:
    """A small CNN, and `count` held-out digits that it classifies correctly.

    `hardened` trains it adversarially, with a budget of 40 counts.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.clip(np.round(data.images * 255 / 16), 0, 255).astype(np.uint8)[..., None]
    order = np.random.default_rng(seed).permutation(len(images))
    train, rest = order[:900], order[900:]
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(24, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    inputs = images[train].astype("float32")
    model.fit(inputs, data.target[train], epochs=25, batch_size=32, verbose=0)
    if hardened:
        model.fit(Moved(model, inputs, data.target[train], 40.0), epochs=60, verbose=0)
    classifier = Classifier(model, scaling="0..255", head="logits", name="digits")
    return classifier, right(classifier, images[rest], data.target[rest], count)


def pets(count: int, seed: int = 0) -> tuple[Classifier, list[jobs.Example]]:
    """The Dogs-vs-Cats CNN, and `count` renderings that it classifies correctly."""
    classifier = load("dogs-vs-cats")
    pixels, labels = pictures(f"pets:{2 * count}", classifier, 2 * count, seed + 1)
    return classifier, right(classifier, pixels, labels, count)


def pictures(
    where: str, classifier: Classifier, count: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` labelled images (n, h, w, c) of a source, and their labels.

    Renderings of `pets:N`, or photos that the Dogs-vs-Cats CNNs were not trained on.
    """
    drawn = re.fullmatch(r"pets:(\d+)", where)
    source = Pets(int(drawn[1]) - 1, seed) if drawn else open_source(where, classifier.class_names)
    chosen = select(
        source.entries(),
        limit=count,
        only=lambda e: e.label is not None and bool(drawn or held_out(e.name)),
    )
    pictures = [source.read(e, classifier.input_shape).pixels for e in chosen]
    pixels = np.stack([x for x in pictures if x is not None])
    return pixels, np.array([e.label for e in chosen])


def of_logits(name: str, count: int, where: str) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A model from counts to logits, with correctly classified images and their labels.

    Names: digits, digits-hardened, or a Dogs-vs-Cats CNN of the zoo with images from `where`.
    """
    if name.startswith("digits"):
        classifier, subjects = digits(count, hardened=name == "digits-hardened")
        model = classifier.model
    else:
        classifier = load(name)
        pixels, labels = pictures(where, classifier, 2 * count)
        subjects = right(classifier, pixels, labels, count)
        *body, last = classifier.model.layers
        head = keras.layers.Dense(last.units)
        scaled = keras.layers.Rescaling(1 / 255)
        model = keras.Sequential([keras.Input(classifier.input_shape), scaled, *body, head])
        head.set_weights(last.get_weights())
    return model, np.stack([s.pixels for s in subjects]), np.array([s.label for s in subjects])


def right(
    classifier: Classifier, images: np.ndarray, labels: np.ndarray, count: int
) -> list[jobs.Example]:
    """The first `count` images that the classifier classifies correctly."""
    said = np.concatenate(
        [classifier.probabilities(images[i : i + 32]) for i in range(0, len(images), 32)]
    )
    kept = np.flatnonzero(said.argmax(1) == labels)[:count]
    return [jobs.Example(f"image {i}", images[i], int(labels[i])) for i in kept]


SUBJECTS = {"digits": digits, "pets": pets}


def difference(apart: np.ndarray) -> str:
    """A mean (images,) and its 95 % interval over images, in words."""
    reach = 1.96 * apart.std(ddof=1) / np.sqrt(len(apart))
    return f"{apart.mean():+.4f} ({apart.mean() - reach:+.4f} .. {apart.mean() + reach:+.4f})"
