"""Declares the options of an audit, for the command line, audit.toml, Python and the documentation.

To add an option, add a field here and use it. `robustness audit --help`, the keys of audit.toml, the text
of `robustness init`, the JSON schema, the keywords of `robustness.audit` and docs/configuration.md are
made from the fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from robustness import plugins
from robustness.configuration import choices
from robustness.configuration.attack_text import attack_text, parse_attack, without_parameters
from robustness.configuration.class_names import parse_class_names
from robustness.configuration.cluster_option import ClusterOption
from robustness.configuration.epsilons import parse_epsilons
from robustness.configuration.model_inputs import (
    ConstantsOption,
    HeadOption,
    ImageInputOption,
    ImportsOption,
    InputSizeOption,
    OutputOption,
)
from robustness.configuration.option import Option, OptionField, option_fields
from robustness.configuration.option_errors import UnexpectedValueError, option_error
from robustness.configuration.pipeline_options import (
    AtOption,
    MaxSideOption,
    PipelineOption,
    PreprocessOption,
    UploadOption,
)
from robustness.configuration.scaling_text import plain_text
from robustness.configuration.shard import Shard
from robustness.errors import SettingError
from robustness.text import did_you_mean

FOR_ALL = ("steps", "step_size", "restarts")
"""Parameters of attacks that a single option sets for every attack given by name."""

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}


def _members(value: object) -> tuple[object, ...]:
    """Return the items of an iterable, or a single value as a tuple."""
    if isinstance(value, Iterable) and not isinstance(value, (str, Mapping)):
        return tuple(value)
    return (value,)


def _attack(value: object) -> object:
    """Return an attack's text, checked; a table as text; an object unchanged."""
    if isinstance(value, Mapping):
        return attack_text(value)
    if isinstance(value, str):
        parse_attack(value)
    return value


def _scaling(value: object) -> object:
    """The name or the numbers of a scaling as text; an object as it is."""
    if isinstance(value, (str, Path, Mapping)):
        return plain_text(value)
    return value


def _evidence(value: object) -> str:
    """Return one of the words, or a number of images as text."""
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if number or value in choices.EVIDENCE or (isinstance(value, str) and value.isdecimal()):
        return str(value)
    raise UnexpectedValueError("'all', 'flips', 'none', or a number of images")


def _shard(value: object) -> object:
    """Return the text of a shard in its shortest form."""
    return str(Shard.parse(value)) if isinstance(value, str) else value


def _report(value: object) -> object:
    if isinstance(value, str):
        plugins.expect(plugins.REPORTS, value)
    return value


