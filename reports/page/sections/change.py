"""How far the flipped pictures are from their originals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from robustness.reports import wording
from robustness.reports.page import charts
from robustness.reports.page.case_panels import CasePanel
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary import metrics
from robustness.reports.summary.summary import Summary


@dataclass(frozen=True)
class ChannelChange:
    """The changes in one channel: share of changed values, mean size and range in counts."""

    name: str
    changed: float
    mean: str
    low: int
    high: int


@dataclass(frozen=True)
class ChannelChanges:
    """The changes by channel over a few pictures, and a chart of them."""

    chart: Markup | None
    pictures: int
    channels: tuple[ChannelChange, ...]


def section(page: PageData) -> Section:
    """Distances, changes by channel, and confidence before and after."""
    return Section(
        anchor="change",
        title="Changes",
        template=read_template("sections/change.html.j2"),
        data={
            "summary": page.summary,
            "changes": changes_by_channel(page.panels),
            "confidence": confidence_chart(page.summary),
        },
        link="Changes",
    )


def confidence_chart(summary: Summary) -> Markup | None:
    """Return a chart of the confidence before and after the flips; None without flips."""
    before, after = summary.confidence_before, summary.confidence_after
    if not sum(before) or not sum(after):
        return None
    old, new = (
        ("correct class", "wrong class") if summary.labelled else ("original class", "new class")
    )
    description = (
        f"Confidence of {wording.plural(sum(before), 'flipped image')}: in the {old} before, "
        f"above; in the {new} after, below."
    )
    names = (f"before, in the {old}", f"after, in the {new}")
    return charts.confidences(before, after, names, description)


def changes_by_channel(panels: Sequence[CasePanel]) -> ChannelChanges | None:
    """Return the changes over the pictures shown, as a chart and by channel; None without pictures.

    Pictures with another number of channels than the first are left out.
    """
    changes = [panel.change for panel in panels if panel.change is not None]
    changes = [change for change in changes if change.shape[-1] == changes[0].shape[-1]]
    if not changes:
        return None
    table = metrics.delta_histogram(changes)
    totals = table.sum(axis=0)
    names = charts.CHANNELS.get(table.shape[1], tuple(map(str, range(table.shape[1]))))
    counts = table.index.to_numpy()
    unchanged = table.loc[0] if 0 in table.index else 0 * totals
    sizes = (table.mul(abs(counts), axis=0).sum() / totals).tolist()
    return ChannelChanges(
        chart=charts.deltas(table) if len(table) > 1 else None,
        pictures=len(changes),
        channels=tuple(
            ChannelChange(
                name=name,
                changed=float(1 - unchanged[channel] / totals[channel]),
                mean=mean,
                low=int(counts[table[channel] > 0].min()),
                high=int(counts[table[channel] > 0].max()),
            )
            for channel, (name, mean) in enumerate(
                zip(names, wording.same_decimals(sizes), strict=True)
            )
        ),
    )
