"""The driver hands out images and takes rows, whatever becomes of the workers; without Ray."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from typing import Any

import keras
import numpy as np
import pytest

import robustness
from robustness.auditing.cluster import start
from robustness.auditing.cluster.attacking import Attacking
from robustness.auditing.cluster.driver import WorkerRecord
from robustness.auditing.cluster.messages import Done, Hello, Packet
from robustness.auditing.cluster.pool import Event
from robustness.auditing.cluster.worker import Worker
from robustness.auditing.work import LocalWork
from robustness.errors import ClusterError, GradientError, SettingError
from robustness.runs.store import Run

TABLES = ("images", "outcomes", "strips", "gradients", "sizes", "uploads", "views")


class ThreadWorkers:
    """A pool whose workers are objects of this process, with a thread for each call that yields results.

    Parameters
    ----------
    assignment : what they need to begin.
    joins : the number of calls of `wait` before each worker joins.
    dies : by worker, the number of its images after which it is lost.
    kinds : by worker, the kind that it says it has.
    stuck : by worker, the number of its images after which it does and answers nothing more.
    """

    def __init__(self, assignment, joins=(0, 0), dies=None, kinds=None, stuck=None):
        self._assignment, self._dies = assignment, dict(dies or {})
        self._stuck, self.over = dict(stuck or {}), threading.Event()
        self._kinds = dict(kinds or {})
        self._joins = list(joins)
        self._events: queue.Queue[Any] = queue.Queue()
        self._objects: dict[int, Worker] = {}
        self._seen = 0
        self._count = dict.fromkeys([*self._dies, *self._stuck], 0)
        self.told: list[tuple[int, str]] = []
        self.streams: dict[int, list[str]] = {}
        self.shares: dict[int, set[str]] = {}
        self.closed = False

    @property
    def workers(self):
        return list(self._objects)

    @property
    def beginning(self):
        return False

    def _join(self):
        for number, after in enumerate(self._joins):
            if after is not None and self._seen >= after:
                worker = Worker()
                hello = worker.begin(self._assignment)
                kind = self._kinds.get(number, hello.kind)
                self._objects[number] = worker
                self._joins[number] = None
                self._events.put(Event("joined", number, hello.__class__("h", "d", kind, 0.0)))

    def stream(self, worker, method, *arguments):
        object_ = self._objects[worker]
        self.streams.setdefault(worker, []).append(method)

        def run():
            try:
                for item in getattr(object_, method)(*arguments):
                    if not self._put(worker, object_, item):
                        return
            except Exception as error:
                self._events.put(error)
            if self._objects.get(worker) is object_:
                self._events.put(Event("end", worker))

        threading.Thread(target=run, daemon=True).start()

    def _put(self, worker, object_, item) -> bool:
        if self._objects.get(worker) is not object_:
            return False
        if isinstance(item, Packet):
            self.shares.setdefault(worker, set()).update(done.key for done in item.done)
            if worker in self._count:
                self._count[worker] += len(item.done)
            if self._is_stuck(worker):
                self.over.wait(60)
                return False
            if worker in self._dies and self._count[worker] >= self._dies[worker]:
                # What it has finished, and did not send, is lost with it.
                del self._objects[worker], self._dies[worker]
                object_.stop(10**9)
                self._events.put(Event("lost", worker, "killed"))
                return False
        self._events.put(Event("item", worker, item))
        return True

    def _is_stuck(self, worker):
        return worker in self._stuck and self._count[worker] >= self._stuck[worker]

    def tell(self, worker, method, *arguments, **named):
        self.told.append((worker, method))
        if worker in self._objects and not self._is_stuck(worker):
            getattr(self._objects[worker], method)(*arguments, **named)

    def end(self, worker):
        self.told.append((worker, "end"))
        if self._objects.pop(worker, None) is not None:
            self._events.put(Event("lost", worker, "ended"))

    def wait(self, seconds):
        self._seen += 1
        self._join()
        found = []
        try:
            found.append(self._events.get(timeout=min(seconds, 0.05)))
            while True:
                found.append(self._events.get_nowait())
        except queue.Empty:
            pass
        for event in found:
            if isinstance(event, Exception):
                raise event
        return found

    def close(self):
        self.closed = True
        self.over.set()
        for worker in self._objects.values():
            worker.stop(10**9)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A small network in a file, and 90 images of three classes."""
    keras.utils.set_random_seed(5)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(6, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    file = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(file)
    images = np.random.default_rng(1).integers(0, 256, (90, 8, 8, 3)).astype("uint8")
    labels = model.predict(images.astype("float32"), verbose=0).argmax(1)
    labels[::9] = (labels[::9] + 1) % 3
    return file, images, labels


OPTIONS: dict[str, Any] = {
    "attacks": ["pgd:steps=5", "square:steps=20"],
    "epsilons": [8, 64],
    "cascade": True,
    "batch_size": 6,
}


def content(path):
    with sqlite3.connect(path / "run.sqlite") as database:
        return {
            table: sorted(map(repr, database.execute(f"SELECT * FROM {table}"))) for table in TABLES
        }


def in_run(folder, query):
    with sqlite3.connect(folder / "run" / "run.sqlite") as database:
        return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def undivided(material, tmp_path_factory):
    file, images, labels = material
    out = tmp_path_factory.mktemp("one") / "run"
    robustness.audit(str(file), images, labels=labels, out=out, **OPTIONS)
    return content(out)


@pytest.fixture
def spread(material, tmp_path, monkeypatch):
    """Audit by workers in threads; returns the content of the run, its workers, and the pool."""

    def run(out=tmp_path / "run", resume=False, **how):
        file, images, labels = material
        made = []

        def pool(cluster, assignment):
            made.append(ThreadWorkers(assignment, **how))
            return made[0]

        monkeypatch.setattr(start, "Pool", pool)
        robustness.audit(
            str(file), images, labels=labels, out=out, resume=resume, cluster="local:2", **OPTIONS
        )
        with Run.open(out) as stored:
            entry = stored.manifest.cluster
        return content(out), entry, made[0]

    return run


@pytest.mark.slow
def test_two_workers_make_the_rows_of_one_process(spread, undivided, tmp_path):
    found, entry, pool = spread()
    assert found == undivided
    assert pool.closed and len(entry.workers) == 2
    assert all(worker.like and worker.images for worker in entry.workers)
    # Steps of flips are run again by workers, an attack each.
    with_steps = {attack for (attack,) in in_run(tmp_path, "SELECT DISTINCT attack FROM strips")}
    assert sum(m == "steps" for s in pool.streams.values() for m in s) == len(with_steps) > 0


@pytest.mark.slow
def test_steps_of_a_lost_worker_are_run_by_another(spread, undivided, monkeypatch):
    lost: list[int] = []

    def stream(self, worker, method, *arguments, before=ThreadWorkers.stream):
        if method != "steps" or lost:
            before(self, worker, method, *arguments)
            return
        lost.append(worker)
        del self._objects[worker]
        self._events.put(Event("lost", worker, "killed"))

    monkeypatch.setattr(ThreadWorkers, "stream", stream)
    found, _, pool = spread()
    assert found == undivided and lost
    assert not any("steps" in pool.streams.get(worker, ()) for worker in lost)


@pytest.mark.slow
def test_the_workers_are_recorded_before_the_audit_ends(spread, undivided, tmp_path, monkeypatch):
    """A driver that is killed leaves a record, which a resumed run keeps."""
    out = tmp_path / "run"
    seen: list[int] = []

    def rows(self, image, before=Attacking._rows):
        if out.exists() and not seen:
            with Run.open(out) as stored:
                seen.append(len(stored.manifest.cluster.workers))
            raise KeyboardInterrupt
        return before(self, image)

    monkeypatch.setattr(Attacking, "_rows", rows)
    with pytest.raises(KeyboardInterrupt):
        spread(out=out)
    assert seen == [2]
    found, entry, _ = spread(out=out, resume=True)
    assert found == undivided
    assert len(entry.workers) == 4
    # Images are counted once, however many attacks they are under.
    assert all(0 < worker.images <= 90 for worker in entry.workers[2:])


def test_a_worker_counts_different_images():
    record = WorkerRecord(Hello("h", "d", "0" * 64, 0.0), like=True)
    for position in (0, 9, 1_000_000, 9, 0):
        record.finished(position)
    assert record.images == 3


@pytest.mark.slow
def test_a_lost_worker_loses_nothing(spread, undivided):
    found, entry, _ = spread(dies={0: 1})
    assert found == undivided
    assert [worker.lost for worker in entry.workers] == [True, False]


@pytest.mark.slow
def test_both_workers_are_lost_and_others_join(spread, undivided):
    found, entry, _ = spread(joins=(0, 0, 30, 40), dies={0: 1, 1: 2})
    assert found == undivided
    assert sum(worker.lost for worker in entry.workers) == 2


@pytest.mark.slow
def test_a_worker_that_joins_late_gets_images(spread, undivided):
    found, _, pool = spread(joins=(0, 9))
    assert found == undivided
    assert pool.shares[1]


@pytest.mark.slow
def test_flips_of_other_hardware_are_judged_again(spread, undivided):
    found, entry, _ = spread(kinds={1: "0" * 64})
    # It computes the same bits in truth, so every flip is confirmed.
    assert found == undivided
    assert [worker.like for worker in entry.workers] == [True, False]
    assert entry.workers[1].images


@pytest.mark.slow
def test_without_any_like_hardware_the_driver_predicts_and_judges(spread, undivided, monkeypatch):
    monkeypatch.setattr(
        "robustness.auditing.cluster.driver.ClusterWork.judged_here", lambda self, image: None
    )
    found, entry, _ = spread(kinds={0: "0" * 64, 1: "1" * 64})
    assert found == undivided
    assert not any(worker.like for worker in entry.workers)
    assert not any(worker.images for worker in entry.workers)


@pytest.mark.slow
def test_a_picture_with_other_bytes_than_its_name_ends_the_audit(spread, monkeypatch):
    original = Done.__init__

    def altered(self, key, count, status, rows, pictures):
        pictures = {name: (data[:-1] + b"x", suffix) for name, (data, suffix) in pictures.items()}
        original(self, key, count, status, rows, pictures)

    monkeypatch.setattr(Done, "__init__", altered)
    with pytest.raises(ClusterError, match="hash in its name"):
        spread()


@pytest.mark.slow
def test_a_worker_that_never_answers_holds_up_nothing(spread, undivided, monkeypatch):
    """Its images are attacked again by the other one, and every row is there once."""
    monkeypatch.setattr("robustness.auditing.cluster.attacking.COPY_SECONDS", 0.1)
    started = time.monotonic()
    found, entry, pool = spread(stuck={0: 1})
    assert found == undivided
    assert time.monotonic() - started < 50
    # It was told to stop, did not, and got nothing of the second attack.
    assert (0, "stop") in pool.told
    assert pool.streams[0] == ["clean", "attack"]
    assert not any(worker.lost for worker in entry.workers)


@pytest.mark.slow
def test_a_worker_that_does_not_stop_is_replaced(spread, undivided, monkeypatch):
    monkeypatch.setattr("robustness.auditing.cluster.attacking.COPY_SECONDS", 0.1)
    monkeypatch.setattr("robustness.auditing.cluster.driver.STOP_SECONDS", 0.3)
    ended, end, attack = threading.Event(), ThreadWorkers.end, Worker.attack

    def noted(self, worker):
        end(self, worker)
        ended.set()

    def after_the_end(self, number, label, *images):
        # The second attack takes longer than the driver waits for the first to stop.
        assert label.startswith("pgd") or ended.wait(60)
        yield from attack(self, number, label, *images)

    monkeypatch.setattr(ThreadWorkers, "end", noted)
    monkeypatch.setattr(Worker, "attack", after_the_end)
    found, entry, pool = spread(stuck={0: 1})
    assert found == undivided
    assert (0, "end") in pool.told
    assert [worker.lost for worker in entry.workers] == [True, False]


@pytest.mark.slow
def test_a_run_goes_on_with_other_workers_or_without(spread, undivided, material, tmp_path):
    file, images, labels = material
    out = tmp_path / "run"

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.stage.startswith("pgd") and progress.done > 30:
            raise StopError

    with pytest.raises(StopError):
        robustness.audit(str(file), images, labels=labels, out=out, progress=stop, **OPTIONS)
    found, _, _ = spread(out=out, resume=True)
    assert found == undivided


def test_no_worker_at_all_is_an_error_in_time(spread, monkeypatch):
    monkeypatch.setattr("robustness.auditing.cluster.driver.ALONE_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(ClusterError, match="resume the run"):
        spread(joins=(10**9,))
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_work_that_ends_every_worker_is_an_error(spread):
    """As an image does whose attack needs more memory than a machine has; each is replaced."""
    many = 30
    with pytest.raises(ClusterError, match=r"5 workers in a row ended .* \(killed\).* attacked \S"):
        spread(joins=tuple(range(0, 3 * many, 3)), dies=dict.fromkeys(range(many), 0))


@pytest.mark.slow
def test_many_workers_lost_at_once_are_replaced(spread, undivided):
    """Machines that a cloud takes away end all their workers; none had joined after another's loss."""
    found, entry, _ = spread(joins=(0,) * 7 + (40,), dies=dict.fromkeys(range(7), 0))
    assert found == undivided
    assert sum(worker.lost for worker in entry.workers) == 7


def test_what_workers_cannot_load_is_refused(material):
    file, images, labels = material
    model = keras.models.load_model(file)
    with pytest.raises(SettingError, match="Save the model"):
        robustness.audit(model, images, labels=labels, cluster="local:2")
    with pytest.raises(SettingError, match="cluster and shard"):
        robustness.audit(str(file), images, labels=labels, cluster="local:2", shard="0/2")


@pytest.mark.slow
def test_an_attack_without_gradient_fails_alone(material, tmp_path, spread, monkeypatch):
    """Every worker says so; none of it reaches the next attack."""
    attacked = LocalWork.attack_on

    def without_gradient(self, canvas, attack, rows, standing, wanted=None):
        if attack.label.startswith("pgd"):
            raise GradientError("The loss does not depend on the images.")
        yield from attacked(self, canvas, attack, rows, standing, wanted)

    monkeypatch.setattr(LocalWork, "attack_on", without_gradient)
    file, images, labels = material
    robustness.audit(str(file), images, labels=labels, out=tmp_path / "one", **OPTIONS)
    found, _, _ = spread()
    assert found == content(tmp_path / "one")
    statuses = {row.split(", ")[1] + row.split(", ")[3] for row in found["outcomes"]}
    assert any("square" in s and "failed" not in s for s in statuses)
    assert any("pgd" in s and "failed" in s for s in statuses)


def test_a_filter_is_refused(material):
    file, images, labels = material
    with pytest.raises(SettingError, match="only"):
        robustness.audit(str(file), images, labels=labels, cluster="local:2", only=lambda _: True)
