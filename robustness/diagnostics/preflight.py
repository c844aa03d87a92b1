"""Checks a model and its images before any attack: input, outputs, class order, gradients.

Each check returns one `Finding`: an id, a severity, and a sentence with the numbers. Ids with D are
diagnostics from the literature (AutoAttack's checks, Carlini et al. 2019, Indicators of Attack Failure),
those with P are this project's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from robustness import backend
from robustness.diagnostics.finding import Finding, Severity
from robustness.diagnostics.gradient_direction import AGREES, IMAGES, agreement
from robustness.diagnostics.labels_and_scaling import accuracy, label_order, scaling
from robustness.diagnostics.liveness import liveness
from robustness.diagnostics.randomness import SAME, drawn, shared
from robustness.diagnostics.training_mode import training_mode
from robustness.engine.votes import DRAWS, MOST
from robustness.errors import GradientError, ImagesError
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import SMALL_BATCH
from robustness.models.scaling_choice import Labelled
from robustness.numerics.losses import margin
from robustness.text import percent, plural

RANDOM_TOLERANCE = 1e-4
ROW_TOLERANCE = 1e-4
LOGIT_TOLERANCE = 1e-3
ZERO_GRADIENTS = 0.05
# A fused softmax may round a probability of 1 to the number just below it.
SATURATED = 1 - float(np.finfo("float32").eps)
ROWS = 4
UNMOVED = 8
"""Runs of an unchanged batch that tell chance from the place in the batch."""
SHARED = (
    "All pictures of a call share its random numbers, so `eot` averages nothing here: its samples are "
    "pictures of one call."
)
RANDOM_IMAGES, SCALING_IMAGES, GRADIENT_IMAGES = SMALL_BATCH, 2 * SMALL_BATCH, 4 * SMALL_BATCH
"""Numbers of images for checks that run the model several times; a few suffice."""


def run(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray | None,
    probabilities: np.ndarray | None = None,
    more: Iterable[Labelled] = (),
    surrogate: Classifier | None = None,
) -> list[Finding]:
    """Run every check.

    Checks that need finite outputs, or outputs without randomness, are omitted if an earlier check finds
    otherwise.

    Parameters
    ----------
    classifier : the user's model.
    images : uint8 (n, height, width, channels); a few dozen to a few hundred are enough.
    labels : true class indices (n,), or None.
    probabilities : the classifier's outputs for `images`, (n, classes), if they are known already.
    more : further labelled images, for the checks that the first leave open.
    surrogate : the model that attacks evaluate, if it is not the user's. The checks of what attacks follow
        (D03, D04, P04, P06) are then of that model.

    Raises
    ------
    ImagesError
        There are no images.
    """
    images = np.asarray(images)
    if len(images) == 0:
        raise ImagesError("No readable picture is left for the checks before the attack.")
    labels = None if labels is None else np.asarray(labels)
    if probabilities is None:
        probabilities = classifier.probabilities(images)
    # Gradients are traced in a thread while the compiled model runs; its outputs may be infinite.
    with (
        ThreadPoolExecutor(1, thread_name_prefix="preflight") as hand,
        np.errstate(invalid="ignore"),
    ):
        followed = hand.submit(
            _followed, surrogate or classifier, images, probabilities.argmax(axis=1)
        )
        asked = _asked_again(classifier, images, probabilities)
        alone = _rows(classifier, images, probabilities, asked)
        again = drawn(classifier, images[:RANDOM_IMAGES])
        few = slice(SCALING_IMAGES)
        truth = None if labels is None else labels[few]
        scaled = scaling(classifier, images[few], probabilities[few], truth)
        logits, slopes, shares = followed.result()
        seen = Seen(classifier, probabilities, logits)
        if surrogate is not None:
            seen = Seen(surrogate, surrogate.probabilities(images), logits, "The surrogate: ")
            logits = classifier.logits_of(images)
    findings = [_input(classifier, images), _head(classifier, labelled=labels is not None)]
    broken = _not_finite(probabilities, logits)
    findings.append(broken)
    if broken.severity != "ok":
        return findings
    noisy = _random(asked.by_chance, again)
    if noisy.severity != "ok" and shared(classifier, images[0]):
        noisy = replace(noisy, sentence=f"{noisy.sentence} {SHARED}")
    findings += [noisy, _alive(classifier, images, probabilities, logits)]
    if labels is not None:
        findings.append(accuracy(probabilities, labels, classifier.head.kind))
        findings.append(label_order(classifier, probabilities, labels, more))
    findings.append(scaled)
    if noisy.severity == "ok":
        findings += [seen.said(_consistent(seen.logits, seen.probabilities)), alone]
        findings.append(training_mode(classifier, images))
    findings.append(seen.said(_saturated(seen.classifier, seen.probabilities)))
    drawing = surrogate is not None and surrogate.may_draw(images[:RANDOM_IMAGES])
    shares = shares if noisy.severity == "ok" and not drawing else shares[:0]
    findings.append(seen.said(_gradients(slopes, seen.classifier, shares)))
    return findings


@dataclass(frozen=True)
class Seen:
    """The model that attacks evaluate, with its outputs for the images.

    Attributes
    ----------
    classifier : the model.
    probabilities, logits : (n, classes).
    whose : how a finding about it begins; "" for the user's own model.
    """

    classifier: Classifier
    probabilities: np.ndarray
    logits: np.ndarray
    whose: str = ""

    def said(self, finding: Finding) -> Finding:
        """Return a finding that says which model it is about."""
        return replace(finding, sentence=f"{self.whose}{finding.sentence}")


def has_gradients(findings: Iterable[Finding]) -> bool:
    """Return whether the checks found a gradient, of the model that attacks evaluate, to the image."""
    return not any(f.id.startswith("D03") and f.severity == "error" for f in findings)


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def _input(classifier: Classifier, images: np.ndarray) -> Finding:
    height, width, channels = classifier.input_shape
    low, high = int(images.min()), int(images.max())
    said = (
        f"The model takes {width}x{height} images with {plural(channels, 'channel')}. "
        f"{classifier.scaling.sentence}"
    )
    if high <= 1:
        return Finding(
            "P01-input",
            "error",
            f"{said} But the images hold counts from {low} to {high}: they seem to be scaled to "
            "0..1 already; give them in counts 0..255.",
        )
    return Finding("P01-input", "ok", f"{said} The images hold counts from {low} to {high}.")


def _head(classifier: Classifier, *, labelled: bool) -> Finding:
    if classifier.head.kind == "logits" and not (labelled or classifier.head_stated):
        units = len(classifier.class_names)
        return Finding(
            "D02-head",
            "warning",
            f"The {units} outputs without activation are taken to be the logits of {units} classes; without "
            "labels nothing shows that. If they are other numbers (a box, an angle), the result means "
            "nothing. Give labelled images, or say head='logits' (--head logits).",
        )
    severity: Severity = "ok" if classifier.head.rebuilt else "note"
    return Finding("D02-head", severity, classifier.head.sentence)


def _not_finite(probabilities: np.ndarray, logits: np.ndarray) -> Finding:
    bad = ~(np.isfinite(probabilities).all(axis=1) & np.isfinite(logits).all(axis=1))
    count = len(bad)
    if bad.any():
        return Finding(
            "P05-not-finite",
            "error",
            f"The model gives NaN or infinity on {int(bad.sum())} of {plural(count, 'image')}; no verdict "
            "about them means anything. Look for a division by zero, a logarithm, or damaged "
            "weights.",
        )
    return Finding(
        "P05-not-finite", "ok", f"All outputs on {plural(count, 'image')} are finite numbers."
    )


@dataclass(frozen=True)
class Asked:
    """The largest differences between outputs for the same images.

    Attributes
    ----------
    moved : at other places in a batch of the same images.
    by_place : whether they are larger than by rounding, and outputs for the unchanged batch agree.
    """

    moved: float
    by_place: bool

    @property
    def by_chance(self) -> float:
        """The difference that chance makes."""
        return 0.0 if self.by_place else self.moved


def _asked_again(classifier: Classifier, images: np.ndarray, first: np.ndarray) -> Asked:
    """Run the model on the same images again, several times."""
    some, first = images[:RANDOM_IMAGES], first[:RANDOM_IMAGES]

    def apart(place: int) -> float:
        answer = np.roll(classifier.probabilities(np.roll(some, place, 0)), -place, 0)
        return float(np.max(np.abs(answer - first)))

    # If the batch is filled up, rolling would also change its content, so it is run unchanged.
    full = len(some) == RANDOM_IMAGES
    moved = max(map(apart, range(1, 5) if full else [0] * 4))
    differs = full and moved > RANDOM_TOLERANCE
    # The first difference ends the runs: some models change with every call.
    return Asked(moved, differs and all(apart(0) <= RANDOM_TOLERANCE for _ in range(UNMOVED)))


def is_random(findings: Iterable[Finding]) -> bool:
    """Return whether the checks found that the model's outputs are random."""
    return any(f.id == "D01-random-outputs" and f.severity != "ok" for f in findings)


