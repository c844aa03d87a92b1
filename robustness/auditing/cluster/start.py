"""Starts the workers of an audit, and records them in its manifest."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robustness.auditing.cluster.driver import ClusterWork, WorkerRecord
from robustness.auditing.cluster.messages import Assignment
from robustness.auditing.cluster.pool import Pool
from robustness.auditing.cluster.probe import kind_of
from robustness.auditing.cluster.sent_model import sent_model
from robustness.auditing.work import LocalWork, Work
from robustness.configuration.audit_config import AuditConfig
from robustness.configuration.cluster_option import Cluster
from robustness.errors import SettingError
from robustness.runs.run_json import text_of
from robustness.runs.schema import ClusterEntry, WorkerEntry
from robustness.runs.store import Run

RECORD_SECONDS, COUNT_SECONDS = 1.0, 60.0
"""The least time between two records of the workers in `run.json`: when workers joined or were lost, and when
only their counts have changed."""

WorkOf = Callable[[LocalWork], Work]


def expect_sendable(config: AuditConfig, model: object, images: object, only: object) -> None:
    """Raise SettingError if workers cannot load the model or the images by themselves."""
    if config.cluster is None:
        return
    if not isinstance(model, (str, Path)):
        raise SettingError(
            f"cluster was given with a model that is a {type(model).__name__}; expected a name or the path "
            "of a file, which every worker loads. Save the model as .keras, and give its path."
        )
    if not isinstance(images, (str, Path, np.ndarray)):
        raise SettingError(
            f"cluster was given with images that are a {type(images).__name__}; expected a path, a name or "
            "an array, which every worker can read."
        )
    if only is not None:
        raise SettingError(
            "cluster was given with `only`, a function that workers do not have; expected a source of the "
            "images that are to be audited."
        )
    if config.shard is not None:
        raise SettingError(
            "cluster and shard were given together; expected one of them. A cluster spreads the images "
            "itself."
        )


@contextlib.contextmanager
def workers(
    config: AuditConfig, model: object, images: object, labels: Any, store: Run
) -> Iterator[WorkOf]:
    """Start the workers that the options state, within the block, and record them in the manifest.

    Parameters
    ----------
    config, model, images, labels : as they were given to the audit.
    store : the run, whose manifest holds what the workers must not decide again.

    Yields
    ------
    A function that returns what does the work on images, given what does it in this process.
    """
    if config.cluster is None:
        yield lambda local: local
        return
    pool = Pool(Cluster.parse(config.cluster), _assignment(config, model, images, labels, store))
    recorder = _Recorder(store, config.cluster)

    def work_of(local: LocalWork) -> Work:
        kind = kind_of(local.classifier, local.attacked_model, draws=local.plan.draws)
        return ClusterWork(pool, local, kind, store.save_png, recorder.records, recorder.changed)

    try:
        yield work_of
    finally:
        try:
            recorder.write()
        finally:
            pool.close()


class _Recorder:
    """Keeps what is known of the workers, and writes it to the manifest now and then.

    Parameters
    ----------
    store : the run, whose manifest may hold workers of before it was interrupted; these are kept.
    address : the cluster.
    """

    def __init__(self, store: Run, address: str) -> None:
        self._store, self._address = store, address
        before = store.manifest.cluster
        self._before = () if before is None else before.workers
        self.records: dict[int, WorkerRecord] = {}
        self._written, self._due = 0.0, False

    def changed(self, workers: bool) -> None:
        """Write soon if workers joined or were lost; otherwise when the counts are old."""
        self._due = self._due or workers
        passed = time.monotonic() - self._written
        if self.records and passed > (RECORD_SECONDS if self._due else COUNT_SECONDS):
            self.write()

    def write(self) -> None:
        """Write what is known of the workers."""
        self._written, self._due = time.monotonic(), False
        entry = ClusterEntry(
            address=self._address, workers=(*self._before, *map(_entry, self.records.values()))
        )
        self._store.write_manifest(self._store.manifest.with_changes(cluster=entry))


def _assignment(
    config: AuditConfig, model: object, images: object, labels: Any, store: Run
) -> Assignment:
    return Assignment(
        config.overridden_by({"model": str(model)}),
        images if isinstance(images, np.ndarray) else str(images),
        labels,
        text_of(store.manifest),
        str(Path.cwd()),
        tuple(str(Path(p).absolute()) for p in sys.path),
        sent_model(str(model)),
    )


def _entry(record: WorkerRecord) -> WorkerEntry:
    return WorkerEntry(
        host=record.hello.host,
        device=record.hello.device,
        kind=record.hello.kind,
        like=record.like,
        images=record.images,
        processor_seconds=record.processor_seconds,
        lost=record.lost,
    )
