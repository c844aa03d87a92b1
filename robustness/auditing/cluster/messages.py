"""What driver and workers of an audit send to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robustness.configuration.audit_config import AuditConfig
from robustness.runs.records import ImageRow, Row

Pictures = dict[str, tuple[bytes, str]]
"""Bytes and suffix of saved pictures, by their paths within the run folder."""


@dataclass(frozen=True)
class Assignment:
    """What a worker needs to begin.

    Attributes
    ----------
    config : the options of the audit, with model and images by name or path.
    images : the images: a text, or an array (n, height, width, channels).
    labels : the labels of an array.
    manifest : that of the run as JSON; what it decides is not decided again.
    directory : the working directory of the driver, used where it exists.
    import_path : where the driver imports modules from.
    model : name and content of the model's file, for machines on which it does not exist.
    """

    config: AuditConfig
    images: str | np.ndarray
    labels: Any
    manifest: bytes
    directory: str
    import_path: tuple[str, ...] = ()
    model: tuple[str, bytes] | None = None


@dataclass(frozen=True)
class Hello:
    """What a worker says of itself once it has loaded the model.

    Attributes
    ----------
    host, device : where it runs, and on what.
    kind : the SHA-256 of its answers to the probe; equal hardware and software give equal bits.
    seconds : how long it took to begin.
    """

    host: str
    device: str
    kind: str
    seconds: float


@dataclass(frozen=True)
class Clean:
    """Rows of unchanged images, and their pictures."""

    rows: Sequence[Row]
    pictures: Pictures = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """An image whose outcomes under an attack are known, with its rows and pictures."""

    key: str
    count: int
    status: str
    rows: Sequence[Row]
    pictures: Pictures


@dataclass(frozen=True)
class Packet:
    """What a worker sends while it attacks.

    Attributes
    ----------
    done : images that it has finished.
    processor_seconds : the processor time that it has used since it began.
    released : the keys of images that it gives back; None unless the driver asked for some.
    """

    done: Sequence[Done]
    processor_seconds: float
    released: Sequence[str] | None = None


@dataclass(frozen=True)
class Failed:
    """The attack cannot run on this model: the message of the GradientError."""

    message: str


@dataclass(frozen=True)
class Fed:
    """An image to attack.

    Attributes
    ----------
    row : the image.
    standing : the number of epsilons, from the smallest on, that need an outcome; None for all.
    size : height and width of a picture that is attacked at its own size.
    """

    row: ImageRow
    standing: int | None = None
    size: tuple[int, int] | None = None


Answers = Mapping[str, np.ndarray]
"""Probabilities (classes,) by the image's key."""
