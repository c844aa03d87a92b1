"""What every HTML page is made with: templates that escape, files of ours, and hashes of them."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robustness.reports import wording


def environment(**filters: Any) -> Environment:
    """Jinja with everything escaped and made visible, and the filters of a page besides ours."""
    made = Environment(
        loader=PackageLoader("robustness.reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": wording.number, "plural": wording.plural, "shorten": wording.shorten}
    made.filters |= {"alike": wording.alike, "settings": wording.settings}
    made.filters |= filters
    return made


def _shown(value: Any) -> Any:
    """What an expression of the template prints: plain text with nothing hidden in it."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return wording.visible(value)


@cache
def ours(name: str) -> str:
    """A file of the templates' folder."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def hashed(text: str) -> str:
    """What a content security policy knows a style or script by."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
