"""A comparison as one HTML file without requests or scripts; every name is escaped and made visible."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from robustness.reports import wording
from robustness.reports.comparison.compare import Comparison, Moved, by_image, p_text
from robustness.reports.files import write_file
from robustness.reports.page.templating import csp_hash, environment, read_template

_STYLE = ("report.css", "comparison.css")


def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Write the page of a comparison to `path`, and return `path`."""
    return write_file(Path(path), render_comparison(comparison))


def render_comparison(comparison: Comparison) -> str:
    """Return the page of a comparison."""
    style = "".join(read_template(name) for name in _STYLE)
    moved: list[tuple[str, str, Iterable[Moved]]] = [
        ("Newly flipped", "robust in A, flipped in B", comparison.newly_flipped),
        ("Newly robust", "flipped in A, robust in B", comparison.newly_robust),
        (
            "Newly misclassified",
            "correct in A, wrong in B before any attack",
            comparison.newly_wrong,
        ),
        (
            "Newly correct",
            "wrong in A, correct in B before any attack",
            comparison.newly_right,
        ),
    ]
    return (
        _environment()
        .get_template("comparison.html.j2")
        .render(
            c=comparison,
            moved=[(title, meaning, by_image(images)) for title, meaning, images in moved],
            style=Markup(style),  # noqa: S704  our own files
            policy=f"default-src 'none'; style-src {csp_hash(style)}; base-uri 'none'; "
            "form-action 'none'",
        )
    )


@cache
def _environment() -> Environment:
    return environment(
        share=lambda part, whole: wording.keep_units(
            wording.percent(part / whole if whole else None)
        ),
        p=p_text,
        acts_as=lambda epsilon, norm: wording.acts_as(norm, epsilon),
    )
