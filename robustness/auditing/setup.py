"""Sets an audit up: loads what its options name, decides what they leave open, and makes the plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import keras
import numpy as np

from robustness import plugins
from robustness.auditing.decisions import Decisions
from robustness.auditing.deployed_model import (
    DeployedModels,
    StatedPipeline,
    deployed_models,
    stated_pipeline,
)
from robustness.auditing.inputs import (
    ResolvedInputs,
    make_attacks,
    resolve,
    resolve_images,
    resolve_surrogate,
)
from robustness.auditing.named_model import fetched_models, load_named
from robustness.auditing.option_checks import expect_usable
from robustness.auditing.run_records import (
    class_entries,
    fitted_elsewhere,
    folders_left_out,
    imported_layers,
    requested_rows,
    smaller_batch,
)
from robustness.auditing.wrapped_model import gives_sets
from robustness.configuration.audit_config import AuditConfig
from robustness.configuration.shard import WHOLE, Shard
from robustness.contract import ensembles
from robustness.diagnostics import preflight
from robustness.engine import batch_size, votes
from robustness.environment import without_garbage_collection
from robustness.errors import ImagesError
from robustness.images import Entry, Source
from robustness.images.cache import PictureCache
from robustness.images.class_match import ClassTable
from robustness.images.entries import labels_of
from robustness.images.selection import select_from
from robustness.models.adapter import InputAdapter
from robustness.models.classifier import Classifier
from robustness.runs.manifest import describe
from robustness.runs.plan import Plan
from robustness.runs.schema import Manifest, ModelEntry, Origin
from robustness.text import plural
from robustness.threat import norms
from robustness.threat.goals import Goal
from robustness.threat.goals import parse as parse_goal
from robustness.threat.mask import Mask
from robustness.threat.threat import Threat


@dataclass(frozen=True)
class AuditSetup:
    """An audit before its first check: everything is loaded and decided, nothing is stored.

    Attributes
    ----------
    config : the options.
    inputs : the images, and how their classes were matched.
    models : the models of the deployment.
    attacked : the model that attacks evaluate.
    surrogate : the model of the options for that; None for the audited one.
    pipeline : the deployed pipeline; None if none is stated.
    entries : the images of the audit, in its order; of all shards.
    shard : the part of them that this run attacks.
    plan : with the attacks for a model that has gradients.
    decided : what was decided before; `Decisions()` for a new audit.
    requested : the batch size before it was limited to the memory.
    notes : sentences about images that are left out.
    without_gradients : returns the attacks for a model that has none.
    """

    config: AuditConfig
    inputs: ResolvedInputs
    models: DeployedModels
    attacked: Classifier
    surrogate: Classifier | None
    pipeline: StatedPipeline | None
    entries: Sequence[Entry]
    shard: Shard
    plan: Plan
    decided: Decisions
    requested: int
    notes: tuple[str, ...]
    without_gradients: Callable[[], ensembles.Resolved]

    @property
    def classifier(self) -> Classifier:
        """The user's model, which judges every file."""
        return self.models.judge

    @property
    def cache(self) -> PictureCache:
        """The pictures."""
        return self.inputs.cache

    @property
    def part(self) -> list[Entry]:
        """The images of this shard."""
        return list(self.shard.of(self.entries))

    @property
    def first(self) -> int:
        """The position of the shard's first image."""
        return self.shard.first(len(self.entries))

    def planned(self, findings: Sequence[preflight.Finding], *, resumed: bool) -> Plan:
        """Return the plan of a model, or a surrogate, with these findings of the preflight checks."""
        plan = self.plan
        if not preflight.has_gradients(findings):
            plan = plan.running(self.without_gradients())
        if not resumed and preflight.is_random(findings):
            plan = replace(plan, draws=votes.DRAWS)
        return plan

    @without_garbage_collection()
    def manifest(self, plan: Plan, *, command: str = "", origin: Origin | None = None) -> Manifest:
        """Return the manifest of the run before its first image is read."""
        classifier, surrogate, table = self.classifier, self.surrogate, self.inputs.table
        manifest = describe(plan, classifier, self.inputs.source, self.entries, shard=self.shard)
        return manifest.with_changes(
            budgets=tuple(plan.budgets(classifier.input_shape)),
            command=command,
            origin=origin or Origin(),
            surrogate=ModelEntry.model_validate(surrogate.card()) if surrogate else None,
            notes=(
                *imported_layers(self.config),
                *classifier.notes,
                *folders_left_out(table),
                *self.notes,
                *fitted_elsewhere(plan, manifest.model),
                *smaller_batch(self.requested, plan.slots),
                *_through(self.pipeline),
            ),
            model=manifest.model.with_changes(class_names_from=self.inputs.reason or None),
            data=manifest.data.with_changes(classes=class_entries(table)),
        )


