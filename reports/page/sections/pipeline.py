"""The deployed pipeline: its stages, what it reads, what the model sees, and which flips survive others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from robustness.reports import wording
from robustness.reports.page import charts
from robustness.reports.page.card_rows import Row
from robustness.reports.page.pipeline_pictures import heat_map, model_views
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.deployed import Survival, Treated, format_words, upload_of
from robustness.reports.summary.metrics import FLIPPED
from robustness.reports.summary.tables import ReadableRun
from robustness.runs.schema import DeploymentEntry, Manifest

_TAKES = {
    "bytes": "the bytes of the file",
    "pil": "a PIL image",
    "array": "a uint8 array (height, width, channels)",
}
"""What the user's own function takes, in words."""


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline: its name, the size or form of what leaves it, and a note."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Surviving:
    """Which flips survive other files and pipelines.

    Attributes
    ----------
    chart : the share over the quality of a JPEG file; None without points.
    others : other pipelines.
    epsilon, examined, found : the flips that were judged again.
    sentence : the figures at a few qualities.
    """

    chart: Markup | None
    others: tuple[Treated, ...]
    epsilon: float
    examined: int
    found: int
    sentence: str


@dataclass(frozen=True)
class FileDistance:
    """A distance of flips before they are encoded, and of the decoded files: median and largest."""

    name: str
    picture: tuple[float, float]
    file: tuple[float, float]


def section(page: PageData) -> Section | None:
    """The section; None unless pictures were attacked at their own size."""
    manifest, stated = page.summary.manifest, page.summary.deployed
    deployment = manifest.config.deployment
    if deployment is None or not deployment.at_full_size:
        return None
    sizes = sorted(page.run.sizes().values(), key=lambda size: (size[0] * size[1], size))
    return Section(
        anchor="pipeline",
        title="Deployed pipeline",
        template=read_template("sections/pipeline.html.j2"),
        data={
            "stages": tuple(_stages(manifest, deployment, sizes)),
            "rows": tuple(_rows(deployment, sizes)),
            "survival": surviving(stated.survival if stated else None, deployment),
            "heat": heat_map(manifest.pixels_read),
            "read_sentence": _pixels_sentence(manifest),
            "distances": file_distances(page.run),
            "views": model_views(page.run, page.panels, upload_of(deployment.upload)),
        },
        link="Pipeline",
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]:,} × {size[0]:,}"


def _stages(
    manifest: Manifest, deployment: DeploymentEntry, sizes: list[tuple[int, int]]
) -> Iterable[Stage]:
    shape = manifest.model.input_shape or ()
    channels = f" × {shape[2]}" if len(shape) == 3 else ""
    size = _size(_most_frequent(sizes)) if sizes else "its own size"
    yield Stage("Uploaded file", format_words(deployment.upload), size)
    yield Stage("Decoded", f"{size}{channels}", "counts 0–255")
    function = deployment.function
    if function is None:
        yield Stage("Resized", deployment.pipeline or "not recorded", "the library's own code")
    else:
        yield Stage("Own function", function.name or "not recorded", "run as it is")
    image = f"{shape[1]} × {shape[0]}{channels}" if len(shape) == 3 else "not recorded"
    yield Stage("Image", image, "the input size of the model")
    scaling = manifest.model.scaling
    if function is not None:
        yield Stage("Model", manifest.model.name or "model", "takes the function's result")
    else:
        name = (scaling.name if scaling else None) or "not recorded"
        yield Stage("Scaled", name, "the input of the model")


def _most_frequent(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The most frequent size; the larger one of several that are as frequent."""
    return max(Counter(sizes).items(), key=lambda item: (item[1], item[0]))[0]


def _rows(deployment: DeploymentEntry, sizes: list[tuple[int, int]]) -> Iterable[Row]:
    function = deployment.function
    if function is None:
        yield Row("Pipeline", deployment.pipeline or "not recorded", code=True)
    else:
        yield Row("Own function", function.name or "not recorded", code=True)
        if function.takes:
            yield Row("It takes", _TAKES.get(function.takes, function.takes))
        said = function.agreement or f"Attacks look through {deployment.pipeline}."
        yield Row("Attacks look through", said)
        if function.source_sha256:
            yield Row("SHA-256 of its source", function.source_sha256, code=True)
    upload = upload_of(deployment.upload)
    yield Row("Uploaded as", format_words(deployment.upload))
    if upload is not None and not upload.lossless:
        low, high = upload.seen or (None, None)
        through = f"a differentiable JPEG of quality {low}" + ("" if low == high else f"–{high}")
        yield Row("Attacks see", through if low else "the picture before it is encoded")
    if deployment.max_side:
        limit = f"{deployment.max_side:,} pixels; larger pictures are reduced before the attack"
        yield Row("Longest side", limit)
    if sizes:
        most = _most_frequent(sizes)
        share = f"{sizes.count(most):,} of {wording.plural(len(sizes), 'picture')}"
        ends = "" if len(set(sizes)) == 1 else f"; {_size(sizes[0])} to {_size(sizes[-1])}"
        yield Row("Sizes", f"{_size(most)} ({share}){ends}")


def _pixels_sentence(manifest: Manifest) -> str:
    """The finding on the pixels read (D29); "" if the run has none."""
    found = [one for one in manifest.diagnostics if one.id == "D29" and one.status != "skipped"]
    return found[0].sentence if found else ""


def surviving(survival: Survival | None, deployment: DeploymentEntry) -> Surviving | None:
    """Return which flips survive; None if it was not measured."""
    if survival is None:
        return None
    curve = [
        charts.Surviving(one.quality, one.flips, one.originals)
        for one in survival.files
        if one.quality is not None
    ]
    upload = upload_of(deployment.upload)
    quality = upload.quality if upload is not None and upload.format == "JPEG" else None
    said = [
        f"{one.flips.count} of {one.flips.total} at quality {one.quality}"
        for one in curve
        if one.quality in (50, 75, 90, 100, quality)
    ]
    return Surviving(
        chart=charts.survival(curve, quality) if curve else None,
        others=survival.pipelines,
        epsilon=survival.epsilon,
        examined=survival.examined,
        found=survival.found,
        sentence=", ".join(said),
    )


def file_distances(run: ReadableRun) -> tuple[FileDistance, ...]:
    """Return the distances of flips and of their decoded files; empty if files are lossless.

    Each image under each attack counts once, at its smallest epsilon.
    """
    outcomes = run.outcomes()
    flips = outcomes[outcomes["status"] == FLIPPED].sort_values("epsilon", kind="stable")
    flips = flips.drop_duplicates(["image", "attack"])
    keys = ["image", "attack", "epsilon"]
    both = flips.merge(run.uploads(), on=keys, suffixes=("", "_file"))
    both = both.dropna(subset=["linf", "l2", "linf_file", "l2_file"])
    if both.empty:
        return ()
    return tuple(
        FileDistance(title, _middle_and_end(both[name]), _middle_and_end(both[f"{name}_file"]))
        for name, title in (("linf", "L∞"), ("l2", "L2"))
    )


def _middle_and_end(values: Iterable[float]) -> tuple[float, float]:
    known = [float(value) for value in values]
    return median(known), max(known)
