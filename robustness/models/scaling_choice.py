"""Chooses the scaling of a model's inputs by labelled images: by accuracy and by confidence, with tests.

The wrong scaling lowers accuracy and invalidates every verdict, so none is chosen unless it is clearly better
than every other one. The answer says how sure it is, on how many images, and what to do if it is not.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from robustness.errors import ModelError
from robustness.models.scalings import SCALINGS, Scaling
from robustness.numerics.class_order import best_order, held_out_hits
from robustness.numerics.intervals import beats_chance, clearly_better, wilson_interval
from robustness.text import percent, plural

FIRST_TEST, LATER_TEST = 2.0, 3.0
"""Standard errors by which one scaling must be better: on the first images, and where more were needed."""
PLAIN = ("0..255", "0..1", "-1..1")
"""Scalings that treat all channels alike."""
MOST_NAMES = 100
"""The largest number of class names in an option that is suggested."""
_TEMPERATURES = np.geomspace(1 / 8, 8, 25)
_LEAST = 1e-12
_SAME = 0.02
"""The largest difference between the logarithms of probabilities that are called the same."""
Labelled = tuple[np.ndarray, np.ndarray]
"""Images uint8 (n, height, width, channels), and their labels (n,)."""
Predict = Callable[[Scaling, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Score:
    """How well a model does on labelled images under one scaling.

    Attributes
    ----------
    outputs : probabilities (n, classes), or class indices (n,).
    labels : true class indices (n,).
    """

    outputs: np.ndarray
    labels: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """Class indices (n,)."""
        return self.outputs.argmax(axis=1) if self.outputs.ndim == 2 else self.outputs

    @property
    def hits(self) -> np.ndarray:
        """Whether each image is classified as labelled (n,)."""
        return self.predicted == self.labels

    @property
    def accuracy(self) -> float:
        """The share of `hits`."""
        return float(self.hits.mean())

    def likelihoods(self) -> np.ndarray | None:
        """Return the log-likelihood of each label (n,), at the temperature that fits best; None for classes.

        One temperature for all images takes out how bold the model is as a whole under this scaling.
        """
        if self.outputs.ndim != 2:
            return None
        logits = _logarithms(self.outputs)
        rows = np.arange(len(logits))
        best = np.full(len(logits), -np.inf)
        for temperature in _TEMPERATURES:
            cooled = logits / temperature
            top = cooled.max(axis=1, keepdims=True)
            total = np.log(np.exp(cooled - top).sum(axis=1)) + top[:, 0]
            found = cooled[rows, self.labels] - total
            if found.mean() > best.mean():
                best = found
        return best

    def said(self) -> str:
        """The accuracy with its 95 % interval."""
        low, high = wilson_interval(int(self.hits.sum()), len(self.hits))
        return f"{percent(self.accuracy)} ({percent(low)} to {percent(high)})"


@dataclass(frozen=True)
class ScalingChoice:
    """The best scaling; `scaling` is None if none is clearly the best.

    Attributes
    ----------
    scaling : the choice, or None.
    accuracies : the accuracy under each scaling, on the images it was last tried on.
    sentence : the result in words: how many images, accuracies, how sure.
    likely : the scalings that remain, the best first.
    reorder : the option that gives the class names in another order, if that order fits far better.
    """

    scaling: Scaling | None
    accuracies: Mapping[str, float]
    sentence: str
    likely: tuple[str, ...] = field(default=())
    reorder: str = ""


NO_LABELS = "Without labelled images nothing can tell which scaling the model expects."
UNLIKE = " Perhaps the images are of other classes, or of another kind, than those the model was trained on."
MORE = "More labelled images may decide it."


def choose_scaling(
    predict: Predict,
    images: np.ndarray,
    labels: np.ndarray | None,
    options: Mapping[str, Scaling],
    classes: int,
    *,
    more: Iterable[Labelled] = (),
    names: Sequence[str] = (),
) -> ScalingChoice:
    """Choose the scaling under which a model does best on labelled images.

    Parameters
    ----------
    predict : ``predict(scaling, images)`` returns probabilities (n, classes), or class indices (n,).
    images : uint8 (n, height, width, channels).
    labels : true class indices (n,), or None.
    options : the candidates by name (`scalings.candidates`).
    classes : number of classes.
    more : further labelled images, taken part by part as long as the choice is not clear.
    names : the class names, for the sentence.

    Notes
    -----
    The best candidate must beat chance, and every other candidate by more than two standard errors of the
    images on which the two differ (a sign test), or by three standard errors of the paired differences in
    log-likelihood without being less accurate. After the first images both tests ask for three, since looking
    repeatedly finds chance differences. Candidates that give the same predictions are one.
    """
    if labels is None or len(images) == 0:
        same = _same_predictions(predict, images, options)
        return ScalingChoice(*same) if same else ScalingChoice(None, {}, NO_LABELS)
    scores = {
        name: Score(np.asarray(predict(scaling, images)), np.asarray(labels))
        for name, scaling in options.items()
    }
    first = dict(scores)
    chosen = _judged(scores, classes, FIRST_TEST, first, names)
    parts = iter(more)
    while chosen.scaling is None and (part := next(parts, None)):
        some, truth = part
        scores = {
            name: Score(
                np.concatenate([scores[name].outputs, predict(options[name], some)]),
                np.concatenate([scores[name].labels, truth]),
            )
            for name in chosen.likely
        }
        chosen = _judged(scores, classes, LATER_TEST, first, names)
    return chosen


def _judged(
    scores: Mapping[str, Score],
    classes: int,
    errors: float,
    first: Mapping[str, Score],
    names: Sequence[str],
) -> ScalingChoice:
    """The choice on the images so far; `likely` are the candidates that more images may still decide."""
    likelihoods = {name: score.likelihoods() for name, score in scores.items()}
    means = {n: 0.0 if one is None else float(one.mean()) for n, one in likelihoods.items()}
    best, *others = sorted(scores, key=lambda name: (-scores[name].accuracy, -means[name]))
    plain = [name for name in PLAIN if name in scores]
    by_itself = len(plain) > 2 and all(_alike(scores[plain[0]], scores[name]) for name in plain)
    if by_itself and not _beats(scores, likelihoods, best, plain[0], errors):
        best = plain[0]
    equal = [name for name in scores if _alike(scores[best], scores[name])]
    # Of scalings that are one to the model the first of the list is taken.
    best = min(equal, key=list(SCALINGS).index)
    # A model that standardises its inputs itself was not trained on inputs standardised before.
    others = [] if by_itself and best in plain else [name for name in scores if name not in equal]
    others.sort(key=lambda name: (-scores[name].accuracy, -means[name]))
    count = len(scores[best].labels)
    accuracies = {name: scores.get(name, one).accuracy for name, one in first.items()}
    table = ", ".join(f"{name} {score.said()}" for name, score in scores.items())
    said = f"Accuracy on {plural(count, 'labelled image')}, with 95 % intervals: {table}"
    if dropped := [f"{name} {one.said()}" for name, one in first.items() if name not in scores]:
        said += f" (on the first {len(next(iter(first.values())).labels)}: {', '.join(dropped)})"
    if len(equal) > 1:
        said += f"; {' and '.join(equal)} give the same predictions"
    score = scores[best]
    seen = set(score.labels.tolist())
    if len(seen) == 1 and classes > 1 and len(set(score.predicted.tolist())) == 1:
        one = names[min(seen)] if names else f"class {min(seen)}"
        sentence = (
            f"{said}; all of them are of {one}, so a model that says {one} to anything is right."
        )
        return ScalingChoice(None, accuracies, sentence, (best, *others))
    chance = 1 / classes
    if score.accuracy <= chance + errors * math.sqrt(chance * (1 - chance) / count):
        sentence = f"{said}; none is clearly better than chance ({percent(chance)})."
        under, order, option = _other_order(scores, classes, names)
        likely = sorted((best, *others), key=lambda name: name != under)
        unlike = "" if order else UNLIKE
        return ScalingChoice(None, accuracies, sentence + order + unlike, tuple(likely), option)
    rivals = [name for name in others if not _beats(scores, likelihoods, best, name, errors)]
    if rivals:
        tied = " or ".join([best, *rivals])
        apart = "; ".join(_apart(scores, likelihoods, best, name) for name in rivals)
        return ScalingChoice(
            None, accuracies, f"{said}; it could be {tied} ({apart}). {MORE}", (best, *rivals)
        )
    # Under a wrong order of the classes a wrong scaling can be the most accurate one.
    under, order, option = _other_order(scores, classes, names)
    if under not in ("", best):
        sentence = f"{said}; {best} is clearly the best as the classes stand.{order}"
        return ScalingChoice(None, accuracies, sentence, (under, best), option)
    sure = ""
    if others:
        sure = f" ({_apart(scores, likelihoods, best, others[0])})"
    return ScalingChoice(
        SCALINGS[best], accuracies, f"{said}; {best} is clearly the best{sure}.", (best,)
    )


def _beats(
    scores: Mapping[str, Score],
    likelihoods: Mapping[str, np.ndarray | None],
    best: str,
    other: str,
    errors: float,
) -> bool:
    """Whether a candidate is clearly better than one that is no more accurate, by either test."""
    by_accuracy = _by_accuracy(scores[best].hits, scores[other].hits)
    by_likelihood = _by_likelihood(likelihoods[best], likelihoods[other])
    return by_accuracy > errors or (by_accuracy >= 0 and by_likelihood > LATER_TEST)


def _by_accuracy(first: np.ndarray, second: np.ndarray) -> float:
    """Wins minus losses, in standard errors of the images on which two candidates differ."""
    wins, losses = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    return (wins - losses) / math.sqrt(wins + losses) if wins + losses else 0.0


def _by_likelihood(first: np.ndarray | None, second: np.ndarray | None) -> float:
    """The mean paired difference in log-likelihood, in its standard errors."""
    if first is None or second is None or len(first) < 2:
        return 0.0
    difference = first - second
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return float(difference.mean()) / error if error > 0 else 0.0


def _apart(
    scores: Mapping[str, Score],
    likelihoods: Mapping[str, np.ndarray | None],
    best: str,
    other: str,
) -> str:
    """How sure it is that one candidate is better than another, in words."""
    z = _by_accuracy(scores[best].hits, scores[other].hits)
    said = f"{best} against {other}: p = {_tail(z):.2g} by accuracy"
    first, second = likelihoods[best], likelihoods[other]
    if first is None or second is None:
        return said
    z = _by_likelihood(first, second)
    return f"{said}, {_tail(z):.2g} by log-likelihood ({first.mean():.2f} and {second.mean():.2f} per image)"


def _tail(z: float) -> float:
    """The probability that chance makes a difference of `z` standard errors or more."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def _alike(first: Score, second: Score) -> bool:
    """Whether two candidates give the same probabilities, small ones too, not only the same classes."""
    if first.outputs.ndim != 2 or first.outputs.shape != second.outputs.shape:
        return first is second
    return _far_apart(first.outputs, second.outputs) <= _SAME


