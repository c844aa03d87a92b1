"""How the model does on unchanged images."""

from __future__ import annotations

from typing import Any

from robustness.reports.page import charts
from robustness.reports.page.class_matrix import class_matrix as matrix
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.summary import Summary


def section(page: PageData) -> Section:
    """Accuracy, confusions and confidence before any attack."""
    return Section(
        anchor="clean",
        title="Before any attack",
        template=read_template("sections/clean.html.j2"),
        data={"clean": clean(page.summary)},
        link="Clean",
    )


def clean(summary: Summary) -> dict[str, Any] | None:
    """How the model does unattacked: accuracy, confusions, how sure it is when right and wrong."""
    accuracy = summary.images.clean_accuracy
    if accuracy is None:
        return None
    right, wrong = summary.confidence_right, summary.confidence_wrong
    chart = None
    if sum(right) or sum(wrong):
        said = f"Confidence of {sum(right)} right answers above, of {sum(wrong)} wrong ones below."
        down = "wrong answers, downwards" if sum(wrong) else "no wrong answers"
        chart = charts.confidences(right, wrong, ("right answers, upwards", down), said)
    mistaken = [
        one
        for one in summary.results
        if one.label is not None and one.predicted is not None and one.label != one.predicted
    ]
    return {
        "accuracy": accuracy,
        "matrix": matrix(summary.confusion, summary.class_names, diagonal=True),
        "chart": chart,
        "wrong": mistaken,
    }
