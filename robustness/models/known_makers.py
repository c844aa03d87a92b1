"""Recognises models of tools that feed their models in one way only, which decides what labels leave open.

References
----------
Google's Teachable Machine: the Keras export comes with code that computes ``image / 127.5 - 1``,
https://github.com/googlecreativelab/teachablemachine-community/blob/master/snippets/markdown/image/tensorflow/keras.md
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from robustness.models.layers import leaves
from robustness.models.scaling_choice import ScalingChoice
from robustness.models.scalings import SCALINGS

TEACHABLE = ("global_average_pooling2d_GlobalAveragePooling2D1", "dense_Dense1", "dense_Dense2")
"""How the names of the last layers of a Teachable Machine begin; TensorFlow.js appended the second half."""


def by_maker(model: Any, choice: ScalingChoice) -> ScalingChoice:
    """Return a choice that was open with the scaling of the model's maker, if labels do not speak against it.

    Parameters
    ----------
    model : a Keras model.
    choice : what labelled images decide; its `scaling` is None.
    """
    last = [layer.name for layer in leaves(model)[-len(TEACHABLE) :]]
    made = len(last) == len(TEACHABLE) and all(map(str.startswith, last, TEACHABLE))
    if not made or (choice.accuracies and "-1..1" not in choice.likely):
        return choice
    said = (
        "The names of its layers are those of Google's Teachable Machine, whose models take -1..1."
    )
    return replace(choice, scaling=SCALINGS["-1..1"], sentence=f"{said} {choice.sentence}")
