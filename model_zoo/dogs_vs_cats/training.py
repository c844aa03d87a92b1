"""Train the CNN: `python -m robustness.model_zoo.dogs_vs_cats.training --photos dogs-vs-cats.zip --out DIR`.

Three techniques suit a small machine and a small network:

- *Progressive resizing*: most epochs use 64-pixel images, which cost a sixth of 128-pixel ones. The
  convolutions are kept as they are. The first dense kernel is indexed by position, and is resized like an
  image (bilinear, divided by the gain in area).
- *Augmentation by one affine map* (rotation, scale, stretch, shift, mirroring) and a change of colour.
- *Unbiased moving statistics*: dropout before batch normalisation inflates the variance in the moving
  averages. The last stage trains without dropout, and at the end the statistics are computed again, with
  dropout off, as plain averages.

With `--harden` it continues from the bundled weights with adversarial training (`hardening`); the result is
the zoo's `dogs-vs-cats-robust`.

The training is seeded, saves after every quarter epoch, and resumes where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from robustness.model_zoo.dogs_vs_cats import CLASS_NAMES, photos
from robustness.model_zoo.dogs_vs_cats.architecture import build
from robustness.model_zoo.dogs_vs_cats.hardening import Move, adversary
from robustness.model_zoo.dogs_vs_cats.renderings import training_rendering
from robustness.model_zoo.dogs_vs_cats.zoo import load

QUARTERS = 4
"""Checkpoints per epoch."""


@dataclass(frozen=True)
class Stage:
    """Some epochs at one resolution.

    Attributes
    ----------
    name : of the stage's files. side : height and width of the input in pixels. epochs : number of epochs,
    in quarters. peak, final : the highest learning rate, after the warm-up, and the last one. dropout :
    factor of every dropout rate. renderings : number of rendered images added to the photos. zoom : range of
    the share of an image that is visible; above 1 its edges are mirrored. epsilon : largest budget of the
    adversary in counts; 0 for no adversary.
    """

    name: str
    side: int
    epochs: float
    peak: float
    final: float
    dropout: float = 1.0
    renderings: int = 0
    zoom: tuple[float, float] = (0.72, 1.04)
    epsilon: float = 0.0


STAGES = (
    Stage("small", 64, 16, 1e-3, 1e-4),
    Stage("medium", 96, 5, 5e-4, 5e-5, renderings=1000),
    Stage("full", 128, 1, 2.5e-4, 5e-5, renderings=1000),
    Stage("settle", 128, 0.5, 5e-5, 1e-6, dropout=0.0, renderings=1000),
    # Whole images, as in the evaluation: closer crops enlarge everything.
    Stage("whole", 128, 0.25, 5e-5, 1e-6, dropout=0.0, renderings=2500, zoom=(0.92, 1.08)),
    # The train accuracy was no higher than the held-out one: little dropout is needed.
    Stage("long", 128, 4, 3e-4, 1e-5, dropout=0.3, renderings=3000, zoom=(0.8, 1.08)),
    Stage("last", 128, 0.5, 5e-5, 1e-6, dropout=0.0, renderings=4000, zoom=(0.92, 1.08)),
)
HARDENING = (
    Stage("hard", 128, 3, 3e-4, 3e-6, dropout=0.0, renderings=2000, zoom=(0.85, 1.08), epsilon=4),
)


class Batches(keras.utils.PyDataset):
    """Shuffled, augmented batches; batch b of epoch e depends only on the seed, e and b."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        side: int,
        *,
        batch: int,
        seed: int,
        zoom: tuple[float, float] = Stage.zoom,
        move: Move | None = None,
    ) -> None:
        super().__init__(workers=1, max_queue_size=4)
        self.images, self.labels, self.side, self.batch = images, labels, side, batch
        self.seed, self.quarter, self.zoom, self.move = seed, 0, zoom, move
        self.quarter_steps = len(images) // batch // QUARTERS

    def __len__(self) -> int:
        return self.quarter_steps

    def on_epoch_end(self) -> None:
        """Advance to the next quarter."""
        self.quarter += 1

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        epoch, quarter = divmod(self.quarter, QUARTERS)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.images))
        start = (quarter * self.quarter_steps + index) * self.batch
        rows = np.sort(order[start : start + self.batch])
        rng = np.random.default_rng([self.seed, epoch, start])
        images, labels = augment(self.images[rows], self.side, rng, self.zoom), self.labels[rows]
        return (images if self.move is None else self.move(images, labels, rng)), labels


