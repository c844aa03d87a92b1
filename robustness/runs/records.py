"""The rows of a run, and the statuses of an outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

FLIPPED, ROBUST, MISCLASSIFIED = "flipped", "robust", "misclassified"
UNREADABLE, FAILED, SETTLED = "unreadable", "failed", "settled"
STATUSES = (FLIPPED, ROBUST, MISCLASSIFIED, UNREADABLE, FAILED, SETTLED)
"""Settled: in a cascade, an earlier attack flips the image within this epsilon, so this one never ran."""


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One image of the run, and what the model says of it unchanged."""

    key: str
    position: int
    name: str
    label: int | None = None
    digest: str = ""
    note: str = ""
    reason: str = ""
    clean_class: int | None = None
    confidence: float | None = None
    png: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutcomeRow:
    """One image x attack x epsilon. Distances are of the saved file, in counts."""

    image: str
    attack: str
    epsilon: float
    status: str
    adversarial_class: int | None = None
    confidence_before: float | None = None
    confidence_after: float | None = None
    l0: int | None = None
    components: int | None = None
    l1: float | None = None
    l2: float | None = None
    linf: float | None = None
    step: int | None = None
    restart: int | None = None
    forward: int = 0
    backward: int = 0
    float_flip: int = 0
    reason: str = ""
    png: str | None = None


@dataclass(frozen=True, kw_only=True)
class StripRow:
    """One step on the way to a flip: the picture and the probabilities, as a JSON list."""

    image: str
    attack: str
    epsilon: float
    step: int
    png: str
    probabilities: str


@dataclass(frozen=True, kw_only=True)
class GradientRow:
    """Of an outcome that counts as robust: the steps that asked for a gradient, and those that got none."""

    image: str
    attack: str
    epsilon: float
    watched: int
    blind: int


@dataclass(frozen=True, kw_only=True)
class DistanceRow:
    """The distance of a flip's saved file in a norm that has no column in the outcomes."""

    image: str
    attack: str
    epsilon: float
    norm: str
    distance: float


Row = ImageRow | OutcomeRow | StripRow | GradientRow | DistanceRow


def png_name(digest: str) -> str:
    """The name within a run of the picture whose bytes have this SHA-256."""
    return f"images/{digest[:2]}/{digest}.png"


def data_digest(images: Iterable[ImageRow]) -> str:
    """Return the SHA-256, in hexadecimal, over keys and pixels of all images of a run, in its order."""
    sha = hashlib.sha256()
    for row in images:
        sha.update(f"{row.key}\x1f{row.digest}\x1e".encode())
    return sha.hexdigest()


def keeps_pictures(evidence: str, position: int) -> bool:
    """Whether the pictures of the image at `position` stay on disk under the setting `evidence`.

    Parameters
    ----------
    evidence : str
        "all", "flips", "none", or a number: that of the first images whose pictures stay.
    position : int
        The image's place in the run, from 0.
    """
    return position < int(evidence) if evidence.isdigit() else evidence in ("flips", "all")


def status_before_attack(image: ImageRow) -> str | None:
    """The status of an image that is not attacked; None for one that is."""
    if image.clean_class is None:
        return UNREADABLE
    # Without a label, the model's own answer is taken for true.
    if image.label not in (None, image.clean_class):
        return MISCLASSIFIED
    # A class that the model itself does not keep cannot be flipped, nor be robust.
    return FAILED if image.reason else None
