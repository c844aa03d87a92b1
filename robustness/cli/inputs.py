"""Loads the images and models that a command names.

TensorFlow is imported only where a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustness.configuration.audit_config import AuditConfig, audit_options
from robustness.configuration.class_names import from_recorded_names
from robustness.errors import RunError, SettingError

if TYPE_CHECKING:
    from robustness.images import Source
    from robustness.models.adapter import InputAdapter
    from robustness.models.classifier import Classifier
    from robustness.models.label_sets import LabelSets
    from robustness.models.scalings import Scaling
    from robustness.runs.schema import Manifest


def open_images(config: AuditConfig) -> Source:
    """Return the source of the images."""
    from robustness.images.named import open_named

    return open_named(config.images, config.classes, config.label_column, config.cache_bytes)


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
    from robustness.files.remote import BYTES, fetched, is_remote
    from robustness.model_zoo import load
    from robustness.models.classifier import Classifier

    name = given or options.get("model")
    if not name:
        recorded = manifest.model.file or manifest.model.name
        raise SettingError(
            f"The run was started from Python, so it does not record the path of its model ({recorded}); "
            "name it with --model FILE."
        )
    path = fetched(name, options.get("cache_bytes") or BYTES) if is_remote(name) else Path(name)
    architecture = options.get("architecture") or _architecture_of_keras(manifest)
    if architecture or is_model_file(path):
        return Classifier.load(
            path,
            trust_model=trust,
            class_names=list(manifest.model.label_names or manifest.class_names) or None,
            scaling=_recorded_scaling(manifest),
            head=manifest.model.head,
            architecture=architecture,
            label_sets=_recorded_sets(manifest),
            adapter=_recorded_adapter(manifest),
            imports=options.get("imports") or (),
        )
    # The recorded options belong to the recorded model; another model of the zoo has its own.
    known = options if given is None or name.startswith("kaggle:") else {}
    classes = known.get("classes")
    return load(
        name,
        trust_model=trust,
        class_names=from_recorded_names(classes) if classes else None,
        scaling=known.get("scaling"),
        imports=options.get("imports") or (),
        **_reading_of(known),
    )


def _architecture_of_keras(manifest: Manifest) -> str | None:
    """The architecture that a run from Python records, if it is one of Keras: no file, no code."""
    from robustness.models.suffixes import APPLICATIONS

    text = manifest.model.architecture
    return text if text and text.startswith(APPLICATIONS) else None


def _reading_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded options about the head and the inputs, by their names in Python."""
    from robustness.auditing.named_model import READING

    fields = audit_options()
    return {name: value for name in READING if (value := options.get(fields[name].argument))}


def _recorded_adapter(manifest: Manifest) -> InputAdapter | None:
    """How images enter the model, as the run records it; None where the model takes them as they are."""
    from robustness.models.adapter import InputAdapter

    entry = manifest.model.adapter
    if entry is None:
        return None
    return InputAdapter(
        entry.size or "", entry.image_input or "", entry.constants, entry.output or ""
    )


def _recorded_sets(manifest: Manifest) -> LabelSets | None:
    """The sets of labels that are the classes of the run; None where classes are no sets."""
    from robustness.models.label_sets import LabelSets

    entry = manifest.model
    return LabelSets(entry.label_names, entry.label_sets) if entry.label_sets else None


def _recorded_scaling(manifest: Manifest) -> Scaling:
    """Return the scaling of the inputs that the run records."""
    from robustness.auditing.wrapped_model import recorded_scaling

    scaling = recorded_scaling(manifest.model)
    if scaling is None:
        raise RunError(
            "run.json does not record how the model's inputs are scaled (model.scaling); expected the "
            "scaling that the audit wrote. Restore run.json, or audit again."
        )
    return scaling
