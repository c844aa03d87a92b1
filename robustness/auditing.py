"""The audit: which of these images flip within the budget, kept so that it can be killed and go on."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustness import attack as attacks_room
from robustness import capacity, engine, gradients, norms, preflight
from robustness.attack import Attack
from robustness.classifier import Classifier
from robustness.errors import ImagesError, ModelError, RunError, SettingError
from robustness.goals import parse as parse_goal
from robustness.images import Entry, Picture, Source, from_arrays, open_source, select
from robustness.judge import Judge
from robustness.pictures import to_png
from robustness.result import AuditResult
from robustness.store import (
    FAILED,
    FLIPPED,
    MISCLASSIFIED,
    ROBUST,
    UNREADABLE,
    ImageRow,
    OutcomeRow,
    Pending,
    Run,
    StripRow,
)
from robustness.threat import Threat
from robustness.units import parse_epsilons

EVIDENCE = ("all", "flips", "none")
SHELF_BYTES = 256 << 20
"""Decoded pictures kept between the passes over them; beyond it they are decoded again."""
STRIPS = 6
"""Flips an attack whose steps are kept for the report."""
SAMPLE = 64
"""Images the pre-flight checks look at."""


@dataclass(frozen=True)
class Progress:
    """How far a stage is. `stage` is "clean" or an attack's label."""

    stage: str
    done: int
    total: int
    flipped: int = 0
    robust: int = 0


Listener = Callable[[Progress], None]


@dataclass(frozen=True)
class Plan:
    """What is to be run: the part of an audit that a resumed run must share."""

    attacks: tuple[Attack, ...]
    threat: Threat
    seed: int
    slots: int
    all_steps: bool
    evidence: str

    def config(self, class_names: Sequence[str]) -> dict[str, Any]:
        """JSON-able, for `run.json`."""
        return {
            "attacks": [
                {
                    "name": a.name,
                    "label": a.label,
                    "parameters": a.parameters(),
                    "knowledge": a.knowledge,
                    "paper": a.paper,
                }
                for a in self.attacks
            ],
            "norm": self.threat.norm.name,
            "epsilons": list(self.threat.epsilons),
            "goal": self.threat.goal.describe(class_names),
            "seed": self.seed,
            "slots": self.slots,
            "all_steps": self.all_steps,
            "evidence": self.evidence,
        }


def audit(
    model: Classifier | keras.Model | str | Path,
    images: Source | str | Path | np.ndarray,
    *,
    attacks: Iterable[str | Attack] = ("pgd",),
    epsilons: str | Iterable[float | str] = (4,),
    labels: np.ndarray | None = None,
    norm: str = "linf",
    target: str | int | None = None,
    class_names: Sequence[str] | None = None,
    scaling: str | None = None,
    trust: bool = False,
    limit: int | None = None,
    per_class: int | None = None,
    only: Callable[[Entry], bool] | None = None,
    seed: int = 0,
    all_steps: bool = False,
    evidence: str = "flips",
    batch_size: int | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    command: str = "",
    origin: dict[str, Any] | None = None,
    progress: Listener | None = None,
) -> AuditResult:
    """Attack every correctly classified image, verify each flip from its saved file, keep it all.

    Parameters
    ----------
    model: a Classifier, a built Keras model, or the path of a `.keras` or `.h5` file.
    images: a folder, archive, CSV or `.npz` (see `robustness.images.open_source`), a Source, or an
        array (n, height, width, channels) in counts with `labels` (n,).
    attacks: names (`robustness attacks` lists them) or attack objects.
    epsilons: budgets in counts, or "4/255"; each attack climbs them in order.
    norm: "linf", "l2", "l1" or "l0".
    target: the class to reach, by name or number; None for any other class.
    class_names, scaling, trust: as for Classifier; scaling None is decided by accuracy.
    limit, per_class, only, seed: which images, see `robustness.images.select`; the seed is also
        that of the attacks.
    all_steps: take every step, and report the flip of the last point rather than the first flip.
    evidence: "all" keeps each image's last picture, "flips" those that flipped, "none" none, a
        number those of the first so many images.
    batch_size: rows that advance together; from the memory there is if not given.
    run: the run folder; a temporary one if not given. With `resume`, go on with the run in it.
    command, origin: how this was called, for the report.
    progress: hears how far it is.

    Returns
    -------
    The run, as an AuditResult. Kill it at any moment: `resume=True` goes on, to the same outcomes.

    Raises
    ------
    SettingError, ModelError, ImagesError, RunError: each says what came and what was expected.
    """
    known = class_names or (model.class_names if isinstance(model, Classifier) else None)
    source = _source(images, labels, known)
    entries = select(source.entries(), limit=limit, per_class=per_class, seed=seed, only=only)
    shelf = Shelf(source)
    classifier = _classifier(model, shelf, entries, class_names or source.class_names, scaling, trust)
    threat = Threat(
        parse_epsilons(epsilons), norms.parse(norm), parse_goal(target, classifier.class_names)
    )
    made = tuple(attacks_room.make(a) for a in attacks)
    slots = batch_size or capacity.slots_for(classifier)
    plan = Plan(made, threat, seed, slots, all_steps, _evidence(evidence))
    _check(plan)
    entries = [e for e in entries if e.label is None or threat.goal.concerns(e.label)]
    if not entries:
        raise ImagesError(
            f"{source.description}: no image is left to attack. Expected at least one "
            "whose class is not the target; check the target, `limit` and the selection."
        )
    folder = Path(run) if run is not None else Path(tempfile.mkdtemp(prefix="robustness-"))
    store = _open(folder, resume, plan, classifier, source, entries, command, origin or {})
    with store:
        _Audit(plan, classifier, shelf, entries, store, progress or (lambda _: None)).run()
    return AuditResult(folder)


