"""What every HTML page is made with: templates that escape, files of ours, and hashes of them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robustness.reports import wording
from robustness.reports.page import charts
from robustness.reports.page.explanations import explained


def environment(**filters: Callable[..., object]) -> Environment:
    """A Jinja environment that escapes all text and shows hidden characters as codes.

    Parameters
    ----------
    filters
        Filters of a page, besides those that all pages have.
    """
    made = Environment(
        loader=PackageLoader("robustness.reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "exact": wording.exact,
        "number": wording.number,
        "plural": wording.plural,
        "shorten": wording.shorten,
    }
    made.filters |= {"same_decimals": wording.same_decimals, "settings": wording.settings}
    made.filters |= filters
    return made


@cache
def page_environment() -> Environment:
    """The environment of the report's page and of its sections."""
    return environment(
        percent=lambda share: wording.keep_units(wording.percent(share)),
        percent_range=lambda low, high: wording.keep_units(wording.percent_range(low, high)),
        signed=wording.signed,
        keep_units=wording.keep_units,
        interval=charts.interval,
        acts_as=lambda epsilon, norm: wording.acts_as(norm, epsilon),
        explained=explained,
        visible=wording.visible,
        status=lambda status: wording.SHORT_STATUSES.get(status, status),
        coded=_coded,
        breakable=_breakable,
    )


def _coded(text: str) -> Markup:
    """Our own prose, with the parts between backticks as code."""
    parts = text.split("`")
    marks = [
        Markup("<code>{}</code>") if place % 2 else Markup("{}") for place in range(len(parts))
    ]
    return Markup("").join(mark.format(part) for mark, part in zip(marks, parts, strict=True))


def _breakable(name: str) -> Markup:
    """The name of a pipeline or a function, which may be broken after its separators."""
    parts = re.split(r"(?<=[._:,=/])", wording.visible(name))
    return Markup("<wbr>").join(part for part in parts if part)


def _shown(value: object) -> object:
    """What an expression of the template prints: plain text with nothing hidden in it."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return wording.visible(value)


@cache
def read_template(name: str) -> str:
    """The text of a file in the folder of templates."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
    """The source expression by which a content security policy allows a style or script."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
