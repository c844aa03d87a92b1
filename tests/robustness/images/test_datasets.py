"""Tests of data sets of Keras, TensorFlow and PyTorch as images: order, ranges, batches, labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustness.errors import ImagesError
from robustness.images import SourceOptions
from robustness.images.sources import open_object

SHAPE = (6, 6, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (10, *SHAPE)).astype(np.uint8)
LABELS = np.arange(10) % 2
NAMES = ("cat", "dog")


def _open(given: object, names: tuple[str, ...] | None = NAMES):
    return open_object(given, SourceOptions(names))


def _expect_all(source, images=IMAGES, labels=LABELS) -> None:
    entries = source.entries()
    assert [e.key for e in entries] == [f"row {n}" for n in range(len(images))]
    assert [e.label for e in entries] == list(labels)
    for entry, image in zip(entries, images, strict=True):
        assert (source.read(entry, SHAPE).pixels == image).all()


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.mark.slow
def test_tf_data_in_any_form_is_the_same_images(tf):
    whole = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    onehot = tf.data.Dataset.from_tensor_slices((IMAGES, np.eye(2)[LABELS]))
    floats = whole.map(lambda x, y: (tf.cast(x, "float32") / 255, y))
    for dataset in (
        whole, whole.batch(4), onehot.batch(3), floats, floats.batch(4),
        whole.map(lambda x, y: (tf.cast(x, "float32"), tf.cast(y, "float32")[None])).batch(4),
        whole.map(lambda x, y: {"image": x, "label": y}),
        whole.map(lambda x, y: (tf.io.encode_png(x), y)), whole.shuffle(10, 0, False),
    ):  # fmt: skip
        if dataset.__class__.__name__.startswith("_Shuffle"):
            shuffled = [x.numpy() for x, _ in dataset]
            assert all((_read(_open(dataset))[n] == shuffled[n]).all() for n in range(10))
        else:
            _expect_all(_open(dataset))
    assert "floats 0..1 times 255" in _open(floats).description
    assert set(_labels(_open(whole.map(lambda x, y: x)))) == {None}


def _read(source) -> list[Any]:
    return [source.read(entry, SHAPE).pixels for entry in source.entries()]


def _labels(source) -> list[int | None]:
    return [entry.label for entry in source.entries()]


@pytest.mark.slow
def test_tf_data_that_shuffles_changes_or_has_no_end_is_refused(tf):
    # Another test may have set it: then there is no step without a seed.
    tf.random.set_seed(None)
    whole = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    with pytest.raises(ImagesError, match=r"it shuffles.*without \.shuffle"):
        _open(whole.shuffle(10, seed=1))
    with pytest.raises(ImagesError, match="shuffles without a seed"):
        _open(whole.shuffle(10, reshuffle_each_iteration=False).batch(2).prefetch(1))
    # Not a random operation of TensorFlow, which repeats itself after another test has set its seed.
    rng = np.random.default_rng()

    def disturbed(image, label):
        noise = tf.numpy_function(lambda: rng.random(SHAPE, "float32"), [], tf.float32)
        image = tf.cast(image, "float32") + tf.ensure_shape(noise, SHAPE)
        return tf.minimum(image, 255.0), label

    noisy = whole.map(disturbed)
    with pytest.raises(ImagesError, match="changes them at random"):
        _open(noisy)
    with pytest.raises(ImagesError, match=r"no end.*take\(100\)"):
        _open(whole.repeat())
    scaled = whole.map(lambda x, y: (tf.cast(x, "float32") / 127.5 - 1, y))
    with pytest.raises(ImagesError, match="scaled or normalised for a model"):
        _open(scaled)
    first = whole.map(lambda x, y: (tf.transpose(x, [2, 0, 1]), y))
    with pytest.raises(ImagesError, match="channels seem to be first"):
        _open(first)
    failing = whole.map(
        lambda x, y: (tf.debugging.check_numerics(1.0 / tf.cast(0, "float32"), "x"), y)
    )
    with pytest.raises(ImagesError, match="failed after 0 images"):
        _open(failing)


@pytest.mark.slow
def test_py_datasets_are_read_by_their_numbers(tf):
    import keras

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, number):
            part = slice(4 * number, 4 * number + 4)
            return IMAGES[part].astype("float32"), np.eye(2)[LABELS[part]]

    _expect_all(_open(Batches()))

    class Endless(keras.utils.PyDataset):
        def __getitem__(self, number):
            return IMAGES, LABELS

    with pytest.raises(ImagesError, match=r"states no number of batches \(NotImplementedError"):
        _open(Endless())
    generator = keras.src.legacy.preprocessing.image.ImageDataGenerator()
    _expect_all(_open(generator.flow(IMAGES, LABELS, batch_size=3, shuffle=False)))
    with pytest.raises(ImagesError, match="`shuffle` is True"):
        _open(generator.flow(IMAGES, LABELS, batch_size=3))


class _Tensor:
    """As much of a tensor of PyTorch as is used."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def detach(self) -> _Tensor:
        return self

    cpu = detach

    def numpy(self) -> np.ndarray:
        return self._values