class AuditConfig(BaseModel):
    """The options of an audit, checked. Frozen.

    Every field has a default. `robustness.audit(model, images, config)` takes one, and so does each of its
    keywords; docs/configuration.md lists the fields.

    Raises
    ------
    SettingError
        An option is unknown, or a value has the wrong type or range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    model: Annotated[
        str,
        Option(
            "The model: a name (`robustness models`), a .keras, .h5 or .hdf5 file or its URL, or "
            "kaggle:OWNER/NOTEBOOK.",
            table="model", key="path", short="m", active=True, path=True,
        ),
    ] = choices.MODEL  # fmt: skip
    architecture: Annotated[
        str | None,
        Option(
            "For a file of weights: the model they belong to, as keras.applications:NAME, a .json or .yaml "
            "file of model.to_json(), or module:function (your code, which needs --trust-model).",
            table="model", example='"keras.applications:MobileNetV2"', path=True,
        ),
    ] = None  # fmt: skip
    classes: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(parse_class_names),
        WithJsonSchema({"anyOf": [_TEXTS, _TEXT]}),
        Option(
            "Class names in the order of the model's outputs: names with commas between them, or a file (a "
            "name per line, class_indices.json, imagenet_class_index.json, ...). If not given: those that "
            "the model states, a file class_names.txt or labels.txt beside it, or the folders of images.",
            table="model", example='["cat", "dog"]', path=True,
            expected='names such as ["cat", "dog"], or a file of names',
        ),
    ] = None  # fmt: skip
    scaling: Annotated[
        object,
        BeforeValidator(_scaling),
        WithJsonSchema({"anyOf": [_TEXT, {"type": "object"}]}),
        Option(
            "The inputs of the model: 0..255, 0..1, -1..1, caffe or torch; numbers such as "
            "mean=0.485/0.456/0.406,std=0.229/0.224/0.225,of=0..1 (of=0..255: in counts) or "
            "divide=127.5,offset=-1, with order=BGR where blue comes first; or a .json or .npz file with the "
            "mean and std of the training images. Chosen by accuracy and confidence if not given.",
            table="model", example='"0..255"', path=True, tables=True,
            expected="a name, numbers, or a file with mean and std",
        ),
    ] = None  # fmt: skip
    head: HeadOption = None
    output: OutputOption = None
    input_size: InputSizeOption = None
    image_input: ImageInputOption = None
    constants: ConstantsOption = ()
    imports: ImportsOption = ()
    trust_model: Annotated[
        bool,
        Option(
            "Load a model file that could run code or exhaust the memory. In audit.toml it is refused "
            "unless the command line repeats it.",
            table="model",
        ),
    ] = False  # fmt: skip
    accuracy: Annotated[
        float | None,
        Field(ge=0, le=1),
        Option(
            "The accuracy that is claimed for the model, 0..1. The audit is inconclusive if the 95 % "
            "interval of the measured accuracy lies below it.",
            table="model", example="0.9",
        ),
    ] = None  # fmt: skip

    images: Annotated[
        str,
        Option(
            "A folder, zip, CSV, .npz, image file, .tar shards, .parquet or .tfrecord, or a URL of one (s3, "
            "gs, az, hf, https); or pets, pets:N for N images: a photograph of a cat, and rendered cats and "
            "dogs.",
            table="images", key="path", short="i", active=True, path=True,
        ),
    ] = choices.IMAGES  # fmt: skip
    label_column: Annotated[
        str | None,
        Option(
            "What holds the labels: the column of a CSV or Parquet file, the array of a .npz, the feature of "
            "a TFRecord, the suffix or JSON key in a .tar; none for no labels; recognised by its name if not "
            "given.",
            table="images", example='"ClassId"',
        ),
    ] = None  # fmt: skip
    limit: Annotated[
        int | None,
        Field(ge=1),
        Option(
            "Use at most N images: a random sample, balanced by class.",
            table="images", example="300",
        ),
    ] = None  # fmt: skip
    per_class: Annotated[
        int | None,
        Field(ge=1),
        Option("Use at most N images of each class.", table="images", example="100"),
    ] = None
    held_out: Annotated[
        bool,
        Option(
            "Use only photographs on which the bundled model was not trained.",
            table="images",
        ),
    ] = False

    shard: Annotated[
        str | None,
        BeforeValidator(_shard),
        Option(
            "Audit part NUMBER/COUNT of the images, such as 3/16 (numbers from 0): for array jobs. "
            "`robustness merge` makes one run of the parts.",
            table="run", example='"0/16"', expected="NUMBER/COUNT, such as 3/16",
        ),
    ] = None  # fmt: skip

    pipeline: PipelineOption = None
    preprocess: PreprocessOption = None
    at: AtOption = None
    upload: UploadOption = choices.UPLOAD
    max_side: MaxSideOption = choices.MAX_SIDE

    norm: Annotated[
        str,
        Option(
            "The norm of the changes: linf, l2, l1, l0; or free for spatial and corruptions.",
            table="threat", choices=choices.NORMS, further=choices.further_norms, active=True,
        ),
    ] = "linf"  # fmt: skip
    epsilons: Annotated[
        tuple[float, ...],
        BeforeValidator(parse_epsilons),
        WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": ["number", "string"]}},
                                  {"type": ["number", "string"]}]}),
        Option(
            "Budgets in counts of 255 (pixels for l0): 4, 4/255, or several as 1,2,4,8.",
            table="threat", flag="epsilon", short="e", example="[1, 2, 4]", active=True,
            expected='counts such as [1, 2, 4] or ["4/255"]',
        ),
    ] = (choices.EPSILON,)  # fmt: skip
    target: Annotated[
        str | int | None,
        WithJsonSchema(_TEXT),
        Option(
            "The class to reach, by name or number; any other class if not given.",
            table="threat", example='"dog"', expected="the name or the number of a class",
        ),
    ] = None  # fmt: skip
    mask: Annotated[
        object,
        WithJsonSchema(_TEXT),
        Option(
            "An image file that is bright where pixels may change; all may change if not given.",
            table="threat", example='"mask.png"', path=True,
        ),
    ] = None  # fmt: skip
    surrogate: Annotated[
        object,
        WithJsonSchema(_TEXT),
        Option(
            "A second model, given like --model. The attacks use it, and --model judges their flips "
            "(transfer).",
            table="threat", example='"other.keras"', path=True,
        ),
    ] = None  # fmt: skip

    attacks: Annotated[
        tuple[Annotated[object, BeforeValidator(_attack)], ...],
        BeforeValidator(_members),
        WithJsonSchema(
            {"type": "array", "items": {"type": "object", "properties": {"name": _TEXT},
             "required": ["name"],
             "additionalProperties": {"type": ["string", "number", "boolean"]}}}
        ),
        Option(
            "An attack or ensemble (`robustness attacks` lists them), as NAME or "
            "NAME:parameter=value,...; repeat it for several.",
            table="attacks", flag="attack", short="a", repeated=True, active=True,
            expected="tables, each begun with [[attacks]]",
        ),
    ] = (choices.ATTACK,)  # fmt: skip
    steps: Annotated[int | None, Option("The number of steps of every attack given by name.")] = (
        None
    )
    step_size: Annotated[
        float | None,
        Option("The step size of every attack given by name, in the unit of epsilon."),
    ] = None
    restarts: Annotated[
        int | None, Option("The number of restarts of every attack given by name.")
    ] = None

    evidence_to: Annotated[
        str | None,
        Option(
            "Where the PNG files are copied as well: s3://BUCKET/FOLDER, gs://, az:// or hf://. The run "
            "folder stays on this machine. In audit.toml it is refused unless the command line repeats it.",
            table="run", example='"s3://bucket/audits/1"',
        ),
    ] = None  # fmt: skip
    cache_bytes: Annotated[
        int,
        Field(ge=1, le=choices.MAX_SEED),
        Option(
            "The most bytes on this disk for copies of remote images and models, and of images that only "
            "come in order. The folder is that of the environment variable ROBUSTNESS_CACHE.",
            table="run", example="50_000_000_000",
        ),
    ] = choices.CACHE_BYTES  # fmt: skip
    seed: Annotated[
        int,
        Field(ge=-choices.MAX_SEED, le=choices.MAX_SEED),
        Option(
            "The seed of the random sample of images and of the attacks.",
            table="run", active=True, expected="a whole number of at most 63 bits",
        ),
    ] = 0  # fmt: skip
    precision: Annotated[
        str,
        Option(
            "The precision in which attacks evaluate the model: float32 or bfloat16. Flips are always "
            "judged in float32.",
            table="run", choices=choices.PRECISIONS,
        ),
    ] = "float32"  # fmt: skip
    all_steps: Annotated[
        bool,
        Option("Take every step and report the last point, not the first flip.", table="run"),
    ] = False
    cascade: Annotated[
        bool | None,
        Option(
            "Run each attack only on the images that no earlier attack flips; the default for an ensemble "
            "of several attacks.",
            table="run", example="false",
        ),
    ] = None  # fmt: skip
    thorough: Annotated[
        bool,
        Option("Also run the expensive diagnostics, which run attacks again.", table="run"),
    ] = False
    evidence: Annotated[
        str,
        BeforeValidator(_evidence),
        WithJsonSchema({"anyOf": [{"enum": list(choices.EVIDENCE)}, {"type": "integer", "minimum": 0}]}),
        Option(
            "The images whose PNG files are kept: all, flips (flips and the originals of attacked "
            "images), none, or a number of images.",
            table="run", expected="'all', 'flips', 'none', or a number of images",
        ),
    ] = "flips"  # fmt: skip
    batch_size: Annotated[
        int | None,
        Field(ge=1, le=choices.MAX_SLOTS),
        Option(
            "The number of images that are attacked at the same time; chosen by the free memory if not "
            "given.",
            table="run", example="32",
        ),
    ] = None  # fmt: skip
    cluster: ClusterOption = None
    reports: Annotated[
        tuple[Annotated[str, BeforeValidator(_report)], ...],
        BeforeValidator(_members),
        Option(
            "A kind of report that the command line writes into the run folder; repeat it for several.",
            table="run", flag="report", repeated=True,
            expected='a list of names such as ["html"]',
        ),
    ] = (choices.REPORT,)  # fmt: skip

    gate: dict[str, Any] | None = None
    """The rules of the gate, in the form of `robustness.reports.gate.rules.Gate.to_dict`."""

    def __init__(self, **options: object) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise option_error(error, audit_options(), options) from None

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        """Convert NumPy's numbers to Python's; refuse empty paths, and values that are not listed."""
        if type(value).__module__ == "numpy" and value.ndim == 0:
            value = value.item()
        field = audit_options().get(info.field_name or "")
        if field and field.option.path and isinstance(value, str) and not value:
            raise UnexpectedValueError("a path; the current folder is '.'")
        unset = field is not None and field.optional and value is None
        listed = field.option.choices if field and not unset else ()
        if field and listed and value not in listed and field.option.further:
            listed = (*listed, *field.option.further())
        if listed and value not in listed:
            raise UnexpectedValueError(
                f"one of {', '.join(map(repr, listed))}", hint=did_you_mean(str(value), listed)
            )
        return value

    def given(self) -> dict[str, object]:
        """Return the options that were set, without those that have their default."""
        names = [name for name in type(self).model_fields if name in self.model_fields_set]
        return {name: getattr(self, name) for name in names}

    def overridden_by(self, options: Mapping[str, object]) -> Self:
        """Return this configuration with `options` in place of its own.

        A parameter for every attack (`steps`, `step_size`, `restarts`) also replaces the same parameter of
        an attack that is given here by name.

        Parameters
        ----------
        options : options by their names in Python.

        Raises
        ------
        SettingError
            An option is unknown or not usable.
        """
        chosen = self.given() | dict(options)
        replaced = [name for name in FOR_ALL if options.get(name) is not None]
        if replaced and "attacks" not in options:
            chosen["attacks"] = tuple(
                without_parameters(a, replaced) if isinstance(a, str) else a for a in self.attacks
            )
        return type(self)(**chosen)

    def attack_choices(self) -> list[tuple[str, dict[str, object]] | object]:
        """Return the attacks as (name, parameters); attack objects unchanged.

        Raises
        ------
        SettingError
            A parameter for every attack was given with an attack that is an object.
        """
        shared = {name: getattr(self, name) for name in FOR_ALL if getattr(self, name) is not None}
        attacks: list[tuple[str, dict[str, object]] | object] = []
        for attack in self.attacks:
            if isinstance(attack, str):
                name, parameters = parse_attack(attack)
                attacks.append((name, shared | parameters))
            elif shared:
                raise SettingError(
                    f"{', '.join(shared)} cannot be set for the attack object {attack!r:.100}; expected "
                    "attacks given by name. Set the parameters of the object itself."
                )
            else:
                attacks.append(attack)
        return attacks


@cache
def audit_options() -> dict[str, OptionField]:
    """Return the options of an audit, by their names in Python."""
    return option_fields(AuditConfig)
