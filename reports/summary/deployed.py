"""The deployed pipeline of a run in numbers and sentences: what it reads, and which flips survive others."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.errors import SettingError
from robustness.numerics.intervals import Share
from robustness.pipeline.upload import Upload, parse_upload
from robustness.reports import wording
from robustness.runs.deployed_schema import PixelsReadEntry, ShareEntry, SurvivalEntry
from robustness.runs.schema import Manifest

_NAMED = (50, 75, 90)
"""The qualities of JPEG that sentences name, beside that of the upload."""
_CUT = 0.005
"""The smallest share of a picture that is worth a word."""


@dataclass(frozen=True)
class Treated:
    """How many flips survive another file or pipeline, and how many unchanged originals it changes by itself.

    Attributes
    ----------
    name : ``jpeg:75``, or the name of a pipeline.
    quality : the quality of a JPEG file; None for a pipeline.
    flips : the flips that still reach the goal.
    originals : the unchanged originals that reach it without any attack; None if they were not measured.
    refused : pictures that the pipeline cannot process; they are in no total.
    """

    name: str
    quality: int | None
    flips: Share
    originals: Share | None
    refused: int


@dataclass(frozen=True)
class Survival:
    """Which flips at the largest epsilon survive: `examined` of `found` were judged again."""

    epsilon: float
    examined: int
    found: int
    files: tuple[Treated, ...]
    pipelines: tuple[Treated, ...]

    @property
    def sentence(self) -> str:
        """The counts at a few qualities, and the fewest and the most behind other pipelines."""
        parts = [
            _counted(one, f"as JPEG {one.quality}") for one in self.files if one.quality in _NAMED
        ]
        behind = sorted(
            (one for one in self.pipelines if one.flips.total), key=lambda one: one.flips.share or 0
        )
        ends = dict.fromkeys((*behind[:1], *behind[-1:]))
        parts += [_counted(one, f"behind {wording.shorten(one.name, 60)}") for one in ends]
        if not parts:
            return ""
        few = self.examined < self.found
        chosen = f" ({self.examined:,} of {self.found:,} were judged again)" if few else ""
        return f"Flips at epsilon {wording.exact(self.epsilon)}{chosen}: {'; '.join(parts)}."


def _counted(one: Treated, what: str) -> str:
    verb = "survives" if one.flips.total == 1 else "survive"
    counted = f"{one.flips.count:,} of {one.flips.total:,} {verb} {what}"
    if one.originals is None or not one.originals.count:
        return counted
    changed = wording.plural(
        one.originals.count, "unchanged original gets", "unchanged originals get"
    )
    return f"{counted} ({changed} another class there too)"


@dataclass(frozen=True)
class PixelsRead:
    """The share of the median picture's pixels that the resize ignores, 0..1, without those beside a crop.

    `stands_in` says whether the convention only stands in for the user's own function.
    """

    ignored: float
    height: int
    width: int
    cropped: bool
    convention: str | None
    stands_in: bool

    @property
    def sentence(self) -> str:
        """What the resize ignores; "" if that is nothing."""
        if self.ignored < _CUT:
            return ""
        of = "what the crop keeps" if self.cropped else "the picture"
        by = f", by {self.convention}, which stands in for it" if self.stands_in else ""
        share = f"{100 * self.ignored:.3g} %"
        return f"The resize ignores {share} of {of} ({self.width} × {self.height}{by})."


@dataclass(frozen=True)
class Deployed:
    """The pipeline in front of the audited model.

    Attributes
    ----------
    name : the named convention, or the user's own function.
    own_function : whether it is the user's own.
    at_full_size : whether pictures were attacked at their own size, before the pipeline.
    upload : the format of the uploaded files, in words.
    pixels_read, survival : None if they were not measured.
    """

    name: str
    own_function: bool
    at_full_size: bool
    upload: str
    pixels_read: PixelsRead | None
    survival: Survival | None

    @property
    def sentence(self) -> str:
        """The pipeline, the size at which pictures were attacked, and the uploaded files."""
        name = wording.shorten(self.name, 80)
        name = f"the own function {name}" if self.own_function else name
        if not self.at_full_size:
            return f"{name}; images of the model's size were attacked, after the resize."
        return f"{name}; pictures were attacked at their own size and uploaded as {self.upload}."

    def properties(self) -> dict[str, str]:
        """Return the sentences by name, for formats that hold properties."""
        said = {
            "pipeline": self.sentence,
            "pixels read": self.pixels_read.sentence if self.pixels_read else "",
            "survival": self.survival.sentence if self.survival else "",
        }
        return {name: text for name, text in said.items() if text}

    @property
    def sentences(self) -> tuple[str, ...]:
        """Everything worth saying, a sentence each: the pipeline, what it ignores, and what survives."""
        first, *rest = self.properties().values()
        return (f"Deployed pipeline: {first}", *rest)


def deployed(manifest: Manifest) -> Deployed | None:
    """Return the deployed pipeline of a run; None if the run states none."""
    entry = manifest.config.deployment
    if entry is None:
        return None
    own = entry.function
    return Deployed(
        name=(entry.pipeline if own is None else own.name) or "not recorded",
        own_function=own is not None,
        at_full_size=entry.at_full_size,
        upload=format_words(entry.upload),
        pixels_read=_read(manifest.pixels_read) if entry.at_full_size else None,
        survival=_survival(manifest.survival) if entry.at_full_size else None,
    )


def upload_of(text: str) -> Upload | None:
    """Return the format of uploaded files; None if this version does not know it."""
    try:
        return parse_upload(text)
    except SettingError:
        return None


def format_words(text: str) -> str:
    """Return the format of uploaded files in words: `JPEG, quality 90, 4:2:0`."""
    upload = upload_of(text)
    if upload is None:
        return text
    name = {"WEBP": "WebP"}.get(upload.format, upload.format)
    parts = [name, "lossless" if upload.lossless else f"quality {upload.quality}"]
    return ", ".join([*parts, *([upload.subsampling] if upload.subsampling else [])])


def _read(entry: PixelsReadEntry | None) -> PixelsRead | None:
    if entry is None:
        return None
    height, width = entry.median or (entry.height, entry.width)
    return PixelsRead(
        ignored=1 - entry.median_share_of_window,
        height=height,
        width=width,
        cropped=entry.median_share < entry.median_share_of_window - _CUT,
        convention=entry.convention,
        stands_in=entry.stands_in,
    )


def _survival(entry: SurvivalEntry | None) -> Survival | None:
    if entry is None or not entry.points:
        return None
    points = [
        Treated(
            point.name, point.quality, _share(point.flips), _maybe(point.originals), point.refused
        )
        for point in entry.points
    ]
    return Survival(
        epsilon=entry.epsilon,
        examined=entry.examined,
        found=entry.found,
        files=tuple(one for one in points if one.quality is not None and one.flips.total),
        pipelines=tuple(one for one in points if one.quality is None),
    )


def _share(entry: ShareEntry) -> Share:
    return Share.of(entry.count, entry.total)


def _maybe(entry: ShareEntry | None) -> Share | None:
    return None if entry is None else _share(entry)
