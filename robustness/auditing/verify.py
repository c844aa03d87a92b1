"""Provides `verify`, which recomputes a run from its pictures and the model, here or by workers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras

from robustness.auditing.recorded_model import RecordedModel, wrapped_as_recorded
from robustness.configuration.cluster_option import Cluster
from robustness.errors import SettingError
from robustness.models.classifier import Classifier
from robustness.pipeline.user_function import UserFunction, load_function
from robustness.runs.store import Run
from robustness.verification.verify import Verification
from robustness.verification.verify import verify as recompute


def verify(
    run: str | Path,
    model: Classifier | keras.Model | str | Path,
    *,
    architecture: str | None = None,
    imports: Sequence[str] = (),
    preprocess: str | UserFunction | None = None,
    trust_model: bool = False,
    cluster: str | None = None,
) -> Verification:
    """Recompute every flip, distance, budget and hash of a run from its pictures and the model.

    Parameters
    ----------
    run : str or Path
        The run folder.
    model : Classifier, keras.Model, str or Path
        The model that was audited: an object, the path of its file, or a name (`robustness models`). How its
        inputs are scaled is taken from the run.
    architecture, imports, trust_model
        As for `robustness.audit`, for the file of a model.
    preprocess : str or UserFunction, optional
        The user's own preprocessing with which the run was made, as ``module:function``; it is run.
    cluster : str, optional
        Lets workers evaluate the pictures: ``local:4`` for four processes of this machine, ``auto`` or
        ``HOST:PORT`` for a Ray cluster. That of the run is never used. Every worker loads the model, so it
        is given by path or name, and the preprocessing as a text.

    Returns
    -------
    Verification
        The counts and the faults; the same with workers and without.

    Raises
    ------
    SettingError
        The cluster is not usable, or workers cannot load the model or the preprocessing.
    ModelError, RunError
        The model or the run cannot be used.
    ClusterError
        The workers cannot be started.

    Examples
    --------
    >>> found = robustness.verify("audit-run", "model.keras", cluster="local:4")  # doctest: +SKIP
    >>> found.exit_code, found.sentence  # doctest: +SKIP
    """
    place = Cluster.of(cluster)
    with Run.open(Path(run)) as opened:
        if isinstance(model, (str, Path)):
            options = {"architecture": architecture, "imports": list(imports)}
            recorded = RecordedModel(options, str(model), trust_model)
            return verified(opened, recorded, preprocess=preprocess, cluster=place)
        if place is not None:
            raise SettingError(
                f"cluster was given with a model that is a {type(model).__name__}; expected a name or the "
                "path of a file, which every worker loads. Save the model as .keras, and give its path."
            )
        if not isinstance(model, Classifier):
            model = wrapped_as_recorded(model, opened.manifest)
        return recompute(opened, model, preprocess=preprocess)


def verified(
    run: Run,
    model: RecordedModel,
    *,
    preprocess: str | UserFunction | None = None,
    cluster: Cluster | None = None,
) -> Verification:
    """Load the model of a run, and recompute the run with it; see `verify`.

    Parameters
    ----------
    run : the run, open for reading.
    model : which model is loaded.
    preprocess : the user's own preprocessing.
    cluster : the workers; None for this process.
    """
    classifier = model.load(run.manifest)
    if cluster is None:
        return recompute(run, classifier, preprocess=preprocess)
    if preprocess is not None and not isinstance(preprocess, str):
        raise SettingError(
            f"cluster was given with a preprocessing that is a {type(preprocess).__name__}; expected "
            "module:function or file.py:function, which every worker imports."
        )
    # Ray's parts are imported by those who use workers.
    from robustness.auditing.cluster.spread_evaluation import EvaluationWorkers  # noqa: PLC0415

    function = load_function(preprocess) if preprocess else None
    workers = EvaluationWorkers(cluster, model, run.manifest, preprocess, function)
    with contextlib.closing(workers):
        found = recompute(run, classifier, preprocess=function, spread=workers.spread)
        return replace(found, shares=workers.shares)
