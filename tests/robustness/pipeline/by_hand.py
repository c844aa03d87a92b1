"""Each named library called by hand, as its users call it: files in, images out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

Shape = tuple[int, int, int]
ByHand = Callable[[list[Path], Shape, dict[str, Any]], list[np.ndarray]]
MODES = {1: "L", 3: "RGB"}


def array(image: Image.Image) -> np.ndarray:
    return np.array(image).reshape(image.height, image.width, -1)


def pillow(paths: list[Path], shape: Shape, keys: dict[str, Any]) -> list[np.ndarray]:
    rows, columns, channels = shape
    method = Image.Resampling[keys["interpolation"].upper()]

    def one(path: Path) -> np.ndarray:
        image = ImageOps.exif_transpose(Image.open(path)).convert(MODES[channels])
        if keys.get("pad") is not None:
            colour = (keys["pad"],) * channels if channels > 1 else keys["pad"]
            return array(ImageOps.pad(image, (columns, rows), method, colour))
        if keys.get("crop") == "aspect":
            return array(ImageOps.fit(image, (columns, rows), method))
        if "resize" in keys:
            scale = keys["resize"] / min(image.size)
            image = image.resize(tuple(round(side * scale) for side in image.size), method)
            left, top = (image.width - columns) // 2, (image.height - rows) // 2
            return array(image.crop((left, top, left + columns, top + rows)))
        return array(image.resize((columns, rows), method))

    return [one(path) for path in paths]


def load_img(paths: list[Path], shape: Shape, keys: dict[str, Any]) -> list[np.ndarray]:
    import keras

    colours = {1: "grayscale", 3: "rgb"}[shape[2]]
    return [
        keras.utils.img_to_array(
            keras.utils.load_img(path, color_mode=colours, target_size=shape[:2], **keys)
        )
        for path in paths
    ]


def dataset(paths: list[Path], shape: Shape, keys: dict[str, Any]) -> list[np.ndarray]:
    import keras

    images = keras.utils.image_dataset_from_directory(
        paths[0].parent,
        labels=None,
        color_mode={1: "grayscale", 3: "rgb"}[shape[2]],
        batch_size=None,
        image_size=shape[:2],
        shuffle=False,
        verbose=False,
        **keys,
    )
    return [image.numpy() for image in images]


def tf_decoded(path: Path, channels: int) -> Any:
    import tensorflow as tf

    return tf.io.decode_image(tf.io.read_file(str(path)), channels, expand_animations=False)


def tf_resize(paths: list[Path], shape: Shape, keys: dict[str, Any]) -> list[np.ndarray]:
    import tensorflow as tf

    keys = {"method": keys["interpolation"], "antialias": keys.get("antialias", False)}
    pictures = [tf_decoded(path, shape[2]) for path in paths]
    return [tf.image.resize(picture, shape[:2], **keys).numpy() for picture in pictures]


def tf_pad(paths: list[Path], shape: Shape, keys: dict[str, Any]) -> list[np.ndarray]:
    import tensorflow as tf

    keys = {"method": keys["interpolation"], "antialias": keys.get("antialias", False)}
    pictures = [tf_decoded(path, shape[2]) for path in paths]
    return [tf.image.resize_with_pad(one, *shape[:2], **keys).numpy() for one in pictures]


def resizing(paths: list[Path], shape: Shape, keys: dict[str, Any]) -> list[np.ndarray]:
    import keras

    keys = dict(keys)
    dtype = keys.pop("dtype", "float32")
    layer = keras.layers.Resizing(*shape[:2], **keys)
    return [np.asarray(layer(tf_decoded(path, shape[2]).numpy().astype(dtype))) for path in paths]


def keras_hub(paths: list[Path], shape: Shape, keys: dict[str, Any]) -> list[np.ndarray]:
    import keras_hub as hub

    keys = dict(keys)
    dtype = keys.pop("dtype", "float32")
    converter = hub.layers.ImageConverter(image_size=shape[:2], **keys)
    pixels = [array(Image.open(path).convert(MODES[shape[2]])) for path in paths]
    return [np.asarray(converter(one.astype(dtype))) for one in pixels]


def center_crop(paths: list[Path], shape: Shape, keys: dict[str, Any]) -> list[np.ndarray]:
    import keras
    import tensorflow as tf

    layer = keras.layers.CenterCrop(*shape[:2])
    pixels = [
        tf.io.decode_image(path.read_bytes(), shape[2], expand_animations=False) for path in paths
    ]
    return [np.asarray(layer(tf.cast(one, "float32"))) for one in pixels]


def torchvision(paths: list[Path], shape: Shape, keys: dict[str, Any]) -> list[np.ndarray]:
    import torch
    from torchvision import transforms
    from torchvision.transforms import v2

    kind, mode = keys.get("kind", "pil"), transforms.InterpolationMode(keys["interpolation"])
    code = v2 if kind == "tensor" else transforms
    resize = keys.get("resize", shape[:2])
    steps = [code.Resize(resize, mode, antialias=keys.get("antialias", True))]
    steps += [code.CenterCrop(shape[:2])] if "resize" in keys else []

    def one(path: Path) -> np.ndarray:
        image = Image.open(path).convert(MODES[shape[2]])
        given = image if kind == "pil" else torch.from_numpy(array(image)).permute(2, 0, 1)
        result = transforms.Compose(steps)(given)
        return array(result) if kind == "pil" else result.permute(1, 2, 0).numpy()

    return [one(path) for path in paths]


def opencv(paths: list[Path], shape: Shape, keys: dict[str, Any]) -> list[np.ndarray]:
    import cv2

    rows, columns, channels = shape
    flag = getattr(cv2, f"INTER_{keys['interpolation'].upper()}")

    def one(path: Path) -> np.ndarray:
        image: Any
        if channels == 1:
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        else:
            image = cv2.cvtColor(np.asarray(cv2.imread(str(path))), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        if keys.get("pad") is not None:
            scale = min(rows / height, columns / width)
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            image = cv2.resize(image, size[::-1], interpolation=flag)
            top, left = (rows - size[0]) // 2, (columns - size[1]) // 2
            full = np.full((rows, columns, *image.shape[2:]), keys["pad"], np.uint8)
            full[top : top + size[0], left : left + size[1]] = image
            image = full
        elif "resize" in keys:
            scale = keys["resize"] / min(height, width)
            size = (round(height * scale), round(width * scale))
            image = cv2.resize(image, size[::-1], interpolation=flag)
            top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
            image = image[top : top + rows, left : left + columns]
        else:
            if keys.get("crop") == "aspect":
                inner = (
                    max(1, min(height, width * rows // columns)),
                    max(1, min(width, height * columns // rows)),
                )
                top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
                image = image[top : top + inner[0], left : left + inner[1]]
            image = cv2.resize(image, (columns, rows), interpolation=flag)
        return image.reshape(rows, columns, channels)

    return [one(path) for path in paths]


BY_HAND: dict[str, ByHand] = {
    "pillow": pillow,
    "keras.load_img": load_img,
    "keras.image_dataset_from_directory": dataset,
    "tf.image.resize": tf_resize,
    "tf.image.resize_with_pad": tf_pad,
    "keras.layers.Resizing": resizing,
    "keras_hub": keras_hub,
    "torchvision": torchvision,
    "keras.layers.CenterCrop": center_crop,
    "opencv": opencv,
}
