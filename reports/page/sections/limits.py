"""What the numbers do not say."""

from __future__ import annotations

from robustness.reports import wording
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.summary import Summary
from robustness.threat.norms import described


def section(page: PageData) -> Section:
    """The limits of the numbers, a sentence or two each."""
    return Section(
        anchor="limits",
        title="Limits",
        template=read_template("sections/limits.html.j2"),
        data={"limits": limits(page.summary)},
        link="Limits",
    )


_WIDE = 0.20
"""Width of an interval, as a share, from which on a limit says so."""


_OTHER_THREATS = ("rotation", "light and weather", "crops", "stickers", "photographs of prints")
_THREAT_OF_ATTACK = {
    "spatial": "rotation",
    "corruptions": "light and weather",
    "patch": "stickers",
}


def limits(summary: Summary) -> list[str]:
    """Return what the numbers do not say, a sentence or two each."""
    sentences = [
        "The robust accuracy is an upper bound, since an attack can be too weak: an image that is robust "
        "here may flip with more steps, more restarts or another attack.",
        "The intervals show how well these images represent others drawn in the same way. They say "
        "nothing about the strength of the attacks.",
        _other_threats(summary),
    ]
    rate = summary.overall.flip_rate
    if rate.low is not None and rate.high is not None and rate.high - rate.low > _WIDE:
        sentences.append(
            f"The sample is small ({wording.plural(rate.total, 'image')}): the 95 % interval is "
            f"{100 * (rate.high - rate.low):.0f} percentage points wide. Audit more images."
        )
    if summary.config.aim != "untargeted":
        sentences.append(
            "The attacks had one target class; images that reach another class count as robust."
        )
    if len(summary.attacks) == 1:
        sentences.append(
            "Only one attack was run. An attack of another kind may flip images that this one cannot."
        )
    return sentences


def _other_threats(summary: Summary) -> str:
    """What the attacks tried, and which threats they leave out."""
    names = {row.name for row in summary.attacked}
    tried = {threat for attack, threat in _THREAT_OF_ATTACK.items() if attack in names}
    norm = described(summary.norm)
    *most, last = [threat for threat in _OTHER_THREATS if threat not in tried]
    untried = f"{', '.join(most)} and {last}"
    also = ", and neither were small changes of pixels" if not norm.measures else ""
    return (
        f"The audit tried {norm.changes} ({summary.picture_size}). Other threats were not tried: "
        f"{untried}{also}."
    )
