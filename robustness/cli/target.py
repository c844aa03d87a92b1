"""The model of a run, loaded again as it was audited."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustness.errors import RunError, SettingError

if TYPE_CHECKING:
    from robustness.models.classifier import Classifier
    from robustness.runs.schema import Manifest


def model_of(
    manifest: Manifest, options: dict[str, Any], given: str | None, trust: bool
) -> Classifier:
    """The classifier that a run speaks of, or the one `given` instead, read alike. Imports TensorFlow.

    Parameters
    ----------
    manifest: the run's.
    options: those it was started with, as `named.options_of` has settled them.
    given: what the command line names.
    trust: whether the command line says that a file may run code.

    Raises
    ------
    SettingError: there is no model to load.
    RunError: the manifest does not say how the model is read.
    """
    from robustness.model_zoo import load
    from robustness.models import loading
    from robustness.models.classifier import Classifier
    from robustness.models.scalings import Scaling

    name = given or options.get("model")
    if not name:
        file = manifest.model.file or manifest.model.name
        raise SettingError(
            f"The run was started from Python, so it does not say where its model ({file}) lies; "
            "name it with --model FILE."
        )
    path = Path(name)
    if path.suffix in (".keras", ".h5", ".hdf5") and loading.scan(path).format != "weights":
        entry = manifest.model.scaling
        if entry is None or entry.multiply is None or entry.offset is None:
            raise RunError(
                "run.json does not say how the model is read (model.scaling); expected what the audit "
                "wrote."
            )
        scaling = Scaling(
            str(entry.name), entry.multiply, entry.offset, str(entry.order), str(entry.sentence)
        )
        return Classifier.load(
            path,
            trust=trust,
            class_names=list(manifest.class_names) or None,
            scaling=scaling,
            head=manifest.model.head,
        )
    # What the options say is meant for the model they name; another one of the zoo brings its own.
    said = options if given is None or name.startswith("kaggle:") else {}
    classes = said.get("classes")
    return load(
        name,
        trust=trust,
        class_names=classes.split(",") if classes else None,
        scaling=said.get("scaling"),
    )
