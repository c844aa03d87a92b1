"""Makes streams of `tf.data.Dataset`, `keras.utils.PyDataset`, and PyTorch's `Dataset` and `DataLoader`.

The kinds of these objects are known by the modules of their classes: no framework is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from robustness.errors import ImagesError, RobustnessError
from robustness.images.streams import Sample, Stream

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x")
LABEL_KEYS = ("label", "labels", "target", "class", "y")
_CHANNELS = (1, 3, 4)


class _Element(NamedTuple):
    """What a data set gives at a time: one image or a batch, and the label or labels; None without."""

    images: Any
    labels: Any


def is_tf_data(given: object) -> bool:
    """Return whether this is a `tf.data.Dataset`."""
    return _made_in(given, "tensorflow.python.data.") and hasattr(given, "as_numpy_iterator")


def is_py_dataset(given: object) -> bool:
    """Return whether this is a `keras.utils.PyDataset`, or an iterator of `ImageDataGenerator`."""
    kinds = type(given).__mro__
    return any(k.__name__ == "PyDataset" and k.__module__.startswith("keras.") for k in kinds)


def is_torch(given: object) -> bool:
    """Return whether this is a PyTorch `Dataset` or `DataLoader`."""
    return _made_in(given, "torch.utils.data.")


def _made_in(given: object, module: str) -> bool:
    return any(f"{kind.__module__}.".startswith(module) for kind in type(given).__mro__)


def stream_of_tf_data(given: Any) -> Stream:
    """Return the stream of a `tf.data.Dataset`; ImagesError if it has no end."""
    if int(given.cardinality()) == -1:
        raise ImagesError(
            "The tf.data.Dataset has no end; expected one that ends, such as dataset.take(100)."
        )
    if _shuffles_anew(given):
        raise ImagesError(
            "The tf.data.Dataset shuffles without a seed, so the next process gives another order. Images "
            "are known by their position, so a resumed or repeated audit would mix them up. Give it without "
            ".shuffle(...), or with a seed and reshuffle_each_iteration=False."
        )
    return Stream(
        "tf.data.Dataset",
        lambda: _samples("The tf.data.Dataset", given.as_numpy_iterator(), _last),
        _names(given),
        "Give it without .shuffle(...) and without random changes (shuffle=False where it is made from a "
        "folder).",
    )


def _shuffles_anew(given: Any) -> bool:
    """Whether a step of a `tf.data.Dataset` shuffles once in each process, which two passes do not show.

    TensorFlow says so nowhere but in attributes that are not public; without them nothing is known.
    """
    for _ in range(1000):
        seeds = [int(getattr(given, name, 1)) for name in ("_seed", "_seed2")]
        if "Shuffle" in type(given).__name__ and not any(seeds):
            return getattr(given, "_reshuffle_each_iteration", None) is False
        inputs: list[Any] = getattr(given, "_inputs", list)()
        if len(inputs) != 1:
            return any(map(_shuffles_anew, inputs))
        given = inputs[0]
    return False


def stream_of_py_dataset(given: Any) -> Stream:
    """Return the stream of a `keras.utils.PyDataset`; ImagesError if it shuffles or has no end."""
    advice = "Give it with shuffle=False and without random changes."
    if getattr(given, "shuffle", None) is True:
        raise ImagesError(
            "The PyDataset shuffles (its attribute `shuffle` is True). Images are known by their position, "
            f"so a resumed or repeated audit would mix them up. {advice}"
        )
    try:
        count = given.num_batches
    except Exception as error:  # code of others may raise anything
        raise ImagesError(
            f"The PyDataset states no number of batches ({type(error).__name__}: {_line(error)}); expected "
            "one with `__len__`."
        ) from error
    if count is None:
        raise ImagesError(
            "The PyDataset states no number of batches (`__len__`); expected one that ends."
        )

    def batches() -> Iterator[Any]:
        for number in range(count):
            yield given[number]

    indices = getattr(given, "class_indices", None)
    names = (
        tuple(sorted(indices, key=lambda name: indices[name]))
        if isinstance(indices, dict)
        else _names(given)
    )
    return Stream("PyDataset", lambda: _samples("The PyDataset", batches(), _last), names, advice)


def stream_of_torch(given: Any) -> Stream:
    """Return the stream of a PyTorch `Dataset` or `DataLoader`."""
    name = type(given).__name__
    loader = name == "DataLoader" or hasattr(given, "batch_sampler")
    listed = not loader and hasattr(type(given), "__getitem__") and hasattr(type(given), "__len__")
    samples = partial(_each, given) if listed else partial(_from_iterator, given)
    word = "DataLoader" if loader else "Dataset"
    return Stream(
        f"PyTorch {word}",
        samples,
        _names(given) or _names(getattr(given, "dataset", None)),
        "Give it with shuffle=False, and its Dataset without random transforms.",
    )


def _from_iterator(given: Any) -> Iterator[Sample]:
    return _samples(f"The {type(given).__name__}", iter(given), _first)


def _each(given: Any) -> Iterator[Sample]:
    """The images of a data set with numbers; one that raises is an image that cannot be read."""
    try:
        count = len(given)
    except Exception as error:  # code of others may raise anything
        raise ImagesError(
            f"The {type(given).__name__} states no number of images ({type(error).__name__}: "
            f"{_line(error)}); expected one with `__len__`, or a DataLoader."
        ) from error
    for number in range(count):
        try:
            element = given[number]
        except Exception as error:  # code of others may raise anything
            reason = f"The data set raised {type(error).__name__}: {str(error)[:200]}."
            yield Sample(b"", fault=reason)
            continue
        yield from _of_element("The Dataset", element, _first)


def _samples(what: str, elements: Iterator[Any], order: Any) -> Iterator[Sample]:
    number = 0
    while True:
        try:
            element = next(elements)
        except StopIteration:
            return
        except RobustnessError:
            raise
        except Exception as error:  # code of others may raise anything
            raise ImagesError(
                f"{what} failed after {number:,} images: {type(error).__name__}: {_line(error)}. Leave out "
                "what it cannot read."
            ) from error
        for sample in _of_element(what, element, order):
            number += 1
            yield sample


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [""])[0][:300].rstrip(".")


def _of_element(what: str, element: Any, order: Any) -> Iterator[Sample]:
    images, labels = _parts(what, element)
    if hasattr(images, "getbands"):  # a picture of Pillow has its channels last
        order = _as_it_is
    images = _array(images)
    _expect_images(what, images, labels)
    if isinstance(images, bytes):
        yield Sample(images, _label(labels))
    elif images.ndim == 1 and images.dtype.kind in "OS":
        for number, data in enumerate(images.tolist()):
            yield Sample(bytes(data), None if labels is None else _array(labels)[number])
    elif images.ndim == 4:
        rows = None if labels is None else _array(labels)
        if rows is not None and (np.ndim(rows) < 1 or len(rows) != len(images)):
            given = len(rows) if np.ndim(rows) else "one label and not"
            raise ImagesError(f"{what} gives {given} labels for {len(images)} images.")
        for number, image in enumerate(images):
            yield Sample(order(what, image), None if rows is None else rows[number])
    else:
        image = images[..., None] if images.ndim == 2 else images  # grey
        yield Sample(order(what, image) if image.ndim == 3 else image, _label(labels))


def _expect_images(what: str, images: Any, labels: Any) -> None:
    """ImagesError for what is no image and no batch of images."""
    if isinstance(images, bytes):
        return
    if images.dtype.kind in "OS":
        if images.ndim != 1 or not all(isinstance(one, bytes) for one in images.tolist()):
            raise ImagesError(
                f"{what} gives images that are no array and no file of a picture; expected one image in each "
                "element. Map it to (image, label)."
            )
        return
    count = 0 if labels is None else np.size(labels)
    if images.ndim == 3 and images.shape[-1] > 4 and count > 1 and len(images) == len(labels):
        raise ImagesError(
            f"{what} gives images of the shape {images.shape} with {len(images)} labels, which may be a "
            "batch of grey images; expected (n, height, width, channels). Map it, such as with "
            "image[..., None]."
        )


def _label(label: Any) -> Any:
    return None if label is None else _array(label)


def _parts(what: str, element: Any) -> _Element:
    """The images and the labels of an element: a tuple, a dictionary with known keys, or images alone."""
    if isinstance(element, Mapping):
        image = next((key for key in IMAGE_KEYS if key in element), None)
        label = next((key for key in LABEL_KEYS if key in element), None)
        if image is None:
            keys = ", ".join(map(str, element))
            raise ImagesError(
                f"{what} gives dictionaries with {keys}; expected one of {', '.join(IMAGE_KEYS)}. Map it to "
                "(image, label)."
            )
        return _Element(element[image], None if label is None else element[label])
    if isinstance(element, (tuple, list)):
        if not 1 <= len(element) <= 3:
            raise ImagesError(
                f"{what} gives tuples of {len(element)} parts; expected (image, label)."
            )
        return _Element(element[0], element[1] if len(element) > 1 else None)
    return _Element(element, None)


def _array(value: Any) -> Any:
    """An array, or the bytes of a picture file, of a tensor, picture or array."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "numpy") and not isinstance(value, np.ndarray):
        value = value.numpy()
    if hasattr(value, "getbands"):  # a picture of Pillow
        value = value if value.mode in ("L", "RGB", "RGBA") else value.convert("RGB")
        array = np.asarray(value)
        return array[..., None] if array.ndim == 2 else array
    array = np.asarray(value)
    if array.ndim == 0 and array.dtype.kind in "OS" and isinstance(array.item(), bytes):
        return array.item()
    return array


