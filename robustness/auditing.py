"""`audit`: which of these images flip within the budget. Resolves what it is given, then runs it."""

from __future__ import annotations

import contextlib
import gc
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustness import capacity, defaults, ensembles, modelfile, norms, preflight, storage, votes
from robustness.attack import Attack
from robustness.auditor import Auditor, Listener
from robustness.classifier import Classifier, input_shape
from robustness.diagnostics.running import diagnose
from robustness.ensembles import Ensemble
from robustness.errors import ImagesError, ModelError, SettingError, StorageError
from robustness.goals import parse as parse_goal
from robustness.images import Entry, Source, from_arrays, open_source, select, tallied
from robustness.images.labels import expect_classes
from robustness.likeness import differences
from robustness.manifest import describe, expect_same, now
from robustness.mask import Mask
from robustness.mending import Mended, mend
from robustness.plan import Plan
from robustness.result import AuditResult
from robustness.shelf import Shelf
from robustness.store import Run
from robustness.threat import Threat
from robustness.units import parse_epsilons


@contextlib.contextmanager
def _unswept() -> Iterator[None]:
    """Whatever is in memory now is not searched for garbage meanwhile.

    TensorFlow and a model are so many objects that going through them takes as long as thirty gradients.
    """
    # Where some are set apart already, somebody else decides.
    ours = not gc.get_freeze_count()
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


