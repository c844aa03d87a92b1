"""Loads the models that a text names: a model of the zoo, one on Kaggle, or a file of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustness import plugins
from robustness.configuration.audit_config import AuditConfig
from robustness.files.remote import fetched, is_remote
from robustness.models import loading
from robustness.models.classifier import Classifier
from robustness.models.suffixes import is_model_file_name

READING = ("head", "input_size", "image_input", "constants", "output")
"""Options about how the audited model is read."""
KNOWN_TO_CLASSIFIERS = {**dict.fromkeys((*READING, "scaling")), "constants": ()}
"""The options that a Classifier decides itself, at their defaults."""


def stated_reading(config: AuditConfig) -> dict[str, Any]:
    """Return the options in `READING` that are given, by name."""
    return {name: value for name in READING if (value := getattr(config, name))}


def named_model(
    model: Any,
    *,
    trust: bool,
    class_names: Sequence[str] | None,
    scaling: Any = None,
    architecture: str | None = None,
    imports: Sequence[str] = (),
    reading: Mapping[str, Any] | None = None,
) -> Any:
    """Return the Classifier that a text names; the path of a file that the audit loads; or the object given.

    Parameters
    ----------
    model : a name (`robustness models`), `kaggle:OWNER/NOTEBOOK`, the path of a file, or a model.
    trust, class_names, scaling, imports : as for `robustness.model_zoo.load`.
    architecture : what the weights of a file belong to.
    reading : options in `READING`, by name.

    Raises
    ------
    SettingError, ModelError, FetchError
        As for `robustness.model_zoo.load`.
    """
    if not isinstance(model, (str, Path)) or architecture or is_model_file(Path(model)):
        return model
    # Images decide the scaling of a downloaded model, as that of a file.
    if scaling is None:
        path = plugins.load(plugins.INPUTS, "download")(model)
        if path is not None and is_model_file(path):
            return path
    load = plugins.load(plugins.INPUTS, "model")
    return load(
        model,
        trust_model=trust,
        class_names=class_names,
        scaling=scaling,
        imports=imports,
        **(reading or {}),
    )


def load_named(model: Any, config: AuditConfig) -> tuple[Any, AuditConfig]:
    """Return `named_model` of a model, and the options that remain to be applied to it.

    A Classifier that was loaded here was loaded as the options say, and knows its scaling and head.
    """
    named = named_model(
        model,
        trust=config.trust_model,
        class_names=config.classes,
        scaling=config.scaling,
        architecture=config.architecture,
        imports=config.imports,
        reading=stated_reading(config),
    )
    if named is not model and isinstance(named, Classifier):
        return named, config.overridden_by(KNOWN_TO_CLASSIFIERS)
    return named, config


def fetched_models(model: Any, config: AuditConfig) -> tuple[Any, AuditConfig]:
    """Return the model and the options with paths of copies in place of URLs of models.

    Only what the user names is fetched: the model and the surrogate of this call.

    Raises
    ------
    SettingError, FetchError
        As for `robustness.files.remote.fetched`.
    """
    if is_remote(model):
        model = fetched(str(model), config.cache_bytes)
    if is_remote(config.surrogate):
        path = fetched(str(config.surrogate), config.cache_bytes)
        config = config.overridden_by({"surrogate": str(path)})
    return model, config


def is_model_file(path: Path) -> bool:
    """Whether a path is a file with a whole model: neither weights alone nor a name."""
    named = is_model_file_name(path) or path.is_file()
    return named and loading.scan(path).format != "weights"
