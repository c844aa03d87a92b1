"""The model of a run, loaded again as it was audited."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustness.errors import RunError, SettingError

if TYPE_CHECKING:
    from robustness.models.classifier import Classifier


def model_of(
    manifest: dict[str, Any], options: dict[str, Any], given: str | None, trust: bool
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
    from robustness.models.suffixes import MODEL_SUFFIXES

    name = given or options.get("model")
    if not name:
        card = manifest.get("model") or {}
        said = card.get("file") or card.get("name")
        raise SettingError(
            f"The run was started from Python, so it does not say where its model ({said}) lies; "
            "name it with --model FILE."
        )
    path = Path(name)
    if path.suffix in MODEL_SUFFIXES and loading.scan(path).format != "weights":
        scaling, head = _read_as(manifest, Scaling)
        return Classifier.load(
            path,
            trust=trust,
            class_names=manifest.get("class_names"),
            scaling=scaling,
            head=head,
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


def _read_as(manifest: dict[str, Any], make: Any) -> tuple[Any, Any]:
    """How the model's inputs are scaled and its output is read."""
    try:
        card = manifest["model"]["scaling"]
        parts = card["name"], tuple(card["multiply"]), tuple(card["offset"]), card["order"]
        return make(*parts, card["sentence"]), manifest["model"]["head"]
    except (KeyError, TypeError) as error:
        raise RunError(
            f"run.json does not say how the model is read ({error}); expected what the audit wrote."
        ) from None