@_unswept()
def audit(
    model: Classifier | keras.Model | str | Path,
    images: Source | str | Path | np.ndarray,
    *,
    attacks: Iterable[str | Attack | Ensemble] = (defaults.ATTACK,),
    epsilons: str | Iterable[float | str] = (defaults.EPSILON,),
    labels: np.ndarray | None = None,
    label_column: str | None = None,
    norm: str = "linf",
    target: str | int | None = None,
    mask: np.ndarray | str | Path | None = None,
    surrogate: Classifier | keras.Model | str | Path | None = None,
    precision: str = "float32",
    class_names: Sequence[str] | None = None,
    scaling: str | None = None,
    trust: bool = False,
    limit: int | None = None,
    per_class: int | None = None,
    only: Callable[[Entry], bool] | None = None,
    seed: int = 0,
    all_steps: bool = False,
    cascade: bool | None = None,
    evidence: str = "flips",
    batch_size: int | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    command: str = "",
    origin: dict[str, Any] | None = None,
    thorough: bool = False,
    declared_accuracy: float | None = None,
    gate: dict[str, Any] | None = None,
    progress: Listener | None = None,
) -> AuditResult:
    """Attack every correctly classified image, verify each flip from its saved file, keep it all.

    Parameters
    ----------
    model: a Classifier, a built Keras model, or the path of a `.keras` or `.h5` file.
    images: a folder, archive, CSV or `.npz` (see `robustness.images.open_source`), a Source, or an
        array (n, height, width, channels) in counts.
    labels: the classes of an array's images: numbers, names or one-hot rows, see
        `robustness.images.truth.by_array`; those of a file are in it.
    label_column: which column of a CSV or array of a `.npz` holds the labels, "none" for none; None to
        know it by its name.
    attacks: names of attacks and ensembles (`robustness attacks` lists them), or such objects. The
        default is an ensemble that is fitted to the norm, the classes, and whether the model has gradients.
    epsilons: budgets in counts, or "4/255"; each attack climbs them in order. None may be larger than
        any change of a picture.
    norm: "linf", "l2", "l1" or "l0"; or "free", where epsilon is what the attack counts (degrees of
        `spatial`, severity of `corruptions`).
    target: the class to reach, by name or number; None for any other class.
    mask: which pixels may change, an array (height, width) or a picture's file, bright where they may
        (`robustness.mask.Mask.of`); None for all.
    surrogate: the model that the attacks look at, where `model` is only asked for its verdict: transfer.
        None for the model itself.
    precision: that of the numbers with which the attacks look at a model: "float32", or "bfloat16", with
        which a gradient takes a quarter less time on a processor made for it (AVX512-BF16). Verdicts are
        always float32's.
    class_names, scaling, trust: as for Classifier; scaling None is decided by accuracy.
    limit, per_class, only, seed: which images, see `robustness.images.select`; the seed is also
        that of the attacks.
    all_steps: take every step, and report the flip of the last point rather than the first flip.
    cascade: each attack sees only what still stands after those before it; None: if an ensemble is
        among them.
    evidence: "flips" keeps the pictures that flipped and the originals of all that were attacked,
        "all" those of images wrong before too, "none" none, a number those of the first so many images.
    batch_size: rows that advance together; from the memory there is if not given.
    run: the run folder; a temporary one if not given. With `resume`, go on with the run in it.
    command, origin: how this was called, for the report.
    thorough: ask the dear diagnostics too, which run attacks again.
    declared_accuracy: what the model is said to reach on such images, 0..1.
    gate: what the run is held against (`reports.rules.Gate.to_dict`), for the report.
    progress: hears how far it is.

    Returns
    -------
    The run, as an AuditResult. Kill it at any moment: `resume=True` goes on, to the same outcomes.

    Raises
    ------
    SettingError, ModelError, ImagesError, RunError: each says what came and what was expected.
    """
    asked = [ensembles.parse(a) for a in attacks]
    ladder, chosen_norm = parse_epsilons(epsilons), norms.parse(norm)
    known = class_names or (model.class_names if isinstance(model, Classifier) else None)
    source = _source(images, labels, known, label_column)
    entries = select(source.entries(), limit=limit, per_class=per_class, seed=seed, only=only)
    shelf = Shelf(source)
    names = class_names or source.class_names
    classifier = _classifier(model, shelf, entries, class_names=names, scaling=scaling, trust=trust)
    _expect_classes(source, entries, classifier.class_names)
    eyes = _surrogate(surrogate, classifier, shelf, entries, trust=trust)
    looking = (eyes or classifier).in_precision(precision)
    goal = parse_goal(target, classifier.class_names)
    entries = [e for e in entries if e.label is None or goal.concerns(e.label)]
    _expect_any(entries, source)
    folder = Path(run) if run is not None else _temporary()
    before = _settings_before(folder) if resume else {}
    if batch_size is None:
        batch_size = before.get("slots")
    slots = capacity.slots_for(classifier) if batch_size is None else batch_size
    region = None if mask is None else Mask.of(mask, classifier.input_shape)
    threat = Threat(ladder, chosen_norm, goal, region)
    threat.expect_possible(classifier.input_shape)

    resolved = partial(
        ensembles.resolve, asked, chosen_norm, goal, classifier.class_names, cascade=cascade
    )
    run_as = resolved(gradients=True)
    plan = Plan(
        run_as.attacks,
        threat,
        seed,
        slots,
        all_steps,
        str(evidence),
        cascade=run_as.cascade,
        replaced=run_as.replaced,
        channels=classifier.input_shape[-1],
        surrogate=eyes.digest if eyes else None,
        precision=looking.precision,
        draws=before.get("draws") or 1,
    )
    answers, findings = (
        ({}, _findings_before(folder)) if resume else _examined(classifier, shelf, entries)
    )
    if eyes is None and not preflight.has_gradients(findings):
        plan = plan.running(resolved(gradients=False))
    if not resume and preflight.is_random(findings):
        plan = replace(plan, draws=votes.DRAWS)
    manifest = describe(plan, classifier, source, entries)
    manifest |= {
        "budgets": plan.budgets(classifier.input_shape),
        "command": command,
        "origin": origin or {},
        "surrogate": eyes.card() if eyes else None,
        "notes": _fitted_elsewhere(plan, manifest["model"]),
    }
    if resume:
        store = Run.resume(folder)
        expect_same(store.manifest, manifest)
    else:
        manifest["preflight"] = [asdict(finding) for finding in findings]
        manifest["data"]["declared_accuracy"] = declared_accuracy
        manifest["gate"] = gate or {}
        store = Run.create(folder, manifest)
    with store:
        mended = mend(store, plan, shelf, entries, classifier.input_shape) if resume else Mended()
        if region is not None:
            store.save_png(region.png(plan.channels))
        heard = progress or (lambda _: None)
        Auditor(plan, classifier, shelf, entries, store, heard, looking).run(answers)
        store.write_manifest(
            _ended(
                store.manifest,
                mended,
                diagnose(
                    classifier,
                    plan,
                    shelf,
                    entries,
                    store,
                    thorough=thorough,
                    progress=heard,
                    surrogate=eyes,
                ),
            )
        )
    return AuditResult(folder, mended.sentence if mended else "")


