"""Where the workers of an audit run: on this machine, or on a Ray cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator

from robustness.configuration.option import Option
from robustness.errors import SettingError

MOST_WORKERS = 4096
NONE = "none"
"""No workers: for a run that was begun with some."""


@dataclass(frozen=True)
class Cluster:
    """The workers of an audit.

    Parameters
    ----------
    address : of a Ray cluster, "auto" for the one of this machine; "" to start workers on this machine.
    workers : how many, at most; None for as many as the cluster has room for.
    cpus : processor cores of a worker; None for what suits the machines.
    gpus : accelerators of a worker; None for one where there are some.
    """

    address: str = ""
    workers: int | None = None
    cpus: int | None = None
    gpus: float | None = None

    @classmethod
    def parse(cls, text: str) -> Cluster:
        """Return the workers of a text: local:N, auto or HOST:PORT, with ",workers=8,cpus=2,gpus=1".

        Raises
        ------
        SettingError
            The text has another form, or a number is out of range.
        """
        where, *rest = (part.strip() for part in text.split(","))
        local = re.fullmatch(r"local:([0-9]{1,4})", where)
        host = re.fullmatch(r"(?:ray://)?([A-Za-z0-9._\-\[\]:]{1,255}):([0-9]{1,5})", where)
        known = host is not None and host[1] != "local" and 0 < int(host[2]) < 1 << 16
        remote = where == "auto" or known
        numbers: dict[str, float] = {}
        for part in rest:
            found = re.fullmatch(r"(workers|cpus|gpus)=([0-9]{1,4}(?:\.[0-9]{1,3})?)", part)
            whole = found is not None and (found[1] == "gpus" or "." not in found[2])
            if found is None or not whole or found[1] in numbers:
                raise _unusable(text)
            numbers[found[1]] = float(found[2])
        count = int(local[1]) if local else numbers.get("workers")
        if not (local or remote) or (local and "workers" in numbers):
            raise _unusable(text)
        if (count is not None and not 1 <= count <= MOST_WORKERS) or numbers.get("cpus") == 0:
            raise _unusable(text)
        return cls(
            "" if local else where,
            None if count is None else int(count),
            int(numbers["cpus"]) if "cpus" in numbers else None,
            numbers.get("gpus"),
        )

    @classmethod
    def of(cls, text: str | None) -> Cluster | None:
        """Return the workers of an option; None for no text and for "none"; see `parse`."""
        return None if text is None or text == NONE else cls.parse(text)

    @property
    def elsewhere(self) -> bool:
        """Whether the workers belong to a Ray cluster, which runs code on this machine and this one on it."""
        return bool(self.address)


def _unusable(text: str) -> SettingError:
    return SettingError(
        f"Cluster {text!r:.80} is not usable; expected local:N for N workers on this machine (1 to "
        f"{MOST_WORKERS:,}), auto or HOST:PORT for a Ray cluster, each also with ,cpus=N or ,gpus=N for a "
        "worker, and ,workers=N for the most workers of a cluster."
    )


def _checked(value: object) -> object:
    """Return a text that states usable workers; None for "none"."""
    if value == NONE:
        return None
    if isinstance(value, str):
        Cluster.parse(value)
    return value


ClusterOption = Annotated[
    str | None,
    BeforeValidator(_checked),
    Option(
        "Spread the images over workers: local:N for N processes on this machine, auto or HOST:PORT for a "
        "Ray cluster; with ,cpus=2 or ,gpus=1 for a worker and ,workers=8 for the most of them; none for "
        "this process. The rows are those of one machine. In audit.toml a Ray cluster is refused unless the "
        "command line repeats it.",
        table="cluster", key="address", example='"local:2"',
        expected="local:N, auto or HOST:PORT",
    ),
]  # fmt: skip
