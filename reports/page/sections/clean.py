"""How the model does on unchanged images."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from robustness.numerics.intervals import Share
from robustness.reports import wording
from robustness.reports.page import charts
from robustness.reports.page.class_matrix import ClassMatrix, class_matrix
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.image_results import ImageResult
from robustness.reports.summary.summary import Summary


@dataclass(frozen=True)
class CleanResults:
    """The clean accuracy, the confusions, a chart of the confidence, and the misclassified images."""

    accuracy: Share
    matrix: ClassMatrix | None
    chart: Markup | None
    misclassified: tuple[ImageResult, ...]


def section(page: PageData) -> Section:
    """Accuracy, confusions and confidence before any attack."""
    return Section(
        anchor="clean",
        title="Clean accuracy",
        template=read_template("sections/clean.html.j2"),
        data={"clean": clean_results(page.summary)},
        link="Clean accuracy",
    )


def clean_results(summary: Summary) -> CleanResults | None:
    """Return how the model does without an attack; None without labels."""
    accuracy = summary.images.clean_accuracy
    if accuracy is None:
        return None
    return CleanResults(
        accuracy=accuracy,
        matrix=class_matrix(summary.confusion, summary.class_names, diagonal=True),
        chart=_confidence_chart(summary),
        misclassified=tuple(
            image
            for image in summary.results
            if None not in (image.label, image.clean_class) and image.label != image.clean_class
        ),
    )


def _confidence_chart(summary: Summary) -> Markup | None:
    right, wrong = summary.confidence_right, summary.confidence_wrong
    if not sum(right) and not sum(wrong):
        return None
    description = (
        f"Confidence of {wording.plural(sum(right), 'correct answer')} above, of "
        f"{wording.plural(sum(wrong), 'wrong answer')} below."
    )
    below = "wrong answers, downwards" if sum(wrong) else "no wrong answers"
    return charts.confidences(right, wrong, ("correct answers, upwards", below), description)
