"""A summary for a pull request, in GitHub's Markdown; names stand in code spans, where nothing acts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from robustness.reports import wording
from robustness.reports.gate.verdict import DIAGNOSTIC, Verdict
from robustness.reports.summary.figures import figures
from robustness.reports.summary.findings import findings
from robustness.reports.summary.summary import Rate, Summary

_SIGNS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "⚠️"}
MOST = 20


def markdown(summary: Summary, verdict: Verdict) -> str:
    """The verdict, the numbers, the findings, what is in doubt."""
    sign = _SIGNS.get(verdict.label, "ℹ️")
    lines = [
        f"## {sign} {verdict.label}: robustness of {code(summary.model_name, 60)}",
        "",
        prose(verdict.sentence),
        "",
        prose(summary.sentence),
        "",
        *_table(
            ("", "", ""),
            ((term, f"**{value}**", prose(rest)) for value, term, rest in _figures(summary)),
        ),
    ]
    if summary.worst:
        lines += ["", "### By attack", ""]
        rates = [*((code(r.attack or "", 60), r) for r in summary.rates)]
        if len(summary.attacks) > 1:
            rates += [("**all together**", r) for r in summary.worst]
        lines += _table(
            ("Attack", "Epsilon", "Flipped", "Flip rate", "95 % interval", "Robust accuracy"),
            (
                (
                    name,
                    wording.budget(summary.norm, r.epsilon),
                    f"{r.tally.flip_rate.count} of {r.tally.flip_rate.total}",
                    f"**{wording.percent(r.tally.flip_rate.share)}**",
                    wording.percents(r.tally.flip_rate.low, r.tally.flip_rate.high),
                    _robust(r),
                )
                for name, r in rates[: 5 * MOST]
            ),
        )
        if summary.has_spared:
            lines += [
                "",
                "In a cascade an attack is shown what the earlier ones left: its flip rate is of these "
                "images, its robust accuracy what stands after it.",
            ]
    lines += _findings(summary)
    doubts = [d for d in summary.diagnostics if d.status in ("fail", "warn")]
    rules = [r for r in verdict.rules if r.scope != DIAGNOSTIC and r.passed is not True]
    if doubts or summary.warnings or rules:
        lines += ["", "### In doubt", ""]
        lines += [f"- {prose(one)}" for one in summary.warnings]
        lines += [f"- {prose(f'{d.id} {d.title}: {d.sentence}')}" for d in doubts[:MOST]]
        lines += [
            f"- {prose(r.sentence)}{f' Suppressed: {prose(r.suppressed)}' if r.suppressed else ''}"
            for r in rules[:MOST]
        ]
    which = "were right before" if summary.labelled else "were attacked"
    lines += [
        "",
        f"Flips are counted among images that {which}, from the saved 8-bit files. "
        "Robustness is an upper bound: a stronger attack may flip more.",
    ]
    return "\n".join(lines) + "\n"


def _robust(rate: Rate) -> str:
    if rate.robust_accuracy:
        return wording.percent(rate.robust_accuracy.share)
    return "not reached" if rate.unreached else "–"


def _figures(summary: Summary) -> list[tuple[str, str, str]]:
    robust = summary.worst[-1].robust_accuracy if summary.worst else None
    if robust is None:
        return figures(summary)
    interval = f"95 % interval {wording.percents(robust.low, robust.high)}"
    head = (
        wording.percent(robust.share),
        f"robust accuracy at epsilon {wording.budget(summary.norm, summary.epsilon or 0.0)}",
        interval,
    )
    return [head, *figures(summary)]


def _findings(summary: Summary) -> list[str]:
    found = findings(summary)
    if not found:
        return []
    rows = (
        (
            one.severity.name,
            one.weakness.title,
            "–" if one.epsilon is None else f"{one.epsilon:g}",
            wording.percent(one.rate.share) if one.rate else "–",
            ", ".join(f"`{m.id}`" for m in one.weakness.maps),
        )
        for one in found[:MOST]
    )
    more = [f"\nand {len(found) - MOST} more."] if len(found) > MOST else []
    heads = ("Severity", "Finding", "Epsilon", "Flip rate", "Maps to")
    return ["", "### Findings", "", *_table(heads, rows), *more]


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]


def code(text: str, most: int = 80) -> str:
    """A name as a code span, fit for a cell of a table: no mark-up, mention or link comes of it."""
    shown = (
        wording.shorten(text, most).replace("`", "ˋ").replace("|", "¦").replace("\\", "＼").strip()
    )
    return f"`{shown or ' '}`"


_MARKUP = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>()#+-=!|~$&"})


def prose(text: str) -> str:
    """A sentence as plain text. Names of users within it cannot link, mention or mark up."""
    shown = wording.visible(text).strip().translate(_MARKUP)
    # A number at the start would begin a list.
    shown = re.sub(r"^(\d+)\.", r"\1\\.", shown)
    # Mentions and bare addresses become links after the mark-up is read: break them up.
    for sign in ("@", "://", "www."):
        shown = shown.replace(sign, f"{sign[0]}\N{WORD JOINER}{sign[1:]}")
    return shown
