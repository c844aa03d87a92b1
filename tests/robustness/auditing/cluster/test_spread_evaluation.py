"""Workers evaluate the pictures of a verification, whatever becomes of them; without Ray."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import deque
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import robustness
from robustness.auditing.cluster import spread_evaluation
from robustness.auditing.cluster.evaluation_worker import Evaluated, EvaluationWorker
from robustness.auditing.cluster.messages import Hello
from robustness.auditing.cluster.pool import Event
from robustness.auditing.cluster.spread_evaluation import PER_WORKER, SpreadEvaluation
from robustness.auditing.recorded_model import RecordedModel
from robustness.errors import ClusterError, RunUsageError, SettingError
from robustness.runs.store import Run
from robustness.verification.evaluation import Answers


class ChancyPool:
    """Workers in this process, to which something happens at random at every look.

    Parameters
    ----------
    seed : of the numbers that decide.
    joins : how many workers join in all.
    fatal : numbers of chunks by which every worker dies.
    """

    def __init__(self, seed, joins=3, fatal=()):
        self._chance, self._joins, self._fatal = random.Random(seed), joins, fatal
        self._calls: dict[int, deque] = {}
        self._next = 0
        self.ended = False

    @property
    def workers(self):
        return list(self._calls)

    @property
    def beginning(self):
        return self._next < self._joins

    def stream(self, worker, method, *arguments):
        assert method == "evaluate"
        self._calls[worker].append(arguments)
        assert len(self._calls[worker]) <= PER_WORKER

    def _lost(self, worker):
        # Every call of a lost worker tells.
        count = len(self._calls.pop(worker))
        return [Event("lost", worker, "killed")] * max(1, count)

    def wait(self, seconds):
        if self.ended and not self._calls:
            raise ClusterError("Workers ended before they had begun.")
        if self._next < self._joins and (not self._calls or self._chance.random() < 0.2):
            worker, self._next = self._next, self._next + 1
            self._calls[worker] = deque()
            kind = self._chance.choice(["driver's", "other"])
            return [Event("joined", worker, Hello("h", "d", kind, 0.0))]
        busy = [n for n, calls in self._calls.items() if calls]
        if self._calls and self._chance.random() < 0.1 / len(self._calls):
            return self._lost(self._chance.choice(list(self._calls)))
        if not busy:
            return []
        worker = self._chance.choice(busy)
        number, chunk = self._calls[worker].popleft()
        if number in self._fatal:
            self._calls[worker].append((number, chunk))
            return self._lost(worker)
        rows = None if self._chance.random() < 0.1 else [int(one.sum()) for one in chunk]
        return [Event("item", worker, Evaluated(number, rows, 1.0)), Event("end", worker)]


def evaluated(pool):
    """All answers to 40 chunks of one to four pictures, and what evaluated them."""
    chunks = [
        [np.full((1, 2, 1), 3 * n + m, np.uint8) for m in range(1 + n % 4)] for n in range(40)
    ]
    spread = SpreadEvaluation(pool, "driver's")
    found = [
        answers.rows
        for answers in spread(iter(chunks), lambda chunk: Answers([int(p.sum()) for p in chunk]))
    ]
    assert found == [[int(one.sum()) for one in chunk] for chunk in chunks]
    assert sum(share.pictures for share in spread.shares()) == sum(map(len, chunks))
    assert spread._bytes == 0 and not spread._chunks
    return spread


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(spread_evaluation, "ALONE_SECONDS", 0.0)


@given(st.integers(0, 10**6), st.integers(0, 6))
def test_every_chunk_is_answered_once_and_in_order(seed, joins):
    evaluated(ChancyPool(seed, joins))


@given(st.integers(0, 10**6))
def test_a_chunk_that_ends_its_workers_is_evaluated_here(seed):
    spread = evaluated(ChancyPool(seed, joins=12, fatal={5}))
    assert spread.here >= 1 + 5 % 4


def test_a_cluster_whose_workers_cannot_begin_is_left():
    pool = ChancyPool(1, joins=0)
    pool.ended = True
    spread = evaluated(pool)
    assert spread.here == 100 and spread.records == {}


def test_a_small_memory_reads_no_further_ahead(monkeypatch):
    monkeypatch.setattr(spread_evaluation, "MOST_BYTES", 1)
    evaluated(ChancyPool(3))


class WorkersHere:
    """A pool of two real workers in this process; the second says that it has other hardware."""

    made = None

    def __init__(self, cluster, assignment, worker):
        WorkersHere.made = self
        self.assignment, self._worker = assignment, worker
        self._objects: dict[int, EvaluationWorker] = {}
        self._events: deque[Event] = deque()
        self.closed = self.beginning = False

    @property
    def workers(self):
        return list(self._objects)

    def stream(self, worker, method, *arguments):
        for item in getattr(self._objects[worker], method)(*arguments):
            self._events.append(Event("item", worker, item))

    def wait(self, seconds):
        if len(self._objects) < 2:
            worker = self._worker()
            hello = worker.begin(self.assignment)
            if self._objects:
                hello = replace(hello, kind="other")
            self._objects[len(self._objects)] = worker
            return [Event("joined", len(self._objects) - 1, hello)]
        events, self._events = list(self._events), deque()
        return events

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A model file, and a run with flips of which some were altered afterwards."""
    keras.utils.set_random_seed(5)
    layers = keras.layers
    parts = [layers.Input((8, 8, 3)), layers.Rescaling(1 / 255), layers.Conv2D(6, 3), layers.ReLU()]
    model = keras.Sequential([*parts, layers.Flatten(), layers.Dense(3, activation="softmax")])
    folder = tmp_path_factory.mktemp("verified")
    model.save(folder / "model.keras")
    images = np.random.default_rng(1).integers(0, 256, (150, 8, 8, 3)).astype("uint8")
    labels = model.predict(images.astype("float32"), verbose=0).argmax(1)
    options = {"attacks": ["bim:steps=5"], "epsilons": [8, 64], "labels": labels}
    file = str(folder / "model.keras")
    robustness.audit(file, images, out=folder / "run", **options)
    with sqlite3.connect(folder / "run" / "run.sqlite") as database:
        database.execute("UPDATE outcomes SET confidence_after = 0.1 WHERE rowid % 5 = 0")
        database.execute("UPDATE outcomes SET linf = linf + 1 WHERE rowid % 7 = 0")
        database.execute("UPDATE images SET confidence = 0.2 WHERE rowid % 11 = 0")
    database.close()
    return folder / "run", file


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(spread_evaluation, "Pool", WorkersHere)


