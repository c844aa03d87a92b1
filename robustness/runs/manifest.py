"""`run.json`: everything another person needs to believe a run, or to repeat it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import keras

from robustness import backend
from robustness.errors import RunUsageError
from robustness.images import Entry, Source
from robustness.models.classifier import Classifier
from robustness.runs import model_differences
from robustness.runs.plan import Plan
from robustness.runs.store import Run


def describe(
    plan: Plan, classifier: Classifier, source: Source, entries: Sequence[Entry]
) -> dict[str, Any]:
    """What is known before the first image is read, JSON-able."""
    return {
        "tool": {"name": "robustness-toolkit", "version": _version("robustness-toolkit")},
        "created": now(),
        "finished": None,
        "config": plan.config(classifier.class_names),
        "model": classifier.card(),
        "data": {
            "description": source.description,
            "selected": len(entries),
            "selection_sha256": _selection_digest(entries),
            "seed": plan.seed,
            "labelled": all(e.label is not None for e in entries),
        },
        "class_names": list(classifier.class_names),
        "environment": _environment(),
        "preflight": [],
        "timing": {"seconds": 0.0},
    }


def expect_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """RunUsageError naming what differs between the run in the folder and the one asked for."""
    differing = model_differences.differences(before.get("model") or {}, now["model"])
    eyes, seen = before.get("surrogate"), now.get("surrogate")
    if eyes and seen:
        differing += [f"surrogate: {one}" for one in model_differences.differences(eyes, seen)]
    pairs = [("selection of images", "data", "selection_sha256")]
    # That of a surrogate's weights is told above.
    told = {"surrogate"} if eyes and seen else set()
    pairs += [(f"setting {name}", "config", name) for name in now["config"] if name not in told]
    differing += [
        f"{what} (was {_brief((before.get(room) or {}).get(name))}, is {_brief(now[room][name])})"
        for what, room, name in pairs
        if (before.get(room) or {}).get(name) != now[room][name]
    ]
    if differing:
        raise RunUsageError(
            f"This run cannot be resumed, since something is different now: {'; '.join(differing)}. "
            "Resume with what it was started with, or audit into a new folder."
        )


def _brief(value: Any) -> str:
    text = ", ".join(v["label"] for v in value) if _labelled(value) else str(value)
    return text if len(text) < 60 else text[:28] + "..." + text[-28:]


def _labelled(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) and "label" in v for v in value)


def _selection_digest(entries: Sequence[Entry]) -> str:
    sha = hashlib.sha256()
    for entry in entries:
        sha.update(f"{entry.key}\x1f{entry.label}\x1e".encode())
    return sha.hexdigest()


def data_digest(store: Run) -> str:
    """SHA-256 over keys and pixels of all images of a run."""
    sha = hashlib.sha256()
    for row in store.image_rows():
        sha.update(f"{row.key}\x1f{row.digest}\x1e".encode())
    return sha.hexdigest()


def _environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": backend.device(),
        "backend": keras.backend.backend(),
        **{name: _version(name) for name in ("keras", "tensorflow", "numpy", "pillow")},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def now() -> str:
    """The time, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
