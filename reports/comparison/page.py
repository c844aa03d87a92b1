"""A comparison as one HTML file: no request, no script, every name escaped and made visible."""

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


def write_comparison(found: Comparison, path: str | Path) -> Path:
    """Write the page of a comparison to `path`. Where it is."""
    return write_file(Path(path), render_comparison(found))


def render_comparison(found: Comparison) -> str:
    """The whole page."""
    style = "".join(read_template(name) for name in _STYLE)
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
            moved=[(title, meaning, by_image(some)) for title, meaning, some in moved],
            style=Markup(style),  # noqa: S704  our own files
            policy=f"default-src 'none'; style-src {csp_hash(style)}; base-uri 'none'; "
            "form-action 'none'",
        )
    )


@cache
def _environment() -> Environment:
    return environment(
        share=lambda part, whole: wording.together(
            wording.percent(part / whole if whole else None)
        ),
        p=p_text,
        acts_as=lambda epsilon, norm: wording.acts_as(norm, epsilon),
    )