class Shelf:
    """A source whose decoded pictures are kept, up to a limit, for the passes to come."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._kept: dict[tuple[str, tuple[int, ...]], Picture] = {}
        self._left = SHELF_BYTES

    def read(self, entry: Entry, shape: tuple[int, int, int]) -> Picture:
        """The picture, decoded or kept."""
        picture = self._kept.get((entry.key, shape))
        if picture is None:
            picture = self.source.read(entry, shape)
            size = 0 if picture.pixels is None else picture.pixels.nbytes
            if size <= self._left:
                self._kept[entry.key, shape] = picture
                self._left -= size
        return picture

    def stream(self, entries: Iterable[Entry], shape: tuple[int, int, int]) -> Iterator[Picture]:
        """Pictures in order, a few decoded ahead on other threads."""
        waiting: deque[Future[Picture]] = deque()
        with ThreadPoolExecutor(2, thread_name_prefix="pictures") as pool:
            try:
                for entry in entries:
                    waiting.append(pool.submit(self.read, entry, shape))
                    if len(waiting) > 32:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


class _Audit:
    """One audit under way: the clean pass, each attack, the strips."""

    def __init__(
        self,
        plan: Plan,
        classifier: Classifier,
        shelf: Shelf,
        entries: list[Entry],
        store: Run,
        progress: Listener,
    ) -> None:
        self.plan, self.classifier, self.shelf = plan, classifier, shelf
        self.entries, self.store, self.progress = entries, store, progress
        self.judge = Judge(classifier, plan.threat)
        self.pending = Pending(store)
        self.slots = plan.slots

    def run(self) -> None:
        started = time.monotonic()
        try:
            self._clean()
            for attack in self.plan.attacks:
                self._attack(attack)
            self._strips()
        finally:
            self.pending.flush()
        manifest = self.store.manifest
        timing = manifest.get("timing") or {"seconds": 0.0}
        timing["seconds"] = round(timing["seconds"] + time.monotonic() - started, 3)
        manifest |= {"finished": _now(), "timing": timing}
        manifest["data"]["sha256"] = _data_digest(self.store)
        self.store.write_manifest(manifest)

    def _clean(self) -> None:
        """What the model says of each image unchanged."""
        known = {row.key for row in self.store.image_rows()}
        todo = [(n, e) for n, e in enumerate(self.entries) if e.key not in known]
        done, total = len(self.entries) - len(todo), len(self.entries)
        pictures = self.shelf.stream((e for _, e in todo), self.classifier.input_shape)
        numbered = zip((n for n, _ in todo), pictures, strict=False)
        with contextlib.closing(pictures):
            while chunk := [pair for _, pair in zip(range(64), numbered, strict=False)]:
                rows = [self._image_row(n, picture) for n, picture in chunk]
                readable = [i for i, (_, p) in enumerate(chunk) if p.pixels is not None]
                if readable:
                    pixels = np.stack([chunk[i][1].pixels for i in readable])
                    for i, row in zip(readable, self.judge.probabilities(pixels), strict=True):
                        rows[i] = _predicted(rows[i], row)
                self.pending.add(rows)
                done += len(chunk)
                self.progress(Progress("clean", done, total))
        self.pending.flush()

    def _image_row(self, position: int, picture: Picture) -> ImageRow:
        entry = picture.entry
        return ImageRow(
            key=entry.key,
            position=position,
            name=entry.name,
            label=entry.label,
            digest=picture.digest,
            note=picture.note,
            reason=picture.reason,
        )

    def _attack(self, attack: Attack) -> None:
        """Run one attack over every correct image that is not settled yet."""
        epsilons = self.plan.threat.epsilons
        settled = self.store.settled(attack.label, len(epsilons))
        counts = self.store.count(attack.label)
        tally = {FLIPPED: 0, ROBUST: 0}
        done, total = len(settled), len(self.entries)

        def report() -> None:
            self.progress(Progress(attack.label, done, total, tally[FLIPPED], tally[ROBUST]))

        todo: list[ImageRow] = []
        for row in self.store.image_rows():
            if row.key in settled:
                continue
            if status := _spared(row):
                self.pending.add(_spared_rows(row, attack.label, epsilons, status))
                done += 1
            else:
                todo.append(row)
        self.pending.flush()
        tally[FLIPPED] = counts.get(FLIPPED, 0) // max(1, len(epsilons))
        rows = {row.key: row for row in todo}

        def settle(subject: engine.Subject, rungs: list[engine.Rung]) -> None:
            nonlocal done
            row = rows.pop(subject.key)
            self.pending.add(self._outcomes(row, subject, attack.label, rungs))
            done += 1
            final = rungs[-1]
            if not final.reason:
                tally[FLIPPED if final.flip else ROBUST] += 1
            report()

        report()
        while rows:
            subjects = self._subjects(list(rows.values()))
            try:
                with contextlib.closing(subjects):
                    engine.search(
                        self.classifier,
                        attack,
                        self.plan.threat,
                        subjects,
                        settle,
                        slots=self.slots,
                        seed=self.plan.seed,
                        all_steps=self.plan.all_steps,
                    )
            except gradients.OutOfMemory as error:
                if self.slots == 1:
                    raise ModelError(
                        "A single image does not fit into the memory of the device; use a machine "
                        "with more, or close what else runs on it."
                    ) from error
                self.slots //= 2
        self.pending.flush()

    def _subjects(self, rows: list[ImageRow]) -> Iterator[engine.Subject]:
        entries = {e.key: e for e in self.entries}
        pictures = self.shelf.stream((entries[r.key] for r in rows), self.classifier.input_shape)
        with contextlib.closing(pictures):
            for row, picture in zip(rows, pictures, strict=True):
                if picture.digest != row.digest:
                    raise RunError(
                        f"{row.name} has changed since this run looked at it first"
                        f"{': ' + picture.reason if picture.reason else ''}. Expected the same "
                        "pictures throughout; put it back, or audit into a new folder."
                    )
                if picture.pixels is None or row.clean_class is None:
                    raise RunError(f"{row.name} cannot be read any more: {picture.reason}")
                yield engine.Subject(row.key, picture.pixels, row.clean_class)

    def _outcomes(
        self, row: ImageRow, subject: engine.Subject, label: str, rungs: list[engine.Rung]
    ) -> list[ImageRow | OutcomeRow]:
        """The rows of one image, its pictures saved first."""
        written: list[ImageRow | OutcomeRow] = []
        kept = self._keeps(row)
        if kept and any(r.flip for r in rungs):
            original = self.store.save_png(to_png(subject.pixels))
            written.append(replace(row, png=original))
        for rung in rungs:
            outcome = OutcomeRow(
                image=row.key,
                attack=label,
                epsilon=rung.epsilon,
                status=FAILED if rung.reason else FLIPPED if rung.flip else ROBUST,
                confidence_before=row.confidence,
                step=rung.step,
                restart=rung.restart,
                forward=rung.forward,
                backward=rung.backward,
                float_flip=int(rung.floated),
                reason=rung.reason,
            )
            if rung.flip:
                outcome = replace(
                    outcome,
                    adversarial_class=rung.flip.adversarial_class,
                    confidence_after=rung.flip.confidence,
                    **asdict(rung.flip.distances),
                    png=self.store.save_png(rung.flip.png) if kept else None,
                )
            written.append(outcome)
        return written

    def _keeps(self, row: ImageRow) -> bool:
        if self.plan.evidence.isdigit():
            return row.position < int(self.plan.evidence)
        return self.plan.evidence != "none"

    def _strips(self) -> None:
        """Walk the most confident flips of each attack again and keep every step."""
        outcomes, images = self.store.outcomes(), {r.key: r for r in self.store.image_rows()}
        entries = {e.key: e for e in self.entries}
        for attack in self.plan.attacks:
            flips = outcomes[(outcomes.attack == attack.label) & (outcomes.status == FLIPPED)]
            flips = flips[flips.png.notna() & (flips.step > 0)]
            # An image's first rung that flipped; the others carry the same picture.
            flips = flips.sort_values(["epsilon", "image"]).drop_duplicates("image")
            best = _varied(flips.sort_values(["confidence_after", "image"], ascending=[False, True]))
            walks, cases = [], []
            for case in best.itertuples():
                picture = self.shelf.read(entries[case.image], self.classifier.input_shape)
                row = images[case.image]
                if picture.pixels is None or row.clean_class is None:
                    continue
                subject = engine.Subject(row.key, picture.pixels, row.clean_class)
                place = engine.Place(subject, case.epsilon, int(case.restart))
                walks.append((place, int(case.step)))
                cases.append((row.key, attack.label, float(case.epsilon), subject))
            if not walks:
                continue
            starts = self.judge.probabilities(np.stack([c[3].pixels for c in cases]))
            strips = [
                self._strip(case, 0, case[3].pixels, row)
                for case, row in zip(cases, starts, strict=True)
            ]
            engine.replay(
                self.classifier,
                attack,
                self.plan.threat,
                walks,
                lambda n, step, grid, row, c=cases, s=strips: s.append(
                    self._strip(c[n], step, grid, row)
                ),
                slots=self.slots,
                seed=self.plan.seed,
            )
            self.store.add(strips)

    def _strip(
        self, case: tuple[str, str, float, Any], step: int, grid: np.ndarray, row: np.ndarray
    ) -> StripRow:
        shown = "[" + ", ".join(f"{p:.6f}" for p in row.tolist()) + "]"
        return StripRow(
            image=case[0],
            attack=case[1],
            epsilon=case[2],
            step=step,
            png=self.store.save_png(to_png(grid)),
            probabilities=shown,
        )


def _varied(flips: Any) -> Any:
    """The first flips of a ranked table, no class taking more than its share."""
    share = -(-STRIPS // max(1, flips.adversarial_class.nunique()))
    return flips.groupby("adversarial_class", sort=False).head(share).head(STRIPS)


def _predicted(row: ImageRow, probabilities: np.ndarray) -> ImageRow:
    """`row` with the model's answer; an image the model answers with NaN is not readable to it."""
    if not np.isfinite(probabilities).all():
        return replace(row, reason="the model answers with numbers that are not finite")
    predicted = int(probabilities.argmax())
    return replace(row, clean_class=predicted, confidence=float(probabilities[predicted]))


