"""Our attacks and the field's: the same model, images, steps, and one judge of 8-bit pictures.

    python benchmarks/against_peers.py --count 200 --epsilon 20

A process for each library. The model is a ten-class CNN on scikit-learn's digits, plain or (`--model
hardened`) adversarially trained, trained here; torchattacks gets a PyTorch twin of the same weights.
Attacks of a fixed budget are compared by robust accuracy; those that look for the smallest change by
the median distance. The judge rounds what a library hands in to 8 bits, and where that undoes a flip
of a minimiser, lengthens the change a little, for everybody alike.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LONGER = (1.0, 1.005, 1.01, 1.02, 1.05, 1.1)
"""Lengths of a minimiser's change that the judge tries."""


@dataclass(frozen=True)
class Contest:
    """One attack as each library writes it. `norm` is what a minimiser minimises; None: fixed budget."""

    name: str
    ours: str
    theirs: dict[str, Callable[[Any, float], Any]]
    norm: str | None = None


# What is made of (model, epsilon as a share of the range): a function (images, labels) -> images.


def _foolbox(name: str, **words: Any) -> Callable[[Any, float], Any]:
    def make(model: Any, epsilon: float) -> Any:
        # Its array layer calls a function that NumPy 2 has dropped.
        np.find_common_type = lambda arrays, scalars: np.result_type(*arrays, *scalars)
        import foolbox
        import tensorflow as tf

        found = getattr(foolbox.attacks, name)(**{k: _told(v, epsilon) for k, v in words.items()})
        wrapped = foolbox.TensorFlowModel(model, bounds=(0.0, 1.0))
        budget = epsilon if "Linf" in name or name == "LinfPGD" else None

        def run(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
            aims = tf.constant(labels.astype("int32"))
            _, clipped, _ = found(wrapped, tf.constant(images), aims, epsilons=budget)
            return clipped.numpy()

        return run

    return make


def _art(name: str, **words: Any) -> Callable[[Any, float], Any]:
    def make(model: Any, epsilon: float) -> Any:
        import tensorflow as tf
        from art.attacks import evasion
        from art.estimators.classification import TensorFlowV2Classifier

        classifier = TensorFlowV2Classifier(
            model=model,
            nb_classes=10,
            input_shape=model.input_shape[1:],
            clip_values=(0.0, 1.0),
            loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
        )
        told = {k: _told(v, epsilon) for k, v in words.items()}
        attack = getattr(evasion, name)(classifier, **told)
        return lambda x, y: attack.generate(x, y=np.eye(10, dtype="float32")[y])

    return make


def _cleverhans(name: str, **words: Any) -> Callable[[Any, float], Any]:
    def make(model: Any, epsilon: float) -> Any:
        from importlib import import_module

        import tensorflow as tf

        attack = getattr(import_module(f"cleverhans.tf2.attacks.{name}"), name)
        told = {k: _told(v, epsilon) for k, v in words.items()}
        if name == "spsa":
            # It takes one picture at a time.
            return lambda x, y: np.concatenate(
                [
                    attack(model, tf.constant(x[i : i + 1]), y=tf.constant(y[i : i + 1]), **told)
                    for i in range(len(x))
                ]
            )
        return lambda x, y: attack(model, tf.constant(x), y=tf.constant(y), **told).numpy()

    return make


def _torchattacks(name: str, **words: Any) -> Callable[[Any, float], Any]:
    def make(model: Any, epsilon: float) -> Any:
        import torch
        import torchattacks

        attack = getattr(torchattacks, name)(
            twin(model), **{k: _told(v, epsilon) for k, v in words.items()}
        )

        def run(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
            planes = torch.tensor(images.transpose(0, 3, 1, 2).copy())
            found = attack(planes, torch.tensor(labels.astype("int64")))
            return found.detach().numpy().transpose(0, 2, 3, 1)

        return run

    return make


def _told(value: Any, epsilon: float) -> Any:
    """A parameter; a text is a multiple of epsilon."""
    is_share = isinstance(value, str) and value.startswith("eps*")
    return float(value.removeprefix("eps*")) * epsilon if is_share else value


def twin(model: Any) -> Any:
    """The PyTorch network with a Keras model's weights: the same function of (n, c, h, w)."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    shape: tuple[int, ...] = tuple(model.input_shape[1:])
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
        elif kind == "MaxPooling2D":
            layers.append(nn.MaxPool2d(2))
        elif kind == "Flatten":
            shape = tuple(layer.input.shape[1:])
            layers.append(nn.Flatten())
        elif kind == "Dense":
            kernel, bias = weights
            if len(kernel) == np.prod(shape):
                # Keras flattens height, width, channels; PyTorch channels, height, width.
                kernel = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(len(kernel), -1)
            made = nn.Linear(*kernel.shape)
            made.weight.data = torch.tensor(kernel.T.copy())
            made.bias.data = torch.tensor(bias)
            layers += [made, nn.ReLU()] if layer.activation.__name__ == "relu" else [made]
        elif kind != "InputLayer":
            raise ValueError(f"No twin for a layer {kind}.")
    return nn.Sequential(*layers).eval()


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


FIXED = {"eps": "eps*1", "alpha": "eps*0.1", "steps": 10}
CONTESTS = (
    Contest(
        "FGSM",
        "fgsm",
        {
            "foolbox": _foolbox("LinfFastGradientAttack", random_start=False),
            "art": _art("FastGradientMethod", eps="eps*1"),
            "cleverhans": _cleverhans(
                "fast_gradient_method", eps="eps*1", norm=np.inf, clip_min=0.0, clip_max=1.0
            ),
            "torchattacks": _torchattacks("FGSM", eps="eps*1"),
        },
    ),
    Contest(
        "PGD, 20 steps",
        "pgd:steps=20",
        {
            "foolbox": _foolbox("LinfPGD", steps=20, rel_stepsize=0.25),
            "art": _art(
                "ProjectedGradientDescent",
                eps="eps*1",
                eps_step="eps*0.25",
                max_iter=20,
                num_random_init=1,
                verbose=False,
            ),
            "cleverhans": _cleverhans(
                "projected_gradient_descent",
                eps="eps*1",
                eps_iter="eps*0.25",
                nb_iter=20,
                norm=np.inf,
                clip_min=0.0,
                clip_max=1.0,
                sanity_checks=False,
            ),
            "torchattacks": _torchattacks("PGD", eps="eps*1", alpha="eps*0.25", steps=20),
        },
    ),
    Contest(
        "MI-FGSM, 10 steps",
        "mi-fgsm:steps=10,step_size=2",
        {
            "torchattacks": _torchattacks("MIFGSM", **FIXED),
        },
    ),
    Contest(
        "NI-FGSM, 10 steps",
        "ni-fgsm:steps=10,step_size=2",
        {
            "torchattacks": _torchattacks("NIFGSM", **FIXED),
        },
    ),
    Contest(
        "VMI-FGSM, 10 steps",
        "vmi-fgsm:steps=10,step_size=2,neighbours=5",
        {
            "torchattacks": _torchattacks("VMIFGSM", **FIXED, N=5),
        },
    ),
    Contest(
        "APGD-CE, 100 steps",
        "apgd:steps=100",
        {
            "art": _art(
                "AutoProjectedGradientDescent",
                eps="eps*1",
                eps_step="eps*2",
                max_iter=100,
                nb_random_init=1,
                verbose=False,
                loss_type="cross_entropy",
            ),
            "torchattacks": _torchattacks("APGD", eps="eps*1", steps=100, n_restarts=1),
        },
    ),
    Contest(
        "FAB-T, 100 steps, 9 classes",
        "fab-t:steps=100,targets=9",
        {
            "torchattacks": _torchattacks(
                "FAB", eps="eps*1", steps=100, n_restarts=1, multi_targeted=True, n_classes=10
            ),
        },
    ),
    Contest(
        "Square, 1000 queries",
        "square:steps=1000",
        {
            "art": _art(
                "SquareAttack", eps="eps*1", max_iter=1000, p_init=0.8, nb_restarts=1, verbose=False
            ),
            "torchattacks": _torchattacks(
                "Square", eps="eps*1", n_queries=1000, n_restarts=1, p_init=0.8, loss="margin"
            ),
        },
    ),
    Contest(
        "SPSA, 20 steps of 128",
        "spsa:steps=20,samples=64",
        {
            "cleverhans": _cleverhans(
                "spsa", eps="eps*1", nb_iter=20, clip_min=0.0, clip_max=1.0, spsa_samples=64
            ),
        },
    ),
    Contest(
        "AutoAttack",
        "autoattack",
        {
            "torchattacks": _torchattacks("AutoAttack", eps="eps*1", n_classes=10),
        },
    ),
    Contest(
        "DeepFool l2, 50 steps",
        "deepfool:steps=50",
        {
            "foolbox": _foolbox("L2DeepFoolAttack", steps=50),
            "art": _art("DeepFool", max_iter=50, nb_grads=10, verbose=False),
            "torchattacks": _torchattacks("DeepFool", steps=50),
        },
        "l2",
    ),
    Contest(
        "C&W l2, 9 searches of 100",
        "cw:steps=900,binary_search_steps=9",
        {
            "foolbox": _foolbox("L2CarliniWagnerAttack", binary_search_steps=9, steps=100),
            "art": _art(
                "CarliniL2Method", binary_search_steps=9, max_iter=100, batch_size=64, verbose=False
            ),
        },
        "l2",
    ),
    Contest(
        "DDN, 100 steps",
        "ddn:steps=100",
        {
            "foolbox": _foolbox("DDNAttack", steps=100),
        },
        "l2",
    ),
    Contest(
        "FMN l2, 100 steps",
        "fmn:steps=100",
        {
            "foolbox": _foolbox("L2FMNAttack", steps=100),
        },
        "l2",
    ),
    Contest(
        "HopSkipJump l2, about 5000 queries",
        "hopskipjump:steps=5000",
        {
            "foolbox": _foolbox("HopSkipJumpAttack", steps=25, max_gradient_eval_steps=300),
        },
        "l2",
    ),
    Contest(
        "EAD l1, 9 searches of 100",
        "ead:steps=900,binary_search_steps=9",
        {
            "foolbox": _foolbox(
                "EADAttack",
                binary_search_steps=9,
                steps=100,
                decision_rule="L1",
                regularization=0.01,
            ),
            "art": _art(
                "ElasticNet",
                binary_search_steps=9,
                max_iter=100,
                batch_size=64,
                decision_rule="L1",
                beta=0.01,
                verbose=False,
            ),
        },
        "l1",
    ),
)


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
    if norm is None:
        legal = np.clip(np.round(found), images - epsilon, images + epsilon).clip(0, 255)
        return float((says(legal) == labels).mean())
    least = np.full(len(images), np.inf)
    for longer in LONGER:
        grid = np.clip(np.round(images + longer * delta), 0, 255)
        flipped = says(grid) != labels
        least = np.minimum(least, np.where(flipped, far(grid - images, norm), np.inf))
    return float(np.median(least))


def ours(contest: Contest, classifier: Any, data: Any, epsilon: float) -> tuple[np.ndarray, dict]:
    import robustness
    from robustness.ensembles import create
    from robustness.pictures import from_png
    from robustness.store import Run

    top = {"l1": 255.0 * data["images"][0].size, "l2": 255.0 * data["images"][0].size ** 0.5}
    budget = epsilon if contest.norm is None else top[contest.norm]
    name, _, told = contest.ours.partition(":")
    attack = create(name, dict(part.split("=") for part in told.split(",") if part))
    result = robustness.audit(
        classifier,
        data["images"],
        labels=data["labels"],
        attacks=[attack],
        norm=contest.norm or "linf",
        epsilons=[budget],
    )
    found = data["images"].astype("float32")
    with Run.open(result.path) as run:
        positions = {row.key: int(row.name.split()[-1]) for row in run.image_rows()}
        outcomes = run.outcomes()
        for row in outcomes.query("status == 'flipped'").itertuples():
            found[positions[row.image]] = from_png(run.png(row.png))
    passes = outcomes.groupby("image")[["forward", "backward"]].sum().mean()
    return found, {"forward": round(passes.forward), "backward": round(passes.backward)}


def worker(library: str, folder: Path, number: int, epsilon: float) -> None:
    import keras

    from robustness.classifier import Classifier

    data, contest = np.load(folder / "data.npz"), CONTESTS[number]
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    classifier = Classifier(model, scaling="0..255", head="logits")
    images = data["images"].astype("float32")
    told: dict[str, Any] = {}
    if library == "ours":
        started = time.perf_counter()
        found, told = ours(contest, classifier, data, epsilon)
    else:
        wide = keras.Sequential(
            [keras.Input(images.shape[1:]), keras.layers.Rescaling(255.0), model]
        )
        run = contest.theirs[library](wide, epsilon / 255)
        keras.utils.set_random_seed(0)
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


def call(library: str, folder: Path, number: int, epsilon: float) -> dict[str, Any]:
    words = [sys.executable, __file__, "--worker", library, "--folder", str(folder)]
    words += ["--number", str(number), "--epsilon", str(epsilon)]
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
    parser.add_argument("--model", choices=("plain", "hardened"), default="plain")
    parser.add_argument("--count", type=int, default=200, help="digits, all classified right")
    parser.add_argument("--epsilon", type=float, default=20.0, help="counts, linf")
    parser.add_argument("--only", default="", help="contests whose name begins so, by commas")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, Path(given.folder), given.number, given.epsilon)
        return
    from benchmarks.subjects import digits

    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {given.count} digits,")
    print(f"{given.model} model, epsilon {given.epsilon:g}\n")
    print(
        "| attack | library | robust accuracy or median distance | seconds | passes of an image |"
    )
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        classifier, subjects = digits(given.count, hardened=given.model == "hardened")
        classifier.model.save(folder / "model.keras")
        np.savez(
            folder / "data.npz",
            images=np.stack([s.pixels for s in subjects]),
            labels=np.array([s.label for s in subjects]),
        )
        for number, contest in enumerate(CONTESTS):
            if not contest.name.startswith(tuple(given.only.split(","))):
                continue
            libraries = ["ours", *contest.theirs]
            for library in libraries:
                print(
                    line(contest, library, call(library, folder, number, given.epsilon)), flush=True
                )
            if contest.name == "FGSM":
                print(f"\nFGSM, components equal to ours: {agreement(folder, number, libraries)}\n")


def line(contest: Contest, library: str, told: dict[str, Any]) -> str:
    start = f"| {contest.name} | {library} | "
    if "error" in told:
        return f"{start}failed: {told['error']} | | |"
    score = (
        f"{told['score']:.1%}" if contest.norm is None else f"{told['score']:.2f} {contest.norm}"
    )
    passes = f"{told['forward']} + {told['backward']}" if "forward" in told else ""
    return f"{start}{score} | {told['seconds']:.1f} | {passes} |"


if __name__ == "__main__":
    main()
