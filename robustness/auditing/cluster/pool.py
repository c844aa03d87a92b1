"""Keeps the workers of an audit: Ray actors, one for each share of a machine, replaced when they die."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from robustness.auditing.cluster.messages import Hello
from robustness.auditing.cluster.worker import Worker
from robustness.configuration.cluster_option import Cluster
from robustness.errors import ClusterError

LOOK_SECONDS = 2.0
"""How often the pool looks for room for more workers."""
MOST_CPUS = 2
"""Processor cores of a worker where nothing is stated: two workers of two cores do more than one of four."""
LOST_IN_A_ROW = 5
"""A worker's place is given up after so many workers that died there before they had begun."""
CONNECT_SECONDS = 10.0
STAY_SECONDS, SILENT_SECONDS = 10.0, 300.0
"""How long a call takes by which the pool notices that a worker died, and how late its answer may be. Workers
answer while they compute; one that does not is stuck, or its machine is."""
WAITING_ITEMS = 16
"""Results of a worker that may wait for the driver."""

Kind = Literal["joined", "item", "end", "lost"]


@dataclass(frozen=True)
class Event:
    """What happened to a worker.

    Attributes
    ----------
    kind : "joined" (`value` is its Hello), "item" (a result of its stream), "end" (of its stream), or "lost".
    worker : the number of the worker.
    value : see `kind`; for "lost" the reason.
    """

    kind: Kind
    worker: int
    value: Any = None


