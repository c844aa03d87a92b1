"""A worker of a verification: a process with the model, which evaluates pictures that the driver sends."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from robustness import backend
from robustness.auditing.cluster.messages import Hello
from robustness.auditing.cluster.probe import kind_of_answers
from robustness.auditing.cluster.sent_model import SentModel, model_here
from robustness.auditing.recorded_model import RecordedModel
from robustness.errors import RunUsageError
from robustness.models.classifier import Classifier
from robustness.pipeline.user_function import load_function
from robustness.runs.model_differences import differences
from robustness.runs.run_json import manifest_of
from robustness.runs.schema import FunctionEntry, ModelEntry
from robustness.verification.evaluation import Chunk, answers, as_deployed


@dataclass(frozen=True)
class EvaluationAssignment:
    """What a worker needs to evaluate the pictures of a run.

    Attributes
    ----------
    model : which model is loaded, and what the command allows for that.
    manifest : that of the run as JSON.
    card : the driver's model, which the worker's must be.
    random : whether the model has random outputs.
    preprocess, function : the user's own preprocessing that the command names, and the driver's hashes of it.
    directory, import_path : as in `messages.Assignment`.
    file : the model's file, for machines on which it does not exist.
    """

    model: RecordedModel
    manifest: bytes
    card: Mapping[str, Any]
    random: bool
    preprocess: str | None
    function: FunctionEntry | None
    directory: str
    import_path: tuple[str, ...] = ()
    file: SentModel | None = None


@dataclass(frozen=True)
class Evaluated:
    """The model's outputs for a chunk.

    Attributes
    ----------
    number : of the chunk.
    rows : see `robustness.verification.evaluation.Answers`; None if the worker failed.
    processor_seconds : the processor time that the worker has used since it began.
    """

    number: int
    rows: Sequence[Any] | None
    processor_seconds: float


class EvaluationWorker:
    """Evaluates pictures with the model of a run. Several threads call its methods."""

    def __init__(self) -> None:
        self._model: Classifier | None = None
        self._random = False
        self._one = threading.Lock()

    def begin(self, assignment: EvaluationAssignment) -> Hello:
        """Load the model as the driver did.

        Raises
        ------
        RunUsageError
            The model or the preprocessing differs from that of the driver.
        RobustnessError
            The model cannot be used on this machine.
        """
        started = time.monotonic()
        with contextlib.suppress(OSError):
            os.chdir(assignment.directory)
        sys.path += [p for p in assignment.import_path if p not in sys.path and Path(p).exists()]
        manifest = manifest_of(assignment.manifest, "the manifest of the driver")
        named = str(assignment.model.name)
        with model_here(named, assignment.file) as here:
            file = None if here == named else Path(here)
            model = assignment.model.load(manifest, file)
            function = load_function(assignment.preprocess) if assignment.preprocess else None
            judge = cast("Classifier", as_deployed(manifest.config.deployment, model, function))
            # This reads the file again.
            card = judge.card()
        drivers = ModelEntry.model_validate(assignment.card).with_outputs(random=assignment.random)
        unlike = differences(drivers, ModelEntry.model_validate(card))
        if function is not None and assignment.function is not None:
            unlike += filter(None, [function.source_differs(assignment.function)])
        if unlike:
            raise RunUsageError(
                f"A worker on {socket.gethostname()} loads another model than this process: "
                f"{'; '.join(unlike)}. Expected the same model, code and versions on every machine."
            )
        self._model, self._random = judge, assignment.random
        return Hello(
            socket.gethostname(),
            backend.device(),
            kind_of_answers(judge, random=self._random),
            time.monotonic() - started,
        )

    def stay(self, seconds: float) -> None:
        """Return after some seconds; the call fails if the process ends before."""
        time.sleep(seconds)

    def evaluate(self, number: int, chunk: Chunk) -> Iterator[Evaluated]:
        """Yield the model's outputs for a chunk, once."""
        if self._model is None:
            raise RuntimeError("the worker has not begun")
        # What was sent lies in memory that must not be written to.
        own = [one if isinstance(one, bytes) else np.array(one) for one in chunk]
        rows: Sequence[Any] | None = None
        with self._one, contextlib.suppress(Exception):
            # The driver evaluates what fails here, and raises what this is due to.
            rows = answers(self._model, own, random=self._random)
        yield Evaluated(number, rows, time.process_time())
