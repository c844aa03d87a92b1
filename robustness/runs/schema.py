"""Pydantic models of `run.json` (`Manifest`) and of the part of a `report.json` that is read again.

`SCHEMA` is the version of the schema of `run.json`. A file of an older schema is converted by one function
per version (`schema_migrations.MIGRATIONS`) and then validated as the newest. A part that an earlier version
did not write has its default; a key that this version does not know is kept, since later versions write more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    model_validator,
)

from robustness.runs.deployed_schema import PixelsReadEntry, ShareEntry, SurvivalEntry
from robustness.runs.schema_fields import (
    Count,
    Day,
    Epsilon,
    Evidence,
    Hash,
    Listed,
    Number,
    Part,
    Seconds,
    Shape,
    ShardText,
    Slots,
    Whole,
    WorstCase,
)

SCHEMA = 2
"""The schema of `run.json` that this version writes; schema 1 stored the goal as a phrase."""
TARGETED = "targeted at "
"""The start of the phrase of a targeted goal, in reports and in `run.json` of schema 1."""


class Tool(Part):
    """The program that wrote the run."""

    name: str | None = None
    version: str | None = None


class CodeEntry(Part):
    """The hash of the code of an attack or a norm, and the version of Python for which alone it is valid."""

    sha256: Hash | None = None
    python: str | None = None


class AttackEntry(Part):
    """An attack with its parameters; its code if it is not the toolkit's."""

    name: str | None = None
    label: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    knowledge: str | None = None
    seeks: str | None = None
    paper: str | None = None
    code: CodeEntry | None = None

    @property
    def title(self) -> str:
        """The label, or the name in runs without labels."""
        return str(self.label or self.name)


class MaskEntry(Part):
    """Which pixels may change: the share of them, and the hash of the mask's picture."""

    share: Number | None = None
    sha256: Hash | None = None


class GoalEntry(Part):
    """What the attacker wants: any other class, or the class `target` (its number)."""

    target: Count | None = None
    class_name: str | None = None

    @property
    def sentence(self) -> str:
        """`untargeted` or `targeted at CLASS`."""
        if self.target is None and self.class_name is None:
            return "untargeted"
        return f"{TARGETED}{self.target if self.class_name is None else self.class_name}"


class FunctionEntry(Part):
    """The user's own preprocessing: its name, what it takes, and hashes of its code."""

    name: str | None = None
    takes: str | None = None
    source_sha256: str | None = None
    file_sha256: str | None = None
    imports_sha256: str | None = None
    agreement: str | None = None
    """Through which named convention attacks see it, and how near that is."""


class DeploymentEntry(Part):
    """How an uploaded picture reaches the model, and whether it is attacked at its own size."""

    at: str = "model"
    pipeline: str | None = None
    function: FunctionEntry | None = None
    upload: str = "png"
    max_side: Count | None = None

    @property
    def at_full_size(self) -> bool:
        """Whether pictures are attacked at their own size."""
        return self.at == "full"


class Settings(Part):
    """The settings that a resumed run must share: attacks, threat, seed, batch size and more."""

    attacks: Listed[AttackEntry] = ()
    norm: str | None = None
    norm_code: CodeEntry | None = None
    epsilons: Listed[Epsilon] = ()
    goal: GoalEntry | None = None
    mask: MaskEntry | None = None
    surrogate: str | None = None
    precision: str = "float32"
    seed: Whole | None = None
    slots: Slots | None = None
    all_steps: bool | None = None
    evidence: Evidence = "flips"
    cascade: bool = False
    replaced: Listed[str] = ()
    draws: Slots = 1
    deployment: DeploymentEntry | None = None
    shard: ShardText | None = None

    @property
    def aim(self) -> str:
        """The goal in words; runs without a goal are untargeted."""
        return (self.goal or GoalEntry()).sentence


class ScalingEntry(Part):
    """How counts are converted to the model's inputs."""

    name: str | None = None
    multiply: Listed[Number] | None = None
    offset: Listed[Number] | None = None
    order: str | None = None
    sentence: str | None = None
    chosen: str | None = None
    """How it was chosen: given, found inside the model, or by which images, and how surely."""


class AdapterEntry(Part):
    """How images enter the model, and which of its outputs is audited."""

    size: str | None = None
    image_input: str | None = None
    constants: Listed[str] = ()
    output: str | None = None
    sentences: Listed[str] = ()


