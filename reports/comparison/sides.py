"""The two runs of a comparison: the outcomes of each, and whether the two can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustness.errors import RunError, RunUsageError, SettingError
from robustness.files.reading import MOST_JSON, read_named
from robustness.images import Entry
from robustness.images.class_match import match_names
from robustness.reports import wording
from robustness.reports.summary import metrics
from robustness.reports.summary.metrics import FAILED, FLIPPED, ROBUST
from robustness.runs.run_json import summary_of
from robustness.runs.schema import GoalEntry, Manifest, ResultEntry
from robustness.runs.store import Run
from robustness.text import first_few, shorten


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes
    ----------
    source
        Name of the folder or file.
    names, labels
        Name and label of each image, by key.
    digests
        Digest of the pixels of each image, by key; None for a `report.json`, which has none.
    status
        The worst case over all attacks, by epsilon and image.
    """

    source: str
    manifest: Manifest
    attacks: tuple[str, ...]
    names: Mapping[str, str]
    labels: Mapping[str, str | None]
    digests: Mapping[str, str] | None
    status: Mapping[float, Mapping[str, str]]

    @property
    def title(self) -> str:
        """The name of the folder, and the model."""
        model = self.manifest.model.name or "a model"
        return f"{wording.shorten(self.source)} ({wording.shorten(model)})"


def read_side(path: Path) -> Side:
    """Read one side of a comparison from a run folder or a `report.json`.

    Raises
    ------
    RunError
        If `path` is neither.
    """
    return _from_json(path) if path.is_file() else _from_run(path)


def _from_run(path: Path) -> Side:
    with Run.open(path) as run:
        manifest, images, outcomes = run.manifest, run.images(), run.outcomes()
    names = manifest.class_names
    worst = metrics.worst_case(outcomes)
    return Side(
        source=path.name,
        manifest=manifest,
        attacks=tuple(dict.fromkeys(outcomes["attack"])),
        names=dict(zip(images["key"], images["name"], strict=True)),
        labels={
            key: None if label is None or label != label else wording.class_name(names, label)  # noqa: PLR0124
            for key, label in zip(images["key"], images["label"], strict=True)
        },
        digests=dict(zip(images["key"], images["digest"], strict=True)),
        status={
            float(str(epsilon)): dict(zip(rows["image"], rows["status"], strict=True))
            for epsilon, rows in worst.groupby("epsilon")
        },
    )


def _from_json(path: Path) -> Side:
    try:
        summary = summary_of(read_named(path, MOST_JSON), str(path))
    except RunError as error:
        raise RunUsageError(f"{path} cannot be compared: {error}") from None
    results = summary.results
    if results is None or summary.worst is None or summary.attacks is None:
        raise RunUsageError(
            f"{path} cannot be compared, since it lacks results, worst or attacks; expected a run folder "
            "or its report.json."
        )
    if not results and summary.manifest.data.selected:
        raise RunUsageError(
            f"{path} cannot be compared, since it does not list its {summary.manifest.data.selected:,} "
            "images one by one; give the run folder."
        )
    epsilons = [float(rate.epsilon) for rate in summary.worst]
    return Side(
        source=path.name,
        manifest=summary.manifest,
        attacks=summary.attacks,
        names={r.key: r.name for r in results},
        labels={r.key: r.label for r in results},
        digests=None,
        status={e: {r.key: _status_at(r, e) for r in results} for e in epsilons},
    )


def _status_at(result: ResultEntry, epsilon: float) -> str:
    """The outcome of an image at an epsilon, from that at the largest one."""
    smallest, undecided = result.smallest_epsilon, result.undecided
    if smallest is not None and smallest <= epsilon:
        return FLIPPED
    if epsilon in (undecided or ()):
        return FAILED
    # Reports from before `undecided` tell of the largest epsilon only.
    if smallest is not None or (undecided is not None and result.status == FAILED):
        return ROBUST
    return result.status


def expect_same_images(a: Side, b: Side) -> None:
    """Check that both runs audited the same images.

    Raises
    ------
    SettingError
        If names, labels or pixels differ; the message says which.
    """
    only_a, only_b = sorted(set(a.names) - set(b.names)), sorted(set(b.names) - set(a.names))
    if only_a or only_b:
        sides = [
            f"{len(names):,} only in {where} ({first_few(names)})"
            for names, where in ((only_a, "A"), (only_b, "B"))
            if names
        ]
        raise SettingError(
            f"The runs audited different images: {', '.join(sides)}. Expected the same ones; audit "
            "both models on the same images, with the same seed and limit."
        )
    _expect_same_labels(a, b)
    if resized(a, b):
        return
    other = _other_pixels(a, b)
    if other:
        raise SettingError(
            f"The runs audited different images: {other}. Expected the same pictures under the "
            "same names."
        )


