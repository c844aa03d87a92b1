"""Puts the stated input pipeline before the model: what judges, and what attacks look through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from robustness.auditing.named_model import is_model_file
from robustness.configuration.audit_config import AuditConfig
from robustness.configuration.choices import FULL, MODEL_SIZE, UPLOAD
from robustness.diagnostics import pipelines
from robustness.diagnostics.finding import Finding
from robustness.errors import PipelineError, SettingError
from robustness.images import Entry, Source
from robustness.images.cache import PictureCache
from robustness.models.classifier import Classifier
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.nearest_convention import NearestConvention, nearest_convention
from robustness.pipeline.preparation import Preparation
from robustness.pipeline.preprocessing import LinearConvention, Preprocessing
from robustness.pipeline.upload import PNG, Upload, parse_upload
from robustness.pipeline.user_function import (
    AS_IT_IS,
    UserFunction,
    checked_images,
    load_function,
    taking_inputs,
)
from robustness.runs.schema import DeploymentEntry, FunctionEntry

DEFAULT = "pillow:bilinear"
"""How pictures are resized where no pipeline is stated."""
COMPARED = 24
"""The number of pictures on which a user's function is compared with named conventions."""
COMPARED_BYTES = 64 << 20
QUERIED = "Attacks by score or decision look through the function itself, at rounded pictures."
LABELLED = 60
"""The number of labelled pictures by which pipelines are compared."""


@dataclass(frozen=True)
class StatedPipeline:
    """The input pipeline of an audit as its options state it.

    Attributes
    ----------
    convention : the named code that makes images of pictures; with a function, what attacks look through.
    upload : the format of uploaded files.
    at : whether the picture ("full") or the model's image ("model") is attacked.
    max_side : the longest side of an attacked picture, in pixels.
    function : the user's own preprocessing, which judges.
    nearest : how near `convention` is to it, once that is known.
    named : whether the options name the convention.
    queried : whether attacks without gradients look through the function itself.
    """

    convention: LinearConvention
    upload: Upload
    at: str
    max_side: int
    function: UserFunction | None = None
    nearest: NearestConvention | None = None
    named: bool = True
    queried: bool = False

    @property
    def preparation(self) -> Preparation:
        """How pictures are read."""
        return Preparation(self.convention, self.max_side)

    def read_by(self, source: Source) -> Source:
        """Return the source with pictures turned by their EXIF orientation only if the pipeline does that."""
        preprocessing: Preprocessing = self.function or self.convention
        unturned = None if preprocessing.oriented else getattr(source, "unturned", None)
        return source if unturned is None else cast("Source", unturned())

    def entry(self) -> DeploymentEntry:
        """Return the pipeline as `run.json` records it."""
        function = self.function
        return DeploymentEntry(
            at=self.at,
            pipeline=self.convention.text,
            function=None if function is None else function_entry(function, self.sentence),
            upload=self.upload.text,
            max_side=self.max_side,
        )

    def judge(self, classifier: Classifier) -> Classifier:
        """Return the classifier of uploaded pictures; `classifier` itself if its images are attacked."""
        if self.at == MODEL_SIZE:
            return classifier
        if self.function is None:
            return self.attacked(classifier)
        judge = taking_inputs(classifier)
        return judge.deployed(Deployment(self.function, judge.input_shape, self.upload))

    def attacked(self, classifier: Classifier) -> Classifier:
        """Return the classifier that attacks look at, behind the named convention.

        With `queried`, attacks without gradients evaluate `classifier` behind the function.
        """
        if self.at == MODEL_SIZE:
            return classifier
        queried = self.judge(classifier) if self.queried else None
        return classifier.deployed(
            Deployment(self.convention, classifier.input_shape, self.upload, queried)
        )

    @property
    def sentence(self) -> str:
        """Through what attacks see the user's function, and how near that is; "" without a function."""
        if self.nearest is None:
            return ""
        return f"{self.nearest.sentence} {QUERIED}" if self.queried else self.nearest.sentence


@dataclass(frozen=True)
class DeployedModels:
    """The models of an audit behind the input pipeline.

    Attributes
    ----------
    judge : decides which uploaded pictures flip.
    attacked : what attacks evaluate if it is not the judge; None if it is.
    images : the classifier of images of the model's size, for the checks before the attack.
    pipeline : the pipeline, with the convention that is nearest to a user's function.
    """

    judge: Classifier
    attacked: Classifier | None
    images: Classifier
    pipeline: StatedPipeline | None

    @property
    def largest(self) -> tuple[int, int, int]:
        """The largest shape (height, width, channels) of what is attacked."""
        shape = self.images.input_shape
        if self.judge.deployment is None or self.pipeline is None:
            return shape
        return (self.pipeline.max_side, self.pipeline.max_side, shape[-1])


def deployed_models(
    pipeline: StatedPipeline | None,
    classifier: Classifier,
    surrogate: Classifier | None,
    cache: PictureCache,
    entries: list[Entry],
) -> DeployedModels:
    """Put the pipeline before the models.

    Parameters
    ----------
    pipeline : as stated; None where images are made as ever.
    classifier, surrogate : of images of the model's size; the surrogate is None if attacks use the model.
    cache, entries : the pictures, on some of which a user's function is tried. The cache gets the
        convention by which it is attacked.

    Raises
    ------
    PipelineError
        The function fails on the first pictures, gives another result each time, or one that is no input of
        the model.
    """
    if pipeline is None:
        return DeployedModels(classifier, surrogate, classifier, None)
    if pipeline.function is None:
        behind = None if surrogate is None else pipeline.attacked(surrogate)
        return DeployedModels(pipeline.judge(classifier), behind, classifier, pipeline)
    pipeline = replace(pipeline, function=pipeline.function.before(classifier))
    pipeline = _with_nearest(pipeline, classifier, cache, entries)
    # What the function makes is an input of the model, and maybe none of a surrogate.
    pipeline = replace(pipeline, queried=surrogate is None)
    cache.prepare(pipeline.preparation)
    images = (
        classifier
        if pipeline.nearest is None
        else classifier.with_scaling(pipeline.nearest.scaling)
    )
    behind = pipeline.attacked(images if surrogate is None else surrogate)
    return DeployedModels(pipeline.judge(classifier), behind, images, pipeline)


