"""The dataclasses of the rows in `run.sqlite`, and the statuses of an outcome."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from robustness.images import Entry

FLIPPED, ROBUST, MISCLASSIFIED = "flipped", "robust", "misclassified"
UNREADABLE, FAILED, SETTLED = "unreadable", "failed", "settled"
STATUSES = (FLIPPED, ROBUST, MISCLASSIFIED, UNREADABLE, FAILED, SETTLED)
"""`SETTLED`: an earlier attack of the cascade flips the image within this epsilon; this one did not run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRow:
    """An image of the run, and the model's prediction of it unchanged."""

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

    @property
    def entry(self) -> Entry:
        """The image's entry in its source."""
        return Entry(self.key, self.name, self.label)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeRow:
    """The outcome of one image x attack x epsilon. Distances are those of the saved file, in counts."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class StripRow:
    """One step of an attack towards a flip: its picture, and the probabilities as a JSON list."""

    image: str
    attack: str
    epsilon: float
    step: int
    png: str
    probabilities: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientRow:
    """For a robust outcome, the steps that requested a gradient (`watched`) and that got none (`blind`)."""

    image: str
    attack: str
    epsilon: float
    watched: int
    blind: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DistanceRow:
    """The distance of a flip's saved file in a norm that has no column in the outcomes."""

    image: str
    attack: str
    epsilon: float
    norm: str
    distance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeRow:
    """The height and width in pixels of a picture that is attacked at its own size."""

    image: str
    height: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadRow:
    """The uploaded file of a flip, in a lossy format: its path, and its distances from the original.

    The distances are those of the decoded file, in counts. `OutcomeRow` has those of the picture before it
    was encoded, which the budget limits.
    """

    image: str
    attack: str
    epsilon: float
    file: str
    linf: float
    l2: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewRow:
    """What the model sees of a flip's original (`before`) and of its uploaded file (`after`).

    Both are pictures of the model's images, rounded to whole counts, for the report.
    """

    image: str
    attack: str
    epsilon: float
    before: str
    after: str


Row = ImageRow | OutcomeRow | StripRow | GradientRow | DistanceRow | SizeRow | UploadRow | ViewRow


def png_name(digest: str, suffix: str = ".png") -> str:
    """Return the path, within the run folder, of the picture whose bytes have this SHA-256."""
    return f"images/{digest[:2]}/{digest}{suffix}"


def data_digest(images: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 (hexadecimal) of all images: (key, pixel hash) of each, in the run's order."""
    sha = hashlib.sha256()
    for key, digest in images:
        sha.update(f"{key}\x1f{digest}\x1e".encode())
    return sha.hexdigest()


def keeps_pictures(evidence: str, position: int) -> bool:
    """Whether the pictures of the image at `position` stay on disk under the setting `evidence`.

    Parameters
    ----------
    evidence : str
        "all", "flips", "none", or a number n: the pictures of the first n images stay.
    position : int
        The index of the image in the run, from 0.
    """
    return position < pictures_kept(evidence)


def pictures_kept(evidence: str) -> float:
    """Return how many images, the first of the run, keep their pictures on disk; see `keeps_pictures`."""
    if evidence.isdigit():
        return int(evidence)
    return math.inf if evidence in ("flips", "all") else 0


def status_before_attack(image: ImageRow) -> str | None:
    """Return the status of an image that is not attacked; None for one that is attacked."""
    if image.clean_class is None:
        return UNREADABLE
    # Without a label, the model's own class counts as the correct one.
    if image.label not in (None, image.clean_class):
        return MISCLASSIFIED
    # If the model does not give the image a stable class, it can neither flip nor be robust.
    return FAILED if image.reason else None
