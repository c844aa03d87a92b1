"""A comparison as one HTML file: no request, no script, every name escaped and made visible."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import words
from reports.comparison import Comparison, Moved, p_text
from reports.metrics import MISCLASSIFIED

_STYLE = ("report.css", "comparison.css")


def write_comparison(found: Comparison, path: str | Path) -> Path:
    """Write the page of a comparison to `path`. Where it is."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_text(render_comparison(found), encoding="utf-8")
    part.replace(target)
    return target


def render_comparison(found: Comparison) -> str:
    """The whole page."""
    folder = Path(__file__).parent / "templates"
    style = "".join((folder / name).read_text(encoding="utf-8") for name in _STYLE)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    moved: list[tuple[str, str, Iterable[Moved]]] = [
        ("Newly flipped", "robust in A, flipped in B", found.newly_flipped),
        ("Newly robust", "flipped in A, robust in B", found.newly_robust),
        ("Newly misclassified", "right in A, wrong in B before any attack", found.newly_wrong),
        ("Newly right", "wrong in A, right in B before any attack", found.newly_right),
    ]
    return (
        _environment()
        .get_template("comparison.html.j2")
        .render(
            c=found,
            moved=[(title, meaning, _images(some)) for title, meaning, some in moved],
            style=Markup(style),  # noqa: S704  our own files
            policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
            "form-action 'none'",
        )
    )


def _images(moved: Iterable[Moved]) -> list[tuple[str, str]]:
    """Each image once: its name, and at which epsilons; nothing where no attack moved it."""
    found: dict[str, tuple[str, list[str]]] = {}
    for one in moved:
        epsilons = found.setdefault(one.key, (one.name, []))[1]
        if MISCLASSIFIED not in (one.before, one.after):
            epsilons.append(words.number(one.epsilon))
    return [
        (name, f"epsilon {', '.join(epsilons)}" if epsilons else "")
        for name, epsilons in found.values()
    ]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": lambda part, whole: words.together(words.percent(part / whole if whole else None)),
        "number": words.number,
        "p": p_text,
        "plural": words.plural,
        "shorten": words.shorten,
    }
    return environment


def _shown(value: Any) -> Any:
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return words.visible(value)
