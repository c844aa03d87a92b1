"""A Python module run in a process of its own, within limits on memory and time that end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_BYTES = 8 << 30
"""Memory that a trial may take besides what its libraries take."""
FREE_SHARE = 0.75
"""And of the memory that is free as it begins."""
MAX_SECONDS = 300.0
CPU_SECONDS = 1200
"""Of all cores together."""
_SPARE = 1 << 30  # addresses that threads reserve without using them


@dataclass(frozen=True)
class Ended:
    """How the process ended: what it `told`, else the limit that ended it, a sentence part."""

    told: Any = None
    reason: str = ""


def run_limited(module: str, *arguments: str, seconds: float = MAX_SECONDS) -> Ended:
    """Run `python -m module arguments` and wait for what it tells (`tell`), at most `seconds`.

    The module sets its own limits (`limit_memory`) once its libraries are loaded. It sees no
    accelerator, and nothing of the current folder.
    """
    root = str(Path(__file__).resolve().parents[3])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MALLOC_ARENA_MAX": "2",
    }
    command = [sys.executable, "-P", "-m", module, *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
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
    return Ended(reason=f"it took more than the {allowance()} of memory it was allowed")


def allowance() -> str:
    """The memory that a trial is allowed, for people."""
    return f"{budget() / (1 << 30):.1f} GiB"


def budget() -> int:
    """Bytes that a trial may take now."""
    free = available()
    return MAX_BYTES if free is None else min(MAX_BYTES, int(FREE_SHARE * free))


def limit_memory() -> None:
    """Let this process take `budget` bytes more than it has, and only so much processor time.

    Where the system has no such limits, only the time that `run_limited` waits ends it.
    """
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource, resource.RLIMIT_CPU, CPU_SECONDS)
    if (taken := _taken()) is not None:
        _lower(resource, resource.RLIMIT_AS, taken + budget() + _SPARE)


def tell(said: Any) -> None:
    """From inside: what `run_limited` returns, anything JSON holds."""
    print(json.dumps(said), flush=True)


def _lower(resource: Any, which: int, most: int) -> None:
    hard = resource.getrlimit(which)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, hard))


def available() -> int | None:
    """Bytes of memory that a process can still take, what is only cached included; None if not known."""
    try:
        text = Path("/proc/meminfo").read_text("ascii")
    except (OSError, ValueError):
        return None
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) << 10 if "MemAvailable" in lines else None


def _taken() -> int | None:
    """Bytes of addresses that this process has."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except (OSError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