def _spared(row: ImageRow) -> str:
    """The status of an image that is not attacked, or nothing."""
    if row.reason or row.clean_class is None:
        return UNREADABLE
    # Without a label, the model's own answer is taken for true.
    return "" if row.label in (None, row.clean_class) else MISCLASSIFIED


def _spared_rows(
    row: ImageRow, label: str, epsilons: Sequence[float], status: str
) -> list[OutcomeRow]:
    return [
        OutcomeRow(
            image=row.key,
            attack=label,
            epsilon=epsilon,
            status=status,
            confidence_before=row.confidence,
            reason=row.reason,
        )
        for epsilon in epsilons
    ]


def _source(images: Any, labels: np.ndarray | None, names: Sequence[str] | None) -> Source:
    if isinstance(images, (str, Path)):
        return open_source(images, names)
    if isinstance(images, np.ndarray):
        return from_arrays(images, labels, names)
    return images


def _evidence(value: str | int) -> str:
    text = str(value)
    if text in EVIDENCE or text.isdigit():
        return text
    raise SettingError(
        f"Evidence {text!r} is not known; expected {', '.join(EVIDENCE)}, or a number of images."
    )


def _check(plan: Plan) -> None:
    """What must hold before anything is written."""
    if not plan.attacks:
        raise SettingError("No attack was given; expected at least one, `robustness attacks` lists them.")
    if plan.slots < 1:
        raise SettingError(f"Batch size {plan.slots} is not usable; expected at least 1.")
    labels = [attack.label for attack in plan.attacks]
    if len(set(labels)) < len(labels):
        raise SettingError(f"The same attack was given twice: {', '.join(labels)}.")
    for attack in plan.attacks:
        if plan.threat.norm.name not in attack.norms:
            raise SettingError(
                f"{attack.name} has no {plan.threat.norm.name} version; it works in "
                f"{', '.join(attack.norms)}. Choose one of these norms, or another attack."
            )