@pytest.mark.slow
def test_a_verification_by_workers_is_that_of_one_process(material, here):
    run, file = material
    alone = robustness.verify(run, file)
    found = robustness.verify(run, file, cluster="local:2")
    assert len(alone.faults) > 20 and {f.what for f in alone.faults} >= {"confidence", "distance"}
    assert replace(found, shares=()) == alone
    assert WorkersHere.made.closed
    first, second, driver = found.shares
    assert first.like and not second.like and driver.driver
    assert first.pictures > 0 and second.pictures > 0 and driver.pictures == 0
    assert "2 workers evaluated" in found.evaluated and "other hardware" in found.evaluated
    assert alone.evaluated == ""


def test_the_file_of_the_model_is_sent(material, here, tmp_path, monkeypatch):
    """On another machine its path does not exist."""
    run, file = material
    moved = shutil.copy(file, tmp_path / "moved.keras")
    begin = EvaluationWorker.begin

    def elsewhere(self, assignment):
        (tmp_path / "moved.keras").unlink(missing_ok=True)
        return begin(self, assignment)

    monkeypatch.setattr(EvaluationWorker, "begin", elsewhere)
    found = robustness.verify(run, moved, cluster="local:2")
    assert replace(found, shares=()) == robustness.verify(run, file)


PREPARE = """
import numpy as np
from PIL import Image


def prepare(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.resize((8, 8), Image.Resampling.BOX), "float32")
"""


