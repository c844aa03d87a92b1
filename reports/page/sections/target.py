"""The audited model."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from robustness.reports import wording
from robustness.reports.page.card_rows import Row, hash_rows
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.summary import Summary


def section(page: PageData) -> Section:
    """The audited model."""
    return Section(
        anchor="target",
        title="Target",
        template=read_template("sections/card.html.j2"),
        data={"rows": tuple(_rows(page.summary))},
        link="Target",
        layout="card",
    )


def _rows(summary: Summary) -> Iterable[Row]:
    model = summary.manifest.model
    yield Row("Model", summary.model_name)
    if model.file:
        yield Row("File", f"{model.file} ({model.format or 'unknown format'})")
    if model.input_shape:
        yield Row("Input", f"{' × '.join(map(str, model.input_shape))} (height, width, channels)")
    for sentence in model.adapter.sentences if model.adapter else ():
        yield Row("Input and output", f"{sentence}.")
    if model.scaling:
        yield Row("Scaling", model.scaling.sentence or model.scaling.name or "unknown")
    if output := model.head_sentence or model.head:
        yield Row("Output", output)
    if summary.class_names:
        names = [wording.shorten(name) for name in summary.class_names[:20]]
        shown = Markup(", ").join(Markup("<bdi>{}</bdi>").format(name) for name in names)
        more = len(summary.class_names) - 20
        yield Row("Classes", shown + (f" and {more:,} more" if more > 0 else ""))
    if model.parameters is not None:
        yield Row("Parameters", f"{model.parameters:,}")
    for note in (*model.findings, *model.notes):
        yield Row("Note", note)
    yield from hash_rows(
        ("SHA-256 of the file", model.file_sha256), ("SHA-256 of the weights", model.weights_sha256)
    )
