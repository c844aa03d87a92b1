"""Puts the stated input pipeline before the model: what judges, and what attacks look through."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.configuration.audit_config import AuditConfig
from robustness.configuration.choices import FULL, MODEL_SIZE, UPLOAD
from robustness.errors import SettingError
from robustness.models.classifier import Classifier
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.preparation import Preparation
from robustness.pipeline.preprocessing import LinearConvention
from robustness.pipeline.upload import PNG, Upload, parse_upload
from robustness.runs.schema import DeploymentEntry

DEFAULT = "pillow:bilinear"
"""How pictures are resized where no pipeline is stated."""


@dataclass(frozen=True)
class StatedPipeline:
    """The input pipeline of an audit as its options state it.

    Attributes
    ----------
    text : the canonical text of the convention.
    convention : the named code that makes images of pictures.
    upload : the format of uploaded files.
    at : whether the picture ("full") or the model's image ("model") is attacked.
    max_side : the longest side of an attacked picture, in pixels.
    """

    text: str
    convention: LinearConvention
    upload: Upload
    at: str
    max_side: int

    @property
    def at_full_size(self) -> bool:
        """Whether pictures are attacked at their own size."""
        return self.at == FULL

    @property
    def preparation(self) -> Preparation:
        """How pictures are read."""
        return Preparation(self.convention, self.max_side)

    def entry(self) -> DeploymentEntry:
        """Return the pipeline as `run.json` records it."""
        return DeploymentEntry(
            at=self.at,
            pipeline=self.text,
            upload=self.upload.text,
            max_side=self.max_side,
        )

    def before(self, classifier: Classifier) -> Classifier:
        """Return the classifier of uploaded pictures; `classifier` itself if its images are attacked."""
        if not self.at_full_size:
            return classifier
        deployment = Deployment(self.convention, classifier.input_shape, upload=self.upload)
        return classifier.deployed(deployment)


def deployed(
    pipeline: StatedPipeline | None, classifier: Classifier, surrogate: Classifier | None
) -> tuple[Classifier, Classifier | None]:
    """Return the judge and the surrogate behind the pipeline; both unchanged where there is none."""
    if pipeline is None:
        return classifier, surrogate
    return pipeline.before(classifier), None if surrogate is None else pipeline.before(surrogate)


def stated_pipeline(config: AuditConfig) -> tuple[StatedPipeline | None, AuditConfig]:
    """Return the pipeline that the options state, and the options with the scaling stated in it.

    The pipeline is None if images are made as ever, and attacked.

    Raises
    ------
    SettingError
        An option is not known, or does not fit the others.
    """
    stated = (
        config.pipeline,
        config.preprocess,
        None if config.upload == UPLOAD else config.upload,
    )
    if not any(stated) and config.at in (None, MODEL_SIZE):
        return None, config
    at = config.at or FULL
    upload = parse_upload(config.upload)
    if at == MODEL_SIZE and upload != PNG:
        raise SettingError(
            f"upload is {config.upload} and at is {MODEL_SIZE}: the image that the model takes is never "
            f"uploaded. Leave one of them out, or use --at {FULL}."
        )
    if at == FULL and config.mask is not None:
        raise SettingError(
            f"A mask came with --at {FULL}: its picture has one size, and photographs have several. Use "
            f"--at {MODEL_SIZE}, or leave the mask out."
        )
    parsed = parse_pipeline(config.pipeline or DEFAULT)
    if parsed.scaling is not None and config.scaling is not None:
        raise SettingError(
            f"Two scalings were given: {parsed.scaling} in the pipeline, and {config.scaling}. Leave one out."
        )
    if parsed.scaling is not None:
        config = config.overridden_by({"scaling": parsed.scaling})
    convention = parsed.convention
    return StatedPipeline(convention.text, convention, upload, at, config.max_side), config
