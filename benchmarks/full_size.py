"""Measure what a step of PGD costs on photographs at their own size, against the images that the model takes.

    python benchmarks/full_size.py [--photos 48] [--batch 24] [--height 375] [--width 500] [--pipeline TEXT]

The bundled CNN and the rendered pets, enlarged to the stated size. PGD takes all its 40 steps at epsilon 4 on
the pictures behind the pipeline, and on the images that the same pipeline makes of them; same batch, same
threads. Timed from the first row to the last verdict, with every PNG and its check; compilation is not timed.
The sides alternate, since the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

from robustness import model_zoo
from robustness.attacks import PGD
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import Example
from robustness.engine.model_input import by_canvas
from robustness.engine.search import search
from robustness.images.named import open_named
from robustness.models.classifier import Classifier
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.named import parse_pipeline
from robustness.threat.threat import Threat


def photographs(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """`count` rendered pets, enlarged to `size` (height, width)."""
    source = open_named(f"pets:{count}")
    pictures = [source.read(entry, (None, None, 3)).pixels for entry in source.entries()]
    large = (
        Image.fromarray(p).resize(size[::-1], Image.Resampling.BICUBIC)
        for p in pictures
        if p is not None
    )
    return [np.asarray(image) for image in large]


def seconds_per_step(
    classifier: Classifier, pictures: Sequence[np.ndarray], batch: int
) -> tuple[float, int]:
    """Seconds of one step of one picture, and the number of verified flips."""
    attack, threat = PGD(steps=40), Threat((4.0,))
    labels = classifier.probabilities(pictures).argmax(axis=1)
    examples = [
        Example(str(n), x, int(y)) for n, (x, y) in enumerate(zip(pictures, labels, strict=True))
    ]
    ((canvas, placed),) = by_canvas(classifier, attack, examples)
    compiled = CompiledBatch(classifier, attack, threat, batch_size=batch, seed=0, canvas=canvas)
    compiled.prepare()
    begin = time.perf_counter()
    results = list(search(compiled, placed, judged_by=classifier, all_steps=True))
    spent = time.perf_counter() - begin
    steps = sum(outcomes[-1].backward for _, outcomes in results)
    return spent / steps, sum(outcomes[-1].flip is not None for _, outcomes in results)


def main() -> None:
    """Print the milliseconds of a step on both sides, and their ratio, in each of two rounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("photos", 48), ("batch", 24), ("height", 375), ("width", 500)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--pipeline", default="pillow:bilinear")
    options = parser.parse_args()
    plain = model_zoo.load("dogs-vs-cats")
    deployment = Deployment(parse_pipeline(options.pipeline).convention, plain.input_shape)
    pictures = photographs(options.photos, (options.height, options.width))
    images = list(deployment.images(pictures))
    print("round  image (ms/step)  picture (ms/step)  ratio  flips")
    for number in (1, 2):
        image, _ = seconds_per_step(
            plain, [np.round(x).astype(np.uint8) for x in images], options.batch
        )
        picture, flips = seconds_per_step(plain.deployed(deployment), pictures, options.batch)
        print(
            f"{number:5d}  {1000 * image:15.2f}  {1000 * picture:17.2f}  {image / picture:5.2f}  "
            f"{flips} of {len(pictures)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
