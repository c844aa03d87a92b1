"""Attacks of other libraries, each as a function of images and labels.

A peer is built from a `Setting`. Importing this module imports no library; building a peer imports its own.
A call ends with a prediction of the library's model for the result; Foolbox makes it itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Images (n, h, w, c) of 0..1 and classes (n,) to images of 0..1."""


@dataclass(frozen=True)
class Setting:
    """The common target: a Keras model from images in 0..1 to logits, and epsilon on that scale."""

    model: Any
    epsilon: float
    classes: int

    def resolved(self, words: dict[str, Any]) -> dict[str, Any]:
        """Parameters, with texts such as "eps*2" and "classes" replaced by numbers."""
        return {
            name: self.classes if value == "classes" else times(value, self.epsilon)
            for name, value in words.items()
        }


def times(value: Any, epsilon: float) -> Any:
    """A parameter; a text such as "eps*2" is a multiple of epsilon."""
    if isinstance(value, str) and value.startswith("eps*"):
        return float(value.removeprefix("eps*")) * epsilon
    return value


Peer = Callable[[Setting], Run]


def foolbox(name: str, **words: Any) -> Peer:
    def make(setting: Setting) -> Run:
        # Its array layer calls a function that NumPy 2 has dropped.
        setattr(np, "find_common_type", lambda arrays, scalars: np.result_type(*arrays, *scalars))  # noqa: B010
        import foolbox
        import tensorflow as tf

        found = getattr(foolbox.attacks, name)(**setting.resolved(words))
        wrapped = foolbox.TensorFlowModel(setting.model, bounds=(0.0, 1.0))
        budget = setting.epsilon if "Linf" in name or name == "LinfPGD" else None

        def run(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
            aims = tf.constant(labels.astype("int32"))
            _, clipped, _ = found(wrapped, tf.constant(images), aims, epsilons=budget)
            return clipped.numpy()

        return run

    return make


def art(name: str, **words: Any) -> Peer:
    def make(setting: Setting) -> Run:
        import tensorflow as tf
        from art.attacks import evasion
        from art.estimators.classification import TensorFlowV2Classifier

        classifier = TensorFlowV2Classifier(
            model=setting.model,
            nb_classes=setting.classes,
            input_shape=setting.model.input_shape[1:],
            clip_values=(0.0, 1.0),
            loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
        )
        attack = getattr(evasion, name)(classifier, **setting.resolved(words))
        truth = np.eye(setting.classes, dtype="float32")

        def run(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
            found = attack.generate(images, y=truth[labels])
            classifier.predict(found, batch_size=len(found))
            return found

        return run

    return make


def cleverhans(name: str, **words: Any) -> Peer:
    def make(setting: Setting) -> Run:
        from importlib import import_module

        import tensorflow as tf

        # SPSA's optimizer derives from Adam of Keras 2 and reads its rate and three other numbers.
        with patch.object(tf.optimizers, "Adam", _Adam):
            attack = getattr(import_module(f"cleverhans.tf2.attacks.{name}"), name)
        told, model = setting.resolved(words), setting.model

        def run(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
            # SPSA takes one picture at a time.
            size = 1 if name == "spsa" else len(images)
            parts = [slice(i, i + size) for i in range(0, len(images), size)]
            pairs = [(tf.constant(images[part]), tf.constant(labels[part])) for part in parts]
            found = tf.concat([attack(model, x, y=y, **told) for x, y in pairs], 0)
            model(found)
            return found.numpy()

        return run

    return make


class _Adam:
    """The part of Keras 2's Adam that CleverHans' SPSA inherits; it computes its steps itself."""

    beta_1, beta_2, epsilon = 0.9, 0.999, 1e-7

    def __init__(self, lr: float) -> None:
        self.lr = lr


def torchattacks(name: str, *, each: int | None = None, **words: Any) -> Peer:
    """An attack of torchattacks; `each`: steps of the members of an ensemble that has no such argument."""

    def make(setting: Setting) -> Run:
        import torch
        import torchattacks

        model = twin(setting.model)
        attack = getattr(torchattacks, name)(model, **setting.resolved(words))
        for part in attack._autoattack.attacks if each else []:
            if hasattr(part, "steps"):
                part.steps = each

        def run(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
            # Keras seeds PyTorch only where that is its backend.
            torch.manual_seed(np.random.randint(2**31))
            planes = torch.tensor(images.transpose(0, 3, 1, 2).copy())
            found = attack(planes, torch.tensor(labels.astype("int64")))
            with torch.no_grad():
                model(found)
            return found.detach().numpy().transpose(0, 2, 3, 1)

        return run

    return make


def twin(model: Any) -> Any:
    """The PyTorch network with a Keras model's weights: the same function of (n, c, h, w)."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    shape: tuple[int, ...] = tuple(model.input_shape[1:])
    flat, first = False, True
    for layer in _flat(model):
        kind, weights = type(layer).__name__, [np.asarray(w) for w in layer.get_weights()]
        if kind == "Rescaling":
            layers.append(_Scale(float(layer.scale)))
        elif kind == "Conv2D":
            kernel, bias = weights
            made = nn.Conv2d(*kernel.shape[2:], kernel.shape[0], padding=layer.padding)
            made.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
            made.bias.data = torch.tensor(bias)
            layers += [made, nn.ReLU()] if layer.activation.__name__ == "relu" else [made]
        elif kind == "BatchNormalization":
            layers.append(
                _normalisation(layer, weights, across=nn.BatchNorm1d if flat else nn.BatchNorm2d)
            )
        elif kind == "MaxPooling2D":
            layers.append(nn.MaxPool2d(layer.pool_size))
        elif kind == "Flatten":
            shape = tuple(layer.input.shape[1:])
            layers.append(nn.Flatten())
            flat = True
        elif kind == "Dense":
            kernel, bias = weights
            if first:
                first = False
                # Keras flattens height, width, channels; PyTorch channels, height, width.
                kernel = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(len(kernel), -1)
            made = nn.Linear(*kernel.shape)
            made.weight.data = torch.tensor(kernel.T.copy())
            made.bias.data = torch.tensor(bias)
            layers += [made, nn.ReLU()] if layer.activation.__name__ == "relu" else [made]
        elif kind not in ("InputLayer", "Dropout"):
            raise ValueError(f"No twin for a layer {kind}.")
    return nn.Sequential(*layers).eval()


def _normalisation(layer: Any, weights: list[np.ndarray], across: Any) -> Any:
    import torch

    made = across(len(weights[0]), eps=layer.epsilon)
    made.weight.data, made.bias.data, made.running_mean, made.running_var = map(
        torch.tensor, weights
    )
    return made


def _Scale(by: float) -> Any:  # noqa: N802 (a class, made where PyTorch is)
    from torch import nn

    class Scale(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * by

    return Scale()


def _flat(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _flat(layer)
        else:
            yield layer