class _Dataset:
    classes = [*NAMES]  # noqa: RUF012 - as torchvision has it

    def __init__(self, give) -> None:
        self._give = give

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, number: int):
        return self._give(number)


_Dataset.__module__ = "torch.utils.data.dataset"


class DataLoader:
    batch_sampler = None

    def __init__(self, dataset: _Dataset, order) -> None:
        self.dataset, self._order = dataset, order

    def __iter__(self):
        order = self._order()
        for start in range(0, 10, 4):
            part = order[start : start + 4]
            images = np.moveaxis(IMAGES[part], -1, 1).astype(np.float32) / 255
            yield [_Tensor(images), _Tensor(LABELS[part])]


DataLoader.__module__ = "torch.utils.data.dataloader"


def test_pytorch_data_sets_have_their_channels_moved():
    def tensor(number):
        return _Tensor(np.moveaxis(IMAGES[number], -1, 0).astype(np.float32) / 255), int(
            LABELS[number]
        )

    source = _open(_Dataset(tensor), None)
    assert source.class_names == NAMES
    _expect_all(source)
    _expect_all(_open(_Dataset(lambda n: (Image.fromarray(IMAGES[n]), int(LABELS[n])))))
    _expect_all(_open(DataLoader(_Dataset(tensor), lambda: np.arange(10)), None))
    rng = np.random.default_rng(0)
    with pytest.raises(ImagesError, match=r"(in another order|other images).*shuffle=False"):
        _open(DataLoader(_Dataset(tensor), lambda: rng.permutation(10)))
    with pytest.raises(ImagesError, match="may be first or last"):
        _open(_Dataset(lambda n: (_Tensor(np.zeros((3, 9, 3), np.float32)), 0)))


def test_an_item_that_raises_is_an_outcome():
    def give(number):
        if number == 3:
            raise OSError("broken file")
        return IMAGES[number], int(LABELS[number])

    source = _open(_Dataset(give))
    pictures = [source.read(entry, SHAPE) for entry in source.entries()]
    assert [n for n, p in enumerate(pictures) if p.pixels is None] == [3]
    assert "OSError: broken file" in pictures[3].reason


@pytest.mark.parametrize(
    ("element", "words"),
    [
        ({"pixels": 1}, "dictionaries with pixels; expected one of image"),
        ((1, 2, 3, 4), "tuples of 4 parts"),
        ((IMAGES, LABELS[:3]), "3 labels for 10 images"),
        ((IMAGES, 1), "one label and not labels for 10 images"),
        (({"input": IMAGES}, 1), "no array and no file of a picture"),
        ((IMAGES[..., 0], LABELS), r"\(10, 6, 6\) with 10 labels, which may be a batch of grey"),
    ],
)
def test_what_is_no_image_and_label_is_refused(element, words):
    with pytest.raises(ImagesError, match=words):
        _open(_Dataset(lambda _: element))


def test_a_data_set_whose_length_raises_is_refused():
    class Endless(_Dataset):
        def __len__(self):
            raise TypeError("no length")

    Endless.__module__ = "torch.utils.data.dataset"
    with pytest.raises(ImagesError, match=r"states no number of images \(TypeError: no length\)"):
        _open(Endless(lambda n: (IMAGES[n], 0)))


def test_images_of_two_axes_are_grey():
    source = _open(_Dataset(lambda n: (IMAGES[n, ..., 0], int(LABELS[n]))))
    for entry, image in zip(source.entries(), IMAGES, strict=True):
        assert (source.read(entry, (6, 6, 1)).pixels == image[..., :1]).all()


def test_other_objects_are_refused_with_what_is_expected():
    with pytest.raises(
        ImagesError, match=r"object int; expected a path, an array, a tf\.data\.Dataset"
    ):
        _open(5)