def _expect_same_labels(a: Side, b: Side) -> None:
    """SettingError unless the images of both runs have the same labels, spelled alike or not."""
    spelled = respelled(a.manifest.class_names, b.manifest.class_names)
    there = {key: label and spelled.get(label, label) for key, label in b.labels.items()}
    unlike = sorted(key for key in a.names if key in there and a.labels[key] != there[key])
    if unlike:
        first, *_ = unlike
        example = f"{a.labels[first] or 'none'} in A, {b.labels[first] or 'none'} in B"
        raise SettingError(
            f"The runs audited different images: {len(unlike):,} have different labels "
            f"({first_few(unlike)}): {shorten(example, 100)}. Expected the same images with the same labels. "
            "If these are the same classes, name them alike, in class_names.txt beside the model."
        )


def respelled(names_a: Sequence[str], names_b: Sequence[str]) -> dict[str, str]:
    """Return the class of A that each class of B is, where only the spelling of the names differs.

    Names that fit several classes, and several names that fit one, are left out.
    """
    fits = {
        name: names_a[index]
        for name, (index, how) in match_names(names_b, names_a).items()
        if index is not None and how in ("name", "spelling")
    }
    times = Counter(fits.values())
    return {name: same for name, same in fits.items() if times[same] == 1}


def expect_comparable(a: Side, manifest: Manifest, entries: Sequence[Entry]) -> None:
    """Check, before a second run is made, that its images will have the labels that they have in A.

    Parameters
    ----------
    a : the first run.
    manifest : that of the second run.
    entries : its images.

    Raises
    ------
    SettingError
        Images have other labels, so that the runs could not be compared afterwards.
    """
    names = manifest.class_names
    labels = {
        entry.key: None if entry.label is None else wording.class_name(names, entry.label)
        for entry in entries
    }
    named = {entry.key: entry.name for entry in entries}
    try:
        _expect_same_labels(a, Side("", manifest, (), named, labels, None, {}))
    except SettingError as error:
        raise SettingError(
            f"The new run (B) could not be compared with {a.source} (A), so it is not made. {error} To "
            "audit the model by itself: robustness audit."
        ) from None


def resized(a: Side, b: Side) -> bool:
    """Return whether the input sizes of the models differ; then pixels differ even if the files do not."""
    sizes = [side.manifest.model.input_shape for side in (a, b)]
    return sizes[0] != sizes[1]


def _other_pixels(a: Side, b: Side) -> str:
    if a.digests is None or b.digests is None:
        hashes = [side.manifest.data.sha256 for side in (a, b)]
        return "" if hashes[0] == hashes[1] is not None else "their pixels have another hash"
    other = sorted(key for key in a.digests if a.digests[key] != b.digests[key])
    return f"{len(other):,} have other pixels ({first_few(other)})" if other else ""


def expect_same_threat(a: Side, b: Side) -> None:
    """Check that both runs have the same norm and goal; the target class may be spelled otherwise.

    Raises
    ------
    SettingError
        If one of them differs.
    """
    before, after = a.manifest.config, b.manifest.config
    for name, first, second, alike in (
        ("norm", before.norm, after.norm, after.norm == before.norm),
        ("goal", before.aim, after.aim, before.aim in (after.aim, _respelled_aim(a, b))),
    ):
        if not alike:
            raise SettingError(
                f"The runs differ in their {name} ({first} in A, {second} in B), so their epsilons cannot "
                "be compared. Expected the same norm and goal."
            )


def _respelled_aim(a: Side, b: Side) -> str:
    """The goal of B in words, its target class named as in A."""
    goal = b.manifest.config.goal or GoalEntry()
    spelled = respelled(a.manifest.class_names, b.manifest.class_names)
    name = spelled.get(goal.class_name or "", goal.class_name)
    return goal.model_copy(update={"class_name": name}).sentence


def epsilon_list(side: Side) -> str:
    """Return the epsilons of a side, for people."""
    return ", ".join(f"{e:.12g}" for e in sorted(side.status)) or "none"
