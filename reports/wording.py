"""Numbers, names and the sentences of a verdict, as people read them.

Names come from files and models: `robustness.text` makes them visible and cuts them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from robustness.numerics.intervals import Share
from robustness.text import first_few, listed, percent, percent_range, plural, shorten, visible
from robustness.threat.norms import described

__all__ = ["first_few", "listed", "percent", "percent_range", "plural", "shorten", "visible"]

STATUSES = {
    "flipped": "flipped",
    "robust": "robust",
    "failed": "undecided (every attack failed)",
    "misclassified": "misclassified, not attacked",
    "unreadable": "unreadable",
}
"""What each status of an image says."""
SHORT_STATUSES = {
    "flipped": "flipped",
    "robust": "robust",
    "failed": "undecided",
    "misclassified": "misclassified",
    "unreadable": "unreadable",
}
"""The same where there is little room."""
NOT_REACHED = "not flipped, but no attack could use the whole epsilon"
"""What `robust` means at an epsilon that no attack of a run could use."""


def keep_units(text: str) -> str:
    """Keep percent signs on the line of their numbers, on a page: `3.5%` and `3.5 %` alike."""
    return re.sub(r"(?<=\d) ?%", "\N{NO-BREAK SPACE}%", text)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number without useless digits: `4`, `2.5`, `12,345`; a dash for None."""
    if value is None:
        return "–"
    if float(value).is_integer() or abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def exact(value: float | None) -> str:
    """Return a number that was given, such as an epsilon, with all its digits: `2,000.5`, `1,250,000`."""
    return "–" if value is None else f"{value:,.12g}"


def same_decimals(values: Iterable[float], digits: int = 3) -> list[str]:
    """Return measured numbers with one number of decimals: `43.3, 51.1, 51.4`.

    The largest has `digits` digits; whole numbers have no decimals.
    """
    known = [float(value) for value in values]
    largest = max((abs(value) for value in known), default=0.0)
    whole = all(value.is_integer() for value in known)
    decimals = 0 if whole else max(0, digits - 1 - math.floor(math.log10(largest)))
    return [f"{value:,.{decimals}f}" for value in known]


def signed(value: int) -> str:
    """Return `+3`, `0`, or `−3` with a minus sign as wide as the plus."""
    return f"{value:+d}".replace("-", "−") if value else "0"


def amount(value: float, singular: str, plural_form: str | None = None) -> str:
    """Return `1 count`, `2.5 counts`."""
    if float(value).is_integer():
        return plural(int(value), singular, plural_form)
    return f"{exact(value)} {plural_form or singular + 's'}"


def seconds(value: float | None) -> str:
    """Return a duration as `48 s`, `3 min 20 s` or `2 h 5 min`; a dash for None."""
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.3g} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60)} min"


def date_time(text: object) -> str:
    """Return an ISO time as `23 November 2026, 04:00 UTC`; any other text as it is."""
    try:
        when = datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return str(text or "")
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def settings(parameters: Mapping[str, object]) -> list[str]:
    """Return the parameters of an attack as `steps 40`, `random start yes`; None is left out."""
    yes_no = {True: "yes", False: "no"}
    return [
        f"{key.replace('_', ' ')} {yes_no[value] if isinstance(value, bool) else value}"
        for key, value in parameters.items()
        if value is not None
    ]


def acts_as(norm: str, epsilon: float) -> str:
    """What follows an epsilon of which 8-bit files can use a part only: ` (acts as 76)` after 76.5."""
    used = described(norm).effective(epsilon)
    return "" if used == epsilon else f" (acts as {exact(used)})"


def budget(norm: str, epsilon: float) -> str:
    """An epsilon with what 8-bit files can use of it: `4`, `76.5 (acts as 76)`."""
    return f"{exact(epsilon)}{acts_as(norm, epsilon)}"


def size(norm: str, epsilon: float) -> str:
    """A budget in words, after the norm: `4 counts`, `30 pixels`, `an L2 distance of 100 counts`."""
    known = described(norm)
    counts = amount(epsilon, *known.unit) if any(known.unit) else exact(epsilon)
    return known.budget(f"{counts}{acts_as(norm, epsilon)}")


