"""A summary for a pull request in GitHub's Markdown; names are in code spans, where mark-up has no effect."""

from __future__ import annotations

import re
from collections.abc import Iterable

from robustness.reports import wording
from robustness.reports.gate.verdict import DIAGNOSTIC, Verdict
from robustness.reports.summary.figures import Figure, figures
from robustness.reports.summary.findings import findings
from robustness.reports.summary.summary import Rate, Summary

_SIGNS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "⚠️"}
MOST = 20


def markdown(summary: Summary, verdict: Verdict) -> str:
    """Return the verdict, the figures, the findings and the caveats as Markdown."""
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
            ((f.term, f"**{f.value}**", prose(f.basis)) for f in _figures(summary)),
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
                    f"{r.tally.flip_rate.count} of {r.tally.flip_rate.total}{_undecided(r)}",
                    f"**{wording.percent(r.tally.flip_rate.share)}**",
                    wording.percent_range(r.tally.flip_rate.low, r.tally.flip_rate.high),
                    _robust(r),
                )
                for name, r in rates[: 5 * MOST]
            ),
        )
        if summary.has_spared:
            lines += [
                "",
                "In a cascade an attack runs only on the images that the earlier attacks did not flip: its "
                "flip rate is a share of these, and its robust accuracy is that after this attack and all "
                "earlier ones.",
            ]
    lines += _findings(summary)
    if summary.deployed:
        lines += ["", "### Deployed pipeline", ""]
        lines += [f"- {prose(said)}" for said in summary.deployed.sentences]
    failed = [d for d in summary.diagnostics if d.status in ("fail", "warn")]
    rules = [r for r in verdict.rules if r.scope != DIAGNOSTIC and r.passed is not True]
    if failed or summary.warnings or rules:
        lines += ["", "### Caveats", ""]
        lines += [f"- {prose(warning)}" for warning in summary.warnings]
        lines += [f"- {prose(f'{d.id} {d.title}: {d.sentence}')}" for d in failed[:MOST]]
        lines += [
            f"- {prose(r.sentence)}{f' Suppressed: {prose(r.suppressed)}' if r.suppressed else ''}"
            for r in rules[:MOST]
        ]
    which = "the model classifies correctly" if summary.labelled else "were attacked"
    lines += [
        "",
        f"The flip rate is a share of the images that {which}; flips are judged from the saved 8-bit files. "
        "Robustness is an upper bound: a stronger attack may flip more images.",
    ]
    return "\n".join(lines) + "\n"


def _undecided(rate: Rate) -> str:
    parts = [f"{rate.tally.failed} more undecided"] * bool(rate.tally.failed)
    parts += [f"some attack failed on {rate.tally.partly_failed} others"] * bool(
        rate.tally.partly_failed
    )
    return f" ({'; '.join(parts)})" if parts else ""


def _robust(rate: Rate) -> str:
    if rate.robust_accuracy:
        return wording.percent(rate.robust_accuracy.share)
    return "not reached" if rate.unreached else "–"


def _figures(summary: Summary) -> list[Figure]:
    robust = summary.worst[-1].robust_accuracy if summary.worst else None
    if robust is None:
        return figures(summary)
    interval = f"95 % interval {wording.percent_range(robust.low, robust.high)}"
    head = Figure(
        wording.percent(robust.share),
        f"robust accuracy at epsilon {wording.budget(summary.norm, summary.epsilon or 0.0)}",
        interval,
    )
    return [head, *figures(summary)]


def _findings(summary: Summary) -> list[str]:
    every = findings(summary)
    if not every:
        return []
    rows = (
        (
            finding.severity.name,
            finding.weakness.title,
            "–" if finding.epsilon is None else wording.budget(summary.norm, finding.epsilon),
            wording.percent(finding.rate.share) if finding.rate else "–",
            ", ".join(f"`{m.id}`" for m in finding.weakness.maps),
        )
        for finding in every[:MOST]
    )
    more = [f"\nand {len(every) - MOST} more."] if len(every) > MOST else []
    heads = ("Severity", "Finding", "Epsilon", "Flip rate", "Maps to")
    return ["", "### Findings", "", *_table(heads, rows), *more]


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]


def code(text: str, most: int = 80) -> str:
    """Return a name as a code span for a cell of a table, so that it cannot mark up, mention or link."""
    shown = (
        wording.shorten(text, most).replace("`", "ˋ").replace("|", "¦").replace("\\", "＼").strip()
    )
    return f"`{shown or ' '}`"


_MARKUP = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>()#+-=!|~$&"})


def prose(text: str) -> str:
    """Return a sentence as plain text, so that names in it cannot mark up, mention or link."""
    shown = wording.visible(text).strip().translate(_MARKUP)
    # A number at the start would begin a list.
    shown = re.sub(r"^(\d+)\.", r"\1\\.", shown)
    # Mentions and bare addresses become links after the mark-up is read: break them up.
    for sign in ("@", "://", "www."):
        shown = shown.replace(sign, f"{sign[0]}\N{WORD JOINER}{sign[1:]}")
    return shown
