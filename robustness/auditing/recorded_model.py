"""Loads the audited model of a run, with inputs and classes as the run records them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustness import plugins
from robustness.auditing.named_model import READING, is_model_file
from robustness.auditing.wrapped_model import recorded_scaling
from robustness.configuration.audit_config import audit_options
from robustness.configuration.class_names import from_recorded_names
from robustness.errors import RunError, SettingError
from robustness.files.remote import BYTES, fetched, is_remote
from robustness.models.adapter import InputAdapter
from robustness.models.classifier import Classifier
from robustness.models.label_sets import LabelSets
from robustness.models.scalings import Scaling
from robustness.models.suffixes import APPLICATIONS
from robustness.runs.schema import Manifest


@dataclass(frozen=True)
class RecordedModel:
    """Says which model of a run is loaded, and what may be loaded with it.

    Attributes
    ----------
    options : options of the run by the names of the command line, such as `model`, `architecture` and
        `imports`; checked by who gives them, since a run can name any file.
    given : the model that the command names; None if it names none.
    trust : whether the command trusts a file that may run code.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    given: str | None = None
    trust: bool = False

    @property
    def name(self) -> str | None:
        """The model's name or path; None if it is not known."""
        return self.given or self.options.get("model")

    @property
    def imports(self) -> Sequence[str]:
        """Files or modules with own layers of the model."""
        return self.options.get("imports") or ()

    def load(self, manifest: Manifest, file: Path | None = None) -> Classifier:
        """Return the model, with inputs scaled as in the run.

        Parameters
        ----------
        manifest : manifest of the run.
        file : the file to load in place of one of its name.

        Raises
        ------
        SettingError
            No model is named.
        RunError
            The manifest does not record how the inputs are scaled.
        """
        name = self.name
        if not name:
            recorded = manifest.model.file or manifest.model.name
            raise SettingError(
                "The run was started from Python, so it does not record the path of its model "
                f"({recorded}); name it with --model FILE."
            )
        path = file or self._local(name)
        architecture = self.options.get("architecture") or _architecture_of_keras(manifest)
        if architecture or is_model_file(path):
            return Classifier.load(
                path,
                trust_model=self.trust,
                architecture=architecture,
                imports=self.imports,
                **_as_recorded(manifest),
            )
        # The recorded options belong to the recorded model; another model of the zoo has its own.
        known = self.options if self.given is None or name.startswith("kaggle:") else {}
        classes = known.get("classes")
        load = plugins.load(plugins.INPUTS, "model")
        model: Classifier = load(
            name,
            trust_model=self.trust,
            class_names=from_recorded_names(classes) if classes else None,
            scaling=known.get("scaling"),
            imports=self.imports,
            **_reading_of(known),
        )
        return model

    def _local(self, name: str) -> Path:
        if is_remote(name):
            return fetched(name, self.options.get("cache_bytes") or BYTES)
        return Path(name)


def wrapped_as_recorded(model: Any, manifest: Manifest) -> Classifier:
    """Return a built Keras model as a Classifier, with inputs and classes as the run records them.

    Raises
    ------
    RunError
        The manifest does not record how the inputs are scaled.
    """
    return Classifier(model, **_as_recorded(manifest))


def _as_recorded(manifest: Manifest) -> dict[str, Any]:
    """The settings of a Classifier that a run records."""
    entry = manifest.model
    return {
        "class_names": list(entry.label_names or manifest.class_names) or None,
        "scaling": _scaling(manifest),
        "head": entry.head,
        "label_sets": LabelSets(entry.label_names, entry.label_sets) if entry.label_sets else None,
        "adapter": _adapter(manifest),
    }


def _architecture_of_keras(manifest: Manifest) -> str | None:
    """The architecture that a run from Python records, if it is one of Keras: no file, no code."""
    text = manifest.model.architecture
    return text if text and text.startswith(APPLICATIONS) else None


def _reading_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded options about the head and the inputs, by their names in Python."""
    fields = audit_options()
    return {name: value for name in READING if (value := options.get(fields[name].argument))}


def _adapter(manifest: Manifest) -> InputAdapter | None:
    """How images enter the model, as the run records it; None where the model takes them as they are."""
    entry = manifest.model.adapter
    if entry is None:
        return None
    return InputAdapter(
        entry.size or "", entry.image_input or "", entry.constants, entry.output or ""
    )


def _scaling(manifest: Manifest) -> Scaling:
    """The scaling of the inputs that the run records."""
    scaling = recorded_scaling(manifest.model)
    if scaling is None:
        raise RunError(
            "run.json does not record how the model's inputs are scaled (model.scaling); expected the "
            "scaling that the audit wrote. Restore run.json, or audit again."
        )
    return scaling
