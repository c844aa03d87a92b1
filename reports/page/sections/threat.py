"""The threat model: goal, knowledge, budget, and the settings of each attack."""

from __future__ import annotations

from collections.abc import Iterable

from robustness.reports import wording
from robustness.reports.page.card_rows import Row
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.summary import Summary
from robustness.threat.norms import described


def section(page: PageData) -> Section:
    """The threat model: goal, knowledge, budget, and the settings of each attack."""
    return Section(
        anchor="threat",
        title="Threat model",
        template=read_template("sections/card.html.j2"),
        data={"rows": tuple(_rows(page.summary))},
        link="Threat model",
        layout="card",
    )


_KNOWLEDGE = {
    "white-box": "white-box: the weights and gradients of the model",
    "score": "score-based: only the probabilities of the model",
    "decision": "decision-based: only the predicted class",
}


def _rows(summary: Summary) -> Iterable[Row]:
    config = summary.config
    goal = config.aim
    yield Row("Goal", "any other class (untargeted)" if goal == "untargeted" else goal)
    for knowledge in dict.fromkeys(entry.knowledge for entry in config.attacks):
        if knowledge:
            yield Row("Knowledge", _KNOWLEDGE.get(knowledge, knowledge))
    epsilons = config.epsilons
    if epsilons:
        norm = described(summary.norm)
        shown = ", ".join(wording.budget(summary.norm, e) for e in epsilons)
        if norm.in_counts:
            counts = "count" if list(epsilons) == [1] else "counts"
            shown += (
                f" {counts} of 0–255 ({', '.join(f'{wording.exact(e)}/255' for e in epsilons)})"
            )
        yield Row("Budget", f"{norm.label}, {norm.measure}: {shown}")
    surrogate = summary.manifest.surrogate
    if surrogate is not None:
        name = surrogate.name or "another model"
        yield Row("Transfer", f"attacks run on {name}; the target only judges the pictures")
    if config.precision != "float32":
        yield Row(
            "Precision",
            f"attacks compute in {config.precision}; every outcome is judged in float32",
        )
    if config.mask is not None:
        yield Row("Region", f"{100 * (config.mask.share or 0.0):.3g} % of the pixels may change")
    yield Row("Domain", f"8-bit pictures {summary.picture_size}")
    before = "a correct class" if summary.labelled else "a predicted class"
    after = "wrong" if summary.labelled else "another"
    if goal != "untargeted":
        after = "the target class"
    yield Row(
        "Flip", f"{before} that becomes {after} for the saved file, read back ({summary.uploaded})"
    )
    for attack in config.attacks:
        paper = attack.paper or "none"
        paper = "" if paper.startswith("none") else f" {paper}."
        settings = ", ".join(wording.settings(attack.parameters)) or "no parameters"
        yield Row(f"Attack {attack.name or ''}", f"{settings}.{paper}")