def compared_pipelines(
    models: DeployedModels, cache: PictureCache, entries: list[Entry]
) -> list[Finding]:
    """Return the finding that another named pipeline is, or is not, clearly more accurate.

    Empty for a user's own function, without enough labelled pictures, and where nothing is resized.
    """
    stated, classifier = models.pipeline, models.images
    if stated is not None and stated.function is not None:
        return []
    pictures, labels, left = [], [], COMPARED_BYTES
    for entry in [one for one in entries if one.label is not None][:LABELLED]:
        try:
            pixels = cache.read(entry, (None, None, classifier.input_shape[-1])).pixels
        except (TypeError, ValueError):
            # A source of the user may know no pictures of their own size.
            return []
        if pixels is not None and left > 0:
            pictures.append(pixels)
            labels.append(entry.label)
            left -= pixels.nbytes
    chosen = parse_pipeline(DEFAULT).convention if stated is None else stated.convention
    found = pipelines.pipeline(classifier, pictures, np.array(labels, int), chosen)
    return [] if found is None else [found]


def _with_nearest(
    pipeline: StatedPipeline,
    classifier: Classifier,
    cache: PictureCache,
    entries: list[Entry],
) -> StatedPipeline:
    """The pipeline with the convention that is nearest to its function on some of the pictures."""
    function, shape = pipeline.function, classifier.input_shape
    if function is None:
        return pipeline
    pictures, names, left = [], [], COMPARED_BYTES
    for entry in entries[:COMPARED]:
        pixels = cache.read(entry, (None, None, shape[-1])).pixels
        if pixels is not None and left > 0:
            pictures.append(pixels)
            names.append(entry.name)
            left -= pixels.nbytes
    usable, problem = [], None
    for picture, name in zip(pictures, names, strict=True):
        try:
            function.image(picture, shape)
            usable.append(picture)
        except PipelineError as error:
            # One picture may be bad; a function that fails on all of them is.
            problem = problem or PipelineError(f"{name}: {error}")
    if not usable:
        raise problem or PipelineError(f"No picture can be read to try {function.text} on.")
    nearest = nearest_convention(
        function,
        usable,
        shape,
        inputs=checked_images(function, usable, shape),
        conventions=[pipeline.convention] if pipeline.named else None,
    )
    return replace(pipeline, convention=nearest.convention, nearest=nearest)


def function_entry(function: UserFunction, agreement: str = "") -> FunctionEntry:
    """Return a user's function as `run.json` records it; `agreement` says how attacks see it."""
    return FunctionEntry(
        name=function.text,
        takes=function.takes,
        source_sha256=function.source_sha256,
        file_sha256=function.file_sha256,
        imports_sha256=function.imports_sha256 or None,
        agreement=agreement or None,
    )


def _needs_scaling(model: object) -> bool:
    """Whether an audit decides how a model's inputs are scaled: one of the zoo has its own."""
    if isinstance(model, (str, Path)):
        return is_model_file(Path(model)) or str(model).startswith("kaggle:")
    return not isinstance(model, Classifier)


def stated_pipeline(
    config: AuditConfig, model: object
) -> tuple[StatedPipeline | None, AuditConfig]:
    """Return the pipeline that the options state, and the options with the scaling stated in it.

    The pipeline is None if images are made as ever, and attacked. A user's function is imported.

    Raises
    ------
    SettingError
        An option is not known, or does not fit the others.
    PipelineError
        The module of the function cannot be imported.
    """
    stated = (
        config.pipeline,
        config.preprocess,
        None if config.upload == UPLOAD else config.upload,
    )
    if not any(stated) and config.at in (None, MODEL_SIZE):
        return None, config
    at, upload = config.at or FULL, parse_upload(config.upload)
    _expect_consistent(config, at, upload)
    parsed = parse_pipeline(config.pipeline or DEFAULT)
    scaling, function = parsed.scaling, None
    if config.preprocess is not None:
        function, scaling = load_function(config.preprocess), AS_IT_IS
    if scaling is not None and config.scaling is not None:
        raise SettingError(
            f"Two scalings were given: {config.scaling}, and that of the "
            f"{'preprocessing, which makes the input of the model' if function else 'pipeline'}. Leave one "
            "out."
        )
    if scaling is not None and (function is None or _needs_scaling(model)):
        config = config.overridden_by({"scaling": scaling})
    named = config.pipeline is not None
    convention = parsed.convention
    return StatedPipeline(convention, upload, at, config.max_side, function, named=named), config


def _expect_consistent(config: AuditConfig, at: str, upload: Upload) -> None:
    """SettingError if the size that is attacked does not go with another option."""
    if at == MODEL_SIZE and (upload != PNG or config.preprocess is not None):
        what = f"upload is {config.upload}" if upload != PNG else "a preprocessing is given"
        raise SettingError(
            f"{what}, and at is {MODEL_SIZE}: the image that the model takes is never uploaded. Leave one of "
            f"them out, or use --at {FULL}."
        )
    if at == FULL and config.mask is not None:
        raise SettingError(
            f"A mask came with --at {FULL}: its picture has one size, and photographs have several. Use "
            f"--at {MODEL_SIZE}, or leave the mask out."
        )
