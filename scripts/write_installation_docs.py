"""Write the tables of docs/installation.md from the metadata of installed packages.

python scripts/write_installation_docs.py ENVIRONMENT

ENVIRONMENT is the site-packages folder of a fresh environment after `pip install '.[kaggle,parquet]'`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).parents[1] / "docs" / "installation.md"
OURS = "robustness-toolkit"
EXTRAS = ("kaggle", "parquet")
"""The extras whose packages the page lists."""
MEGABYTE = 1_000_000
_KNOWN = re.compile(r"Apache License, Version [\d.]+|MIT License|BSD \d-Clause License")
"""Names of licences, as the files of packages that state none in their metadata write them."""


@dataclass(frozen=True)
class Package:
    """An installed package, as its metadata describe it; `size` is the bytes of its files."""

    name: str
    version: str
    size: int
    licence: str


def licence(package: Distribution) -> str:
    """Return the licence that the metadata of a package state, or the one that its licence file names."""
    about = package.metadata
    fields = about.get_all("License-Expression") or about.get_all("License") or [""]
    stated = str(fields[0]).strip()
    if stated and len(stated) <= 60 and "\n" not in stated:
        return stated
    classifiers = [str(text) for text in about.get_all("Classifier") or []]
    names = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License")]
    if names:
        return ", ".join(names)
    for file in package.files or []:
        if re.match(r"LICEN[CS]E|COPYING", file.name):
            text = Path(str(package.locate_file(file))).read_text("utf-8", "replace")
            known = _KNOWN.search(text)
            first = next((line.strip() for line in text.splitlines() if line.strip()), "")
            return known[0] if known else first
    return ""


def by_name(folder: str | Path) -> dict[str, Distribution]:
    """Return the packages installed in a folder by their normalized names."""
    return {canonicalize_name(one.name): one for one in distributions(path=[str(folder)])}


def required(
    installed: Mapping[str, Distribution], name: str, extras: Iterable[str] = ()
) -> set[str]:
    """Return the names of the installed packages that a package with some extras needs, itself included."""
    found: set[str] = set()
    pending = [(canonicalize_name(name), frozenset(["", *extras]))]
    seen = set(pending)
    while pending:
        current, chosen = pending.pop()
        if current not in installed:
            continue
        found.add(current)
        for text in installed[current].requires or []:
            needed = Requirement(text)
            if needed.marker and not any(needed.marker.evaluate({"extra": one}) for one in chosen):
                continue
            following = (canonicalize_name(needed.name), frozenset(["", *needed.extras]))
            if following not in seen:
                seen.add(following)
                pending.append(following)
    return found


def packages(installed: Mapping[str, Distribution], names: Iterable[str]) -> list[Package]:
    """Return the named packages in alphabetic order."""
    return [
        Package(
            installed[name].name,
            installed[name].version,
            sum(file.size or 0 for file in installed[name].files or []),
            licence(installed[name]),
        )
        for name in sorted(names)
    ]


def table(rows: Iterable[Package]) -> str:
    """Return the packages as a Markdown table."""
    lines = ["| package | version | MB | licence |", "|---|---|---|---|"]
    lines += [
        f"| {one.name} | {one.version} | {one.size / MEGABYTE:.1f} | {one.licence} |"
        for one in rows
    ]
    return "\n".join(lines)


def generated(folder: str | Path) -> dict[str, str]:
    """Return the generated parts of the page by name, for the packages of an environment."""
    installed = by_name(folder)
    base = required(installed, OURS)
    rows = packages(installed, base)
    total, largest = sum(one.size for one in rows), max(rows, key=lambda one: one.size)
    parts = {
        "summary": f"{len(rows)} packages, {total / MEGABYTE:,.0f} MB on disk, "
        f"{largest.size / MEGABYTE:,.0f} MB of them {largest.name}.",
        "packages": table(rows),
    }
    for extra in EXTRAS:
        more = packages(installed, required(installed, OURS, [extra]) - base)
        size = sum(one.size for one in more) / MEGABYTE
        counted = f"{len(more)} package{'s' if len(more) != 1 else ''}, {size:.0f} MB:"
        parts[extra] = f"{counted}\n\n{table(more)}"
    return parts


def filled(page: str, parts: Mapping[str, str]) -> str:
    """Return the page with the text between the markers of each part replaced."""
    for name, text in parts.items():
        marker = f"<!-- {name} -->"
        before, _, rest = page.partition(marker)
        _, end, after = rest.partition("<!-- end -->")
        page = f"{before}{marker}\n{text}\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8"), generated(sys.argv[1])), encoding="utf-8")
