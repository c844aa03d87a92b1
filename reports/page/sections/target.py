"""The audited model."""

from __future__ import annotations

from collections.abc import Iterable

from robustness.reports import wording
from robustness.reports.page.card_rows import Row, hash_rows
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.summary import Summary
from robustness.reports.summary.summary import section as part_of


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
    model = part_of(summary.manifest, "model")
    shape = model.get("input_shape")
    yield Row("Model", summary.model_name)
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
    yield from hash_rows(
        model, file_sha256="SHA-256 of the file", weights_sha256="SHA-256 of the weights"
    )
