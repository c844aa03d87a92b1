"""Our attacks and the field's: the same model, images, steps, and one judge of 8-bit pictures.

    python benchmarks/against_peers.py --model digits --count 200 --epsilon 20

A process for each library. The model is a ten-class CNN on scikit-learn's digits, plain or adversarially
trained, trained here, or one of the Dogs-vs-Cats CNNs; torchattacks gets a PyTorch twin of its weights.
Attacks of a fixed budget are compared by robust accuracy; those that look for the smallest change by
the median distance. The judge rounds what a library hands in to 8 bits, and where that undoes a flip,
lengthens the change a little (never beyond a fixed budget), for everybody alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.contests import CONTESTS, Contest
from benchmarks.peers import Setting, times

LONGER = (1.0, 1.005, 1.01, 1.02, 1.05, 1.1)
"""Lengths of a change that the judge tries: one that ends on the boundary would not survive rounding."""


def far(delta: np.ndarray, norm: str) -> np.ndarray:
    """The length of each row of changes, in counts."""
    flat = np.abs(delta.reshape(len(delta), -1))
    return flat.sum(1) if norm == "l1" else np.sqrt((flat * flat).sum(1))


def judged(
    found: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    says: Callable[[np.ndarray], np.ndarray],
    *,
    epsilon: float,
    norm: str | None,
) -> float:
    """Robust accuracy, or the median distance, of 8-bit pictures; `says` gives their classes."""
    delta = found - images
    least = np.full(len(images), np.inf)
    for longer in LONGER:
        grid = np.clip(np.round(images + longer * delta), 0, 255)
        if norm is None:
            grid = np.clip(grid, images - epsilon, images + epsilon)
        flipped = says(grid) != labels
        least = np.minimum(least, np.where(flipped, far(grid - images, norm or "l2"), np.inf))
    return float(np.median(least)) if norm else float(np.isinf(least).mean())


def ours(
    contest: Contest, classifier: Any, data: Any, epsilon: float, seed: int
) -> tuple[np.ndarray, dict]:
    """Our attack, its files judged: tracing, verification and PNG included, but no checks of the model."""
    from robustness import capacity, engine, norms
    from robustness.classifier import GROUP
    from robustness.ensembles import create, resolve
    from robustness.goals import parse as parse_goal
    from robustness.pictures import from_png
    from robustness.threat import Threat

    top = {"l1": 255.0 * data["images"][0].size, "l2": 255.0 * data["images"][0].size ** 0.5}
    budget = epsilon if contest.norm is None else top[contest.norm]
    name, _, told = contest.ours.partition(":")
    words = dict(part.split("=") for part in told.split(",") if part)
    asked = create(name, {k: str(times(v, epsilon)) for k, v in words.items()})
    norm, goal = norms.parse(contest.norm or "linf"), parse_goal(None, classifier.class_names)
    found = data["images"].astype("float32")
    standing = {
        str(i): engine.Subject(str(i), x, int(y))
        for i, (x, y) in enumerate(zip(data["images"], data["labels"], strict=True))
    }
    passes = np.zeros(2)

    def settle(subject: engine.Subject, rungs: list[engine.Rung]) -> None:
        passes[:] += [rungs[0].forward, rungs[0].backward]
        if rungs[0].flip:
            found[int(subject.key)] = from_png(rungs[0].flip.png)
            del standing[subject.key]

    for attack in resolve([asked], norm, goal, classifier.class_names).attacks:
        slots = capacity.whole(max(1, capacity.slots_for(classifier) // attack.width))
        engine.search(
            classifier,
            attack,
            Threat((budget,), norm, goal),
            iter(list(standing.values())),
            settle,
            slots=min(slots, -(-len(standing) // GROUP) * GROUP),
            seed=seed,
        )
        if not standing:
            break
    forward, backward = passes / len(found)
    return found, {"forward": round(forward), "backward": round(backward)}


def worker(library: str, folder: Path, number: int, epsilon: float, seed: int) -> None:
    import keras

    from robustness.classifier import Classifier

    data, contest = np.load(folder / "data.npz"), CONTESTS[number]
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    classifier = Classifier(model, scaling="0..255", head="logits")
    images = data["images"].astype("float32")
    told: dict[str, Any] = {}
    if library == "ours":
        started = time.perf_counter()
        found, told = ours(contest, classifier, data, epsilon, seed)
    else:
        wide = keras.Sequential(
            [keras.Input(images.shape[1:]), keras.layers.Rescaling(255.0), model]
        )
        setting = Setting(wide, epsilon / 255, model.output_shape[-1])
        run = contest.theirs[library](setting)
        keras.utils.set_random_seed(seed)
        started = time.perf_counter()
        found = np.asarray(run(images / 255, data["labels"])) * 255
    told["seconds"] = time.perf_counter() - started
    told["score"] = judged(
        found,
        images,
        data["labels"],
        lambda x: classifier.probabilities(x).argmax(1),
        epsilon=epsilon,
        norm=contest.norm,
    )
    np.save(folder / f"{number}-{library}.npy", np.round(found))
    print(json.dumps(told))


def means(library: str, folder: Path, number: int, epsilon: float, seeds: int) -> dict[str, Any]:
    """Of `seeds` calls, each figure by itself; of one that fails, why."""
    several = [call(library, folder, number, epsilon, seed) for seed in range(seeds)]
    failed = next((one for one in several if "error" in one), None)
    return failed or {name: float(np.mean([one[name] for one in several])) for name in several[0]}


def call(library: str, folder: Path, number: int, epsilon: float, seed: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--worker", library, "--folder", str(folder)]
    words += ["--number", str(number), "--epsilon", str(epsilon), "--seed", str(seed)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        words, env=os.environ | quiet, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:160]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def agreement(folder: Path, number: int, libraries: list[str]) -> str:
    """On which share of components the libraries' pictures are ours, to the count."""
    files = {name: folder / f"{number}-{name}.npy" for name in libraries}
    mine, images = np.load(files["ours"]), np.load(folder / "data.npz")["images"]
    # Ours are there where they flip; elsewhere the original stands in their place.
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
        "--images", default="pets:256", help="of the CNNs: Kaggle's archive, a folder, or pets:N"
    )
    parser.add_argument("--count", type=int, default=200, help="images, all classified right")
    parser.add_argument("--epsilon", type=float, default=20.0, help="counts, linf")
    parser.add_argument(
        "--seeds", type=int, default=1, help="runs of each, of which means are shown"
    )
    parser.add_argument("--only", default="", help="contests whose name begins so, by commas")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, Path(given.folder), given.number, given.epsilon, given.seed)
        return
    from benchmarks.subjects import of_logits

    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores: {given.model},")
    print(f"{given.count} images, epsilon {given.epsilon:g}, {given.seeds} seed(s)\n")
    print(
        "| attack | library | robust accuracy or median distance | seconds | passes of an image |"
    )
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, images, labels = of_logits(given.model, given.count, given.images)
        model.save(folder / "model.keras")
        np.savez(folder / "data.npz", images=images, labels=labels)
        for number, contest in enumerate(CONTESTS):
            if not contest.name.startswith(tuple(given.only.split(","))):
                continue
            libraries = ["ours", *contest.theirs]
            for library in libraries:
                told = means(library, folder, number, given.epsilon, given.seeds)
                print(line(contest, library, told), flush=True)
            if contest.name == "FGSM":
                print(f"\nFGSM, components equal to ours: {agreement(folder, number, libraries)}\n")


def line(contest: Contest, library: str, told: dict[str, Any]) -> str:
    start = f"| {contest.name} | {library} | "
    if "error" in told:
        return f"{start}failed: {told['error']} | | |"
    score = (
        f"{told['score']:.1%}" if contest.norm is None else f"{told['score']:.2f} {contest.norm}"
    )
    passes = f"{told['forward']:.0f} + {told['backward']:.0f}" if "forward" in told else ""
    return f"{start}{score} | {told['seconds']:.1f} | {passes} |"


if __name__ == "__main__":
    main()
