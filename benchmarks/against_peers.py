"""Compare attacks with those of other libraries: same model, images and steps, one judge of 8-bit pictures.

    python benchmarks/against_peers.py --model digits --count 200 --epsilon 20

Each library runs in a process of its own. The model is a ten-class CNN on scikit-learn's digits, trained
here (plain or adversarially), or one of the Dogs-vs-Cats CNNs; torchattacks gets a PyTorch network with the
same weights. Attacks of a fixed budget are compared by robust accuracy, those that minimise the change by
the median distance. The judge rounds each result to 8 bits. Where rounding undoes a flip, it lengthens the
change a little (never beyond a fixed budget), for all libraries alike.

Each attack is called several times with the same images. "cold" is the first call, tracing and warm-up
included; "warm" is the median of the later calls: as many as fit into one second of processor time, at least
one, at most nine. Models and attacks are built before the first call. A call includes the model's
predictions for the result: ours saves, reads back and judges every flip; the others make one pass of their
own model, without which the flips are unknown. Times are wall-clock seconds and, in parentheses, processor
seconds, which other work on the machine disturbs less. The number after a plus is the processor time that
our judge needs to save, read back and measure another library's result, without that pass.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from robustness.engine import compiled_batch, jobs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contests import CONTESTS, Contest
from benchmarks.peers import Run, Setting, times

LIBRARIES = ("foolbox", "art.attacks.evasion", "cleverhans.tf2", "torchattacks")
CALLS = 9
"""Largest number of timed warm calls."""
LONGER = (1.0, 1.005, 1.01, 1.02, 1.05, 1.1)
"""Factors that the judge applies to a change: one that ends on the boundary would not survive rounding."""


def change_lengths(delta: np.ndarray, norm: str) -> np.ndarray:
    """The length of each row of changes, in counts."""
    flat = np.abs(delta.reshape(len(delta), -1))
    return flat.sum(1) if norm == "l1" else np.sqrt((flat * flat).sum(1))


def score_of(
    found: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    says: Callable[[np.ndarray], np.ndarray],
    *,
    epsilon: float,
    norm: str | None,
) -> float:
    """Robust accuracy, or the median distance, of 8-bit pictures; `says` gives their classes.

    Within a fixed budget only changes that flip before rounding may be lengthened. Ours returns the original
    where it finds no flip, so that lengthening every change would give other libraries six tries for our one.
    """
    delta = found - images
    least = np.full(len(images), np.inf)
    ball = None if norm else (images - epsilon, images + epsilon)
    may = np.full(len(images), True) if ball is None else says(np.clip(found, *ball)) != labels
    for longer in LONGER:
        grid = np.clip(np.round(images + longer * delta), 0, 255)
        grid = grid if ball is None else np.clip(grid, *ball)
        flipped = (says(grid) != labels) & (may | (longer == 1))
        least = np.minimum(
            least, np.where(flipped, change_lengths(grid - images, norm or "l2"), np.inf)
        )
    return float(np.median(least)) if norm else float(np.isinf(least).mean())


def ours(
    contest: Contest, classifier: Any, epsilon: float, seed: int
) -> tuple[Run, np.ndarray, dict[int, bytes]]:
    """Our attack as a `Run`, with an array of its forward and backward passes and a dictionary of its files.

    Tracing, the judge and PNG encoding are included, checks of the model are not. Compiled batches are reused
    by later calls. The run returns its input; `with_files` replaces flipped images by their files.
    """
    from robustness.contract.ensembles import create, resolve
    from robustness.engine import batch_size, search
    from robustness.threat import norms
    from robustness.threat.goals import parse as parse_goal
    from robustness.threat.threat import Threat

    pixels = int(np.prod(classifier.input_shape))
    top = {"l1": 255.0 * pixels, "l2": 255.0 * pixels**0.5}
    name, _, told = contest.ours.partition(":")
    words = dict(part.split("=") for part in told.split(",") if part)
    asked = create(name, {k: str(times(v, epsilon)) for k, v in words.items()})
    norm, goal = norms.parse(contest.norm or "linf"), parse_goal(None, classifier.class_names)
    threat = Threat((epsilon if contest.norm is None else top[contest.norm],), norm, goal)
    attacks = resolve([asked], norm, goal, classifier.class_names).attacks
    compiled: dict[Any, compiled_batch.CompiledBatch] = {}
    passes = np.zeros(2)
    files: dict[int, bytes] = {}

    def run(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        pictures = np.round(images * 255).astype("uint8")
        standing = {
            str(i): jobs.Example(str(i), x, int(y))
            for i, (x, y) in enumerate(zip(pictures, labels, strict=True))
        }
        passes[:] = 0
        files.clear()

        for attack in filter(lambda _: standing, attacks):
            size = batch_size.even_batches(
                batch_size.batch_size_for(classifier) // attack.width, len(standing)
            )
            if attack not in compiled:
                compiled[attack] = compiled_batch.CompiledBatch(
                    classifier, attack, threat, batch_size=size, seed=seed
                )
            for example, (outcome,) in search.search(compiled[attack], list(standing.values())):
                passes[:] += [outcome.forward, outcome.backward]
                if outcome.flip:
                    files[int(example.key)] = outcome.flip.png
                    del standing[example.key]
        return images

    return run, passes, files


def with_files(found: np.ndarray, files: dict[int, bytes]) -> np.ndarray:
    """Pictures in counts, replaced by the content of their file where there is one."""
    from robustness.images.png import from_png

    pictures = np.asarray(found) * 255
    for place, data in files.items():
        pictures[place] = from_png(data)
    return pictures


def judge_seconds(
    found: np.ndarray, images: np.ndarray, labels: np.ndarray, classifier: Any
) -> float:
    """Processor seconds that the judge of an audit needs for a library's result (in counts).

    The prediction pass is subtracted, since the library's own call already includes one.
    """
    from robustness.engine.judge import Candidate, Judge
    from robustness.threat.threat import Threat

    pictures, originals = (np.clip(np.round(x), 0, 255).astype("uint8") for x in (found, images))
    suspects = [
        Candidate(original, int(label), np.inf, picture)
        for original, label, picture in zip(originals, labels, pictures, strict=True)
    ]
    judge = Judge(classifier, Threat((1e6,)))

    def seconds(what: Callable[[], Any]) -> float:
        return timed(what)[1][1]

    more = [
        seconds(lambda: judge(suspects)) - seconds(lambda: classifier.probabilities(pictures))
        for _ in range(4)
    ]
    return max(0.0, float(np.median(more[1:])))


def timed(run: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """The result of `run`, and its wall-clock and processor seconds."""
    clock, processor = time.perf_counter(), time.process_time()
    ran = run()
    return ran, (time.perf_counter() - clock, time.process_time() - processor)


def worker(library: str, folder: Path, number: int, epsilon: float, seeds: int) -> dict[str, Any]:
    """Run one contest with one library: a score for each seed, and the times of the cold and warm calls."""
    warnings.simplefilter("ignore")
    import keras

    from robustness.models.classifier import Classifier

    data, contest = np.load(folder / "data.npz"), CONTESTS[number]
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    classifier = Classifier(model, scaling="0..255", head="logits")
    images, labels = data["images"].astype("float32"), data["labels"]

    def build(seed: int) -> tuple[Run, np.ndarray | None, dict[int, bytes]]:
        if library == "ours":
            return ours(contest, classifier, epsilon, seed)
        wide = keras.Sequential(
            [keras.Input(images.shape[1:]), keras.layers.Rescaling(255.0), model]
        )
        setting = Setting(wide, epsilon / 255, model.output_shape[-1])
        return contest.theirs[library](setting), None, {}

    def score(found: np.ndarray) -> float:
        return score_of(
            found,
            images,
            labels,
            lambda x: classifier.probabilities(x).argmax(1),
            epsilon=epsilon,
            norm=contest.norm,
        )

    found: dict[int, np.ndarray] = {}
    told: dict[str, Any] = {}
    for seed in range(seeds):
        run, passes, files = build(seed)
        # Seeded before the calls, not between them: TensorFlow drops its kernels when it is seeded.
        keras.utils.set_random_seed(seed)

        def once(run: Run = run) -> np.ndarray:
            return np.asarray(run(images / 255, labels))

        ran, cold = timed(once)
        found[seed] = with_files(ran, files)
        if not seed:
            warm: list[tuple[float, float]] = []
            while len(warm) < CALLS and sum(processor for _, processor in warm) < 1:
                warm.append(timed(once)[1])
            told |= {"cold": cold, "warm": tuple(np.median(warm, axis=0).tolist())}
        if passes is not None:
            told.setdefault("passes", (passes / len(images)).tolist())
        elif not seed:
            told["filed"] = judge_seconds(found[0], images, labels, classifier)
    np.save(folder / f"{number}-{library}.npy", np.round(found[0]))
    return told | {"scores": [score(pictures) for pictures in found.values()]}


def call(library: str, folder: Path, number: int, epsilon: float, seeds: int) -> dict[str, Any]:
    """The result of `worker`, run in a process of its own, or its error."""
    # The server imports the libraries in advance, so that imports are not timed.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["robustness", "keras", "tensorflow", *LIBRARIES])
    with ProcessPoolExecutor(1, mp_context=server, max_tasks_per_child=1) as process:
        try:
            return process.submit(worker, library, folder, number, epsilon, seeds).result()
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:160]}


def agreement(folder: Path, number: int, libraries: list[str]) -> str:
    """The share of components in which each library's pictures equal ours exactly."""
    files = {name: folder / f"{number}-{name}.npy" for name in libraries}
    mine, images = np.load(files["ours"]), np.load(folder / "data.npz")["images"]
    # Only flipped images: for the others ours returns the original.
    flipped = (mine != images).any(axis=(1, 2, 3))
    shares = [
        f"{name} {(np.load(file)[flipped] == mine[flipped]).mean():.4%}"
        for name, file in files.items()
        if name != "ours" and file.exists()
    ]
    return ", ".join(shares)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--model",
        choices=("digits", "digits-hardened", "dogs-vs-cats", "dogs-vs-cats-robust"),
        default="digits",
    )
    parser.add_argument(
        "--images",
        default="pets:256",
        help="images for the CNNs: Kaggle's archive, a folder, or pets:N",
    )
    parser.add_argument(
        "--count", type=int, default=200, help="number of correctly classified images"
    )
    parser.add_argument("--epsilon", type=float, default=20.0, help="budget in counts, linf")
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        help="runs of each attack; mean and range are shown, times of the first",
    )
    parser.add_argument("--only", default="", help="prefixes of contest names, comma-separated")
    parser.add_argument(
        "--libraries", default="", help="libraries to compare, comma-separated; default: all"
    )
    given = parser.parse_args()
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    from benchmarks.subjects import of_logits

    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores: {given.model},")
    print(f"{given.count} images, epsilon {given.epsilon:g}, {given.seeds} seed(s)\n")
    print(
        "| attack | library | robust accuracy or median distance | cold | warm "
        "| passes of an image |"
    )
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, images, labels = of_logits(given.model, given.count, given.images)
        model.save(folder / "model.keras")
        np.savez(folder / "data.npz", images=images, labels=labels)
        for number, contest in enumerate(CONTESTS):
            if not contest.name.startswith(tuple(given.only.split(","))):
                continue
            chosen = given.libraries.split(",") if given.libraries else ["ours", *contest.theirs]
            libraries = [name for name in ("ours", *contest.theirs) if name in chosen]
            for library in libraries:
                told = call(library, folder, number, given.epsilon, given.seeds)
                print(line(contest, library, told), flush=True)
            if contest.name == "FGSM" and "ours" in libraries:
                print(f"\nFGSM, components equal to ours: {agreement(folder, number, libraries)}\n")


def line(contest: Contest, library: str, told: dict[str, Any]) -> str:
    start = f"| {contest.name} | {library} | "
    if "error" in told:
        return f"{start}failed: {told['error']} | | | |"
    scores = told["scores"]
    mean, *ends = (shown(contest, x) for x in (float(np.mean(scores)), min(scores), max(scores)))
    spread = f" ({ends[0]} to {ends[1]})" if ends[0] != ends[1] else ""
    seconds = " | ".join("{:.2f} ({:.2f})".format(*told[which]) for which in ("cold", "warm"))
    seconds += f" + {told['filed']:.2f}" if "filed" in told else ""
    passes = "{:.0f} + {:.0f}".format(*told["passes"]) if "passes" in told else ""
    return f"{start}{mean}{spread} | {seconds} | {passes} |"


def shown(contest: Contest, score: float) -> str:
    return f"{score:.2%}" if contest.norm is None else f"{score:.2f} {contest.norm}"


if __name__ == "__main__":
    main()