class IdentityEntry(Part):
    """Hashes of the model's layers and code, and its answers to fixed pictures by class."""

    layers: Listed[str] = ()
    graph: str | None = None
    code: str | None = None
    keras: str | None = None
    python: str | None = None
    answers: Listed[dict[str, Number]] | None = None


class ModelEntry(Part):
    """A model, and how its inputs and outputs are read."""

    name: str | None = None
    file: str | None = None
    file_sha256: str | None = None
    format: str | None = None
    source_keras: str | None = None
    architecture: str | None = None
    findings: Listed[str] = ()
    notes: Listed[str] = ()
    weights_sha256: str | None = None
    identity: IdentityEntry | None = None
    parameters: Count | None = None
    input_shape: Shape | None = None
    adapter: AdapterEntry | None = None
    scaling: ScalingEntry | None = None
    head: str | None = None
    head_sentence: str | None = None
    label_names: Listed[str] = ()
    label_sets: Listed[str] = ()
    logits_rebuilt: bool = True
    class_names: Listed[str] | None = None
    class_names_from: str | None = None
    keras: str | None = None

    def with_outputs(self, *, random: bool) -> Self:
        """Return a copy without answers if the outputs are random: two draws that agree are no constant."""
        if not random or self.identity is None:
            return self
        return self.with_changes(identity=self.identity.with_changes(answers=None))


class ClassEntry(Part):
    """A folder of images, and the output of the model that its class is; no output: it is left out."""

    found: str | None = None
    images: Count = 0
    output: Count | None = None
    matched_by: str | None = None


class Data(Part):
    """The images: where they come from, how many, and hashes of pixels and selection."""

    description: str | None = None
    selected: Count | None = None
    undivided: Count | None = None
    """The images of all shards, of which this run has one."""
    available: Count | None = None
    sha256: str | None = None
    selection_sha256: str | None = None
    seed: Whole | None = None
    labelled: bool = True
    declared_accuracy: Number | None = None
    classes: Listed[ClassEntry] = ()


class Check(Part):
    """The result of a check before the attack."""

    id: str = ""
    severity: str = "note"
    sentence: str = ""


class DiagnosisEntry(Part):
    """The result of a diagnostic of the finished run."""

    id: str = ""
    title: str = ""
    status: str = "skipped"
    sentence: str = ""
    evidence: dict[str, Any] = Field(default_factory=dict)


class Fit(Part):
    """The half point of a fitted logistic curve beside a median."""

    median: Number | None = None
    low: Number | None = None
    high: Number | None = None
    p_value: Number | None = None


class Median(Part):
    """The median smallest epsilon under one attack, its 95 % interval and bracket."""

    median: Number | None = None
    low: Number | None = None
    high: Number | None = None
    bracket_low: Number | None = None
    bracket_high: Number | None = None
    images: int | None = None
    note: str | None = None
    fit: Fit | None = None


class EpsilonBudget(Part):
    """How much of an epsilon attacks can use; `short` has the largest distance of those that cannot."""

    epsilon: Number
    effective_epsilon: Number | None = None
    reached: bool
    short: dict[str, Number]


class Timing(Part):
    """How long the audit took up to its reports, in seconds of wall-clock time, and each of its stages."""

    seconds: Seconds | None = None
    stages: dict[str, Seconds] = Field(default_factory=dict)


class GateRule(Part):
    """One rule of the gate."""

    model_config = ConfigDict(extra="forbid")
    name: str
    metric: Literal["robust_accuracy", "clean_accuracy", "flip_rate"]
    threshold: Number
    scope: Literal["worst", "attack", "class"] = "worst"
    of: str | None = None
    epsilon: Number | None = None
    bound: Literal["lower", "point"] = "lower"


class GateSuppression(Part):
    """A rule or diagnostic that does not count until the day `expires`."""

    rule: str
    reason: str
    expires: Day


class GateBaseline(Part):
    """An earlier run, than which this one may not be worse by more than `max_drop`."""

    model_config = ConfigDict(extra="forbid")
    source: str
    data_sha256: str | None
    norm: str
    goal: str
    attacks: Listed[str]
    worst: Listed[WorstCase]
    max_drop: Number = 0.0


class GateEntry(Part):
    """The gate of the run; a table without keys means that there is none."""

    rules: Listed[GateRule] = ()
    suppressions: Listed[GateSuppression] = ()
    baseline: GateBaseline | None = None

    @model_validator(mode="before")
    @classmethod
    def _whole_or_empty(cls, value: Any) -> Any:
        missing = {"rules", "suppressions"} - set(value) if isinstance(value, Mapping) else set()
        if value and missing:
            raise ValueError(f"expected the key {min(missing)} in it")
        return value

    def __bool__(self) -> bool:
        """Whether there is a gate."""
        return bool(self.model_fields_set)


