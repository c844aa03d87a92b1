"""The model of a run, loaded again as it was audited."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustness.errors import SettingError
from robustness.recorded import resolve_options

if TYPE_CHECKING:
    from robustness.classifier import Classifier


def model_of(
    manifest: dict[str, Any], given: str | None, trust: bool, folder: Path | None = None
) -> Classifier:
    """The classifier that a run's manifest speaks of, or the one `given` instead, read alike.

    `folder` is where the run is.

    Imports TensorFlow. SettingError if the manifest names no model to load.
    """
    from model_zoo import load
    from robustness import modelfile
    from robustness.classifier import Classifier
    from robustness.scalings import Scaling

    options = manifest.get("origin", {}).get("options") or {}
    options = resolve_options(options, manifest, folder)
    name = given or options.get("model")
    if not name:
        said = manifest.get("model", {}).get("file") or manifest.get("model", {}).get("name")
        raise SettingError(
            f"The run was started from Python, so it does not say where its model ({said}) lies; "
            "name it with --model FILE."
        )
    path = Path(name)
    if path.suffix in (".keras", ".h5", ".hdf5") and modelfile.scan(path).format != "weights":
        card = manifest["model"]["scaling"]
        scaling = Scaling(
            card["name"],
            tuple(card["multiply"]),
            tuple(card["offset"]),
            card["order"],
            card["sentence"],
        )
        return Classifier.load(
            path,
            trust=trust or bool(options.get("trust_model")),
            class_names=manifest["class_names"],
            scaling=scaling,
            head=manifest["model"]["head"],
        )
    # What the options say is meant for the model they name; another one of the zoo brings its own.
    said = options if given in (None, options.get("model")) or name.startswith("kaggle:") else {}
    classes = said.get("classes")
    return load(
        name,
        trust=trust or bool(options.get("trust_model")),
        class_names=classes.split(",") if classes else None,
        scaling=said.get("scaling"),
    )