class Pool:
    """The workers of an audit.

    Parameters
    ----------
    cluster : where they run.
    assignment : what each of them needs to begin.
    worker : the class of the workers.

    Raises
    ------
    ClusterError
        Ray is not installed, or its cluster cannot be reached.
    """

    def __init__(self, cluster: Cluster, assignment: object, worker: type = Worker) -> None:
        self._cluster, self._worker = cluster, worker
        self._ray = _imported()
        self._owned = self._connect()
        try:
            self._assignment = self._ray.put(assignment)
        except BaseException:
            if self._owned:
                self._ray.shutdown()
            raise
        self._numbers = iter(range(1 << 62))
        self._actors: dict[int, Any] = {}
        self._beginning: dict[Any, int] = {}
        self._streams: dict[Any, int] = {}
        self._staying: dict[Any, int] = {}
        self._silent: dict[int, float] = {}
        """The seconds that the pool has waited since a worker last answered."""
        self._looked = self._waited = 0.0
        self._failures = self._given_up = 0

    def _connect(self) -> bool:
        """Connect to the cluster; return whether this process started it."""
        ray, address = self._ray, self._cluster.address
        if ray.is_initialized():
            return False
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        options["include_dashboard"] = False if not address else None
        try:
            _expect_answer(address)
            if not address:
                count = self._cluster.workers or 1
                # "local": not one that `ray start` left on this machine.
                ray.init(
                    address="local",
                    num_cpus=count * self._cpus,
                    _node_ip_address="127.0.0.1",
                    **options,
                )
            else:
                ray.init(address=address, **{k: v for k, v in options.items() if v is not None})
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ClusterError(
                f"There is no Ray cluster at {address or 'this machine'} ({_line(error)}); expected a "
                "running one: `ray start --head` on the first machine, `ray start --address HOST:PORT` on "
                "the others."
            ) from error
        return True

    @property
    def _cpus(self) -> int:
        """The processor cores that a worker takes."""
        if self._cluster.cpus is not None:
            return self._cluster.cpus
        if not self._cluster.address:
            return 1
        sizes = [int(n["Resources"].get("CPU", 0)) for n in self._ray.nodes() if n["Alive"]]
        return max(1, min([MOST_CPUS, *[size for size in sizes if size]]))

    @property
    def _threads(self) -> int:
        """The threads of a worker: its cores; on this machine its share of them."""
        if self._cluster.address or self._cluster.cpus is not None:
            return self._cpus
        return max(1, (os.cpu_count() or 1) // (self._cluster.workers or 1))

    @property
    def workers(self) -> list[int]:
        """The workers that have begun."""
        return [n for n in self._actors if n not in self._beginning.values()]

    @property
    def beginning(self) -> bool:
        """Whether a worker may be loading the model."""
        return bool(self._beginning) and self._place() > 0

    def _place(self) -> int:
        """How many workers there is room for."""
        return self._room() - self._given_up

    def stream(self, worker: int, method: str, *arguments: Any) -> None:
        """Call a method of a worker that yields results; they come as events."""
        call = getattr(self._actors[worker], method)
        options = {"num_returns": "streaming"}
        call = call.options(**options, _generator_backpressure_num_objects=WAITING_ITEMS)
        self._streams[call.remote(*arguments)] = worker

    def tell(self, worker: int, method: str, *arguments: Any, **named: Any) -> None:
        """Call a method of a worker whose result does not matter; the stream tells if the worker is lost."""
        if (actor := self._actors.get(worker)) is not None:
            getattr(actor, method).remote(*arguments, **named)

    def end(self, worker: int) -> None:
        """End a worker, which is then lost; another one may take its place."""
        if (actor := self._actors.get(worker)) is not None:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened; wait up to `seconds` for the first event.

        Raises
        ------
        RobustnessError
            What a worker raised.
        """
        self._look()
        waiting = [*self._beginning, *self._streams, *self._staying]
        if not waiting:
            time.sleep(min(seconds, LOOK_SECONDS))
            return []
        ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        if not ready:
            ready, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds, fetch_local=False)
        events = [self._event(one) for one in ready]
        self._end_silent()
        return [event for event in events if event is not None]

    def _end_silent(self) -> None:
        """End the workers that have not answered for long."""
        now = time.monotonic()
        # Time in which this process did not wait does not count: it did not look for answers.
        waited, self._waited = min(now - self._waited, LOOK_SECONDS), now
        for worker in self._staying.values():
            self._silent[worker] = self._silent.get(worker, 0.0) + waited
            if self._silent[worker] > STAY_SECONDS + SILENT_SECONDS:
                self._silent[worker] = 0.0
                self.end(worker)

    def _stay(self, worker: int) -> None:
        """Let a call run on a worker that fails when its process ends."""
        self._silent[worker] = 0.0
        self._staying[self._actors[worker].stay.remote(STAY_SECONDS)] = worker

    def _event(self, ready: Any) -> Event | None:
        """What a call that has a result tells."""
        errors = self._ray.exceptions
        beginning, staying = ready in self._beginning, self._staying.pop(ready, None)
        worker = self._beginning.get(ready, self._streams.get(ready, staying))
        if worker not in self._actors:
            # Another call has told that the worker is lost.
            self._beginning.pop(ready, None)
            self._streams.pop(ready, None)
            return None
        try:
            if not beginning and staying is None:
                return self._next(ready, worker)
            hello: Hello | None = self._ray.get(ready)
        except errors.RayTaskError as error:
            # A machine on which the audit cannot begin must not end it for the others.
            if beginning and self.workers:
                return self._lost(ready, worker, error)
            raise _cause(error, errors.RayError) from None
        except errors.RayError as error:
            return self._lost(ready, worker, error)
        self._stay(worker)
        if not beginning:
            return None
        del self._beginning[ready]
        self._failures = 0
        return Event("joined", worker, hello)

    def _next(self, stream: Any, worker: int) -> Event:
        """What a stream has next."""
        try:
            return Event("item", worker, self._ray.get(next(stream)))
        except StopIteration:
            del self._streams[stream]
            return Event("end", worker)

    def _lost(self, ready: Any, worker: int, reason: Exception) -> Event:
        """Remove a worker that is lost; its place is given up if several could not begin in a row."""
        begun = self._beginning.pop(ready, None) is None
        self._streams.pop(ready, None)
        actor = self._actors.pop(worker, None)
        if actor is not None:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)
        self._failures += not begun
        if self._failures >= LOST_IN_A_ROW:
            if not self.workers:
                raise ClusterError(
                    f"{self._failures} workers in a row ended before they had begun ({_line(reason)}). A "
                    "worker needs about 1 GB of memory and the model's; start fewer, and resume."
                )
            self._given_up, self._failures = self._given_up + 1, 0
        return Event("lost", worker, _line(reason))

    def _look(self) -> None:
        """Start workers where there is room for them."""
        if time.monotonic() - self._looked < LOOK_SECONDS and self._looked:
            return
        self._looked = time.monotonic()
        for _ in range(len(self._actors), self._place()):
            number = next(self._numbers)
            actor = self._start()
            self._actors[number] = actor
            self._beginning[actor.begin.remote(self._assignment)] = number

    def _room(self) -> int:
        """How many workers the cluster has room for."""
        if not self._cluster.address:
            return self._cluster.workers or 1
        nodes = [n["Resources"] for n in self._ray.nodes() if n["Alive"]]
        room = sum(self._room_on(resources) for resources in nodes)
        return min(room, self._cluster.workers or room)

    def _room_on(self, resources: dict[str, float]) -> int:
        gpus = self._gpus
        if gpus:
            return int(resources.get("GPU", 0) // gpus)
        return int(resources.get("CPU", 0) // self._cpus)

    @property
    def _gpus(self) -> float:
        """The accelerators of a worker: what is stated, else one where the cluster has some."""
        if self._cluster.gpus is not None:
            return self._cluster.gpus
        found = self._ray.cluster_resources().get("GPU", 0.0)
        if not self._cluster.address:
            return min(1.0, found / (self._cluster.workers or 1))
        return 1.0 if found else 0.0

    def _start(self) -> Any:
        threads = str(self._threads)
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        variables = {**dict.fromkeys(names, threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
        # The driver, and other workers, may use the same accelerator.
        variables |= {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if "KERAS_BACKEND" in os.environ:
            variables["KERAS_BACKEND"] = os.environ["KERAS_BACKEND"]
        actor = self._ray.remote(self._worker).options(
            num_cpus=0 if self._gpus else self._cpus,
            num_gpus=self._gpus,
            max_restarts=0,
            # An attack, `stay`, and three calls that return at once.
            max_concurrency=5,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": variables},
        )
        return actor.remote()

    def close(self) -> None:
        """End the workers, and the cluster if this process started it."""
        for actor in self._actors.values():
            with contextlib.suppress(Exception):
                self._ray.kill(actor)
        self._actors.clear()
        if self._owned:
            self._ray.shutdown()


def _expect_answer(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT; Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _imported() -> Any:
    """Ray; ClusterError if it is not installed."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return import_module("ray")
    except ImportError as error:
        raise ClusterError(
            "A cluster needs Ray, which is not installed: pip install 'robustness-toolkit[cluster]'."
        ) from error


def _cause(error: Any, of_ray: type[Exception]) -> Exception:
    """What a worker raised; ClusterError where it could not load what it was sent, nor send an error."""
    cause = error.cause
    if isinstance(cause, Exception) and not isinstance(cause, of_ray):
        return cause
    return ClusterError(
        f"A worker could not load what it was sent, or failed otherwise ({_line(cause or error)}). Every "
        "machine needs the modules of your own attacks and layers, and the libraries that they use, where "
        "the driver imports them from."
    )


def _line(error: Exception) -> str:
    """The first line of an error, shortened."""
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0][:200]