def augment(
    images: np.ndarray,
    side: int,
    rng: np.random.Generator,
    zoom: tuple[float, float] = Stage.zoom,
) -> tf.Tensor:
    """Rotate, scale, stretch, shift and mirror each image, and change its colours; float32 in 0..1."""
    n, source = len(images), images.shape[1]
    scale = np.exp(rng.uniform(math.log(zoom[0]), math.log(zoom[1]), n)) * source / side
    stretch = np.exp(rng.uniform(-0.12, 0.12, n))
    angle = rng.normal(0, 0.12, n)
    mirror = rng.choice([-1.0, 1.0], n)
    a, b = scale * stretch * mirror * np.cos(angle), -scale / stretch * np.sin(angle)
    c, d = scale * stretch * mirror * np.sin(angle), scale / stretch * np.cos(angle)
    middle, slack = (side - 1) / 2, np.maximum(source - scale * side, 0) / 2 + 0.03 * source
    centre = (source - 1) / 2 + rng.uniform(-1, 1, (2, n)) * slack
    rows = [a, b, centre[0] - (a + b) * middle, c, d, centre[1] - (c + d) * middle, 0 * a, 0 * a]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32) / 255,
        transforms=np.stack(rows, axis=1).astype("float32"),
        output_shape=[side, side],
        interpolation="BILINEAR",
        fill_mode="REFLECT",
        fill_value=0.0,
    )
    shape = (n, 1, 1, 1)
    gain = np.exp(rng.normal(0, 0.15, shape) + rng.normal(0, 0.05, (n, 1, 1, 3)))
    grey = tf.reduce_mean(moved, axis=-1, keepdims=True)
    colour = rng.uniform(0.5, 1.3, shape).astype("float32")
    coloured = (grey + (moved - grey) * colour) * gain.astype("float32")
    return tf.clip_by_value(coloured + rng.normal(0, 0.05, shape).astype("float32"), 0.0, 1.0)


def resize_kernel(kernel: np.ndarray, old: int, new: int) -> np.ndarray:
    """Resize the first dense kernel from a feature map of `old` cells a side to one of `new` cells."""
    units = kernel.shape[-1]
    grid = kernel.reshape(old, old, -1)
    wide = tf.image.resize(grid[None], (new, new), antialias=new < old)[0].numpy()
    return (wide * (old / new) ** 2).reshape(-1, units)


