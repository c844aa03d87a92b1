"""Decides whether runs of shards belong to one audit, and makes the manifest of the undivided run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustness.configuration.shard import Shard
from robustness.errors import RunError, RunUsageError, SettingError
from robustness.runs import recorded_paths, seal
from robustness.runs.audit_differences import audit_differences
from robustness.runs.schema import Manifest, Origin, Settings, ShardEntry, Timing
from robustness.text import first_few, plural

_PER_SHARD = {"shard", "slots"}
"""Settings that may differ: outcomes do not depend on the batch size, which the memory bounds."""
_PER_PLACE = {
    "shard",
    "model",
    "architecture",
    "images",
    "surrogate",
    "mask",
    "imports",
    "trust_model",
}
"""Options that may differ: where files lie on the machine of a shard."""


@dataclass(frozen=True)
class ShardRun:
    """The run of a shard.

    Attributes
    ----------
    path : its folder.
    manifest : its `run.json`.
    shard : the part of the images that it has.
    total : the images of all shards.
    """

    path: Path
    manifest: Manifest
    shard: Shard
    total: int

    @classmethod
    def of(cls, path: Path, manifest: Manifest) -> ShardRun:
        """Return the run of a shard; RunUsageError if the run is none, RunError if it is damaged."""
        text, total = manifest.config.shard, manifest.data.undivided
        if text is None or total is None:
            raise RunUsageError(
                f"{path} is a run of all images, not of a shard; expected runs that were made with "
                "`--shard NUMBER/COUNT`. There is nothing to merge it with."
            )
        try:
            shard = Shard.parse(text)
        except SettingError as error:
            raise RunError(
                f"{path} is damaged: {error} Restore its run.json from a copy."
            ) from error
        return cls(path, manifest, shard, total)

    @property
    def finished(self) -> bool:
        """Whether every image of the shard has its outcomes."""
        return bool(self.manifest.finished)

    @property
    def positions(self) -> range:
        """The positions of its images in the undivided run."""
        return range(self.shard.first(self.total), self.shard.end(self.total))


def expect_one_audit(runs: Sequence[ShardRun]) -> None:
    """Check that runs are shards of one audit.

    Raises
    ------
    RunUsageError
        A run has another model, other images, settings, gate, version of the toolkit, or number of shards;
        the message names what differs.
    """
    first = runs[0]
    for run in runs[1:]:
        before, now = first.manifest, run.manifest
        pairs = [
            ("number of shards", first.shard.count, run.shard.count),
            ("number of images", first.total, run.total),
            ("version of the toolkit", before.tool.version, now.tool.version),
            ("declared accuracy", before.data.declared_accuracy, now.data.declared_accuracy),
            ("gate", before.gate.to_json(), now.gate.to_json()),
            ("classes of the folders", before.data.classes, now.data.classes),
        ]
        differing = [
            f"{what} (was {_brief(old)}, is {_brief(new)})"
            for what, old, new in pairs
            if old != new
        ]
        differing += audit_differences(before, now, set(Settings.model_fields) - _PER_SHARD)
        if differing:
            raise RunUsageError(
                f"{run.path} cannot be merged with {first.path}, since it is of another audit: "
                f"{'; '.join(differing)}. Expected shards of one audit, with the same model, images and "
                "settings; leave it out, or run that shard again."
            )


def missing_shards(runs: Sequence[ShardRun]) -> list[Shard]:
    """Return the shards that have images and of which there is no run."""
    there, count, total = {run.shard.index for run in runs}, runs[0].shard.count, runs[0].total
    shards = (Shard(index, count) for index in range(count) if index not in there)
    return [shard for shard in shards if shard.first(total) < shard.end(total)]


def merged_origin(runs: Sequence[ShardRun], folder: Path) -> Origin:
    """Return the origin of the merged run: that of the first shard, without its part of the images.

    It is sealed only if this user started the runs of all shards on this machine.
    """
    first = runs[0].manifest.origin
    options = None
    if first.options is not None:
        plain = {key: item for key, item in first.options.to_json().items() if key != "shard"}
        options = type(first.options).model_validate(plain)
    origin = Origin(
        options=options,
        configuration=first.configuration,
        **recorded_paths.directory(folder)
        | ({"directory": first.directory} if first.directory else {}),
    )
    ours = all(seal.made_here(run.manifest.origin) for run in runs)
    return seal.sealed(origin) if ours else origin


def merged_manifest(runs: Sequence[ShardRun], folder: Path, command: str) -> Manifest:
    """Return the manifest of the undivided run, which is not finished yet.

    Parameters
    ----------
    runs : sequence of ShardRun
        By the number of their shard.
    folder : Path
        The folder of the merged run.
    command : str
        The command that merges them.
    """
    first = runs[0].manifest
    manifests = [run.manifest for run in runs]
    notes = dict.fromkeys(note for manifest in manifests for note in manifest.notes)
    data = first.data.without("undivided", "sha256").with_changes(
        selected=runs[0].total, labelled=all(one.data.labelled for one in manifests)
    )
    return first.without("diagnostics", "median_epsilon", "pixels_read", "survival").with_changes(
        created=min((one.created for one in manifests if one.created), default=None),
        finished=None,
        command=command,
        origin=merged_origin(runs, folder),
        config=first.config.without("shard"),
        data=data,
        notes=(*notes, *_notes(runs)),
        mended=tuple(one for manifest in manifests for one in manifest.mended),
        merged=tuple(map(_entry, runs)),
        timing=_timing(manifests),
    )


def _entry(run: ShardRun) -> ShardEntry:
    manifest = run.manifest
    return ShardEntry(
        shard=str(run.shard),
        created=manifest.created,
        finished=manifest.finished,
        seconds=manifest.timing.seconds,
        environment=manifest.environment,
    )


def _timing(manifests: Sequence[Manifest]) -> Timing:
    """The sums of the seconds of all shards."""
    stages: Counter[str] = Counter()
    for one in manifests:
        stages.update(one.timing.stages)
    return Timing(seconds=sum(one.timing.seconds or 0.0 for one in manifests), stages=dict(stages))


def _notes(runs: Sequence[ShardRun]) -> list[str]:
    """Sentences about how the run was made, and about what differs between the machines of the shards."""
    notes = [
        f"merged from the runs of {plural(len({run.shard for run in runs}), 'shard')}, whose times are added"
    ]
    differing: dict[str, list[str]] = {}
    for run in runs[1:]:
        for what in _differing(runs[0], run):
            differing.setdefault(what, []).append(str(run.shard))
    if differing:
        listed = "; ".join(f"{what}: {first_few(shards)}" for what, shards in differing.items())
        notes.append(
            f"shards ran on other hardware or versions than shard {runs[0].shard}, which can decide "
            f"differently on images at the edge of a flip ({listed})"
        )
    return notes + _other_options(runs)


def _differing(first: ShardRun, run: ShardRun) -> list[str]:
    """What the environment of a run has that another one's has not, such as "device GPU, not CPU"."""
    before: dict[str, Any] = first.manifest.environment | {
        "batch size": first.manifest.config.slots
    }
    now: dict[str, Any] = run.manifest.environment | {"batch size": run.manifest.config.slots}
    return [
        f"{what} {_brief(now.get(what))}, not {_brief(before.get(what))}"
        for what in sorted(before.keys() | now.keys())
        if before.get(what) != now.get(what)
    ]


def _other_options(runs: Sequence[ShardRun]) -> list[str]:
    """A sentence about options that do not change outcomes and that shards were started with differently."""
    plain = [
        run.manifest.origin.options.to_json() if run.manifest.origin.options else {} for run in runs
    ]
    names = sorted({name for one in plain for name in one} - _PER_PLACE)
    differing = [
        name for name in names if any(one.get(name) != plain[0].get(name) for one in plain)
    ]
    if not differing:
        return []
    return [
        f"shards were started with different options ({', '.join(differing)}); those of shard "
        f"{runs[0].shard} are used"
    ]


def _brief(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) < 60 else text[:28] + "..." + text[-28:]
