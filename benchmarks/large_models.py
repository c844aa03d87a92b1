"""Measure a step of APGD on models of ImageNet's size against the bare compiled gradient of the same model.

    python benchmarks/large_models.py [--models ResNet50,...] [--pictures 16] [--steps 20] [--checks 1]
    KERAS_BACKEND=torch python benchmarks/large_models.py

Models of keras.applications with random weights, 1,000 classes, 224 x 224, on random pictures. Both sides
take batches of the same size in one process and alternate, as the speed of a machine drifts. Compilation is
not timed. Medians of wall-clock and of processor seconds per step of one picture. "checks" are the checks of
the model before an attack, of `--pictures` pictures, or of as many as a batch has rows if these are more. The
bare gradient is that of the cross-entropy to the input.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import robustness
from robustness import backend
from robustness.attacks import APGD
from robustness.diagnostics import preflight
from robustness.engine.batch_size import batch_size_for, even_batches, row_bytes
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import AttackJob, Example

MODELS = ("ResNet50", "EfficientNetV2S", "ConvNeXtTiny", "MobileNetV2")
SIDE = 224


def bare_gradient(model: Any) -> Callable[[Any, Any], Any]:
    """The compiled gradient of the cross-entropy of a model of probabilities, without the toolkit."""
    from keras import ops

    def loss(images: Any, labels: Any) -> tuple[Any, Any]:
        shares = model(images, training=False)
        picked = ops.take_along_axis(shares, labels[:, None], axis=1)
        return -ops.sum(ops.log(ops.maximum(picked, 1e-7))), shares

    gradient = backend.value_and_grad(loss)
    return backend.compile(lambda images, labels: gradient(images, labels)[1])


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and processor seconds of a call."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of both sides on one model."""
    import keras

    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(SIDE, SIDE, 3))
    scaling = "0..1" if name in ("ResNet50", "MobileNetV2") else "0..255"
    classifier = robustness.Classifier(model, scaling=scaling)
    random = np.random.default_rng(0)
    chosen = options.batch or batch_size_for(classifier)
    size = even_batches(chosen, options.pictures)
    # As many as there are rows at least: the bare gradient takes as many.
    count = max(size, options.pictures)
    pictures = random.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)
    if options.checks:
        told, _ = timed(
            lambda: preflight.run(classifier, pictures, None, classifier.probabilities(pictures))
        )
    else:
        told = float("nan")
    labels = classifier.probabilities(pictures[:size]).argmax(axis=1)
    attacked = classifier
    if options.precision != "float32":
        attacked = classifier.in_precision(options.precision)
    attack = APGD(steps=options.steps)
    batch = CompiledBatch(attacked, attack, robustness.Threat((4.0,)), batch_size=size, seed=0)
    jobs = [
        AttackJob(Example(str(n), x, int(y)), 4.0)
        for n, (x, y) in enumerate(zip(pictures[:size], labels, strict=True))
    ]
    state = batch.load(None, range(size), jobs)
    gradient = bare_gradient(model)
    scale = 1.0 if scaling == "0..255" else 1 / 255
    images = keras.ops.convert_to_tensor(pictures[:size].astype("float32") * scale)
    aims = keras.ops.convert_to_tensor(labels.astype("int32"))
    times: dict[str, list[tuple[float, float]]] = {"bare": [], "step": []}

    def step() -> None:
        nonlocal state
        state, told = batch.step(state)
        keras.ops.convert_to_numpy(told if not isinstance(told, tuple) else told[0])

    def bare() -> None:
        keras.ops.convert_to_numpy(gradient(images, aims))

    for turn in range(options.steps + 1):
        sides = (("bare", bare), ("step", step))
        for side, call in sides if turn % 2 else sides[::-1]:
            times[side].append(timed(call))
    # The first call of each traces.
    bare_wall, bare_cpu = np.median(times["bare"][1:], axis=0) / size
    step_wall, step_cpu = np.median(times["step"][1:], axis=0) / size
    return {
        "slots": size,
        "MB a row": row_bytes(classifier) / 1e6,
        "bare s": bare_wall,
        "step s": step_wall,
        "ratio": step_wall / bare_wall,
        "bare cpu": bare_cpu,
        "step cpu": step_cpu,
        "cpu ratio": step_cpu / bare_cpu,
        "checks s": told,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--checks", type=int, default=0)
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    for number, name in enumerate(options.models.split(",")):
        row = measure(name, options)
        if not number:
            print("| model |", " | ".join(row), "|\n|" + "---|" * (len(row) + 1))
        print(f"| {name} |", " | ".join(f"{value:.3g}" for value in row.values()), "|", flush=True)


if __name__ == "__main__":
    main()
