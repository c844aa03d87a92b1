"""What the numbers do not say."""

from __future__ import annotations

from robustness.reports import wording
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.summary import Summary


def section(page: PageData) -> Section:
    """The limits of the numbers, a sentence or two each."""
    return Section(
        anchor="limits",
        title="What these numbers do not say",
        template=read_template("sections/limits.html.j2"),
        data={"limits": limits(page.summary)},
        link="Limits",
    )


_WIDE = 0.20


_THREATS = ("rotation", "light and weather", "crops", "stickers", "photographs of prints")


def _untried(summary: Summary) -> str:
    """What the attacks did, and which threats they leave out."""
    names = {row.name for row in summary.attacked}
    done = set()
    if "spatial" in names:
        done |= {"rotation"}
    if "corruptions" in names:
        done |= {"light and weather"}
    if "patch" in names:
        done |= {"stickers"}
    tried = {
        "free": "turned, shifted or spoiled pictures",
        "l0": "changes of a few pixels",
    }.get(summary.norm, "small changes of pixels")
    *most, last = [one for one in _THREATS if one not in done]
    others = f"{', '.join(most)} and {last}"
    return (
        f"Tried were {tried} at the size the model takes. {others.capitalize()} are other threats"
        + (", and so are small changes of pixels." if summary.norm == "free" else ".")
    )


def limits(summary: Summary) -> list[str]:
    """What the numbers do not say."""
    said = [
        "Robustness here is an upper bound: an attack can be too weak. An image that held may fall to "
        "more steps, more restarts or another attack; an image that flipped has flipped.",
        "The interval says how well these images stand for others drawn in the same way. It says "
        "nothing of how strong the attack was.",
        _untried(summary),
    ]
    rate = summary.overall.flip_rate
    if rate.low is not None and rate.high is not None and rate.high - rate.low > _WIDE:
        said.append(
            f"{wording.plural(rate.total, 'image is', 'images are')} few: the 95 % interval spans "
            f"{100 * (rate.high - rate.low):.0f} points. Audit more images."
        )
    if str(summary.config.get("goal", "untargeted")) != "untargeted":
        said.append(
            "The attack had one class to reach; images driven to other classes count as robust."
        )
    if len(summary.attacks) == 1:
        said.append("One attack only. Attacks of another kind find what this one is blind to.")
    return said