def _random(change: float, share: float) -> Finding:
    if change > RANDOM_TOLERANCE or share > SAME:
        apart = f"up to {change:.2g} apart" if change > RANDOM_TOLERANCE else ""
        logits = f"logits by {share:.2g} of the largest" if share > SAME else ""
        return Finding(
            "D01-random-outputs",
            "warning",
            "The same images get other probabilities when asked again "
            f"({'; '.join(said for said in (apart, logits) if said)}): the model draws random numbers. A "
            f"picture is therefore asked {DRAWS} to {MOST} times, and a flip counts where it flips more "
            "often than not. Attacks still look once a step: average over draws (expectation over "
            "transformation), and switch off randomness that is only for training.",
        )
    return Finding(
        "D01-random-outputs",
        "ok",
        f"Passes of the same images agree (largest difference {change:.1g}).",
    )


def _alive(
    classifier: Classifier, images: np.ndarray, probabilities: np.ndarray, logits: np.ndarray
) -> Finding:
    found = liveness(classifier, images, probabilities, logits)
    severity: dict[str, Severity] = {"alive": "ok", "some": "warning", "dead": "error"}
    return Finding("D28-dead-model", severity[found.state], found.sentence)


def _consistent(logits: np.ndarray, probabilities: np.ndarray) -> Finding:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = shifted / shifted.sum(axis=1, keepdims=True)
    change = float(np.max(np.abs(softmax - probabilities)))
    ordered = np.sort(probabilities, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > LOGIT_TOLERANCE
    other = int(np.sum(clear & (logits.argmax(axis=1) != probabilities.argmax(axis=1))))
    if change > LOGIT_TOLERANCE or other:
        return Finding(
            "P06-logits",
            "error",
            f"The softmax of the logits differs from the model's own probabilities by {change:.2g} "
            f"({other} of {len(logits)} images get another class): attacks would follow another "
            "model. Say what the outputs are with head='softmax' or head='logits'.",
        )
    return Finding(
        "P06-logits",
        "ok",
        f"The softmax of the logits equals the model's probabilities (within {change:.1g}).",
    )


def _rows(
    classifier: Classifier, images: np.ndarray, together: np.ndarray, asked: Asked
) -> Finding:
    batch, moved = images, asked.moved
    if len(images) < ROWS:
        # Add different images: a batch of equal images does not show mixing.
        batch = np.concatenate([images, 255 - images, images // 2, images // 3])[:ROWS]
        together = classifier.probabilities(batch)
    change = max(
        float(np.max(np.abs(classifier.probabilities(batch[i : i + 1])[0] - together[i])))
        for i in range(ROWS)
    )
    if asked.by_place or (
        change > ROW_TOLERANCE and _counts_rows(classifier, batch[:ROWS], together)
    ):
        return Finding(
            "P07-rows",
            "error",
            f"An image gets other probabilities at another place in the batch (up to {max(change, moved):.2g}"
            " apart), each time the same ones: the model numbers the images of a batch. Verdicts about an "
            "image mean nothing then.",
        )
    if change > ROW_TOLERANCE:
        return Finding(
            "P07-rows",
            "error",
            f"An image alone gets other probabilities than among others (up to {change:.2g} "
            "apart): the model mixes the images of a batch, as BatchNormalization does in training "
            "mode. Per-image gradients and verdicts mean nothing then.",
        )
    said = f"Images alone and in a batch agree (within {change:.1g})"
    if moved:
        said += (
            f"; an image's last digits depend on its place in the batch ({moved:.1g}), so that those of "
            "a run that was interrupted may differ"
        )
    return Finding("P07-rows", "ok", f"{said}.")


def _counts_rows(classifier: Classifier, images: np.ndarray, together: np.ndarray) -> bool:
    """Whether outputs depend on the place in the batch, but not on the images at the other places."""
    alone = [
        classifier.probabilities(np.repeat(images[place : place + 1], len(images), axis=0))[place]
        for place in range(len(images))
    ]
    return bool(np.max(np.abs(np.stack(alone) - together[: len(images)])) <= ROW_TOLERANCE)


def _saturated(classifier: Classifier, probabilities: np.ndarray) -> Finding:
    share = float(np.mean(probabilities.max(axis=1) >= SATURATED))
    said = f"{percent(share)} of the images have a probability of 1 in float32"
    if share == 0 or classifier.head.rebuilt:
        harmless = "" if share == 0 else "; attacks work on the logits, so they still have a slope"
        return Finding("P04-saturation", "ok" if share == 0 else "note", f"{said}{harmless}.")
    return Finding(
        "P04-saturation",
        "warning",
        f"{said}, and the softmax cannot be taken off: no gradient there, so the model would look "
        "robust without being so. Audit the model without its last activation.",
    )


def _gradients(
    found: np.ndarray | GradientError, classifier: Classifier, shares: np.ndarray
) -> Finding:
    """Make D03 or D04 of gradients, and of the `shares` of the changes that they predict (`agreement`)."""
    if isinstance(found, GradientError):
        cause = classifier.without_gradient
        return Finding(
            "D03-gradient-missing",
            "error",
            f"There is no gradient from the logits to the image ({str(found).splitlines()[0]}). "
            f"{cause}{' ' * bool(cause)}White-box attacks cannot find anything there; use attacks that "
            "need no gradient.",
        )
    rows = found.reshape(len(found), -1)
    wild = ~np.isfinite(rows).all(axis=1)
    flat = ~wild & (np.abs(np.where(np.isfinite(rows), rows, 0)).sum(axis=1) == 0)
    bad, count = int(np.sum(wild | flat)), len(rows)
    misled, known = int(np.sum(shares < AGREES)), int(np.isfinite(shares).sum())
    if not bad and misled > 1:
        return Finding(
            "D04-gradient-zero",
            "error" if 2 * misled > known else "warning",
            f"On {misled} of {known} images a step along the gradient does not change the margin as the "
            f"gradient says (median {np.median(shares[shares < AGREES]):.0%} of it): the gradient has "
            "another direction, or the outputs are rough between whole counts. Attacks that follow it find "
            "nothing, so images would look robust without being so.",
        )
    if not bad:
        return Finding(
            "D04-gradient-zero",
            "ok",
            f"The gradient is alive on {'all ' * (count > 1)}{plural(count, 'image')}.",
        )
    return Finding(
        "D04-gradient-zero",
        "error" if bad > ZERO_GRADIENTS * count else "warning",
        f"The gradient of the margin is zero on {int(flat.sum())} and NaN or infinite on "
        f"{int(wild.sum())} of {plural(count, 'image')}: gradient attacks cannot move there, so those images "
        "would look robust without being so.",
    )


def _followed(
    classifier: Classifier, images: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray | GradientError, np.ndarray]:
    """Logits of all images; gradients of the margins of the first ones, or why there are none; agreement.

    The gradient computation returns logits, too; for the remaining images only logits are computed. The
    agreement is that of a few images whose gradients are finite and not zero.
    """

    def loss(points: Any, classes: Any) -> tuple[Any, Any]:
        logits = classifier.logits(points)
        return margin(logits, classes), logits

    some = images[:GRADIENT_IMAGES].astype("float32")
    aims = classes[:GRADIENT_IMAGES].astype("int32")
    call = backend.compile(backend.value_and_grad(loss))
    try:
        (_, logits), slopes = call(ops.convert_to_tensor(some), ops.convert_to_tensor(aims))
    except GradientError as error:
        return classifier.logits_of(images), error, np.zeros(0)
    rest, slopes = classifier.logits_of(images[GRADIENT_IMAGES:]), _numpy(slopes)
    rows = slopes.reshape(len(slopes), -1)
    few = np.flatnonzero(np.isfinite(rows).all(axis=1) & rows.any(axis=1))[:IMAGES]
    shares = np.zeros(0)
    if len(few):
        shares = agreement(classifier.logits_of, some[few], aims[few], slopes[few])
    return np.concatenate([_numpy(logits), rest]), slopes, shares