def _far_apart(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference between the logarithms of probabilities: saturated ones are compared, too."""
    return float(np.abs(_logarithms(first) - _logarithms(second)).max(initial=0.0))


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    """The logarithms of probabilities; NaN counts as 0, which is nobody's answer."""
    return np.log(np.maximum(np.nan_to_num(probabilities.astype("float64")), _LEAST))


def _same_predictions(
    predict: Predict, images: np.ndarray, options: Mapping[str, Scaling]
) -> tuple[Scaling, dict[str, float], str] | None:
    """The first scaling, if the model predicts the same under all that do not mix channels; else None."""
    plain = [name for name in PLAIN if name in options]
    if len(images) == 0 or len(plain) < 2:
        return None
    outputs = [np.asarray(predict(options[name], images)) for name in plain]
    if outputs[0].ndim != 2 or _far_apart(outputs[0][1:], outputs[0][:-1]) <= _SAME:
        return None  # the model gives one answer to all images, whatever the scaling
    if any(_far_apart(one, outputs[0]) > _SAME for one in outputs[1:]):
        return None
    said = f"{', '.join(plain)} give the same predictions on {plural(len(images), 'image')}"
    return options[plain[0]], {}, f"{said}; the model does not depend on the range of its inputs."


def _other_order(
    scores: Mapping[str, Score], classes: int, names: Sequence[str]
) -> tuple[str, str, str]:
    """The scaling under which another order fits far better, a sentence, and the option; "" if none does."""
    found = {
        name: held_out_hits(score.predicted, score.labels, classes)
        for name, score in scores.items()
    }
    name = max(found, key=lambda one: float(found[one].mean()))
    score, hits = scores[name], found[name]
    plausible = beats_chance(float(hits.mean()), len(hits), classes)
    best = max(scores.values(), key=lambda one: one.accuracy)
    if not plausible or not clearly_better(hits, best.hits):
        return "", "", ""
    order = best_order(score.predicted, score.labels, classes)
    said = (
        f" But the order of the classes seems to be wrong: under {name}, {percent(float(hits.mean()))} "
        "of images are "
        f"right if {moved_classes(order, score.labels, names)}."
    )
    return name, said, reordered(names, order)


def moved_classes(
    order: np.ndarray, labels: np.ndarray, names: Sequence[str], most: int = 12
) -> str:
    """Describe a permutation of classes: "cat is output 1 (dog), dog is output 0 (cat)"."""
    present = set(np.asarray(labels).tolist())
    parts = [
        f"{_named(names, label)} is output {output} ({_named(names, int(output))})"
        for label, output in enumerate(order)
        if label != output and label in present
    ]
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


def reordered(names: Sequence[str], order: np.ndarray) -> str:
    """The option that gives the names in the order `order`; "" where it would be too long."""
    if not 0 < len(names) <= MOST_NAMES or any("," in name for name in names):
        return ""
    outputs = [""] * len(names)
    for label, output in enumerate(order):
        outputs[output] = names[label]
    return shlex.join(["--classes", ",".join(outputs)])


def _named(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else f"class {index}"


def undecided(choice: ScalingChoice, command: str = "", found: str = "") -> ModelError:
    """Return the error for a model whose scaling is unknown.

    Parameters
    ----------
    choice : the choice that was not clear; its sentence says why.
    command : the command that was given, to be repeated with a scaling.
    found : what was found inside the model, a sentence.
    """
    likely = choice.likely[:2] or ("0..1", "0..255")
    options = [f"--scaling={name}" for name in likely]
    if choice.reorder:
        options.insert(0, f"{options[0]} {choice.reorder}")
    lines = "".join(f"\n  {command} {option}".replace("\n   ", "\n  ") for option in options)
    inner = f" {found}" if found else ""
    others = [name for name in SCALINGS if name not in likely]
    return ModelError(
        f"It is not known which numbers the model expects. {choice.sentence}{inner} Say which scaling the "
        f'model was trained with (in Python scaling="{likely[0]}"):{lines}\n'
        f"The others are {', '.join(others)}, or numbers (mean=..., std=..., of=...)."
    )
