"""Loads the images and models that a command names.

TensorFlow is imported only where a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustness.configuration.audit_config import AuditConfig
from robustness.errors import RunError, SettingError

if TYPE_CHECKING:
    from robustness.images import Source
    from robustness.models.classifier import Classifier
    from robustness.models.scalings import Scaling
    from robustness.runs.schema import Manifest


def open_images(config: AuditConfig) -> Source:
    """Return the source of the images."""
    from robustness.images.named import open_named

    return open_named(config.images, config.classes, config.label_column)


def expect_models(config: AuditConfig) -> None:
    """Raise SettingError unless the options name models that exist. Imports no framework."""
    from robustness.model_zoo.registry import expect_known

    for name in (config.model, config.surrogate):
        if name is not None:
            expect_known(str(name))


def load_audited_model(
    manifest: Manifest, options: Mapping[str, Any], given: str | None, trust: bool
) -> Classifier:
    """Return the audited model of a run, or the one that is `given`, with inputs scaled as in the run.

    Parameters
    ----------
    manifest : manifest of the run.
    options : options of the run, as `recorded_files.options_of` returns them.
    given : the model that the command line names; None if it names none.
    trust : whether the command line trusts a file that may run code.

    Raises
    ------
    SettingError
        No model is named.
    RunError
        The manifest does not record how the inputs are scaled.
    """
    from robustness.auditing.named_model import is_model_file
    from robustness.model_zoo import load
    from robustness.models.classifier import Classifier

    name = given or options.get("model")
    if not name:
        recorded = manifest.model.file or manifest.model.name
        raise SettingError(
            f"The run was started from Python, so it does not record the path of its model ({recorded}); "
            "name it with --model FILE."
        )
    path = Path(name)
    if is_model_file(path):
        return Classifier.load(
            path,
            trust_model=trust,
            class_names=list(manifest.class_names) or None,
            scaling=_recorded_scaling(manifest),
            head=manifest.model.head,
        )
    # The recorded options belong to the recorded model; another model of the zoo has its own.
    known = options if given is None or name.startswith("kaggle:") else {}
    classes = known.get("classes")
    return load(
        name,
        trust_model=trust,
        class_names=classes.split(",") if classes else None,
        scaling=known.get("scaling"),
    )


def _recorded_scaling(manifest: Manifest) -> Scaling:
    """Return the scaling of the inputs that the run records."""
    from robustness.models.scalings import Scaling

    entry = manifest.model.scaling
    if entry is None or entry.multiply is None or entry.offset is None:
        raise RunError(
            "run.json does not record how the model's inputs are scaled (model.scaling); expected the "
            "scaling that the audit wrote. Restore run.json, or audit again."
        )
    return Scaling(
        str(entry.name), entry.multiply, entry.offset, str(entry.order), str(entry.sentence)
    )
