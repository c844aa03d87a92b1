"""Compare the speed of this toolkit, ART, Foolbox and CleverHans: same model, photos, steps and judge.

    python benchmarks/throughput.py --images dogs-vs-cats.zip --count 500 --out throughput.json

Each library runs in a process of its own, as its documentation shows, in batches of `--batch`. The *floor*
is the bare compiled gradient of the model, evaluated as often. Other libraries are timed without their first
batch (tracing, warm-up), without checks and without files. Ours is timed from the call of `audit` to the
last outcome, tracing, checks, clean pass, PNG files and database included; and to the end of the audit, with
strips and diagnostics, which follow the outcomes. One judge, in another process, rounds each result to 8
bits inside the ball and predicts in float32: robust accuracy is that of the judge.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

KERNELS = "TF_ENABLE_ONEDNN_OPTS"
"""Environment variable that TensorFlow reads on import; its default depends on the processor."""

STEPS = {"bim": 4, "pgd": 40}
STEP = 1.0
"""Step size in counts, for all libraries."""


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Case:
    """The input of a worker."""

    def __init__(self, folder: Path, attack: str, epsilon: float, count: int, batch: int) -> None:
        import keras

        data = np.load(folder / "data.npz")
        self.images, self.labels = data["images"][:count], data["labels"][:count]
        self.model = keras.saving.load_model(folder / "model.keras", compile=False)
        self.folder, self.attack, self.epsilon, self.batch = folder, attack, epsilon, batch
        self.steps, self.random = STEPS[attack], attack == "pgd"
        self.before = megabytes()
        self.notes: dict[str, float] = {}

    def batches(
        self, run: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, float]:
        """Time `run` over pictures / 255 in batches, after one untimed call on the first batch."""
        inputs = self.images.astype("float32") / 255
        run(inputs[: self.batch], self.labels[: self.batch])
        started, rows = time.perf_counter(), []
        for at in range(0, len(inputs), self.batch):
            rows.append(
                np.asarray(run(inputs[at : at + self.batch], self.labels[at : at + self.batch]))
            )
        found = np.concatenate(rows)
        self.model.predict(found, batch_size=self.batch, verbose=0)
        return found * 255, time.perf_counter() - started


def ours(case: Case, precision: str = "float32") -> tuple[np.ndarray, float]:
    import robustness
    from robustness.attacks import BIM, PGD
    from robustness.images.png import from_png
    from robustness.runs.store import Run

    attack = (
        PGD(steps=case.steps, step_size=STEP)
        if case.random
        else BIM(steps=case.steps, step_size=STEP)
    )
    classifier = robustness.Classifier(case.model, scaling="0..1", class_names=["cat", "dog"])
    run_folder = case.folder / f"run-{case.attack}-{case.epsilon:g}"
    # Left over from an earlier round.
    shutil.rmtree(run_folder, ignore_errors=True)
    started = time.perf_counter()
    said: dict[str, float] = {}
    result = robustness.audit(
        classifier, case.images, labels=case.labels, attacks=[attack], epsilons=[case.epsilon],
        batch_size=case.batch, out=run_folder, precision=precision,
        progress=lambda told: said.update({told.stage: time.perf_counter() - started}),
    )  # fmt: skip
    case.notes["whole"] = time.perf_counter() - started
    seconds = said[attack.label]
    found = case.images.astype("float32")
    with Run.open(result.path) as run:
        positions = {row.key: row.position for row in run.image_rows()}
        keys = {f"row {i}": i for i in range(len(found))}
        outcomes = run.outcomes()
        case.notes |= {"gradients_per_second": float(outcomes.backward.sum() / seconds)}
        for row in outcomes.query("status == 'flipped'").itertuples():
            key = str(row.image)
            found[keys.get(key, positions[key])] = from_png(run.png(str(row.png)))
    return found, seconds


def art(case: Case) -> tuple[np.ndarray, float]:
    import tensorflow as tf
    from art.attacks.evasion import BasicIterativeMethod, ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(
        model=case.model, nb_classes=2, input_shape=case.images.shape[1:], clip_values=(0.0, 1.0),
        loss_object=tf.keras.losses.CategoricalCrossentropy(),
    )  # fmt: skip
    shared = {"eps": case.epsilon / 255, "eps_step": STEP / 255, "max_iter": case.steps}
    shared |= {"batch_size": case.batch, "verbose": False}
    if case.random:
        attack = ProjectedGradientDescent(classifier, num_random_init=1, **shared)
    else:
        attack = BasicIterativeMethod(classifier, **shared)
    return case.batches(lambda x, y: attack.generate(x, y=np.eye(2, dtype="float32")[y]))


def foolbox(case: Case) -> tuple[np.ndarray, float]:
    # Its array layer calls a function that NumPy 2 has dropped; without this it does not run at all.
    setattr(np, "find_common_type", lambda arrays, scalars: np.result_type(*arrays, *scalars))  # noqa: B010
    import tensorflow as tf
    from foolbox import TensorFlowModel
    from foolbox.attacks import LinfPGD

    model = TensorFlowModel(case.model, bounds=(0.0, 1.0))
    attack = LinfPGD(abs_stepsize=STEP / 255, steps=case.steps, random_start=case.random)

    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        _, clipped, _ = attack(
            model, tf.constant(x), tf.constant(y.astype("int32")), epsilons=case.epsilon / 255
        )
        return clipped.numpy()

    return case.batches(run)


def cleverhans(case: Case) -> tuple[np.ndarray, float]:
    import tensorflow as tf
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    # CleverHans takes logits.
    head = case.model.layers[-1]
    body = case.model.__class__(case.model.layers[:-1])
    kernel, bias = head.kernel, head.bias

    def logits(x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(body(x, training=False), kernel) + bias

    def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return projected_gradient_descent(
            logits, tf.constant(x), case.epsilon / 255, STEP / 255, case.steps, np.inf,
            clip_min=0.0, clip_max=1.0, y=tf.constant(y), rand_init=case.random, sanity_checks=False,
        ).numpy()  # fmt: skip

    return case.batches(run)


def floor(case: Case) -> tuple[np.ndarray, float]:
    """Time the bare gradient and our engine's step of as many rows, alternating: machines are noisy."""
    import tensorflow as tf

    import robustness
    from robustness.attacks import PGD
    from robustness.engine.compiled_batch import CompiledBatch
    from robustness.engine.jobs import AttackJob, Example

    @tf.function(autograph=False)
    def gradient(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.keras.losses.sparse_categorical_crossentropy(y, case.model(x, training=False))
        return tape.gradient(loss, x)

    x = tf.constant(case.images[: case.batch].astype("float32") / 255)
    y = tf.constant(case.labels[: case.batch])
    classifier = robustness.Classifier(case.model, scaling="0..1", class_names=["cat", "dog"])
    threat = robustness.Threat((case.epsilon,))
    rows = CompiledBatch(classifier, PGD(steps=case.steps), threat, batch_size=case.batch, seed=0)
    some = enumerate(zip(case.images[: case.batch], case.labels[: case.batch], strict=True))
    places = [AttackJob(Example(str(i), x, int(y)), case.epsilon) for i, (x, y) in some]
    state = rows.load(None, range(case.batch), places)
    times: dict[str, list[float]] = {"bare": [], "step": []}
    for _ in range(16):
        started = time.perf_counter()
        gradient(x, y).numpy()
        between = time.perf_counter()
        state, _ = rows.step(state)
        times["bare"].append(between - started)
        times["step"].append(time.perf_counter() - between)
    # The first call of each traces.
    bare, step = (float(np.median(times[name][1:])) for name in ("bare", "step"))
    case.notes["step_of_floor"] = bare / step
    return case.images.astype("float32"), bare / case.batch * len(case.images) * case.steps


OURS: dict[str, Callable[[Case], tuple[np.ndarray, float]]] = {
    "ours": ours,
    "ours-bfloat16": partial(ours, precision="bfloat16"),
}
LIBRARIES: dict[str, Callable[[Case], tuple[np.ndarray, float]]] = {
    "floor": floor,
    **OURS,
    "art": art,
    "foolbox": foolbox,
    "cleverhans": cleverhans,
}


def judge(folder: Path, found: np.ndarray, epsilon: float, some: int) -> dict[str, float]:
    """Robust accuracy: the share classified correctly both before and as rounded picture in the ball.

    `robust` is over all attacked images, `robust_some` over the first `some`, which every library attacked.
    """
    import keras

    data = np.load(folder / "data.npz")
    images, labels = data["images"][: len(found)].astype("float32"), data["labels"][: len(found)]
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    legal = np.clip(np.round(found), images - epsilon, images + epsilon).clip(0, 255)
    right = model.predict(images / 255, verbose=0).argmax(1) == labels
    held = model.predict(legal / 255, verbose=0).argmax(1) == labels
    both = right & held
    return {
        "clean": float(right.mean()),
        "robust": float(both.mean()),
        "robust_some": float(both[:some].mean()),
    }


def worker(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.folder)
    if arguments.worker == "judge":
        found = np.load(folder / "found.npy")
        print(json.dumps(judge(folder, found, arguments.epsilon, arguments.peer_count)))
        return
    if arguments.worker in (*OURS, "floor"):
        # Imported before Keras, as the README says: importing it chooses the kernels.
        import robustness  # noqa: F401
    case = Case(folder, arguments.attack, arguments.epsilon, arguments.count, arguments.batch)
    found, seconds = LIBRARIES[arguments.worker](case)
    np.save(folder / "found.npy", found)
    used = megabytes() - case.before
    print(json.dumps({"seconds": seconds, "megabytes": used, "steps": case.steps, **case.notes}))


def call(  # noqa: PLR0917 - one row of the measurement
    name: str,
    folder: Path,
    attack: str,
    epsilon: float,
    count: int,
    batch: int,
    few: int,
    same: bool,
) -> dict:
    words = [
        sys.executable,
        __file__,
        "--worker",
        name,
        "--folder",
        str(folder),
        "--attack",
        attack,
    ]
    words += ["--epsilon", str(epsilon), "--count", str(count), "--batch", str(batch)]
    words += ["--peer-count", str(few)]
    root = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    settings = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths}
    settings.pop(KERNELS, None)
    if same:
        settings[KERNELS] = "1"
    done = subprocess.run(words, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:200] if done.stderr else "no output"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def prepare(arguments: argparse.Namespace, folder: Path) -> int:
    """Write the model and the photos once for all workers; return the number of photos."""
    from benchmarks.subjects import pictures
    from robustness.model_zoo import load

    classifier = load(arguments.model)
    pixels, labels = pictures(arguments.images, classifier, arguments.count)
    np.savez(folder / "data.npz", images=pixels, labels=labels)
    classifier.model.save(folder / "model.keras")
    return len(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="dogs-vs-cats")
    parser.add_argument(
        "--images", default="pets:256", help="Kaggle's archive, a folder, or pets:N"
    )
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument(
        "--peer-count",
        type=int,
        help="number of photos for other libraries, times scaled up; default: all",
    )
    parser.add_argument("--epsilons", default="1,2,4,8")
    parser.add_argument("--attacks", default="bim,pgd")
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument(
        "--kernels",
        choices=("same", "own"),
        default="same",
        help="oneDNN kernels for all libraries, or the default kernels of each",
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="repetitions for all libraries; medians are shown"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--epsilon", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    rows = []
    same = arguments.kernels == "same"
    print(f"{date.today()}, {platform.platform()}, {os.cpu_count()} cores, batch {arguments.batch}")
    print(
        "| attack | epsilon | library | photos | s / photo (the whole audit) | image-steps / s "
        "| robust accuracy (on those all attacked) | MB |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = prepare(arguments, folder)
        for attack in arguments.attacks.split(","):
            for epsilon in map(float, arguments.epsilons.split(",")):
                few = min(count, arguments.peer_count or count)
                rounds: dict[str, list[dict]] = {}
                for number in range(arguments.rounds):
                    for library in arguments.libraries.split(","):
                        some = count if library in OURS else few
                        what = (folder, attack, epsilon, some, arguments.batch, few, same)
                        row = call(library, *what)
                        if "seconds" in row and library != "floor" and number == 0:
                            row |= call("judge", *what)
                        row |= {"photos": some}
                        rounds.setdefault(library, []).append(row)
                        print(f"round {number + 1}: {library}", row, file=sys.stderr, flush=True)
                for library, several in rounds.items():
                    row = {"attack": attack, "epsilon": epsilon, "library": library, **several[0]}
                    if not any("error" in one for one in several):
                        row["rounds"] = [one["seconds"] for one in several]
                        for part in {"seconds", "whole"} & row.keys():
                            row[part] = float(np.median([one[part] for one in several]))
                    rows.append(row)
                    print(line(row), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


def line(row: dict) -> str:
    start = f"| {row['attack']} | {row['epsilon']:g} | {row['library']} | {row['photos']} | "
    if "error" in row:
        return f"{start}failed: {row['error']} | | | |"
    each = row["seconds"] / row["photos"]
    robust = f"{row['robust']:.3f} ({row['robust_some']:.3f})" if "robust" in row else ""
    if "step_of_floor" in row:
        robust = f"(our step: {row['step_of_floor']:.2f} of this)"
    whole = f" ({row['whole'] / row['photos']:.4f})" if "whole" in row else ""
    return f"{start}{each:.4f}{whole} | {row['steps'] / each:.1f} | {robust} | {row['megabytes']:.0f} |"


if __name__ == "__main__":
    main()
