"""The quiet half of a report: what was threatened, with what, on what, and how to do it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from robustness.reports import wording
from robustness.reports.summary.summary import Summary, section
from robustness.threat.norms import described

_SEVERITIES = ("error", "warning", "note", "ok")
_WIDE = 0.20
_KNOWLEDGE = {
    "white-box": "white-box: the weights and gradients of the model",
    "score": "score-based: its probabilities only",
    "decision": "decision-based: its answer only",
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
    return str(section(summary.manifest, "model").get("name") or "a model")


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
    attacks = [a for a in config.get("attacks") or () if isinstance(a, dict)]
    goal = str(config.get("goal", "untargeted"))
    yield Row("Goal", "any other class (untargeted)" if goal == "untargeted" else goal)
    for knowledge in dict.fromkeys(str(a.get("knowledge", "")) for a in attacks):
        if knowledge:
            yield Row("Knowledge", _KNOWLEDGE.get(knowledge, knowledge))
    epsilons = [float(e) for e in config.get("epsilons") or ()]
    if epsilons:
        norm = described(summary.norm)
        shown = ", ".join(wording.budget(summary.norm, e) for e in epsilons)
        if norm.in_counts:
            shown += f" counts of 0–255 ({', '.join(f'{e:g}/255' for e in epsilons)})"
        yield Row("Budget", f"{norm.label}, {norm.measure}: {shown}")
    eyes = summary.manifest.get("surrogate")
    if isinstance(eyes, dict):
        said = f"attacks look at {eyes.get('name') or 'another model'}; the target is only judged"
        yield Row("Transfer", said)
    precision = str(config.get("precision") or "float32")
    if precision != "float32":
        yield Row("Precision", f"attacks look in {precision}; every verdict is float32's")
    mask = config.get("mask")
    if isinstance(mask, dict):
        yield Row(
            "Region", f"{100 * float(mask.get('share') or 0.0):.3g} % of the pixels may change"
        )
    yield Row("Domain", "8-bit pictures at the size the model takes")
    flip = "a right answer that turns wrong" if summary.labelled else "an answer that changes"
    yield Row("A flip is", f"{flip} for the saved PNG, read back from disk")
    for attack in attacks:
        paper = str(attack.get("paper") or "none")
        paper = "" if paper.startswith("none") else f" {paper}."
        said = ", ".join(wording.settings(attack.get("parameters") or {})) or "no parameters"
        yield Row(f"Attack {attack.get('name', '')}", f"{said}.{paper}")


def _target(summary: Summary) -> Iterable[Row]:
    model = section(summary.manifest, "model")
    shape = model.get("input_shape")
    yield Row("Model", title(summary))
    if model.get("file"):
        yield Row("File", f"{model['file']} ({model.get('format', 'unknown format')})")
    if isinstance(shape, list | tuple):
        yield Row("Input", f"{' × '.join(map(str, shape))} (height, width, channels)")
    scaling = model.get("scaling")
    if isinstance(scaling, dict):
        yield Row("Scaling", str(scaling.get("sentence") or scaling.get("name") or "unknown"))
    if model.get("head_sentence") or model.get("head"):
        yield Row("Output", str(model.get("head_sentence") or model["head"]))
    if summary.class_names:
        shown = ", ".join(wording.shorten(name) for name in summary.class_names[:20])
        more = len(summary.class_names) - 20
        yield Row("Classes", shown + (f" and {more:,} more" if more > 0 else ""))
    if isinstance(model.get("parameters"), int):
        yield Row("Parameters", f"{model['parameters']:,}")
    for note in [*(model.get("findings") or ()), *(model.get("notes") or ())]:
        yield Row("Note", str(note))
    yield from _hashes(
        model, file_sha256="SHA-256 of the file", weights_sha256="SHA-256 of the weights"
    )


def _data(summary: Summary) -> Iterable[Row]:
    data, images = section(summary.manifest, "data"), summary.images
    if data.get("description"):
        yield Row("Source", str(data["description"]))
    available = f" of {data['available']:,}" if isinstance(data.get("available"), int) else ""
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
    if data.get("seed") is not None:
        yield Row("Seed", str(data["seed"]))
    yield from _hashes(
        data, sha256="SHA-256 of the pictures", selection_sha256="SHA-256 of the selection"
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
    for name, value in section(summary.manifest, "environment").items():
        if value:
            term = _SPELLED.get(str(name), str(name).replace("_", " ").capitalize())
            yield Row(term, _SPELLED.get(str(value), str(value)))
    tool = section(summary.manifest, "tool")
    if tool:
        yield Row("Tool", f"{tool.get('name', '')} {tool.get('version', '')}".strip())
    yield Row("Time", wording.seconds(summary.cost.seconds))
    yield Row("Passes", f"{summary.cost.forward:,} forward, {summary.cost.backward:,} backward")
    for name in ("created", "finished"):
        if summary.manifest.get(name):
            yield Row(name.capitalize(), moment(summary.manifest[name]))


def _hashes(card: dict[str, Any], **terms: str) -> Iterable[Row]:
    for key, term in terms.items():
        if card.get(key):
            yield Row(term, str(card[key]), code=True)


def checks(summary: Summary) -> list[dict[str, str]]:
    """The checks before the attack that no diagnostic repeats, the worst first."""
    found = []
    told = {d.id for d in summary.diagnostics if d.status != "skipped"}
    for entry in summary.manifest.get("preflight") or ():
        if str(entry.get("id", "")).partition("-")[0] in told:
            continue
        severity = str(entry.get("severity", "note"))
        known = severity if severity in _SEVERITIES else "note"
        said = {"id": str(entry.get("id", "")), "sentence": str(entry.get("sentence", ""))}
        found.append({"severity": known, **said})
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
    norm = described(summary.norm)
    *most, last = [one for one in _THREATS if one not in done]
    others = f"{', '.join(most)} and {last}"
    return (
        f"Tried were {norm.changes} at the size the model takes. {others.capitalize()} are other threats"
        + (", and so are small changes of pixels." if not norm.measures else ".")
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
    if str(summary.config.get("goal", "untargeted")) != "untargeted":
        said.append(
            "The attack had one class to reach; images driven to other classes count as robust."
        )
    if len(summary.attacks) == 1:
        said.append("One attack only. Attacks of another kind find what this one is blind to.")
    return said