@pytest.mark.slow
def test_workers_run_the_preprocessing_and_read_the_uploaded_files(
    material, here, tmp_path, monkeypatch
):
    _, file = material
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steps.py").write_text(PREPARE)
    images = np.random.default_rng(2).integers(0, 256, (12, 10, 12, 3)).astype("uint8")
    small = [np.asarray(Image.fromarray(p).resize((8, 8), Image.Resampling.BOX)) for p in images]
    answers = keras.models.load_model(file).predict(np.stack(small).astype("float32"), verbose=0)
    labels = answers.argmax(1)
    options: dict[str, Any] = {
        "attacks": ["bim:steps=4"],
        "epsilons": [64],
        "preprocess": "steps.py:prepare",
    }
    robustness.audit(file, images, labels=labels, out="run", at="full", upload="jpeg:95", **options)
    with sqlite3.connect("run/run.sqlite") as database:
        database.execute("UPDATE images SET confidence = 0.2 WHERE rowid % 3 = 0")
    database.close()
    alone = robustness.verify("run", file, preprocess="steps.py:prepare")
    assert alone.flips and any(fault.what == "confidence" for fault in alone.faults)
    found = robustness.verify("run", file, preprocess="steps.py:prepare", cluster="local:2")
    assert replace(found, shares=()) == alone
    with pytest.raises(RunUsageError, match="expected it in this command"):
        robustness.verify("run", file, cluster="local:2")
    begin = EvaluationWorker.begin

    def elsewhere(self, assignment):
        (tmp_path / "steps.py").write_text(PREPARE.replace("BOX", "NEAREST"))
        return begin(self, assignment)

    monkeypatch.setattr(EvaluationWorker, "begin", elsewhere)
    with pytest.raises(RunUsageError, match="preprocessing"):
        robustness.verify("run", file, preprocess="steps.py:prepare", cluster="local:2")


def test_a_worker_with_another_model_is_refused(material, here, tmp_path, monkeypatch):
    run, file = material
    other = keras.models.load_model(file)
    other.layers[-1].set_weights([0.5 * w for w in other.layers[-1].get_weights()])
    other.save(tmp_path / "other.keras")
    load = RecordedModel.load
    seen = []

    def another(self, manifest, file=None):
        seen.append(1)
        return load(self, manifest, tmp_path / "other.keras" if len(seen) > 1 else file)

    monkeypatch.setattr(RecordedModel, "load", another)
    with pytest.raises(RunUsageError, match=r"loads another model .*weights"):
        robustness.verify(run, file, cluster="local:2")
    assert WorkersHere.made.closed


def test_what_workers_cannot_load_is_refused(material):
    run, file = material
    model = keras.models.load_model(file)
    with pytest.raises(SettingError, match="Save the model"):
        robustness.verify(run, model, cluster="local:2")
    with pytest.raises(SettingError, match="local:N"):
        robustness.verify(run, file, cluster="nowhere")
    assert robustness.verify(run, model, cluster="none") == robustness.verify(run, file)


def test_the_cluster_of_a_run_is_not_used(material, tmp_path, monkeypatch):
    """Who changes a run does not choose the machines that check it."""
    run, file = material
    copy = shutil.copytree(run, tmp_path / "run")
    text = (copy / "run.json").read_text()
    with Run.open(copy) as opened:
        before = opened.manifest
    assert before.cluster is None
    (copy / "run.json").write_text(
        text.replace("{\n", '{\n "cluster": {"address": "127.0.0.1:1", "workers": []},\n', 1)
    )
    with Run.open(copy) as opened:
        assert opened.manifest.cluster.address == "127.0.0.1:1"
    monkeypatch.setattr(spread_evaluation, "Pool", None)
    assert robustness.verify(copy, file).shares == ()
