"""Numbers and names as people read them. Names come from files and models: they may be hostile."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from robustness.configuration import epsilons
from robustness.numerics.intervals import Share
from robustness.text import visible

STATUSES = {
    "flipped": "flipped",
    "robust": "robust",
    "failed": "undecided, the attack broke down",
    "misclassified": "wrong before, not attacked",
    "unreadable": "unreadable",
}
FATES = {
    "flipped": "flipped",
    "robust": "held",
    "failed": "undecided",
    "misclassified": "wrong before",
    "unreadable": "unreadable",
}
"""The same where there is little room."""
UNTRIED = "not flipped, by attacks that could not use the whole epsilon"
"""What `robust` means at an epsilon that no attack of a run could use."""
NORM_NAMES = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0", "free": "no norm"}


def shorten(text: str, most: int = 48) -> str:
    """`text`, made visible and cut in the middle to at most `most` characters."""
    text = visible(text)
    if len(text) <= most:
        return text
    tail = most // 2 - 1
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def listed(names: Iterable[str]) -> str:
    """`fgsm, pgd(steps=40)`: each cut to 60 characters."""
    return ", ".join(shorten(name, 60) for name in names)


def percent(share: float | None) -> str:
    """`97.0 %`. 0 and 100 are said only where they are exact; None is a dash."""
    return "–" if share is None else f"{_hundred(share)} %"


def _hundred(share: float) -> str:
    if share in (0, 1):
        return f"{100 * share:.0f}"
    return f"{min(99.9, max(0.1, 100 * share)):.1f}"


def percents(low: float | None, high: float | None, dash: str = "–") -> str:
    """`97.0–100 %`."""
    if low is None or high is None:
        return "–"
    return f"{_hundred(low)}{dash}{_hundred(high)} %"


def together(text: str) -> str:
    """`text` with its units kept on the line of their numbers, for a page: `3.5%` and `3.5 %` alike."""
    return re.sub(r"(?<=\d) ?%", "\N{NO-BREAK SPACE}%", text)


def number(value: float | None, digits: int = 4) -> str:
    """A number without useless digits: 4, 2.5, 12,345."""
    if value is None:
        return "–"
    if float(value).is_integer() or abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def alike(values: Iterable[float], digits: int = 3) -> list[str]:
    """Measured numbers of one kind, each with as many decimals as gives the largest `digits` digits.

    `43.3, 51.1, 51.4`; none where all are whole.
    """
    known = [float(value) for value in values]
    largest = max((abs(value) for value in known), default=0.0)
    whole = all(value.is_integer() for value in known)
    decimals = 0 if whole else max(0, digits - 1 - math.floor(math.log10(largest)))
    return [f"{value:,.{decimals}f}" for value in known]


def signed(value: int) -> str:
    """`+3`, `0`, and a real minus sign, as wide as the plus: `−3`."""
    return f"{value:+d}".replace("-", "−") if value else "0"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 image`, `2 images`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def amount(value: float, one: str) -> str:
    """`1 count`, `2.5 counts`."""
    return plural(int(value), one) if float(value).is_integer() else f"{value:g} {one}s"


def seconds(value: float | None) -> str:
    """`48 s`, `3 min 20 s`, `2 h 5 min`."""
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.3g} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60)} min"


def date_time(text: object) -> str:
    """`23 November 2026, 04:00 UTC` from an ISO time; other text as it is."""
    try:
        when = datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return str(text or "")
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def settings(parameters: Mapping[str, Any]) -> list[str]:
    """What an attack was told: `steps 40`, `random start yes`; without what was left open."""
    plain = {True: "yes", False: "no"}
    return [
        f"{key.replace('_', ' ')} {plain[value] if isinstance(value, bool) else value}"
        for key, value in parameters.items()
        if value is not None
    ]


def acts_as(norm: str, epsilon: float) -> str:
    """What follows an epsilon of which 8-bit files can use a part only: ` (acts as 76)` after 76.5."""
    used = epsilons.effective(norm, epsilon)
    return "" if used == epsilon else f" (acts as {used:g})"


def budget(norm: str, epsilon: float) -> str:
    """An epsilon with what 8-bit files can use of it: `4`, `76.5 (acts as 76)`."""
    return f"{epsilon:g}{acts_as(norm, epsilon)}"


def size(norm: str, epsilon: float) -> str:
    """A budget in words, after the norm: `4 counts`, `30 pixels`, `an L2 distance of 100 counts`."""
    counts = amount(epsilon, "pixel" if norm == "l0" else "count")
    counts += acts_as(norm, epsilon)
    if norm == "l0":
        return counts
    if norm == "free":
        return f"a budget of {epsilon:g} (degrees or severity)"
    return counts if norm == "linf" else f"an {NORM_NAMES.get(norm, norm)} distance of {counts}"


_MEANINGS = {
    "linf": "no colour value of a pixel (0 to 255) moves by more than {0}",
    "l2": "the changes of all colour values (0 to 255), squared, add up to at most {0} squared",
    "l1": "the changes of all colour values (0 to 255) add up to at most {0}",
    "l0": "no more pixels than {0} change, by any amount",
    "free": "the attack goes no further than {0}, in degrees or severity",
}


def meaning(name: str, norm: str, epsilon: float | None, labelled: bool = True) -> str:
    """What the large figure, called `name`, and its epsilon say, for a reader new to both; "" without."""
    if epsilon is None or norm not in _MEANINGS:
        return ""
    share = {
        "robust accuracy": "Robust accuracy: images that are right and stay right under every attack.",
        "flip rate": "Flip rate: of the images that were right, those that some attack turns wrong."
        if labelled
        else "Flip rate: of the images, those whose class some attack changes.",
    }[name]
    used = f"{epsilons.effective(norm, epsilon):g}"
    return f"{share} Epsilon {budget(norm, epsilon)}: {_MEANINGS[norm].format(used)}."


def class_name(names: Sequence[str], number: float | None) -> str:
    """The name of a class, or what stands for one that has none."""
    if number is None or math.isnan(number):
        return "unknown"
    return names[int(number)] if 0 <= int(number) < len(names) else f"class {int(number)}"


def headline(
    rate: Share, norm: str, epsilon: float | None, labelled: bool = True, left: bool = False
) -> str:
    """The verdict in short, to stand beside its rate; "correct" only where every image is `labelled`.

    `left` says that the rate is of what earlier attacks of a cascade left.
    """
    which = "correctly classified image" if labelled else "image"
    if epsilon is None:
        return "No attack was run, so nothing can be said about robustness."
    if rate.total == 0:
        return f"No {which} was attacked, so nothing can be said about robustness."
    rest = " that earlier attacks left" if left else ""
    does = "flips" if rate.count == 1 else "flip"
    return (
        f"{rate.count:,} of {plural(rate.total, which)}{rest} {does} within {size(norm, epsilon)}."
    )


def unreached(reason: str) -> str:
    """What follows a sentence on an epsilon that no attack could use, for a `reason`; "" without one."""
    return f" That says nothing about robustness there: {reason}." if reason else ""


def sentence(
    rate: Share,
    norm: str,
    epsilon: float | None,
    attacks: Sequence[str],
    goal: str,
    labelled: bool = True,
    left: bool = False,
) -> str:
    """The one sentence of a report, plain enough for a terminal."""
    said = headline(rate, norm, epsilon, labelled, left)
    if rate.share is None or epsilon is None:
        return said
    numbers = f"({percent(rate.share)}, 95 % interval {percents(rate.low, rate.high, '-')}) flip"
    aim = "" if goal == "untargeted" else f", {goal}"
    named = f" ({', '.join(shorten(a) for a in attacks)}, {norm}{aim})."
    return said.replace("flip", numbers, 1).removesuffix(".") + named
