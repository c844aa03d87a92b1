"""How many finished images a second one driver of a cluster stores, and what bounds it.

    python benchmarks/cluster_driver.py [--images 20000] [--profile]

Workers are imitated in this process: they have results whenever the driver asks. What is measured is the
driver: taking packets, checking and writing the PNG of every flip, and rows into the database. Seconds are of
the processor and of the clock; on a quiet machine they are nearly equal.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import pickle
import pstats
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from robustness.auditing.cluster.driver import ClusterWork
from robustness.auditing.cluster.messages import Done, Fed, Hello, Packet
from robustness.auditing.cluster.pool import Event
from robustness.auditing.image_queue import ImageQueue
from robustness.images.png import to_png
from robustness.runs.records import FLIPPED, ImageRow, OutcomeRow, png_name
from robustness.runs.schema import Manifest
from robustness.runs.store import Run
from robustness.runs.writer import Pending

LABEL, KIND, SIDE, PACKET = "pgd", "0" * 64, 32, 64


class Imitated:
    """Workers that have finished what they are given when the driver looks, and send it pickled."""

    def __init__(self, count: int, pictures: list[bytes]) -> None:
        self.workers = list(range(count))
        self._pictures = pictures
        self._events = [Event("joined", n, Hello("host", "cpu", KIND, 0.0)) for n in self.workers]
        self._given: list[tuple[int, bytes]] = []

    @property
    def beginning(self) -> bool:
        return False

    def stream(self, worker: int, method: str, *arguments: Any) -> None:
        self._events.append(Event("item", worker, Packet((), 0.0)))
        # Before the images come the number of the call, the attack and its counts.
        self._finish(worker, arguments[-1])

    def tell(self, worker: int, method: str, *arguments: Any, **_: Any) -> None:
        if method == "feed":
            self._finish(worker, arguments[1])
        if method == "stop":
            self._events.append(Event("end", worker))

    def end(self, worker: int) -> None:
        self.workers.remove(worker)

    def wait(self, seconds: float) -> list[Event]:
        events, self._events = self._events, []
        given, self._given = self._given, []
        return events + [Event("item", n, pickle.loads(data)) for n, data in given]

    def _finish(self, worker: int, images: list[Fed]) -> None:
        for start in range(0, len(images), PACKET):
            done = [self._done(image.row) for image in images[start : start + PACKET]]
            self._given.append((worker, pickle.dumps(Packet(done, 0.0))))

    def _done(self, row: ImageRow) -> Done:
        data = self._pictures[row.position]
        name = png_name(hashlib.sha256(data).hexdigest(), ".png")
        outcome = OutcomeRow(
            image=row.key,
            attack=LABEL,
            epsilon=4.0,
            status=FLIPPED,
            adversarial_class=1,
            confidence_before=0.9,
            confidence_after=0.8,
            l0=900,
            components=2000,
            l1=8000.0,
            l2=200.0,
            linf=4.0,
            step=3,
            restart=0,
            forward=4,
            backward=4,
            png=name,
        )
        return Done(row.key, 1, FLIPPED, [outcome], {name: (data, ".png")})


def stored(count: int, workers: int) -> tuple[float, float]:
    """Store `count` finished images; return the seconds of the clock and of the processor."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    pool = Imitated(workers, [to_png(picture) for picture in noise])
    rows = {
        f"image {n}": ImageRow(key=f"image {n}", position=n, name=f"{n}.png") for n in range(count)
    }
    local = SimpleNamespace(
        workers=0, batch_size=252, counts=lambda attack: {}, canvases=Canvas(), classifier=None
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Run.create(Path(folder) / "run", Manifest()) as store,
    ):
        work = ClusterWork(pool, cast("Any", local), KIND, store.save_png)
        pending = Pending(store)
        clock, processor = time.perf_counter(), time.process_time()
        images = ImageQueue(list(rows), lambda keys: {key: rows[key] for key in keys})
        for image in work.attack(cast("Any", SimpleNamespace(label=LABEL, width=1)), images, {}):
            pending.make(image.rows)
        pending.close()
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        assert store.count(LABEL) == {FLIPPED: count}
    return clock, processor


class Canvas:
    """Every image is attacked at the size of the model."""

    def __init__(self) -> None:
        self.sizes: dict[str, tuple[int, int]] = {}

    def groups(self, attack: object, images: ImageQueue) -> dict[None, ImageQueue]:
        return {None: images}


def main() -> None:
    """Print a line for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.profile:
        with cProfile.Profile() as profile:
            stored(options.images, 2)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    for workers in (1, 2, 4, 8):
        clock, processor = stored(options.images, workers)
        rate, capacity = options.images / clock, options.images / processor
        print(f"{workers} workers: {rate:7,.0f} images/s; {capacity:7,.0f} per second of processor")


if __name__ == "__main__":
    main()