@without_garbage_collection()
def set_up(
    model: Classifier | keras.Model | str | Path,
    images: Source | str | Path | np.ndarray,
    labels: np.ndarray | None,
    config: AuditConfig,
    *,
    only: Callable[[Entry], bool] | None = None,
    decided: Decisions | None = None,
    command: str = "",
    doubtful: Callable[[ClassTable], None] = lambda _: None,
) -> AuditSetup:
    """Load what the options name, decide what they leave open, and make the plan.

    Parameters
    ----------
    model, images, labels, only, command : as for `robustness.audit`.
    config : the options.
    decided : what was decided before: of a run that is resumed, or that this process works for.
    doubtful : called with the table of the classes if how they were matched is doubtful.

    Raises
    ------
    SettingError, ModelError, ImagesError
        The model, the images or an option cannot be used.
    """
    model, config = fetched_models(model, config)
    attacks, norm = make_attacks(config), norms.parse(config.norm)
    expect_usable(config, model, attacks, norm)
    before = decided or Decisions()
    pipeline, config = stated_pipeline(config, model)
    inputs = _inputs(
        model,
        images,
        labels,
        config,
        only=only,
        before=before,
        command=command,
        pipeline=pipeline,
    )
    classifier, cache, entries = inputs.classifier, inputs.cache, inputs.entries
    if inputs.table is not None and inputs.table.doubtful and decided is None:
        doubtful(inputs.table)
    surrogate = resolve_surrogate(
        config.surrogate,
        classifier,
        cache,
        entries,
        trust=config.trust_model,
        imports=config.imports,
    )
    models = deployed_models(pipeline, classifier, surrogate, cache, entries)
    attacked = (models.attacked or models.judge).in_precision(config.precision)
    goal = parse_goal(config.target, classifier.class_names)
    entries, spared = _concerned(entries, goal, inputs.source)
    requested = requested_rows(config, before.settings, models.judge)
    # A resumed run keeps the recorded batch size, which may have been limited to the memory.
    slots = batch_size.bounded(requested, surrogate or models.judge)
    if decided:
        slots = min(requested, before.settings.slots or requested)
    resolved = partial(
        ensembles.resolve,
        attacks,
        norm,
        goal,
        models.judge.class_names,
        cascade=config.cascade,
    )
    with_gradients = resolved(gradients=True)
    plan = Plan(
        with_gradients.attacks,
        _threat(config, norm, goal, models.largest),
        config.seed,
        slots,
        config.all_steps,
        config.evidence,
        cascade=with_gradients.cascade,
        replaced=with_gradients.replaced,
        channels=models.judge.input_shape[-1],
        surrogate=surrogate.digest if surrogate else None,
        precision=attacked.precision,
        draws=before.settings.draws,
        deployment=None if models.pipeline is None else models.pipeline.entry(),
        shard=config.shard,
    )
    shard = WHOLE if config.shard is None else Shard.parse(config.shard)
    _expect_images(shard, len(entries))
    return AuditSetup(
        config,
        inputs,
        models,
        attacked,
        surrogate,
        models.pipeline,
        entries,
        shard,
        plan,
        before,
        requested,
        tuple(spared),
        partial(resolved, gradients=False),
    )


