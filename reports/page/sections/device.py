"""Hardware, versions, time and passes."""

from __future__ import annotations

from collections.abc import Iterable

from robustness.reports import wording
from robustness.reports.page.card_rows import Row
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.summary import Summary


def section(page: PageData) -> Section:
    """Hardware, versions, time and passes."""
    return Section(
        anchor="device",
        title="Device and cost",
        template=read_template("sections/card.html.j2"),
        data={"rows": tuple(_rows(page.summary))},
        link="Device and cost",
        layout="card",
    )


_MOST_STAGES = 20
_SPELLED = {
    "numpy": "NumPy",
    "tensorflow": "TensorFlow",
    "jax": "JAX",
    "torch": "PyTorch",
    "gpu": "GPU",
}


def _rows(summary: Summary) -> Iterable[Row]:
    for name, value in summary.manifest.environment.items():
        if value:
            term = _SPELLED.get(str(name), str(name).replace("_", " ").capitalize())
            yield Row(term, _SPELLED.get(str(value), str(value)))
    manifest, tool = summary.manifest, summary.manifest.tool
    if tool.name or tool.version:
        yield Row("Tool", f"{tool.name or ''} {tool.version or ''}".strip())
    name, seconds = summary.cost.time
    yield Row(name.capitalize(), wording.seconds(seconds))
    for stage, lasted in summary.cost.stages[:_MOST_STAGES]:
        name = wording.shorten(stage.replace("_", " "), 40)
        yield Row(f"Time, {name}", wording.seconds(lasted))
    yield Row("Passes", f"{summary.cost.forward:,} forward, {summary.cost.backward:,} backward")
    for term, time in (("Created", manifest.created), ("Finished", manifest.finished)):
        if time:
            yield Row(term, wording.date_time(time))
