"""The audited images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from markupsafe import Markup

from robustness.reports import wording
from robustness.reports.page.card_rows import Row, hash_rows
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.summary import Summary


def section(page: PageData) -> Section:
    """The audited images."""
    return Section(
        anchor="data",
        title="Data",
        template=read_template("sections/data.html.j2"),
        data={"rows": tuple(_rows(page.summary)), "skipped": page.summary.skipped},
        link="Data",
        layout="card",
    )


def _rows(summary: Summary) -> Iterable[Row]:
    data, images = summary.manifest.data, summary.images
    if data.description:
        yield Row("Source", data.description)
    available = "" if data.available is None else f" of {data.available:,}"
    yield Row("Selected", f"{images.selected:,}{available}")
    if summary.config.shard is not None:
        yield Row("Shard", f"{summary.config.shard} of {data.undivided or 0:,} images")
    unread = images.selected - images.readable
    yield Row("Readable", f"{images.readable:,}" + (f", {unread:,} not" if unread else ""))
    if images.labelled:
        yield Row(
            "Misclassified", f"{images.misclassified:,}, not attacked and never counted as flips"
        )
    if counts := _by_class(summary):
        yield Row("By class", counts)
    if summary.converted:
        yield Row("Converted", f"{summary.converted:,} resized or converted to 8-bit pictures")
    if data.seed is not None:
        yield Row("Seed", str(data.seed))
    yield from hash_rows(
        ("SHA-256 of the pictures", data.sha256),
        ("SHA-256 of the selection", data.selection_sha256),
    )


def _by_class(summary: Summary, most: int = 12) -> str:
    """`cat 33, dog 32`: how many images of each label there are, the most frequent first."""
    counted = Counter(image.label for image in summary.results if image.label is not None)
    # A name that is written from right to left would take the numbers beside it along.
    named = Markup("<bdi>{}</bdi> {:,}")
    shown = [
        named.format(wording.shorten(name, 30), count) for name, count in counted.most_common(most)
    ]
    more = len(counted) - len(shown)
    rest = f" and {wording.plural(more, 'more class', 'more classes')}" if more else ""
    return Markup(", ").join(shown) + rest
