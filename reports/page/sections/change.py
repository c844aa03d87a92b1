"""How far the flipped pictures are from their originals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from robustness.reports import wording
from robustness.reports.page import charts
from robustness.reports.page.case_panels import CasePanel
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary import metrics
from robustness.reports.summary.summary import Summary


def section(page: PageData) -> Section:
    """Distances, changes by channel, and confidence before and after."""
    return Section(
        anchor="change",
        title="How small the change is",
        template=read_template("sections/change.html.j2"),
        data={
            "summary": page.summary,
            "deltas": deltas(page.panels),
            "confidences": confidences(page.summary),
        },
        link="Change",
    )


def confidences(summary: Summary) -> Markup | None:
    """How sure the model was of flipped images, before and after."""
    before, after = summary.confidence_before, summary.confidence_after
    if not sum(before) or not sum(after):
        return None
    was, became = (
        ("right class", "wrong class") if summary.labelled else ("first class", "new class")
    )
    said = (
        f"Confidence of {wording.plural(sum(before), 'flipped image')}: in the {was} before, "
        f"above; in the {became} after, below."
    )
    names = (f"before, in the {was}", f"after, in the {became}")
    return charts.confidences(before, after, names, said)


def deltas(panels: Sequence[CasePanel]) -> dict[str, Any] | None:
    """The histogram of changes over the pictures shown, as a chart and as a table by channel."""
    found = [e.change for e in panels if e.change is not None]
    found = [d for d in found if d.shape[-1] == found[0].shape[-1]]
    if not found:
        return None
    table = metrics.delta_histogram(found)
    totals = table.sum(axis=0)
    names = charts.CHANNELS.get(table.shape[1], tuple(map(str, range(table.shape[1]))))
    counts = table.index.to_numpy()
    still = table.loc[0] if 0 in table.index else 0 * totals
    sizes = (table.mul(abs(counts), axis=0).sum() / totals).tolist()
    return {
        "chart": charts.deltas(table) if len(table) > 1 else None,
        "pictures": len(found),
        "channels": [
            {
                "name": name,
                "changed": float(1 - still[channel] / totals[channel]),
                "mean": mean,
                "low": int(counts[table[channel] > 0].min()),
                "high": int(counts[table[channel] > 0].max()),
            }
            for channel, (name, mean) in enumerate(zip(names, wording.alike(sizes), strict=True))
        ],
    }
