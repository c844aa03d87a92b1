"""Write the published weights and their model card from a finished training.

::

    python scripts/publish_weights.py --model model.keras --photos photos.zip --log log.jsonl

The card's numbers describe the published file, not the training: the weights are written as float16, read
back, and evaluated on held-out photographs and renderings, read as an audit reads images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import robustness
from robustness.contract.registry import make
from robustness.errors import ImagesError, ModelError, SettingError
from robustness.model_zoo.dogs_vs_cats import weights_file, zoo
from robustness.model_zoo.dogs_vs_cats.photos import held_out
from robustness.model_zoo.dogs_vs_cats.renderings import renderings
from robustness.models.classifier import Classifier
from robustness.numerics.intervals import Share

if TYPE_CHECKING:
    from robustness.images import Source

_BATCH = 64
_LICENCE = (
    "The photographs come from Microsoft's Asirra (pictures by Petfinder.com), given out for the "
    "Kaggle competition dogs-vs-cats under its rules; none is part of this toolkit. The weights "
    "are for research and for trying the toolkit out."
)
_USE = (
    "A target for audits of robustness, small enough for a laptop. Not for decisions about "
    "animals or people: it knows two classes and calls everything else one of them."
)


def _card(share: Share) -> dict[str, Any]:
    """An accuracy with its 95 % Wilson interval, as JSON values."""
    numbers = [round(x, 4) for x in (share.share, share.low, share.high) if x is not None]
    return {
        "accuracy": numbers[0],
        "interval95": numbers[1:],
        "right": share.count,
        "of": share.total,
    }


def tally(classifier: Classifier, pictures: Iterator[tuple[np.ndarray, int]]) -> Share:
    """The accuracy on `pictures`, pairs of uint8 (height, width, channels) and class index."""
    right = count = 0
    while batch := list(islice(pictures, _BATCH)):
        images, labels = zip(*batch, strict=True)
        right += int((classifier.probabilities(np.stack(images)).argmax(1) == labels).sum())
        count += len(batch)
    if not count:
        raise ImagesError("There is not one picture to judge the model by.")
    return Share.of(right, count)


def held_out_photos(
    source: Source, shape: tuple[int, int, int]
) -> Iterator[tuple[np.ndarray, int]]:
    """The held-out labelled photographs of `source`, read as an audit reads them."""
    for entry in source.entries():
        if entry.label is not None and held_out(entry.name):
            pixels = source.read(entry, shape).pixels
            if pixels is not None:
                yield pixels, entry.label


def robust_accuracy(classifier: Classifier, source: Source, count: int) -> dict[str, Any]:
    """Robust accuracy of held-out photographs under PGD, by epsilon in counts."""
    if not count:
        return {}
    result = robustness.audit(
        classifier,
        source,
        attacks=[make("pgd", steps=40)],
        epsilons=[1, 2, 4],
        limit=count,
        only=lambda entry: entry.label is not None and held_out(entry.name),
        evidence="none",
    )
    held = result.outcomes[result.outcomes.status.isin(["robust", "flipped", "misclassified"])]
    shares = {
        f"{epsilon:g}": _card(Share.of(int((rows.status == "robust").sum()), len(rows)))
        for epsilon, rows in held.groupby("epsilon")
    }
    return {"attack": "PGD, 40 steps of epsilon / 4, linf", "epsilon": shares}


def stages(log: Path) -> list[dict[str, Any]]:
    """The finished stages of a training log: the lines with the accuracy after settling."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.strip()]
    finished = [line for line in lines if "settled" in line]
    if not finished:
        raise SettingError(f"{log.name} has no finished stage; expected the log of a training.")
    return finished


def publish(
    model: Path,
    photos: Path,
    log: Path,
    folder: Path,
    *,
    name: str = zoo.INFO.name,
    rendered: int = 2000,
    attacked: int = 300,
    seed: int = 0,
) -> Path:
    """Write the weights and `card.json` into `folder`; return the path of the card.

    Parameters
    ----------
    model
        The trained `.keras` file.
    photos
        The archive of the competition.
    log
        The log of the training.
    folder
        Where to write.
    name
        The name in the model zoo.
    rendered
        The number of renderings to evaluate on.
    attacked
        The number of held-out photographs to attack.
    seed
        The seed of the training.

    Raises
    ------
    ModelError, ImagesError, SettingError
        If the model, the photos or the log cannot be used.
    """
    from robustness.images import open_source

    trained = stages(log)
    folder.mkdir(parents=True, exist_ok=True)
    info, published_as = zoo.PUBLISHED[name]
    weights = folder / published_as.name
    source = open_source(photos, info.classes)
    original = Classifier.load(model, class_names=info.classes, scaling=zoo.SCALING)
    if original.input_shape != info.input_shape:
        raise ModelError(
            f"{model.name} takes images {original.input_shape}; expected {info.input_shape}."
        )
    labelled = [entry.name for entry in source.entries() if entry.label is not None]
    sha256 = weights_file.save(original.model, weights)
    facts: dict[str, Any] = {
        "name": info.name,
        "summary": info.summary,
        "architecture": zoo.NOTEBOOK,
        "input": {"shape": list(original.input_shape), "scaling": zoo.SCALING},
        "classes": list(info.classes),
        "weights": {
            "file": weights.name,
            "sha256": sha256,
            "bytes": weights.stat().st_size,
            "parameters": int(original.model.count_params()),
            "precision": "kernels float16, all else float32",
        },
        "training": {
            "data": "photographs of the Kaggle competition dogs-vs-cats, and renderings",
            "photographs": sum(not held_out(name) for name in labelled),
            "held_out": "a tenth, by the SHA-256 of the file name (photos.held_out)",
            "seed": seed,
            "start": "drawn at random"
            if name == zoo.INFO.name
            else f"the weights of {zoo.INFO.name}",
            "stages": trained,
        },
        "licence": _LICENCE,
        "intended_use": _USE,
    }
    card = folder / weights_file.CARD
    _write(card, facts)  # `from_weights` compares with it
    published = zoo.from_weights(weights, info)
    drawn = ((pixels, label) for _, label, pixels in renderings(rendered))
    facts["held_out_photographs"] = _card(
        tally(published, held_out_photos(source, published.input_shape))
    )
    facts["renderings"] = _card(tally(published, drawn))
    facts["robust_accuracy"] = robust_accuracy(published, source, attacked)
    _write(card, facts)
    return card


def _write(card: Path, facts: dict[str, Any]) -> None:
    card.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="the trained model.keras")
    parser.add_argument("--photos", type=Path, required=True, help="Kaggle's dogs-vs-cats.zip")
    parser.add_argument("--log", type=Path, required=True, help="the training's log.jsonl")
    parser.add_argument("--name", choices=zoo.PUBLISHED, default=zoo.INFO.name)
    parser.add_argument("--out", type=Path, help="folder to write to; the zoo's if not given")
    parser.add_argument("--attacked", type=int, default=300, help="photographs to attack")
    parser.add_argument("--rendered", type=int, default=2000, help="renderings to evaluate on")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the training")
    given = parser.parse_args()
    card = publish(
        given.model,
        given.photos,
        given.log,
        given.out or zoo.PUBLISHED[given.name][1].parent,
        name=given.name,
        rendered=given.rendered,
        attacked=given.attacked,
        seed=given.seed,
    )
    print(card.read_text("utf-8"))


if __name__ == "__main__":
    main()
