"""Hardware, versions, time and passes."""

from __future__ import annotations

from collections.abc import Iterable

from robustness.reports import wording
from robustness.reports.page.card_rows import Row
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.summary import Summary
from robustness.runs.schema import ClusterEntry
from robustness.text import plural


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
    yield from _workers(manifest.cluster)
    yield Row("Passes", f"{summary.cost.forward:,} forward, {summary.cost.backward:,} backward")
    for term, time in (("Created", manifest.created), ("Finished", manifest.finished)):
        if time:
            yield Row(term, wording.date_time(time))


_MOST_WORKERS = 32


def _workers(cluster: ClusterEntry | None) -> Iterable[Row]:
    """What each worker of a cluster did, and whether its hardware computes the same bits."""
    if cluster is None:
        return
    lost = sum(worker.lost for worker in cluster.workers)
    ended = f"; {lost:,} ended before the audit" if lost else ""
    count = plural(len(cluster.workers), "worker")
    yield Row("Cluster", f"{wording.shorten(cluster.address, 80)}, {count}{ended}")
    other = [worker for worker in cluster.workers if not worker.like]
    if other:
        images = sum(worker.images for worker in other)
        yield Row(
            "Other hardware",
            f"{plural(len(other), 'worker')} of other hardware attacked {plural(images, 'image')}: their "
            "last bits differ, so their flips were judged again on this one.",
        )
    for number, worker in enumerate(cluster.workers[:_MOST_WORKERS], 1):
        where = wording.shorten(f"{worker.host}, {worker.device}".strip(", "), 80)
        did = f"{plural(worker.images, 'image')}, {wording.seconds(worker.processor_seconds)} of processor"
        yield Row(f"Worker {number}", f"{where}: {did}{', lost' if worker.lost else ''}")
    if len(cluster.workers) > _MOST_WORKERS:
        yield Row("Further workers", f"{len(cluster.workers) - _MOST_WORKERS:,}, see run.json")
