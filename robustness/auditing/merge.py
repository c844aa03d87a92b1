"""Provides `merge`, which makes one run of the runs of shards and finishes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustness.auditing.audit import audit
from robustness.configuration.audit_config import AuditConfig
from robustness.errors import SettingError
from robustness.runs.merging import merge_rows
from robustness.runs.notebook import default_listener
from robustness.runs.progress import Listener
from robustness.runs.result import AuditResult


def merge(
    runs: Sequence[str | Path],
    out: str | Path,
    model: Any = None,
    images: Any = None,
    config: AuditConfig | str | Path | Mapping[str, object] | None = None,
    *,
    labels: np.ndarray | None = None,
    partial: bool = False,
    progress: Listener | None = None,
    **options: Any,
) -> AuditResult:
    """Make one run of the runs of shards (`shard="0/3"` and so on), as if the audit had not been divided.

    Parameters
    ----------
    runs : sequence of str or Path
        The folders of the runs, in any order.
    out : str or Path
        The folder of the new run.
    model, images, config, labels, **options : as for `robustness.audit`, without `shard`
        With them the run is finished: medians, step pictures and diagnostics, which depend on all images,
        are computed, and what is missing. Without model and images the run has the rows only, until
        ``robustness.audit(model, images, ..., out=out, resume=True)`` finishes it.
    partial : bool
        Whether shards may be missing or unfinished. Then the run is not finished here.
    progress : callable
        Receives a `robustness.runs.progress.Progress` whenever there is progress to show.

    Returns
    -------
    AuditResult
        The merged run.

    Raises
    ------
    SettingError
        Only one of model and images is given.
    RunUsageError
        The runs are not shards of one audit, a shard is missing or unfinished, two runs of one shard
        disagree, or the folder is not free.
    RunError
        A run is damaged.
    """
    if (model is None) != (images is None):
        raise SettingError(
            "Only one of `model` and `images` came; expected both, which finish the merged run, or neither."
        )
    listener = progress or default_listener()
    merged = merge_rows(
        [Path(run) for run in runs],
        Path(out),
        partial=partial,
        command="robustness.merge",
        progress=listener,
    )
    if model is None or not merged.whole:
        return AuditResult(out)
    return audit(
        model, images, config, labels=labels, out=out, resume=True, progress=listener, **options
    )
