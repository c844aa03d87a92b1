"""The report as one HTML file: no request, no script, openable from a folder.

Text of users and models reaches the page only through Jinja's autoescape, every hidden character of
it shown by `words.visible`; pictures only as PNG data URIs that we encode from pixels.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import cards, charts, metrics, words
from reports.exhibits import Exhibit, exhibit
from reports.summary import Rate, Summary, summarise
from reports.tables import ReadableRun
from robustness.store import Run

UNITS = {
    "linf": "counts a component",
    "l2": "counts of L2 length",
    "l1": "counts in all",
    "l0": "pixels",
}
NAME = "report.html"


def write_html(run: str | Path, path: str | Path | None = None) -> Path:
    """Write the report of the run folder `run`; into it as report.html, or to `path`. Where it is.

    Reads the folder only, so it can be written again at any time. RunError if it is no run.
    """
    with Run.open(run) as opened:
        page = render(opened)
    target = Path(run) / NAME if path is None else Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_text(page, encoding="utf-8")
    part.replace(target)
    return target


def render(run: ReadableRun) -> str:
    """The whole page of a run."""
    summary = summarise(run)
    exhibits = [exhibit(run, case, summary.class_names) for case in summary.cases]
    style = _style()
    template = _environment().get_template("report.html.j2")
    return template.render(
        s=summary,
        style=Markup(style),  # noqa: S704  our own file
        policy=_policy(style),
        exhibits=exhibits,
        rows=_rate_rows(summary),
        parts=_parts(summary),
        basis=_basis(summary),
        figures=cards.figures(summary),
        curve=_curve(summary),
        confidences=_confidences(summary),
        deltas=_deltas(exhibits),
        matrix=_matrix(summary),
        cards=cards.cards(summary),
        checks=cards.checks(summary),
        limits=cards.limits(summary),
        command=str(summary.manifest.get("command") or ""),
        title=cards.title(summary),
        created=cards.moment(summary.manifest.get("created")),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda share: words.together(words.percent(share)),
        "percents": lambda low, high: words.together(words.percents(low, high)),
        "number": words.number,
        "signed": words.signed,
        "together": words.together,
        "plural": words.plural,
        "shorten": words.shorten,
        "interval": charts.interval,
    }
    return environment


def _shown(value: Any) -> Any:
    """What an expression of the template prints: plain text with nothing hidden in it."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return words.visible(value)


def _style() -> str:
    return (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")


def _policy(style: str) -> str:
    """Nothing may load but the pictures in the file; the one style sheet is known by its hash."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )


def _rate_rows(summary: Summary) -> list[tuple[str, list[Rate]]]:
    """Attack by attack, all together last if there are several."""
    groups = [
        (name, [rate for rate in summary.rates if rate.attack == name]) for name in summary.attacks
    ]
    if len(summary.attacks) > 1:
        groups.append(("All together, image by image", list(summary.worst)))
    return groups


def _basis(summary: Summary) -> list[str]:
    """What the verdict rests on, in a few words."""
    names = [words.shorten(name, 40) for name in summary.attack_names[:4]]
    more = len(summary.attack_names) - len(names)
    shown = ", ".join(names) + (f" and {words.plural(more, 'more attack')}" if more > 0 else "")
    goal = str(summary.config.get("goal", "untargeted"))
    return [shown, words.NORM_NAMES.get(summary.norm, summary.norm), goal]


def _parts(summary: Summary) -> dict[str, Any]:
    names = ("flipped", "robust", "failed", "misclassified", "unreadable")
    words_for = {
        "flipped": "flipped",
        "robust": "robust",
        "failed": "undecided, the attack broke down",
        "misclassified": "wrong before, not attacked",
        "unreadable": "unreadable",
    }
    counts = [(name, getattr(summary.overall, name)) for name in names]
    legend = [(name, words_for[name], count) for name, count in counts if count]
    return {"bar": charts.parts(counts) if legend else None, "legend": legend}


def _curve(summary: Summary) -> Markup | None:
    worst = _line("all together", summary.worst)
    if not any(share.share is not None for _, share in worst.points):
        return None
    lines = [
        _line(name, [rate for rate in summary.rates if rate.attack == name])
        for name in summary.attacks
    ]
    return charts.curve(lines, worst, UNITS.get(summary.norm, summary.norm))


def _line(name: str, rates: Any) -> charts.Line:
    return charts.Line(name, tuple((rate.epsilon, rate.tally.flip_rate) for rate in rates))


def _confidences(summary: Summary) -> Markup | None:
    if not sum(summary.confidence_before) or not sum(summary.confidence_after):
        return None
    return charts.confidences(summary.confidence_before, summary.confidence_after)


def _deltas(exhibits: list[Exhibit]) -> dict[str, Any] | None:
    """The histogram of changes over the pictures shown, as a chart and as a table by channel."""
    found = [e.change for e in exhibits if e.change is not None]
    found = [d for d in found if d.shape[-1] == found[0].shape[-1]]
    if not found:
        return None
    table = metrics.delta_histogram(found)
    totals = table.sum(axis=0)
    names = charts.CHANNELS.get(table.shape[1], tuple(map(str, range(table.shape[1]))))
    counts = table.index.to_numpy()
    still = table.loc[0] if 0 in table.index else 0 * totals
    return {
        "chart": charts.deltas(table) if len(table) > 1 else None,
        "pictures": len(found),
        "channels": [
            {
                "name": name,
                "changed": float(1 - still[channel] / totals[channel]),
                "mean": float((abs(counts) * table[channel]).sum() / totals[channel]),
                "low": int(counts[table[channel] > 0].min()),
                "high": int(counts[table[channel] > 0].max()),
            }
            for channel, name in enumerate(names)
        ],
    }


_MATRIX = 10


def _matrix(summary: Summary) -> dict[str, Any] | None:
    """Which class becomes which: a matrix for a few classes; for more the commonest pairs."""
    pairs = summary.pairs
    if not pairs:
        return None
    names = [n for n in summary.class_names if any(n in (p.before, p.after) for p in pairs)]
    cells = {(pair.before, pair.after): pair.count for pair in pairs}
    fits = len(names) <= _MATRIX and len(set(names)) == len(names)
    top = max(pair.count for pair in pairs)
    rows = [
        (before, [(cells.get((before, after), 0), before == after) for after in names])
        for before in names
    ]
    return {
        "names": names,
        "rows": rows if fits else None,
        "pairs": [(pair, charts.meter(pair.count / top, "bar accent")) for pair in pairs[:12]],
        "more": max(0, len(pairs) - 12),
    }