def meaning(
    name: str,
    norm: str,
    epsilon: float | None,
    labelled: bool = True,
    goal: str = "untargeted",
) -> str:
    """What the large figure, called `name`, and its epsilon say, for a reader new to both; "" without."""
    known = described(norm)
    if epsilon is None or not known.meaning:
        return ""
    whose = "correctly classified images" if labelled else "images"
    if goal == "untargeted":
        robust = "are classified correctly before and after every attack"
        flips = (
            f"{whose} that some attack flips"
            if labelled
            else "images whose class some attack changes"
        )
    else:
        robust = f"are classified correctly and that no attack moves to its target ({goal})"
        flips = f"{whose} that some attack moves to its target ({goal})"
    share = {
        "robust accuracy": f"Robust accuracy: the share of images that {robust}.",
        "flip rate": f"Flip rate: the share of the {flips}.",
    }[name]
    used = exact(known.effective(epsilon))
    return f"{share} Epsilon {budget(norm, epsilon)}: {known.meaning.format(used)}."


def class_name(names: Sequence[str], number: float | None) -> str:
    """Return the name of a class; `class 7` without a name, `unknown` for a missing number."""
    if number is None or math.isnan(number):
        return "unknown"
    return names[int(number)] if 0 <= int(number) < len(names) else f"class {int(number)}"


def headline(
    rate: Share,
    norm: str,
    epsilon: float | None,
    labelled: bool = True,
    left: bool = False,
    broken: tuple[int, int] = (0, 0),
) -> str:
    """Return the result in one short sentence, to stand beside its rate.

    Parameters
    ----------
    rate
        The flip rate.
    norm, epsilon
        The budget; None for `epsilon` if no attack was run.
    labelled
        Whether every image has a label; otherwise no image is called correct.
    left
        Whether the rate is of the images left by the earlier attacks of a cascade.
    broken
        The two counts of `breakdowns`.
    """
    noun = "correctly classified image" if labelled else "image"
    if epsilon is None:
        return "No attack was run, so nothing can be said about robustness."
    if rate.total == 0 and broken[0]:
        return (
            f"Every attack failed on {'each of ' * (broken[0] > 1)}{plural(broken[0], noun)}, so "
            "nothing can be said about robustness."
        )
    if rate.total == 0:
        return f"No {noun} was attacked, so nothing can be said about robustness."
    rest = " left by earlier attacks" if left else ""
    verb = "flips" if rate.count == 1 else "flip"
    counts = f"{rate.count:,} of {plural(rate.total, noun)}{rest} {verb} within"
    return f"{counts} {size(norm, epsilon)}.{breakdowns(*broken)}"


def breakdowns(failed: int, partly: int) -> str:
    """Return what follows a flip rate if attacks failed; "" if none did.

    On `failed` images every attack did; on `partly` of those that did not flip some attack did.
    """
    parts = []
    if failed:
        verb = "is" if failed == 1 else "are"
        parts.append(f"{plural(failed, 'more image')} {verb} undecided: every attack failed there.")
    if partly:
        parts.append(f"On {partly:,} of those that did not flip, some attack failed.")
    return "".join(f" {part}" for part in parts)


def unreached(reason: str) -> str:
    """Return what follows a sentence on an epsilon that no attack could use; "" without a reason."""
    return f" This says nothing about robustness at that epsilon: {reason}." if reason else ""


def sentence(  # noqa: PLR0917 - the parts of one sentence
    rate: Share,
    norm: str,
    epsilon: float | None,
    attacks: Sequence[str],
    goal: str,
    labelled: bool = True,
    left: bool = False,
    broken: tuple[int, int] = (0, 0),
) -> str:
    """Return the one sentence of a report, plain enough for a terminal.

    `headline`, with the rate, its interval, the attacks, the norm and the goal.
    """
    if rate.share is None or epsilon is None:
        return headline(rate, norm, epsilon, labelled, left, broken)
    short = headline(rate, norm, epsilon, labelled, left)
    verb = "flips" if rate.count == 1 else "flip"
    interval = percent_range(rate.low, rate.high, "-")
    numbers = f" ({percent(rate.share)}, 95 % interval {interval}) {verb} within "
    aim = "" if goal == "untargeted" else f", {goal}"
    names = ", ".join(shorten(name) for name in attacks)
    body = short.removesuffix(".").replace(f" {verb} within ", numbers, 1)
    return f"{body} ({names}, {norm}{aim}).{breakdowns(*broken)}"
