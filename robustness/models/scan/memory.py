"""Reads how much memory is available, on this machine or in its container."""

from __future__ import annotations

from pathlib import Path

CGROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
"""For cgroup v2 and v1: the folder, the file with the limit, the file with the used memory, and the entry of
`memory.stat` with the file cache that the kernel can free."""


def available() -> int | None:
    """Return the available memory in bytes, of this machine or its container; None if not known.

    Memory that file caches hold and the kernel can free is available.
    """
    free = _of_machine()
    return None if free is None else within_container(free)


def _of_machine() -> int | None:
    """The available memory of the machine in bytes; None if not known."""
    try:
        text = Path("/proc/meminfo").read_text("ascii")
    except (OSError, ValueError):
        return None
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) << 10 if "MemAvailable" in lines else None


def within_container(free: int) -> int:
    """Return `free` bytes, or what the memory limit of the container leaves if that is less.

    A limit of cgroup v2 has precedence over one of v1. File cache that the kernel can free counts as free.
    """
    for folder, limit, used, cache in CGROUPS:
        try:
            left = _number(folder, limit) - _number(folder, used)
        except (OSError, ValueError):  # no such cgroup, or "max": no limit
            continue
        return max(0, min(free, left + _cached(folder, cache)))
    return free


def _number(folder: str, name: str) -> int:
    return int((Path(folder) / name).read_text("ascii"))


def _cached(folder: str, entry: str) -> int:
    """The bytes of an entry of `memory.stat`; 0 where it cannot be read."""
    try:
        text = (Path(folder) / "memory.stat").read_text("ascii")
        return int(dict(line.split(" ", 1) for line in text.splitlines())[entry])
    except (OSError, ValueError, KeyError):
        return 0
