"""Loads the models that a text names: a model of the zoo, one on Kaggle, or a file of weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustness import plugins
from robustness.models import loading
from robustness.models.suffixes import MODEL_SUFFIXES


def named_model(
    model: Any, *, trust: bool, class_names: Sequence[str] | None, scaling: Any = None
) -> Any:
    """Return the Classifier that a text names; a file with a whole model, or an object, unchanged.

    Parameters
    ----------
    model : a name (`robustness models`), `kaggle:OWNER/NOTEBOOK`, the path of a file, or a model.
    trust, class_names, scaling : as for `robustness.model_zoo.load`.

    Raises
    ------
    SettingError, ModelError, FetchError
        As for `robustness.model_zoo.load`.
    """
    if not isinstance(model, (str, Path)) or is_model_file(Path(model)):
        return model
    load = plugins.load(plugins.INPUTS, "model")
    return load(model, trust_model=trust, class_names=class_names, scaling=scaling)


def is_model_file(path: Path) -> bool:
    """Whether a path is a file with a whole model: neither weights alone nor a name."""
    return path.suffix in MODEL_SUFFIXES and loading.scan(path).format != "weights"