def _inputs(
    model: Classifier | keras.Model | str | Path,
    images: Source | str | Path | np.ndarray,
    labels: np.ndarray | None,
    config: AuditConfig,
    *,
    only: Callable[[Entry], bool] | None,
    before: Decisions,
    command: str,
    pipeline: StatedPipeline | None,
) -> ResolvedInputs:
    """Load what `model` and `images` name, and decide class names, scaling and head.

    The class names and the scaling in `before` are not decided a second time.
    """
    names, scaling = before.class_names, before.scaling
    own = model.class_names if isinstance(model, Classifier) and model.named else None
    source = resolve_images(
        images, labels, config.classes or own, config.label_column, config.cache_bytes
    )
    if pipeline is not None:
        source = pipeline.read_by(source)
    named, config = load_named(model, config)
    if named is not model and isinstance(named, Classifier):
        own = named.class_names if named.named else None
    several = gives_sets(config.head, named)
    return resolve(
        named,
        source,
        lambda one: select_from(
            one,
            limit=config.limit,
            per_class=config.per_class,
            seed=config.seed,
            only=_selection(config, only),
        ),
        several=several,
        class_names=config.classes or (names if own is None and not several else None),
        scaling=scaling if config.scaling is None else config.scaling,
        head=config.head,
        adapter=InputAdapter.of(config.given()),
        trust=config.trust_model,
        architecture=config.architecture,
        imports=config.imports,
        command=command,
        prepare=None if pipeline is None else pipeline.preparation,
    )


def _threat(config: AuditConfig, norm: norms.Norm, goal: Goal, shape: tuple[int, ...]) -> Threat:
    """Return the threat of the options; SettingError if images of `shape` cannot be changed so."""
    mask = None
    if config.mask is not None:
        mask = Mask.of(cast("np.ndarray | str | Path", config.mask), shape)
    threat = Threat(config.epsilons, norm, goal, mask)
    threat.expect_possible(shape)
    return threat


def _through(pipeline: StatedPipeline | None) -> list[str]:
    """A sentence where attacks look through a named convention in place of the user's function."""
    sentence = "" if pipeline is None else pipeline.sentence
    return [sentence.rstrip(".")] if sentence else []


def _selection(
    config: AuditConfig, only: Callable[[Entry], bool] | None
) -> Callable[[Entry], bool] | None:
    """Return the filter `only`; with `held_out` also that of the photographs not used for training."""
    if not config.held_out:
        return only
    held_out = plugins.load(plugins.INPUTS, "held-out")
    return lambda entry: held_out(entry.name) and (only is None or only(entry))


def _concerned(entries: list[Entry], goal: Goal, source: Source) -> tuple[list[Entry], list[str]]:
    """Return the images that a goal concerns, and a sentence if others are left out."""
    others = {y for y in set(labels_of(entries)) if y is not None and not goal.concerns(y)}
    concerned = [entry for entry in entries if entry.label not in others] if others else entries
    _expect_any(concerned, source)
    left = len(entries) - len(concerned)
    sentence = f"{plural(left, 'image')} of the target class left out, which cannot be moved to it"
    return concerned, [sentence] if left else []


def _expect_any(entries: list[Entry], source: Source) -> None:
    if not entries:
        raise ImagesError(
            f"{source.description}: no image is left to attack. Expected at least one whose class "
            "is not the target; check the target, `limit` and the selection."
        )


def _expect_images(shard: Shard, total: int) -> None:
    """Raise ImagesError if a shard holds no image."""
    if shard.first(total) == shard.end(total):
        raise ImagesError(
            f"Shard {shard} of {plural(total, 'image')} is empty; expected at most as many shards as images."
        )
