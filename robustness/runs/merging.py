"""Makes one run of the runs of shards: checks that they are parts of one audit, and copies rows and pictures.

The copy is made in a folder beside the new run, which is moved to its place when it is complete, so that a
run that is half merged is never taken for a run. A merge that was killed goes on with what was copied.

Steps of attacks (`StripRow`) and what the model sees of them (`ViewRow`) are not copied: an audit makes them
at its end for the flips that it chooses among all flips, so the merged run has others. Needs no TensorFlow.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

from robustness.configuration.shard import Shard
from robustness.errors import RunError, RunUsageError
from robustness.files import disk_errors
from robustness.runs import run_folder
from robustness.runs.merged_manifest import (
    ShardRun,
    expect_one_audit,
    merged_manifest,
    missing_shards,
)
from robustness.runs.progress import Listener, Progress
from robustness.runs.records import (
    STATUSES,
    DistanceRow,
    GradientRow,
    ImageRow,
    OutcomeRow,
    Row,
    SizeRow,
    UploadRow,
    png_name,
)
from robustness.runs.schema import Manifest
from robustness.runs.store import Run
from robustness.text import first_few, plural, shorten

COPIED: tuple[type[Row], ...] = (ImageRow, SizeRow, OutcomeRow, GradientRow, DistanceRow, UploadRow)
_MOST_RUNS = 100_000
_ROWS = 1_000
"""The rows of one transaction."""
_MOST_KNOWN = 4_096
"""The pictures whose names are kept, since rows of one image follow each other."""


@dataclass(frozen=True)
class Merged:
    """A merged run.

    Attributes
    ----------
    path : its folder.
    missing : the shards of which there was no run.
    unfinished : the runs that had no outcome yet for some of their images.
    shards : the number of shards that there were.
    """

    path: Path
    missing: Sequence[Shard]
    unfinished: Sequence[Path]
    shards: int

    @property
    def whole(self) -> bool:
        """Whether every image has its outcomes."""
        return not self.missing and not self.unfinished

    @property
    def sentence(self) -> str:
        """What is in the run, and what is to be done to finish it."""
        parts = []
        if self.missing:
            verb = "is" if len(self.missing) == 1 else "are"
            parts.append(f"{_named(self.missing)} {verb} missing")
        if self.unfinished:
            parts.append(f"{first_few(list(map(str, self.unfinished)))} was not finished")
        if not parts:
            return f"{self.path} has the rows of {plural(self.shards, 'shard')}."
        return (
            f"{self.path} is unfinished: {'; '.join(parts)}. `{disk_errors.resuming(self.path)}` computes "
            "the rest on this machine."
        )


def merge_rows(
    paths: Sequence[Path],
    out: Path,
    *,
    partial: bool = False,
    command: str = "",
    progress: Listener = lambda _: None,
    expect: Callable[[Manifest], None] = lambda _: None,
) -> Merged:
    """Copy the runs of shards into one new run, which has the manifest of the undivided audit.

    Parameters
    ----------
    paths : sequence of Path
        The folders of the runs, in any order.
    out : Path
        The folder of the new run.
    partial : bool
        Whether shards may be missing or unfinished.
    command : str
        The command that merges them, for the record.
    progress : callable
        Receives the number of runs that were copied.
    expect : callable
        Called with the new manifest before anything is written; what it raises ends the merge.

    Returns
    -------
    Merged
        The run is not finished: `audit` with `resume` computes what depends on all images, and what is
        missing.

    Raises
    ------
    RunUsageError
        A run is none of a shard, is of another audit, is in use or is not finished; a shard is missing; two
        runs of one shard disagree; the folder is not free.
    RunError
        A run is damaged.
    StorageError
        The new run cannot be written.
    """
    disk_errors.expect_named(str(out), "The path of the merged run")
    run_folder.expect_free(out)
    places = list({path.resolve(): path for path in map(Path, paths)}.values())
    if not 1 <= len(places) <= _MOST_RUNS:
        raise RunUsageError(
            f"{plural(len(places), 'run')} came; expected 1 to {_MOST_RUNS:,} runs of shards."
        )
    runs = sorted(map(_opened, places), key=lambda run: (run.shard.index, str(run.path)))
    expect_one_audit(runs)
    missing, unfinished = missing_shards(runs), _unfinished(runs)
    if not partial:
        _expect_whole(missing, unfinished, runs)
    manifest = merged_manifest(runs, out, command)
    expect(manifest)
    draft = out.with_name(f"{out.name}.merging")
    out.parent.mkdir(parents=True, exist_ok=True)
    with _draft(draft, manifest) as store:
        for number, run in enumerate(runs):
            progress(Progress("merging", number, len(runs), part=f"shard {run.shard}"))
            with Run.open(run.path) as source:
                _expect_sound(run, source)
                _copy(run, source, store)
        progress(Progress("merging", len(runs), len(runs)))
    with disk_errors.using(out, begun=False, action="made"):
        run_folder.move(draft, out)
    return Merged(out, missing, unfinished, len({run.shard for run in runs}))


def _opened(path: Path) -> ShardRun:
    with Run.open(path) as run:
        manifest = run.manifest
    run_folder.expect_unused(path)
    return ShardRun.of(path, manifest)


def _unfinished(runs: Sequence[ShardRun]) -> list[Path]:
    """The runs whose shard no other run has finished."""
    finished = {run.shard for run in runs if run.finished}
    return [run.path for run in runs if run.shard not in finished]


def _expect_whole(
    missing: Sequence[Shard], unfinished: Sequence[Path], runs: Sequence[ShardRun]
) -> None:
    """Raise RunUsageError if shards are missing or unfinished: a path that was forgotten is likelier than
    that one machine shall compute the rest.
    """
    if unfinished:
        raise RunUsageError(
            f"{first_few(list(map(str, unfinished)))} is not finished; expected finished runs. Finish it "
            f"with `{disk_errors.resuming(unfinished[0])}`, or merge what is there with --partial."
        )
    if missing:
        raise RunUsageError(
            f"{_named(missing)} of {runs[0].shard.count:,} came with no run. Give the run of every shard, or "
            "merge what is there with --partial and let `robustness audit --resume` compute the rest."
        )


def _named(shards: Sequence[Shard]) -> str:
    return (
        f"shard {shards[0]}" if len(shards) == 1 else f"shards {first_few(list(map(str, shards)))}"
    )


@contextlib.contextmanager
def _draft(folder: Path, manifest: Manifest) -> Iterator[Run]:
    """Open the folder in which a run is merged; what a killed merge of the same runs left is kept.

    If the runs do not fit together, the folder is removed.
    """
    with ExitStack() as stack:
        store = stack.enter_context(_begun(folder, manifest))
        try:
            yield store
        except RunUsageError:
            stack.close()
            run_folder.discard(folder)
            raise


def _begun(folder: Path, manifest: Manifest) -> Run:
    if not (folder / run_folder.MANIFEST).is_file():
        return Run.create(folder, manifest)
    with Run.open(folder) as left:
        before = left.manifest
    if not before.merged:
        raise RunUsageError(
            f"{folder} has a run that was not merged; expected a free path, which the merge uses until it is "
            "complete. Move that run, or choose another --out."
        )
    run_folder.expect_unused(folder)
    if (before.merged, before.data, before.config) == (
        manifest.merged,
        manifest.data,
        manifest.config,
    ):
        store = Run.resume(folder)
        store.write_manifest(manifest)
        return store
    run_folder.discard(folder)
    return Run.create(folder, manifest)


def _expect_sound(run: ShardRun, source: Run) -> None:
    """Check the rows of a shard against its manifest.

    Raises
    ------
    RunError
        Images are missing or lie outside of the shard, a row belongs to no image, attack or epsilon of the
        run, or outcomes of a finished run are missing.
    """
    config = run.manifest.config
    places = run.positions
    count, distinct, first, last = source.extent()
    outside = count and not (first in places and last in places)
    if outside or distinct != count or count > len(places):
        raise _damaged(run, f"its images are not those of shard {run.shard}")
    if strays := source.strays():
        raise _damaged(
            run, f"the table {strays[0]} has a row of an image that the run does not have"
        )
    searches = {(attack.title, epsilon) for attack in config.attacks for epsilon in config.epsilons}
    if not source.searches() <= searches:
        raise _damaged(run, "it has outcomes of an attack or epsilon that was not requested")
    statuses = source.count()
    if unknown := set(statuses) - set(STATUSES):
        raise _damaged(run, f"it has the status {shorten(str(unknown.pop()), 40)}")
    if not run.finished:
        return
    expected = len(places) * len(searches)
    if count != len(places) or sum(statuses.values()) != expected:
        raise _damaged(
            run,
            f"it has {count:,} images and {sum(statuses.values()):,} outcomes; expected {len(places):,} and "
            f"{expected:,}",
        )
    if source.data_digest() != run.manifest.data.sha256:
        raise _damaged(run, "its images do not have the hash in run.json")


def _damaged(run: ShardRun, why: str) -> RunError:
    return RunError(
        f"{run.path} is damaged: {why}. Repair it with `{disk_errors.resuming(run.path)}`, or run the shard "
        "again."
    )


def _copy(run: ShardRun, source: Run, store: Run) -> None:
    """Copy rows and pictures of a shard."""
    pictures = _Pictures(run, source, store)
    mask = run.manifest.config.mask
    if mask is not None and mask.sha256 is not None:
        pictures.copy(png_name(mask.sha256), "the mask")
    for kind in COPIED:
        rows = iter(source.rows(kind))
        while some := list(islice(rows, _ROWS)):
            for row in some:
                if isinstance(row, (ImageRow, OutcomeRow)):
                    pictures.copy(row.png, row.key if isinstance(row, ImageRow) else row.image)
                elif isinstance(row, UploadRow):
                    pictures.copy(row.file, row.image)
            for new, stored in store.add_new(some):
                _resolve(run, store, new, stored)


def _resolve(run: ShardRun, store: Run, new: Row, stored: Row) -> None:
    """Keep the row with the picture of two that differ in that alone; RunUsageError for other rows."""
    if (
        isinstance(new, ImageRow)
        and isinstance(stored, ImageRow)
        and replace(new, png=None) == replace(stored, png=None)
        and None in (new.png, stored.png)
    ):
        # An unfinished run has not attacked the image yet, or the run keeps no pictures.
        if new.png is not None:
            store.add([new])
        return
    image = new.key if isinstance(new, ImageRow) else new.image
    about = (
        f"{shorten(new.attack, 80)} at epsilon {new.epsilon:.12g}"
        if isinstance(new, (OutcomeRow, GradientRow, DistanceRow, UploadRow))
        else "the image itself"
    )
    before, now = asdict(stored), asdict(new)
    what = next(name for name in now if now[name] != before[name])
    raise RunUsageError(
        f"{run.path} has another result for the image {shorten(image, 80)} ({about}) than a run before it: "
        f"{what} is {shorten(str(now[what]), 60)}, and was {shorten(str(before[what]), 60)}. Expected that "
        "runs of one shard agree, as they do on like machines; leave one of them out."
    )


class _Pictures:
    """Copies pictures of a run whose bytes have the hash in their name."""

    def __init__(self, run: ShardRun, source: Run, store: Run) -> None:
        self._run, self._source, self._store = run, source, store
        self._known: dict[str, None] = {}

    def copy(self, name: str | None, image: str) -> None:
        """Copy a picture.

        Raises
        ------
        RunError
            The file is missing, or its bytes do not have the hash in its name.
        """
        if name is None or name in self._known:
            return
        suffix = PurePosixPath(name).suffix
        try:
            data = self._source.png(name)
        except RunError:
            data = None
        if data is None or name != png_name(hashlib.sha256(data).hexdigest(), suffix):
            raise _damaged(
                self._run,
                f"the picture {shorten(name, 100)} of {shorten(image, 80)} is missing or damaged",
            )
        self._store.save_png(data, suffix)
        self._known[name] = None
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