def _classifier(
    model: Any,
    shelf: Shelf,
    entries: list[Entry],
    class_names: Sequence[str] | None,
    scaling: str | None,
    trust: bool,
) -> Classifier:
    if isinstance(model, Classifier):
        return model
    settings = {"class_names": class_names, "scaling": scaling}
    if isinstance(model, (str, Path)):
        from robustness import modelfile

        settings["file"] = model
        model = modelfile.load_model(model, trust)
    if scaling is not None:
        return Classifier(model, **settings)
    from robustness.classifier import input_shape

    pixels, labels = _sample(shelf, entries, input_shape(model))
    return Classifier.decide(model, pixels, labels, **settings)


def _sample(
    shelf: Shelf, entries: list[Entry], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """The first readable images of the selection, and their labels if all have one."""
    read = [p for p in (shelf.read(e, shape) for e in entries[:SAMPLE]) if p.pixels is not None]
    pixels = np.stack([p.pixels for p in read]) if read else np.zeros((0, *shape), np.uint8)
    labels = [p.entry.label for p in read]
    return pixels, None if None in labels else np.array(labels)


def _open(
    folder: Path,
    resume: bool,
    plan: Plan,
    classifier: Classifier,
    source: Source,
    entries: list[Entry],
    command: str,
    origin: dict[str, Any],
) -> Run:
    manifest = {
        "tool": {"name": "robustness-toolkit", "version": _version("robustness-toolkit")},
        "created": _now(),
        "finished": None,
        "command": command,
        "origin": origin,
        "config": plan.config(classifier.class_names),
        "model": classifier.card(),
        "data": {
            "description": source.description,
            "selected": len(entries),
            "selection_sha256": _selection_digest(entries),
            "seed": plan.seed,
            "labelled": all(e.label is not None for e in entries),
        },
        "class_names": list(classifier.class_names),
        "environment": _environment(),
        "preflight": [],
        "timing": None,
    }
    if not resume:
        store = Run.create(folder, manifest)
        pixels, labels = _sample(Shelf(source), entries, classifier.input_shape)
        manifest["preflight"] = [asdict(f) for f in preflight.run(classifier, pixels, labels)]
        store.write_manifest({"schema": 1, **manifest})
        return store
    store = Run.resume(folder)
    _expect_same(store.manifest, manifest)
    return store


def _expect_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """RunError naming what differs between the run in the folder and the one asked for."""
    pairs = [("model weights", "model", "weights_sha256"), ("scaling", "model", "scaling")]
    pairs += [("selection of images", "data", "selection_sha256")]
    pairs += [(f"setting {name}", "config", name) for name in now["config"]]
    differing = [
        f"{what} (was {_brief(before[room].get(name))}, is {_brief(now[room][name])})"
        for what, room, name in pairs
        if before[room].get(name) != now[room][name]
    ]
    if differing:
        raise RunError(
            f"This run cannot be resumed, since something is different now: {'; '.join(differing)}. "
            "Resume with what it was started with, or audit into a new folder."
        )


def _brief(value: Any) -> str:
    text = ", ".join(v["label"] for v in value) if _labelled(value) else str(value)
    return text if len(text) < 60 else text[:28] + "..." + text[-28:]


def _labelled(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) and "label" in v for v in value)


def _selection_digest(entries: list[Entry]) -> str:
    sha = hashlib.sha256()
    for entry in entries:
        sha.update(f"{entry.key}\x1f{entry.label}\x1e".encode())
    return sha.hexdigest()


def _data_digest(store: Run) -> str:
    sha = hashlib.sha256()
    for row in store.image_rows():
        sha.update(f"{row.key}\x1f{row.digest}\x1e".encode())
    return sha.hexdigest()


def _environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": gradients.device(),
        "backend": keras.backend.backend(),
        **{name: _version(name) for name in ("keras", "tensorflow", "numpy", "pillow")},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
