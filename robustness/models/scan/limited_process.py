"""Runs a Python module in a separate process with limits on memory and time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustness.environment import child_environment
from robustness.models.scan import memory

MAX_BYTES = 8 << 30
"""Largest memory of a trial in bytes, in addition to that of its libraries."""
FREE_SHARE = 0.75
"""Largest share of the free memory at the start of the trial."""
MAX_SECONDS = 300.0
CPU_SECONDS = 1200
"""Processor time, summed over all cores."""
OUT_OF_MEMORY = 77
"""The exit code of a process that finds no memory."""
MAX_STDERR = 20_000
"""Characters of the error output that are looked at, from its end."""
_NO_MEMORY = re.compile(
    r"MemoryError|bad_alloc|out of memory|cannot allocate memory|resource_?exhausted", re.IGNORECASE
)
_SPARE = 1 << 30  # address space that threads reserve without using it


@dataclass(frozen=True)
class Ended:
    """How the process ended.

    Attributes
    ----------
    told : the value that the process passed to `tell`; None if it did not finish.
    reason : the limit that ended it, or why it did not start, as a part of a sentence; "" if it finished.
    """

    told: Any = None
    reason: str = ""


def run_limited(module: str, *arguments: str, seconds: float = MAX_SECONDS) -> Ended:
    """Run ``python -m module arguments`` in a separate process and return its result.

    The module sets its own limits with `limit_memory` once its libraries are loaded, and returns its result
    with `tell`. It sees no GPU, and does not import from the current folder.

    Parameters
    ----------
    module : dotted name of the module.
    arguments : its command line arguments.
    seconds : longest wall-clock time.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, env=limited_environment(), stdin=subprocess.DEVNULL, capture_output=True,
            timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Ended(reason=f"it took more than {seconds:g} s")
    except OSError as error:
        return Ended(reason=f"no process could be started for it: {error.strerror}")
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if done.returncode == 0 and lines:
        return Ended(json.loads(lines[-1]))
    if -done.returncode == getattr(signal, "SIGXCPU", None):
        return Ended(reason=f"it took more than {CPU_SECONDS} s of processor time")
    return Ended(reason=_bad_end(done.returncode, done.stderr.decode("utf-8", "replace")))


def limited_environment() -> dict[str, str]:
    """Return the environment of a process with limits: this toolkit on its path, no GPU, few arenas."""
    return child_environment() | {
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MALLOC_ARENA_MAX": "2",
    }


def _bad_end(code: int, stderr: str) -> str:
    """Why a process ended without a result, by its exit code and what it wrote last."""
    # The system kills a process that takes all memory; C++ aborts where it can get none.
    killed = code == -getattr(signal, "SIGKILL", 9)
    if code == OUT_OF_MEMORY or killed or _NO_MEMORY.search(stderr[-MAX_STDERR:]):
        return f"it took more than the {allowance()} of memory it was allowed"
    lines = [line.strip() for line in stderr[-MAX_STDERR:].splitlines() if line.strip()]
    last = f": {lines[-1][:300]}" if lines else ""
    if code < 0:
        known = {one.value: one.name for one in signal.Signals}
        return f"it crashed ({known.get(-code, f'signal {-code}')}){last}"
    return f"it ended with exit code {code}{last}"


def allowance() -> str:
    """Return the memory limit of a trial as text, in GiB."""
    return f"{budget() / (1 << 30):.1f} GiB"


def budget() -> int:
    """Return the memory limit of a trial that starts now, in bytes."""
    free = memory.available()
    return MAX_BYTES if free is None else min(MAX_BYTES, int(FREE_SHARE * free))


def limit_memory(processor_seconds: int | None = CPU_SECONDS) -> None:
    """Limit this process to `budget` further bytes of memory, and its processor time in seconds.

    Where the system has no such limits, only the timeout of `run_limited` ends the process.
    """
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if processor_seconds is not None:
        _lower(resource, resource.RLIMIT_CPU, processor_seconds)
    if (taken := _taken()) is not None:
        _lower(resource, resource.RLIMIT_AS, taken + budget() + _SPARE)


def tell(said: Any) -> None:
    """Return `said`, any JSON value, from this process to `run_limited`."""
    print(json.dumps(said), flush=True)


def _lower(resource: Any, which: int, most: int) -> None:
    hard = resource.getrlimit(which)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, hard))


def _taken() -> int | None:
    """Address space of this process in bytes; None if not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except (OSError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