def _last(what: str, image: np.ndarray) -> np.ndarray:
    """An image whose channels are last; that of other frameworks is refused, not turned."""
    if image.shape[0] in _CHANNELS and image.shape[-1] not in _CHANNELS:
        raise ImagesError(
            f"{what} gives images of the shape {image.shape}, whose channels seem to be first; expected "
            "(height, width, channels). Map it, such as with numpy.moveaxis(image, 0, -1)."
        )
    return image


def _first(what: str, image: np.ndarray) -> np.ndarray:
    """An image of PyTorch with its channels last; ImagesError if either axis may hold the channels."""
    first, last = image.shape[0] in _CHANNELS, image.shape[-1] in _CHANNELS
    if first and last:
        raise ImagesError(
            f"{what} gives images of the shape {image.shape}, whose channels may be first or last. Give them "
            "as an array (n, height, width, channels)."
        )
    return np.moveaxis(image, 0, -1) if first else image


def _as_it_is(_: str, image: np.ndarray) -> np.ndarray:
    return image


def _names(given: Any) -> tuple[str, ...] | None:
    for name in ("class_names", "classes"):
        found = getattr(given, name, None)
        if (
            isinstance(found, (list, tuple))
            and found
            and all(isinstance(one, str) for one in found)
        ):
            return tuple(found)
    return None