class Options(Part):
    """The command-line options that started the run."""

    model: str | None = None
    architecture: str | None = None
    images: str | None = None
    attack: Listed[str] | None = None
    epsilon: str | None = None
    steps: Whole | None = None
    step_size: Number | None = None
    restarts: Whole | None = None
    norm: str | None = None
    target: str | None = None
    mask: str | None = None
    surrogate: str | None = None
    precision: str | None = None
    all_steps: bool | None = None
    cascade: bool | None = None
    limit: Whole | None = None
    per_class: Whole | None = None
    held_out: bool | None = None
    seed: Whole | None = None
    classes: str | None = None
    scaling: str | None = None
    head: str | None = None
    output: str | None = None
    input_size: str | None = None
    image_input: str | None = None
    constant: Listed[str] | None = None
    imports: Listed[str] | None = None
    pipeline: str | None = None
    preprocess: str | None = None
    at: str | None = None
    upload: str | None = None
    max_side: Whole | None = None
    trust_model: bool | None = None
    evidence: str | None = None
    batch_size: Whole | None = None
    accuracy: Number | None = None
    thorough: bool | None = None
    report: Listed[str] | None = None
    gate: GateEntry | None = None


class Origin(Part):
    """How and where the run was started, with a seal (`robustness.runs.seal`)."""

    options: Options | None = None
    configuration: str | None = None
    directory: str | None = None
    run: str | None = None
    seal: str | None = None


class ShardEntry(Part):
    """A run of a part of the images that this run was merged from."""

    shard: ShardText
    created: str | None = None
    finished: str | None = None
    seconds: Seconds | None = None
    environment: dict[str, str | Number | bool | None] = Field(default_factory=dict)


class Repair(Part):
    """The number of parts that were damaged when the run was resumed, and made again."""

    at: str | None = None
    originals: Count = 0
    flips: Count = 0
    steps: Count = 0
    mask: Count = 0
    rows: Count = 0
    views: Count = 0


class WorkerEntry(Part):
    """A worker of the audit: where it ran, what it did, and whether its bits are those of the driver."""

    host: str = ""
    device: str = ""
    kind: Hash | None = None
    """The SHA-256 of its answers to fixed pictures, and of their gradients."""
    like: bool = True
    images: Count = 0
    processor_seconds: Seconds = 0.0
    lost: bool = False


class ClusterEntry(Part):
    """The workers that took part in the audit."""

    address: str = ""
    workers: Listed[WorkerEntry] = ()


class Manifest(Part):
    """Everything that another person needs to check a run or to repeat it."""

    schema_: Annotated[int, Field(alias="schema")] = SCHEMA
    tool: Tool = Field(default_factory=Tool)
    created: str | None = None
    finished: str | None = None
    command: str = ""
    origin: Origin = Field(default_factory=Origin)
    config: Settings = Field(default_factory=Settings)
    model: ModelEntry = Field(default_factory=ModelEntry)
    surrogate: ModelEntry | None = None
    data: Data = Field(default_factory=Data)
    class_names: Listed[str] = ()
    environment: dict[str, str | Number | bool | None] = Field(default_factory=dict)
    preflight: Listed[Check] = ()
    diagnostics: Listed[DiagnosisEntry] = ()
    median_epsilon: dict[str, Median] = Field(default_factory=dict)
    budgets: Listed[EpsilonBudget] = ()
    notes: Listed[str] = ()
    mended: Listed[Repair] = ()
    merged: Listed[ShardEntry] = ()
    gate: GateEntry = Field(default_factory=GateEntry)
    timing: Timing = Field(default_factory=Timing)
    pixels_read: PixelsReadEntry | None = None
    survival: SurvivalEntry | None = None
    cluster: ClusterEntry | None = None


class RateEntry(Part):
    """The worst case within one epsilon; without an accuracy if none is stated."""

    epsilon: Number
    robust_accuracy: ShareEntry | None = None


class ResultEntry(Part):
    """The result of one image at the largest epsilon."""

    key: str
    name: str
    label: str | None
    status: str
    smallest_epsilon: Number | None
    undecided: Listed[Number] | None = None


class StoredSummary(Part):
    """The part of the summary in a `report.json` that is read again."""

    manifest: Manifest
    attacks: Listed[str] | None = None
    worst: Listed[RateEntry] | None = None
    results: Listed[ResultEntry] | None = None
