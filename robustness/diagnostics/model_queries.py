"""Makes diagnoses by running the model on a few pictures, and from the checks before the attack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from robustness import backend
from robustness.diagnostics import Diagnosis, fail, ok, skipped, warn
from robustness.diagnostics.stored_outcomes import noise_rows
from robustness.diagnostics.stored_run import WHITE, StoredRun, is_noise
from robustness.engine import votes
from robustness.engine.jobs import Example
from robustness.images.png import from_png, to_png
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import SMALL_BATCH
from robustness.numerics import prng
from robustness.runs.plan import Plan
from robustness.runs.schema import Check
from robustness.runs.store import Run
from robustness.text import percent, plural
from robustness.verification import pictures as evidence

UNSTEADY = 0.1
RADIUS = 4.0
"""Half the width of the noise in counts; Indicators of Attack Failure use the width 8/255."""
DRAWS, MANY_DRAWS = 100, 1000
MOST_BYTES = 256 << 20
"""The memory of changed copies of a picture, in bytes: fewer are drawn of large pictures."""
_FLOATS = 16
"""The bytes of a changed component while it is drawn."""
WANDERING = 0.05
"""D01 fails above this share of images with a class that changes from draw to draw."""
DRIFTED, LOST = 1e-3, 0.25
"""D20 warns above this change of a probability during the audit, and fails above this share of images of a
random model that lose their class."""
AT_RANDOM = "The model answers at random (D01), so nothing can be told."
_STATUS = {"ok": ok, "note": ok, "warning": warn, "error": fail}
_BEFORE = {
    "P01-input": "P01",
    "P02-scaling": "P02",
    "P03-label-order": "P03",
    "P04-saturation": "P04",
    "P05-not-finite": "P05",
    "P06-logits": "P06",
    "P07-rows": "P07",
    "P08-pipeline": "P08",
    "P09-mode": "P09",
    "D01-random-outputs": "D01",
    "D02-head": "D02",
    "D28-dead-model": "D28",
}


@dataclass(frozen=True)
class Sample:
    """Correctly classified images for diagnostics.

    Attributes
    ----------
    examples : the images, those that survived the attacks first.
    survivors : number of images that survived.
    """

    examples: tuple[Example, ...]
    survivors: int

    @property
    def standing(self) -> tuple[Example, ...]:
        """The images that no attack flipped."""
        return self.examples[: self.survivors]


PARTS = ("the same images again", "random noise", "saved pictures", "pictures read back")
"""The parts of `diagnose_looks` that take time, for the progress."""


def diagnose_looks(
    classifier: Classifier,
    plan: Plan,
    record: StoredRun,
    sample: Sample,
    run: Run,
    *,
    thorough: bool,
    progress: Callable[[str], None] = lambda part: None,
    surrogate: Classifier | None = None,
) -> list[Diagnosis]:
    """Make all diagnoses of this module.

    Parameters
    ----------
    classifier : the user's model.
    plan : the plan of the run.
    record : the stored content of the run.
    sample : correctly classified images to run the model on.
    run : the run, whose pictures are measured again.
    thorough : use more random draws, and measure all pictures.
    progress : called with the name of each part of `PARTS` before it starts.
    surrogate : the model that attacks evaluated, if it is not the user's; D05 is about it.
    """
    before = {check.id: check for check in record.manifest.preflight}
    random = "D01-random-outputs" in before and before["D01-random-outputs"].severity != "ok"
    found = [*of_preflight(before.values())]
    found += [no_gradient(before, record), dead_gradient(before, record)]
    found += unsteady_classes(record)
    progress(PARTS[0])
    found.append(unsteady(surrogate or classifier, sample, MANY_DRAWS // 10 if thorough else 10))
    progress(PARTS[1])
    if random:
        found.append(skipped("D16", AT_RANDOM))
    else:
        found.append(noise(classifier, plan, record, sample, thorough=thorough))
    progress(PARTS[2])
    found.append(files(run, None if thorough else 64))
    progress(PARTS[3])
    before_attacks = dict(zip(record.images.key, record.images.confidence, strict=True))
    found.append(round_trip(classifier, plan, sample, random=random, confidences=before_attacks))
    return found


def of_preflight(findings: Iterable[Check]) -> Iterable[Diagnosis]:
    """Yield P01 to P09, D01, D02 and D28 from the checks before the attack."""
    for finding in findings:
        number = _BEFORE.get(finding.id)
        if number == "D02":
            # The check only notes a softmax that cannot be removed; the diagnostic warns of it.
            yield (ok if finding.severity == "ok" else warn)("D02", finding.sentence)
        elif number:
            yield _STATUS.get(finding.severity, warn)(number, finding.sentence)


def unsteady_classes(record: StoredRun) -> list[Diagnosis]:
    """Return a failed D01 if random outputs change the class of too many images, else nothing."""
    known = record.images[record.images.clean_class.notna()]
    wandering = known[known.reason.fillna("") != ""]
    if len(wandering) <= WANDERING * len(known):
        return []
    said = (
        f"The model's class for {len(wandering)} of {len(known)} images changes from draw to draw by itself: "
        "nothing can be said of these, so the numbers are those of the others only. Switch off randomness "
        "that is only for training."
    )
    return [fail("D01", said, images=record.names(wandering.key))]


def no_gradient(before: Mapping[str, Check], record: StoredRun) -> Diagnosis:
    """Make D03: there is a gradient; without one a white-box attack proves nothing."""
    finding = before.get("D03-gradient-missing")
    if finding is None and "D04-gradient-zero" not in before:
        return skipped("D03", "The checks before the attack could not look for a gradient.")
    if finding is None:
        return ok("D03", "There is a gradient from the logits to the picture.")
    return (fail if record.labels(WHITE) else warn)("D03", finding.sentence)


def dead_gradient(before: Mapping[str, Check], record: StoredRun) -> Diagnosis:
    """Make D04: the gradient is neither zero nor non-finite, so that attacks can follow it."""
    finding = before.get("D04-gradient-zero")
    if finding is None:
        return skipped("D04", "There is no gradient to look at.")
    make = _STATUS.get(finding.severity, warn)
    if make is fail and not record.labels(WHITE):
        make = warn
    return make("D04", finding.sentence)


def unsteady(classifier: Classifier, sample: Sample, count: int) -> Diagnosis:
    """Make D05: noise of a few counts changes the margin little.

    Parameters
    ----------
    classifier : the model whose loss attacks lowered.
    sample : its first 8 images are used.
    count : number of random draws per image.

    Notes
    -----
    Indicators of Attack Failure (Pintor et al. 2022, arXiv:2106.09947) use the cross-entropy, but that of a
    confident image is nearly zero, so that any relative change of it is huge. Here the margin is used, which
    decides flips; its mean change is divided by the mean absolute margin of all images, since the margin of
    an image near the decision boundary is small.
    """
    some = sample.examples[:8]
    if not some:
        return skipped("D05", "No image was attacked.")
    rng = np.random.default_rng(5)
    changes, sizes = [], []
    for example in some:
        clean = example.pixels.astype(np.float32)
        draws = min(count, _fitting(example))
        noise = rng.uniform(-RADIUS, RADIUS, (draws, *clean.shape)).astype(np.float32)
        around = np.clip(clean + noise, 0, 255)
        points = np.concatenate([clean[None], around])
        margins = margin(classifier.logits_of(points), example.label)
        changes.append(np.abs(margins[1:] - margins[0]).mean())
        sizes.append(abs(float(margins[0])))
    change = min(1.0, float(np.mean(changes)) / max(float(np.mean(sizes)), 1e-6))
    said = (
        f"Noise of {RADIUS:g} counts changes the margin by {percent(change)} of its mean size ({count} draws "
        f"on {plural(len(some), 'image')})"
    )
    numbers = {"change": change, "limit": UNSTEADY, "images": len(some), "draws": count}
    if not change <= UNSTEADY:
        return warn(
            "D05",
            f"{said}: the loss is so rough that its gradient says little about what lies a step "
            "away. Use larger steps, more restarts, or an attack that averages.",
            **numbers,
        )
    return ok("D05", f"{said}.", **numbers)


def _fitting(example: Example) -> int:
    """The number of changed copies of a picture that fit into `MOST_BYTES`, at least 2."""
    return max(2, MOST_BYTES // (_FLOATS * example.pixels.size))


def margin(logits: np.ndarray, label: int) -> np.ndarray:
    """Return the logit of `label` minus the largest other one, (n,), for logits (n, classes)."""
    return logits[:, label] - np.delete(logits, label, axis=1).max(axis=1)


def noise(
    classifier: Classifier, plan: Plan, record: StoredRun, sample: Sample, *, thorough: bool
) -> Diagnosis:
    """Make D16: random changes within the largest epsilon flip no image that survived the attacks.

    The evidence states how many images at least one draw flips, the baseline by chance.
    """
    # A tenth of the forward passes of the audit, since this diagnosis is always made.
    passes = int(np.clip(record.outcomes.forward.sum() // 10, 200, 2000))
    count = MANY_DRAWS if thorough else DRAWS
    some = sample.examples[: max(2, 20_000 // count if thorough else passes // count)]
    if not some:
        return skipped("D16", "No image was attacked.")
    if not plan.threat.norm.measures:
        return skipped("D16", "Without a norm no random change is of the same size.")
    flipped, draw = [], compiled_noise(plan)
    for example in some:
        pictures = noisy(plan, example, min(count, _fitting(example)), draw)
        predicted = classifier.probabilities(pictures).argmax(axis=1)
        aim = plan.threat.goal.aims(np.array([example.label]))
        if np.any((predicted != example.label) & plan.threat.goal.reached(predicted, aim)):
            flipped.append(example.key)
    stronger = set(flipped) & record.survivors
    rows = noise_rows(record)
    labels = {a.title for a in record.attacks if not is_noise(a)}
    # In a cascade the attacks do not run on images that noise flipped before.
    stronger |= set(rows.image) & (record.tried(labels) - record.flipped(labels))
    said = (
        f"{count} random changes within epsilon {record.last:g} flip {len(flipped)} of "
        f"{plural(len(some), 'image')}"
    )
    numbers = {
        "draws": count,
        "images": len(some),
        "flipped": len(flipped),
        "only_by_noise": record.names(stronger),
    }
    if stronger:
        verb = "survives" if len(stronger) == 1 else "survive"
        return warn(
            "D16",
            f"{said}, {len(stronger)} of which {verb} the attacks: these are weaker than chance.",
            **numbers,
        )
    known = ", none of which survives the attacks" if flipped else ""
    return ok("D16", f"{said}{known}.", **numbers)


def compiled_noise(plan: Plan) -> Callable[..., Any]:
    """Return a function of keys (rows, 2) and an image: a random picture within the largest epsilon per row.

    It is compiled once for each shape of images and number of rows.
    """
    threat, norm, epsilon = plan.threat, plan.threat.norm, plan.threat.epsilons[-1]

    def draw(keys: Any, image: Any) -> Any:
        rows, shape = keys.shape[0], tuple(image.shape)
        radius = ops.full((rows,), epsilon, "float32")
        low, high = threat.room(ops.broadcast_to(image, (rows, *shape)))
        delta = norm.sample(keys, radius, shape)
        return ops.round(image + norm.to_grid(ops.clip(delta, low, high), radius, low, high))

    return backend.compile(draw)


def noisy(plan: Plan, example: Example, count: int, draw: Callable[..., Any]) -> np.ndarray:
    """Return random pictures within the largest epsilon around an image: uint8 (count, h, w, c).

    `draw` is the result of `compiled_noise`.
    """
    # The batch size with which attacks start, for which random draws are compiled already.
    rows, grids = min(SMALL_BATCH, _fitting(example)), []
    for start in range(0, count, rows):
        some = range(start, start + rows)
        keys = np.stack([prng.key_for(plan.seed, example.key, "noise", n) for n in some])
        grids.append(ops.convert_to_numpy(draw(keys, example.pixels.astype(np.float32))))
    return np.concatenate(grids)[:count].astype(np.uint8)


def files(run: Run, most: int | None) -> Diagnosis:
    """Make D18: on about `most` files (None: all), measured again, every flip is within its budget."""
    looked, faults = evidence.broken_files(run, most)
    if not looked:
        return skipped("D18", "No flip kept its picture.")
    if faults:
        return fail(
            "D18",
            f"{plural(len(faults), 'thing is', 'things are')} wrong with the pictures of "
            f"{plural(looked, 'flip')}, first: "
            f"{faults[0].name}: {faults[0].sentence}",
            faults=[f"{f.name}: {f.sentence}" for f in faults[:10]],
        )
    return ok(
        "D18", f"The pictures of {plural(looked, 'flip')} are as measured and within their budgets."
    )


def round_trip(
    classifier: Classifier,
    plan: Plan,
    sample: Sample,
    *,
    random: bool,
    confidences: Mapping[str, float] | None = None,
) -> Diagnosis:
    """Make D20: an unchanged image that is saved and read again keeps its pixels and its class.

    Parameters
    ----------
    classifier : the user's model.
    plan : the plan of the run.
    sample : the images.
    random : whether the model's outputs are random.
    confidences : by key, the probability of the class of each image before the attacks.
    """
    some: Sequence[Example] = sample.examples
    if not some:
        return skipped("D20", "No image was attacked.")
    if random:
        # The last are those that flip, if any do: an image whose class the drift favours never flips.
        return _drifted(classifier, some[-SMALL_BATCH:])
    read = [from_png(to_png(example.pixels)) for example in some]
    changed = [s.key for s, p in zip(some, read, strict=True) if not np.array_equal(s.pixels, p)]
    # Equal pixels have the same class; the model is nevertheless run on a few of them: the first, which
    # survived, and the last, which flip.
    half, count = SMALL_BATCH // 2, len(some)
    asked = [i for i, s in enumerate(some) if i < half or i >= count - half or s.key in changed]
    rows = classifier.probabilities(_together(classifier, [read[i] for i in asked]))
    classes = dict(zip(asked, rows.argmax(axis=1).tolist(), strict=True))
    flips = [some[i].key for i, found in classes.items() if found != some[i].label]
    if changed or flips:
        return fail(
            "D20",
            f"Of {plural(len(some), 'image')} that were only saved and read again, {len(changed)} have other "
            f"pixels and {len(flips)} another class: what is counted as flips may be no attack's "
            "doing.",
            images=(changed + flips)[:10],
        )
    told = confidences if confidences and classifier.deployment is None else {}
    moved = {
        some[i].key: abs(float(row[some[i].label]) - told[some[i].key])
        for i, row in zip(asked, rows, strict=True)
        if some[i].key in told
    }
    if moved and max(moved.values()) > DRIFTED:
        return warn(
            "D20",
            f"The probabilities of unchanged images are up to {max(moved.values()):.2g} from those before "
            "the attacks: the model keeps something of the images that it sees, such as a running mean. Each "
            "outcome is then about another model. Switch that off before saving it.",
            images=[key for key, change in moved.items() if change > DRIFTED][:10],
        )
    return ok("D20", f"Saved and read again, {_all_tried(len(some))} class.")


def _all_tried(count: int) -> str:
    return f"all {count} images tried keep their" if count > 1 else "the image tried keeps its"


def _drifted(classifier: Classifier, some: Sequence[Example]) -> Diagnosis:
    """D20 for random outputs: by vote, the classes of unchanged images are those before the attacks."""
    count = len(classifier.class_names)
    others = [np.arange(count) != example.label for example in some]
    pictures = _together(classifier, [example.pixels for example in some])
    found = votes.flips(classifier.probabilities, pictures, others)
    lost = [example.key for example, (_, flips) in zip(some, found, strict=True) if flips]
    if len(lost) > LOST * len(some):
        return fail(
            "D20",
            f"{len(lost)} of {len(some)} images that no attack has changed got another class since the audit "
            "began, by vote: the outputs are not only random, but drift, as where a model counts its calls. "
            "What is counted as flips may be no attack's doing.",
            images=lost,
        )
    return ok("D20", f"By vote, {len(some) - len(lost)} of {len(some)} images keep their class.")


def _together(classifier: Classifier, pictures: list[np.ndarray]) -> votes.Pictures:
    """Pictures as the classifier takes them: an array, unless they are deployed."""
    return pictures if classifier.deployment else np.stack(pictures)