def grow(small: keras.Model, large: keras.Model) -> None:
    """Copy the weights of `small` into `large`, the same network for larger images."""
    for source, target in zip(small.weights, large.weights, strict=True):
        value = source.numpy()
        if value.shape != target.shape:
            sides = [math.isqrt(w.shape[0] // 128) for w in (source, target)]
            value = resize_kernel(value, *sides)
        target.assign(value)


def settle_statistics(model: keras.Model, batches: Batches, count: int) -> None:
    """Set each moving mean and variance to its plain average over `count` batches, without dropout."""
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    rates = {x: x.rate for x in model.layers if isinstance(x, keras.layers.Dropout)}
    sums = [0.0] * (2 * len(norms))
    momenta = [norm.momentum for norm in norms]
    for layer in rates:
        layer.rate = 0.0
    for norm in norms:
        norm.momentum = 0.0
    for index in range(count):
        model(batches[index][0], training=True)
        seen = [v.numpy() for x in norms for v in (x.moving_mean, x.moving_variance)]
        sums = [total + value for total, value in zip(sums, seen, strict=True)]
    targets = [v for x in norms for v in (x.moving_mean, x.moving_variance)]
    for target, total in zip(targets, sums, strict=True):
        target.assign(total / count)
    for layer, rate in rates.items():
        layer.rate = rate
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def accuracy(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of `images` (uint8) that `model` classifies correctly."""
    right = 0
    for start in range(0, len(images), 256):
        batch = images[start : start + 256].astype("float32") / 255
        right += int(
            (model(batch, training=False).numpy().argmax(1) == labels[start : start + 256]).sum()
        )
    return right / len(images)


def with_renderings(
    images: np.ndarray, labels: np.ndarray, side: int, *, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Append `count` rendered animals with training seeds to `images` and `labels`."""
    if not count:
        return images, labels
    pets, classes = [], []
    for index in range(count):
        kind = index % len(CLASS_NAMES)
        picture = Image.fromarray(training_rendering(CLASS_NAMES[kind], seed + index))
        pets.append(np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR)))
        classes.append(kind)
    return np.concatenate([images, pets]), np.concatenate([labels, classes])


def schedule(stage: Stage, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate of a stage: linear warm-up to `peak`, then cosine decay to `final`."""
    return keras.optimizers.schedules.CosineDecay(
        stage.peak / 10,
        steps,
        alpha=stage.final / stage.peak,
        warmup_target=stage.peak,
        warmup_steps=min(200, steps // 10),
    )


class Journal(keras.callbacks.Callback):
    """Writes a line per quarter to `log.jsonl`, with the held-out accuracy at the end of each epoch."""

    def __init__(self, path: Path, stage: Stage, images: np.ndarray, labels: np.ndarray) -> None:
        super().__init__()
        self.path, self.stage, self.images, self.labels = path, stage, images, labels

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Append the line of a quarter to the log."""
        line = {"stage": self.stage.name, "quarter": epoch + 1, "time": round(time.time())}
        line |= {k: round(float(v), 4) for k, v in (logs or {}).items()}
        if (epoch + 1) % QUARTERS == 0:
            line["held_out"] = round(accuracy(self.model, self.images, self.labels), 4)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def train(
    archive: Path,
    out: Path,
    *,
    batch: int,
    seed: int,
    precision: str,
    stages: Sequence[Stage] = STAGES,
    start: keras.Model | None = None,
) -> Path:
    """Run every stage that is not finished yet.

    Parameters
    ----------
    archive
        The photos, see `photos.arrays`.
    out
        The folder for checkpoints and the result.
    batch, seed, precision
        Batch size, seed, and mixed-precision policy of Keras.
    stages
        The stages in order.
    start
        A model from whose weights the first stage starts; None for random weights.

    Returns
    -------
    The path of the trained network, `out/model.keras`.
    """
    keras.mixed_precision.set_global_policy(precision)
    out.mkdir(parents=True, exist_ok=True)
    previous: Path | None = None
    if start is not None:
        previous = out / "start.keras"
        start.save(previous)
    for number, stage in enumerate(stages):
        finished = out / f"{number}-{stage.name}.keras"
        if not finished.exists():
            run_stage(stage, finished, previous, archive, batch=batch, seed=seed + number)
        previous = finished
    model = keras.saving.load_model(previous, compile=False)
    keras.mixed_precision.set_global_policy("float32")
    full = build()
    full.set_weights(model.get_weights())
    full.save(out / "model.keras")
    return out / "model.keras"


def run_stage(
    stage: Stage, finished: Path, previous: Path | None, archive: Path, *, batch: int, seed: int
) -> None:
    """Train one stage, from the weights in `previous` if given, and save it as `finished`."""
    keras.utils.set_random_seed(seed)
    source = round(stage.side * 1.25)
    images, labels = photos.arrays(archive, source, held=False, cache=finished.parent)
    images, labels = with_renderings(
        images, labels, source, count=stage.renderings, seed=seed * 1_000_000
    )
    held = photos.arrays(archive, stage.side, held=True, cache=finished.parent)
    model = build(stage.side, dropout=stage.dropout)
    if previous is not None:
        grow(keras.saving.load_model(previous, compile=False), model)
    move = adversary(model, stage.epsilon) if stage.epsilon else None
    batches = Batches(
        images, labels, stage.side, batch=batch, seed=seed, zoom=stage.zoom, move=move
    )
    total = round(stage.epochs * QUARTERS)
    model.compile(
        keras.optimizers.AdamW(schedule(stage, total * len(batches)), weight_decay=0.02),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    folder = finished.with_suffix(".backup")
    backup = keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)
    counter = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda quarter, logs: setattr(batches, "quarter", quarter)
    )
    journal = Journal(finished.parent / "log.jsonl", stage, *held)
    model.fit(batches, epochs=total, callbacks=[counter, journal, backup], verbose=2)
    settle_statistics(model, batches, min(120, len(batches)))
    with journal.path.open("a") as file:
        line = asdict(stage) | {"settled": accuracy(model, *held)}
        file.write(json.dumps(line) + "\n")
    part = finished.with_name(f"part-{finished.name}")
    model.save(part)
    part.replace(finished)


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--photos", type=Path, required=True, help="Kaggle's dogs-vs-cats.zip or train.zip"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for checkpoints and the result"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16"),
        default="mixed_bfloat16",
        help="mixed_bfloat16 where the processor has it (AMX, AVX512-BF16, a GPU), else float32",
    )
    parser.add_argument(
        "--harden", action="store_true", help="adversarial training, from the bundled weights"
    )
    arguments = parser.parse_args()
    print(
        train(
            arguments.photos,
            arguments.out,
            batch=arguments.batch,
            seed=arguments.seed,
            precision=arguments.precision,
            **({"stages": HARDENING, "start": load().model} if arguments.harden else {}),
        )
    )


if __name__ == "__main__":
    main()
