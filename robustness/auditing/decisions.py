"""What an audit decides before its first attack, and a resumed audit takes from the record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from robustness.auditing.wrapped_model import recorded_scaling
from robustness.diagnostics.preflight import Finding, Severity
from robustness.models.scalings import Scaling
from robustness.runs.schema import Manifest, Settings
from robustness.runs.store import Run


@dataclass(frozen=True)
class Decisions:
    """What was decided when a run began; everything is open in `Decisions()`.

    Attributes
    ----------
    class_names : the class names; None if they are open.
    scaling : the scaling of the model; None if it is open.
    settings : outcomes depend on the batch size, votes on the draws.
    findings : of the preflight checks, which decide which attacks run.
    """

    class_names: tuple[str, ...] | None = None
    scaling: Scaling | None = None
    settings: Settings = field(default_factory=Settings)
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> Decisions:
        """Return the decisions that a manifest records."""
        return cls(
            tuple(manifest.class_names) or None,
            recorded_scaling(manifest.model),
            manifest.config,
            tuple(
                Finding(check.id, cast("Severity", check.severity), check.sentence)
                for check in manifest.preflight
            ),
        )

    @classmethod
    def of_run(cls, folder: Path) -> Decisions:
        """Return the decisions that the run in a folder records."""
        with Run.open(folder) as run:
            return cls.of(run.manifest)
