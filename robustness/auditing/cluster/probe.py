"""What a worker's hardware computes: the bits of a model's answers and gradients for fixed pictures."""

from __future__ import annotations

import hashlib

import keras
import numpy as np
from keras import ops

from robustness import backend
from robustness.errors import GradientError, PipelineError
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import SMALL_BATCH
from robustness.models.identity import probes


def kind_of(judge: Classifier, attacked: Classifier, *, draws: int = 1) -> str:
    """Return the SHA-256 of the bits that this process computes; equal for equal hardware and software.

    Parameters
    ----------
    judge : the user's model, whose probabilities are hashed.
    attacked : the model that attacks evaluate, whose logits and gradients are hashed.
    draws : more than 1 for a model with random outputs: its device and backend are hashed in their place.
    """
    if draws > 1:
        return _device()
    pictures = np.resize(probes(attacked.input_shape), (SMALL_BATCH, *attacked.input_shape))
    sha = hashlib.sha256()
    sha.update(np.ascontiguousarray(judge.at_model_size().probabilities(pictures)).tobytes())
    plain = attacked.at_model_size()
    sha.update(np.ascontiguousarray(plain.logits_of(pictures)).tobytes())
    points = ops.convert_to_tensor(pictures.astype("float32"))
    gradient_of = backend.value_and_grad(lambda images: _squares(plain, images))
    try:
        (_, _), gradient = backend.compile(gradient_of)(points)
        sha.update(np.ascontiguousarray(ops.convert_to_numpy(gradient)).tobytes())
    except GradientError:
        sha.update(b"no gradient")
    return sha.hexdigest()


def kind_of_answers(judge: Classifier, *, random: bool = False) -> str:
    """Return the SHA-256 of the bits of a model's answers in this process, without gradients.

    Parameters
    ----------
    judge : the user's model; with an input pipeline, what that makes of larger pictures is hashed too.
    random : whether its outputs are random: its device and backend are hashed in their place.
    """
    if random:
        return _device()
    pictures = np.resize(probes(judge.input_shape), (SMALL_BATCH, *judge.input_shape))
    sha = hashlib.sha256(judge.at_model_size().probabilities(pictures).tobytes())
    if judge.deployment is not None:
        height, width, channels = judge.input_shape
        for picture in probes((height + height // 2 + 1, width + width // 3 + 1, channels)):
            try:
                sha.update(np.ascontiguousarray(judge.deployment.images([picture])).tobytes())
            except PipelineError:
                sha.update(b"no image")
    return sha.hexdigest()


def _device() -> str:
    return hashlib.sha256(f"{keras.backend.backend()} {backend.device()}".encode()).hexdigest()


def _squares(classifier: Classifier, images: object) -> tuple[object, object]:
    logits = classifier.logits(images)
    return ops.sum(ops.square(logits), axis=-1), logits
