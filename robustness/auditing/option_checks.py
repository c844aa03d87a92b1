"""Checks options against each other and against the files they name, before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from robustness import plugins
from robustness.configuration.audit_config import AuditConfig
from robustness.contract.attack import Attack
from robustness.contract.ensembles import Ensemble
from robustness.errors import SettingError
from robustness.files.remote.urls import shown
from robustness.models import loading
from robustness.models.classifier import Classifier
from robustness.models.scalings import parse_scaling
from robustness.models.suffixes import is_model_file_name
from robustness.runs.evidence_upload import expect_evidence_url
from robustness.threat import goals
from robustness.threat.norms import Norm


def expect_usable(
    config: AuditConfig, model: object, attacks: Iterable[Attack | Ensemble], norm: Norm
) -> None:
    """Raise the error of an option that cannot be used, as far as that is known without the model.

    Parameters
    ----------
    config : the options.
    model : the model as it was given: an object, a name or a path.
    attacks, norm : those that the options name.

    Raises
    ------
    SettingError
        A scaling, target class, mask or attack cannot be used.
    ModelError
        There is no file of the model or of the surrogate.
    """
    for attack in attacks:
        if isinstance(attack, Attack):
            attack.expect_norm(norm)
    if config.evidence_to is not None:
        expect_evidence_url(config.evidence_to)
        if config.evidence == "none":
            raise SettingError(
                f"There is nothing to send to {shown(config.evidence_to)}, since no pictures are kept "
                "(evidence = none); expected evidence all, flips or a number, or no place to send it to."
            )
    for given in (model, config.surrogate):
        _expect_file(given)
    if isinstance(config.scaling, (str, Path, Mapping)):
        parse_scaling(config.scaling)
    if isinstance(config.mask, (str, Path)) and not Path(config.mask).exists():
        raise SettingError(
            f"There is no mask {str(config.mask)!r}; expected a picture that is bright where pixels may "
            "change. Check the path."
        )
    classes = model.class_names if isinstance(model, Classifier) else config.classes
    classes = classes or plugins.load(plugins.INPUTS, "classes")(model)
    if classes:
        goals.parse(config.target, classes)


def _expect_file(model: object) -> None:
    """Raise ModelError if `model` is the path of a model file that is missing."""
    if isinstance(model, (str, Path)) and is_model_file_name(model):
        path = Path(model)
        if not path.exists():
            loading.scan(path)
