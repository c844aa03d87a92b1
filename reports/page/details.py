"""The quiet half of a report: what was threatened, with what, on what, and how to do it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from robustness.reports import wording
from robustness.reports.summary.summary import Summary

_SEVERITIES = ("error", "warning", "note", "ok")
_WIDE = 0.20
_KNOWLEDGE = {
    "white-box": "white-box: the weights and gradients of the model",
    "score": "score-based: its probabilities only",
    "decision": "decision-based: its answer only",
}
_PARTS = {
    "linf": "each component",
    "l2": "Euclidean length",
    "l1": "in all",
    "l0": "changed pixels",
    "free": "degrees or severity, as the attack counts it",
}


@dataclass(frozen=True)
class Row:
    """A term and what is to be said of it; `code` for hashes and the like."""

    term: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Card:
    """A titled list of rows; its `id` is the anchor on the page."""

    id: str
    title: str
    rows: tuple[Row, ...]


def title(summary: Summary) -> str:
    """What the report is about."""
    return summary.manifest.model.name or "a model"


def moment(text: Any) -> str:
    """`23 November 2026, 04:00 UTC` from an ISO time; other text as it is."""
    try:
        when = datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return str(text or "")
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def cards(summary: Summary) -> list[Card]:
    """Every card of the page, in order."""
    return [
        Card("threat", "Threat model", tuple(_threat(summary))),
        Card("target", "Target", tuple(_target(summary))),
        Card("data", "Data", tuple(_data(summary))),
        Card("device", "Device and cost", tuple(_device(summary))),
    ]


def _threat(summary: Summary) -> Iterable[Row]:
    config = summary.config
    goal = config.aim
    yield Row("Goal", "any other class (untargeted)" if goal == "untargeted" else goal)
    for knowledge in dict.fromkeys(entry.knowledge for entry in config.attacks):
        if knowledge:
            yield Row("Knowledge", _KNOWLEDGE.get(knowledge, knowledge))
    epsilons = config.epsilons
    if epsilons:
        name = wording.NORM_NAMES.get(summary.norm, summary.norm)
        shown = ", ".join(wording.budget(summary.norm, e) for e in epsilons)
        also = (
            ""
            if summary.norm in ("l0", "free")
            else f" ({', '.join(f'{e:g}/255' for e in epsilons)})"
        )
        unit = "" if summary.norm in ("l0", "free") else " counts of 0–255"
        yield Row("Budget", f"{name}, {_PARTS.get(summary.norm, '')}: {shown}{unit}{also}")
    surrogate = summary.manifest.surrogate
    if surrogate is not None:
        said = f"attacks look at {surrogate.name or 'another model'}; the target is only judged"
        yield Row("Transfer", said)
    if config.precision != "float32":
        yield Row("Precision", f"attacks look in {config.precision}; every verdict is float32's")
    if config.mask is not None:
        yield Row("Region", f"{100 * (config.mask.share or 0.0):.3g} % of the pixels may change")
    yield Row("Domain", "8-bit pictures at the size the model takes")
    flip = "a right answer that turns wrong" if summary.labelled else "an answer that changes"
    yield Row("A flip is", f"{flip} for the saved PNG, read back from disk")
    for attack in config.attacks:
        paper = attack.paper or "none"
        paper = "" if paper.startswith("none") else f" {paper}."
        said = ", ".join(wording.settings(attack.parameters)) or "no parameters"
        yield Row(f"Attack {attack.name or ''}", f"{said}.{paper}")


def _target(summary: Summary) -> Iterable[Row]:
    model = summary.manifest.model
    yield Row("Model", title(summary))
    if model.file:
        yield Row("File", f"{model.file} ({model.format or 'unknown format'})")
    if model.input_shape:
        yield Row("Input", f"{' × '.join(map(str, model.input_shape))} (height, width, channels)")
    if model.scaling:
        yield Row("Scaling", model.scaling.sentence or model.scaling.name or "unknown")
    if output := model.head_sentence or model.head:
        yield Row("Output", output)
    if summary.class_names:
        shown = ", ".join(wording.shorten(name) for name in summary.class_names[:20])
        more = len(summary.class_names) - 20
        yield Row("Classes", shown + (f" and {more:,} more" if more > 0 else ""))
    if model.parameters is not None:
        yield Row("Parameters", f"{model.parameters:,}")
    for note in (*model.findings, *model.notes):
        yield Row("Note", note)
    yield from _hashes(
        ("SHA-256 of the file", model.file_sha256), ("SHA-256 of the weights", model.weights_sha256)
    )


def _data(summary: Summary) -> Iterable[Row]:
    data, images = summary.manifest.data, summary.images
    if data.description:
        yield Row("Source", data.description)
    available = "" if data.available is None else f" of {data.available:,}"
    yield Row("Selected", f"{images.selected:,}{available}")
    unread = images.selected - images.readable
    yield Row("Readable", f"{images.readable:,}" + (f", {unread:,} not" if unread else ""))
    if images.labelled:
        yield Row(
            "Wrong before", f"{images.misclassified:,}, not attacked and never counted as flips"
        )
    if found := _by_class(summary):
        yield Row("By class", found)
    if summary.converted:
        yield Row("Converted", f"{summary.converted:,} resized or turned into plain 8-bit pictures")
    if data.seed is not None:
        yield Row("Seed", str(data.seed))
    yield from _hashes(
        ("SHA-256 of the pictures", data.sha256),
        ("SHA-256 of the selection", data.selection_sha256),
    )


def _by_class(summary: Summary, most: int = 12) -> str:
    """`cat 33, dog 32`: how many images of each label there are, the commonest first."""
    counted = Counter(one.label for one in summary.results if one.label is not None)
    shown = [f"{wording.shorten(name, 30)} {count:,}" for name, count in counted.most_common(most)]
    more = len(counted) - len(shown)
    return ", ".join(shown) + (
        f" and {wording.plural(more, 'class', 'classes')} more" if more else ""
    )


_SPELLED = {
    "numpy": "NumPy",
    "tensorflow": "TensorFlow",
    "jax": "JAX",
    "torch": "PyTorch",
    "gpu": "GPU",
}


def _device(summary: Summary) -> Iterable[Row]:
    for name, value in summary.manifest.environment.items():
        if value:
            term = _SPELLED.get(str(name), str(name).replace("_", " ").capitalize())
            yield Row(term, _SPELLED.get(str(value), str(value)))
    tool = summary.manifest.tool
    if tool.name or tool.version:
        yield Row("Tool", f"{tool.name or ''} {tool.version or ''}".strip())
    yield Row("Time", wording.seconds(summary.cost.seconds))
    yield Row("Passes", f"{summary.cost.forward:,} forward, {summary.cost.backward:,} backward")
    manifest = summary.manifest
    for name, time in (("Created", manifest.created), ("Finished", manifest.finished)):
        if time:
            yield Row(name, moment(time))


def _hashes(*terms: tuple[str, str | None]) -> Iterable[Row]:
    for term, digest in terms:
        if digest:
            yield Row(term, digest, code=True)


def checks(summary: Summary) -> list[dict[str, str]]:
    """The checks before the attack that no diagnostic repeats, the worst first."""
    found = []
    told = {d.id for d in summary.diagnostics if d.status != "skipped"}
    for entry in summary.manifest.preflight:
        if entry.id.partition("-")[0] in told:
            continue
        severity = entry.severity if entry.severity in _SEVERITIES else "note"
        found.append({"severity": severity, "id": entry.id, "sentence": entry.sentence})
    return sorted(found, key=lambda one: _SEVERITIES.index(one["severity"]))


_THREATS = ("rotation", "light and weather", "crops", "stickers", "photographs of prints")


def _untried(summary: Summary) -> str:
    """What the attacks did, and which threats they leave out."""
    names = {row.name for row in summary.attacked}
    done = set()
    if "spatial" in names:
        done |= {"rotation"}
    if "corruptions" in names:
        done |= {"light and weather"}
    if "patch" in names:
        done |= {"stickers"}
    tried = {
        "free": "turned, shifted or spoiled pictures",
        "l0": "changes of a few pixels",
    }.get(summary.norm, "small changes of pixels")
    *most, last = [one for one in _THREATS if one not in done]
    others = f"{', '.join(most)} and {last}"
    return (
        f"Tried were {tried} at the size the model takes. {others.capitalize()} are other threats"
        + (", and so are small changes of pixels." if summary.norm == "free" else ".")
    )


def limits(summary: Summary) -> list[str]:
    """What the numbers do not say."""
    said = [
        "Robustness here is an upper bound: an attack can be too weak. An image that held may fall to "
        "more steps, more restarts or another attack; an image that flipped has flipped.",
        "The interval says how well these images stand for others drawn in the same way. It says "
        "nothing of how strong the attack was.",
        _untried(summary),
    ]
    rate = summary.overall.flip_rate
    if rate.low is not None and rate.high is not None and rate.high - rate.low > _WIDE:
        said.append(
            f"{wording.plural(rate.total, 'image is', 'images are')} few: the 95 % interval spans "
            f"{100 * (rate.high - rate.low):.0f} points. Audit more images."
        )
    if summary.config.aim != "untargeted":
        said.append(
            "The attack had one class to reach; images driven to other classes count as robust."
        )
    if len(summary.attacks) == 1:
        said.append("One attack only. Attacks of another kind find what this one is blind to.")
    return said