def labelled(
    model: Classifier | keras.Model | str | Path,
    images: Source,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """A classifier, and every readable labelled image of a source: uint8 pixels, and classes (n,).

    ImagesError if there is none.
    """
    entries = [e for e in select(images.entries(), limit=limit, seed=seed) if e.label is not None]
    shelf = Shelf(images)
    classifier = _classifier(
        model, shelf, entries, class_names=images.class_names, scaling=None, trust=False
    )
    _expect_classes(images, entries, classifier.class_names)
    pictures = list(shelf.stream(entries, classifier.input_shape))
    read = [p for p in pictures if p.pixels is not None]
    reasons = [p.reason for p in pictures]
    if not read:
        why = f" ({tallied(reasons, len(entries))})" if entries else ""
        raise ImagesError(
            f"{images.description}: no labelled picture can be read{why}; expected a folder for each class."
        )
    return (
        classifier,
        np.stack([p.pixels for p in read if p.pixels is not None]),
        np.array([p.entry.label for p in read]),
    )


def _examined(
    classifier: Classifier, shelf: Shelf, entries: list[Entry]
) -> tuple[dict[str, np.ndarray], list[preflight.Finding]]:
    """What the classifier says of a sample of images, by key, and what the checks before the attack found."""
    with ThreadPoolExecutor(1, thread_name_prefix="digest") as hand:
        # Hashing weights takes as long as tracing, and holds no lock of Python's.
        hand.submit(lambda: classifier.digest)
        keys, pixels, truth = shelf.sample(entries, classifier.input_shape)
        seen = classifier.probabilities(pixels)
        findings = preflight.run(classifier, pixels, truth, seen) if keys else []
    return dict(zip(keys, seen, strict=True)), findings


def _ended(
    manifest: dict[str, Any], mended: Mended, diagnostics: list[dict[str, Any]]
) -> dict[str, Any]:
    """The manifest of a run that is over: with its diagnostics, and what was made again."""
    ended = manifest | {"diagnostics": diagnostics}
    if mended:
        ended["mended"] = [*(ended.get("mended") or ()), {"at": now(), **asdict(mended)}]
    return ended


def _expect_any(entries: list[Entry], source: Source) -> None:
    if not entries:
        raise ImagesError(
            f"{source.description}: no image is left to attack. Expected at least one whose class "
            "is not the target; check the target, `limit` and the selection."
        )


def _temporary() -> Path:
    """A place for a run that nobody named one for; StorageError where there is no room."""
    try:
        return Path(tempfile.mkdtemp(prefix="robustness-")) / "run"
    except OSError as error:
        raise StorageError(storage.sentence(error)) from error


def _fitted_elsewhere(plan: Plan, card: dict[str, Any]) -> list[str]:
    """A sentence for each attack whose change was fitted on another model than the one audited."""
    fitted = {a.label: getattr(a, "fitted_on", None) for a in plan.attacks}
    other = {label: differences(on, card) for label, on in fitted.items() if on}
    return [
        f"{label} was fitted on another model: {'; '.join(what)}"
        for label, what in other.items()
        if what
    ]


def _settings_before(folder: Path) -> dict[str, Any]:
    """The settings a run was started with: bits depend on the batch size, verdicts on the draws."""
    with Run.open(folder) as run:
        return dict(run.manifest.get("config") or {})


def _findings_before(folder: Path) -> list[preflight.Finding]:
    """What the checks before the attack found when a run was started: which attacks run depends on it."""
    with Run.open(folder) as run:
        known = run.manifest.get("preflight") or ()
    return [
        preflight.Finding(
            one.get("id") or "", one.get("severity") or "note", one.get("sentence") or ""
        )
        for one in known
    ]


def _source(
    images: Any, labels: Any, names: Sequence[str] | None, label_column: str | None
) -> Source:
    if isinstance(images, np.ndarray):
        if label_column is not None:
            raise SettingError(
                "`label_column` was given with an array of images; expected `labels`, or the path of a CSV "
                "or .npz."
            )
        return from_arrays(images, labels, names)
    path = isinstance(images, (str, Path))
    source = open_source(images, names, label_column) if path else images
    if labels is not None:
        raise SettingError(
            "`labels` were given with images that are no array; expected them in the file itself: folders "
            "named for classes, a CSV's column (`label_column`), or an array of the .npz."
        )
    return source


def _expect_classes(source: Source, entries: list[Entry], names: Sequence[str]) -> None:
    """ImagesError, naming the source, unless every label is one of the classes `names`."""
    try:
        expect_classes([entry.label for entry in entries], names)
    except ImagesError as error:
        raise ImagesError(f"{source.description}: {error}") from error


def _classifier(
    model: Any, shelf: Shelf, entries: list[Entry], *, trust: bool, **settings: Any
) -> Classifier:
    """The model as a Classifier; its scaling given, found inside, or decided on the images."""
    if isinstance(model, Classifier):
        return model
    if isinstance(model, (str, Path)):
        settings["file"] = model
        model = modelfile.load_model(model, trust)
    # Before labels decide anything: how many outputs there are is known now, their names may not be.
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, tuple) and shape and isinstance(shape[-1], int):
        numbers = [str(number) for number in range(max(2, shape[-1]))]
        _expect_classes(shelf.source, entries, settings["class_names"] or numbers)
    if settings["scaling"] is not None:
        return Classifier(model, **settings)
    keys, pixels, labels = shelf.sample(entries, input_shape(model))
    if not keys:
        _expect_readable(shelf, entries, input_shape(model))
    return Classifier.decide(model, pixels, labels, **settings)


def _expect_readable(shelf: Shelf, entries: list[Entry], shape: tuple[int, int, int]) -> None:
    """ImagesError, with the most frequent reasons, if no picture at all can be read."""
    reasons = []
    with contextlib.closing(shelf.stream(entries, shape)) as pictures:
        for picture in pictures:
            if picture.pixels is not None:
                return
            reasons.append(picture.reason)
    if reasons:
        raise ImagesError(
            f"{shelf.source.description}: no picture can be read ({tallied(reasons, len(entries))}); "
            "expected some to decide the model's scaling on."
        )


def _surrogate(
    model: Any, target: Classifier, shelf: Shelf, entries: list[Entry], *, trust: bool
) -> Classifier | None:
    """The model that attacks look at in place of `target`; ModelError unless it takes its images."""
    if model is None:
        return None
    eyes = _classifier(
        model, shelf, entries, class_names=target.class_names, scaling=None, trust=trust
    )
    asked = (eyes.input_shape, len(eyes.class_names))
    expected = (target.input_shape, len(target.class_names))
    if asked != expected:
        raise ModelError(
            f"The surrogate takes images of shape {asked[0]} and has {asked[1]} classes; expected those "
            f"of the target, {expected[0]} and {expected[1]}."
        )
    return eyes
