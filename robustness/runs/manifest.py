"""Creates the manifest of a new run; checks that a resumed run has the same model, images and settings."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import keras

from robustness import backend
from robustness.configuration.shard import WHOLE, Shard
from robustness.errors import RunUsageError
from robustness.images import Entry, Source
from robustness.images.entries import count_of, labels_of
from robustness.models.classifier import Classifier
from robustness.runs.audit_differences import audit_differences
from robustness.runs.plan import Plan
from robustness.runs.schema import Data, Manifest, ModelEntry, Timing, Tool

_TOGETHER = 1_000
"""Entries that are hashed together."""


def describe(
    plan: Plan,
    classifier: Classifier,
    source: Source,
    entries: Sequence[Entry],
    *,
    shard: Shard = WHOLE,
) -> Manifest:
    """Return the manifest of a run before its first image is read.

    Parameters
    ----------
    plan, classifier, source : those of the audit.
    entries : the images of all shards.
    shard : the part of them that the run has.
    """
    part = shard.of(entries)
    data = Data(
        description=source.description,
        selected=len(part),
        available=count_of(source),
        selection_sha256=_selection_digest(entries),
        seed=plan.seed,
        labelled=None not in labels_of(part),
    )
    return Manifest(
        tool=Tool(name="robustness-toolkit", version=_version("robustness-toolkit")),
        created=now(),
        finished=None,
        config=plan.config(classifier.class_names),
        model=ModelEntry.model_validate(classifier.card()).with_outputs(random=plan.draws > 1),
        data=data if shard == WHOLE else data.with_changes(undivided=len(entries)),
        class_names=tuple(classifier.class_names),
        environment=_environment(),
        preflight=(),
        timing=Timing(seconds=0.0),
    )


def expect_same(before: Manifest, now: Manifest) -> None:
    """Check that the run in a folder has the model, images and settings with which it is to be resumed.

    Parameters
    ----------
    before : Manifest
        That of the run in the folder.
    now : Manifest
        That of the audit that resumes it.

    Raises
    ------
    RunUsageError
        Something differs; the message names it, with the old and the new value.
    """
    # A run of an earlier version lacks settings that are the default.
    differing = audit_differences(before, now, {*now.config.model_fields_set, "shard"})
    if differing:
        raise RunUsageError(
            f"This run cannot be resumed, since it was started differently: {'; '.join(differing)}. "
            "Resume with the same model, images and settings, or audit into a new folder."
        )


def _selection_digest(entries: Sequence[Entry]) -> str:
    sha = hashlib.sha256()
    for start in range(0, len(entries), _TOGETHER):
        some = entries[start : start + _TOGETHER]
        sha.update("".join([f"{key}\x1f{label}\x1e" for key, _, label in some]).encode())
    return sha.hexdigest()


def _environment() -> dict[str, str | float | bool | None]:
    framework = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": backend.device(),
        "backend": framework,
        # The distributions of all frameworks are named like Keras's backends.
        **{name: _version(name) for name in ("keras", "tensorflow", framework, "numpy", "pillow")},
    }


def _version(package: str) -> str:
    # A framework may be installed by a distribution of another name (tensorflow-cpu, say).
    imported = getattr(sys.modules.get(package), "__version__", None)
    try:
        return str(imported or version(package))
    except PackageNotFoundError:
        return "not installed"


def now() -> str:
    """Return the current time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
