"""What each section of the page shows, ready for the template: numbers in, charts and rows out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from robustness.reports import wording
from robustness.reports.page import charts
from robustness.reports.page.case_panels import Exhibit
from robustness.reports.summary import breakdown, findings, metrics, taxonomy
from robustness.reports.summary.summary import Pair, Rate, Summary
from robustness.runs import thresholds
from robustness.threat.norms import described

MOST_SQUARES = 2500
"""Most images drawn as squares, one each."""


def found(summary: Summary) -> list[dict[str, Any]]:
    """The findings by weakness, the gravest first; ids and remedies once each."""
    groups: dict[str, dict[str, Any]] = {}
    editions = taxonomy.sources()
    for one in findings.findings(summary):
        group = groups.setdefault(
            one.weakness.rule,
            {
                "weakness": one.weakness,
                "severity": one.severity.name,
                "attacks": one.attacks,
                "spared": any(g.spared for g in summary.groups if g.attacks == one.attacks),
                "maps": [(m, editions[m.scheme]) for m in one.weakness.maps],
                "rungs": [],
            },
        )
        group["rungs"].append((one, _cases_of(one, summary)))
    for group in groups.values():
        group["rungs"].sort(key=lambda rung: rung[0].epsilon or 0.0)
    return list(groups.values())


def _cases_of(one: findings.Finding, summary: Summary) -> str:
    """The address, in the page, of the cases a finding rests on; by attack where one alone made it."""
    if one.epsilon is None or not one.rate:
        return ""
    address = f"#status=flipped&epsilon={one.epsilon:g}"
    if len(one.attacks) == 1 and len(summary.attacks) > 1:
        address += f"&attack={summary.attacks.index(one.attacks[0])}"
    return address


def rate_rows(summary: Summary) -> list[tuple[str, list[Rate]]]:
    """Attack by attack, all together last if there are several."""
    groups = [
        (name, [rate for rate in summary.rates if rate.attack == name]) for name in summary.attacks
    ]
    if len(summary.attacks) > 1:
        groups.append(("All together, image by image", list(summary.worst)))
    return groups


def curve(summary: Summary) -> dict[str, Any] | None:
    """The security curve: robust accuracy over epsilon, without labels the flip rate."""
    clean = summary.images.clean_accuracy
    by_accuracy = clean is not None and clean.share is not None

    def line(name: str, rates: Sequence[Rate]) -> charts.Line:
        pick = [(r.epsilon, r.robust_accuracy if by_accuracy else r.tally.flip_rate) for r in rates]
        return charts.Line(name, tuple((e, share) for e, share in pick if share is not None))

    worst = line("all together", summary.worst)
    if not any(share.share is not None for _, share in worst.points):
        return None
    marks = [
        charts.Mark(str(m.attack), m.median, m.low, m.high)
        for m in summary.median_epsilons
        if m.median is not None
    ]
    lines = [line(name, [r for r in summary.rates if r.attack == name]) for name in summary.attacks]
    what = "Robust accuracy" if by_accuracy else "Flip rate"
    start = clean.share if by_accuracy and clean and clean.share is not None else 0.0
    unit = described(summary.norm).axis
    return {"what": what, "chart": charts.curve(lines, worst, unit, start, what, marks)}


def medians(summary: Summary) -> list[tuple[str, str]]:
    """The median smallest epsilon in words, after the attacks it is said of; that of all together last."""
    found: dict[str, list[str]] = {}
    for one in summary.median_epsilons:
        found.setdefault(median(one), []).append(str(one.attack))
    said = [(wording.listed(attacks), said) for said, attacks in found.items()]
    if len(summary.attacks) > 1:
        said.append(("all together", median(summary.smallest_epsilon)))
    return said


def median(one: breakdown.MedianEpsilon | metrics.SmallestEpsilon) -> str:
    """A median smallest epsilon in words: the point, the bracket always, the interval, a fitted curve's."""
    said = [thresholds.said(asdict(one))]
    fit = one.fit if isinstance(one, breakdown.MedianEpsilon) else None
    if fit is not None:
        ends = thresholds.reach(fit.low, fit.high)
        said.append(f"by a logistic curve {wording.number(fit.median, 3)}, {ends}")
    return ", ".join(said) + (f" ({one.note})" if one.note else "")


def convergence(summary: Summary) -> list[dict[str, Any]]:
    """A chart for each unit (steps, passes), and sentences on what it shows."""
    shown = []
    for unit in ("steps", "passes"):
        mine = [c for c in summary.courses if c.unit == unit]
        drawn = [c for c in mine if not c.every_step]
        if mine:
            chart = charts.course(drawn) if drawn else None
            shown.append({"unit": unit, "chart": chart, "said": [_came(c) for c in mine]})
    return shown


_ONE = {"steps": "step", "passes": "pass"}


def _came(course: breakdown.Course) -> str:
    name, last = wording.shorten(course.attack, 60), course.points[-1][0]
    if course.every_step:
        return f"{name} was judged after its last {_ONE[course.unit]} only: its flips all stand at {last:g}."
    half = wording.percent(course.by_half)
    if last <= 1:
        return f"{name}: every flip came within the first step."
    return (
        f"{name}: {half} of its flips came in the first half of the {last:g} {course.unit} that the "
        "slowest took."
    )


def images(summary: Summary) -> dict[str, Any] | None:
    """The worst case, image by image: a square each, and how many fell at which epsilon."""
    epsilons = sorted({rate.epsilon for rate in summary.worst})
    if not epsilons or not summary.results:
        return None
    looks = {e: f"fall{min(4, i)}" for i, e in enumerate(epsilons)}
    rows = []
    for one in summary.results:
        if one.smallest_epsilon is not None:
            rows.append(
                (looks[one.smallest_epsilon], one, f"flips within {one.smallest_epsilon:g}")
            )
        else:
            rows.append((f"part-{one.status}", one, wording.STATUSES.get(one.status, one.status)))
    shown = [(look, f"{wording.shorten(one.name, 60)}: {said}") for look, one, said in rows]
    # By what is said, not by colour: beyond five epsilons the last ones share a colour.
    counts = Counter((look, said) for look, _, said in rows)
    order = [*((look, f"flips within {e:g}") for e, look in looks.items())]
    order += [(f"part-{name}", said) for name, said in wording.STATUSES.items()]
    order += [key for key in counts if key not in order]
    legend = [
        (look, said if count == 1 else said.replace("flips", "flip", 1), count)
        for look, said in order
        if (count := counts[look, said])
    ]
    by = [len(one.attacks) for one in summary.results if one.smallest_epsilon is not None]
    agree = (
        [(n, by.count(n)) for n in range(1, len(summary.attacks) + 1) if n in by]
        if len(summary.attacks) > 1 and not spared(summary)
        else []
    )
    return {
        "squares": shown[:MOST_SQUARES],
        "legend": legend,
        "left_out": max(0, len(shown) - MOST_SQUARES),
        "agree": agree,
    }


def spared(summary: Summary) -> bool:
    """Whether a cascade spared some attack images that earlier ones flip, so that nobody knows of these."""
    return any(rate.tally.settled for rate in summary.rates)


def fates(summary: Summary) -> list[breakdown.ImageResult]:
    """Every image, those that fall soonest and to most attacks first, then those that hold."""

    def weakness(one: breakdown.ImageResult) -> tuple[float, int, bool]:
        far = math.inf if one.smallest_epsilon is None else one.smallest_epsilon
        return (far, -len(one.attacks), one.status != "robust")

    return sorted(summary.results, key=weakness) if summary.worst else []


def classes(summary: Summary) -> list[Any]:
    """What happened to each class at the largest epsilon, the weakest first."""
    last = [c for c in summary.classes if c.epsilon == summary.epsilon]

    def weakness(one: Any) -> tuple[float, str]:
        return (-(one.tally.flip_rate.share or 0.0), one.name)

    return sorted(last, key=weakness)


def clean(summary: Summary) -> dict[str, Any] | None:
    """How the model does unattacked: accuracy, confusions, how sure it is when right and wrong."""
    accuracy = summary.images.clean_accuracy
    if accuracy is None:
        return None
    right, wrong = summary.confidence_right, summary.confidence_wrong
    chart = None
    if sum(right) or sum(wrong):
        said = f"Confidence of {sum(right)} right answers above, of {sum(wrong)} wrong ones below."
        down = "wrong answers, downwards" if sum(wrong) else "no wrong answers"
        chart = charts.confidences(right, wrong, ("right answers, upwards", down), said)
    mistaken = [
        one
        for one in summary.results
        if one.label is not None and one.predicted is not None and one.label != one.predicted
    ]
    return {
        "accuracy": accuracy,
        "matrix": matrix(summary.confusion, summary.class_names, diagonal=True),
        "chart": chart,
        "wrong": mistaken,
    }


def baselines(summary: Summary) -> dict[str, Any] | None:
    """What chance did beside the attacks: those of the run, and the draws of D16; None without either."""
    chance = [row for row in summary.attacked if row.baseline]
    asked = [d.sentence for d in summary.diagnostics if d.id == "D16" and d.status != "skipped"]
    if not chance and not asked:
        return None
    aimed = [g for g in summary.groups if g.kind != "baseline" and g.epsilon == summary.epsilon]
    # A rate of what earlier attacks left says nothing beside one of all.
    whole = [g.flip_rate for g in aimed if not g.spared]
    best = max(whole, key=lambda r: r.share or 0.0, default=None)
    by = {row.label for row in chance}
    fallen = [r for r in summary.results if r.attacks and set(r.attacks) <= by]
    only = [r for r in fallen if set(r.asked) - by]
    return {
        "rows": chance,
        "best": best,
        "only": len(only),
        "unasked": len(fallen) - len(only) if aimed else 0,
        "asked": asked,
    }


def confidences(summary: Summary) -> Markup | None:
    """How sure the model was of flipped images, before and after."""
    before, after = summary.confidence_before, summary.confidence_after
    if not sum(before) or not sum(after):
        return None
    was, became = (
        ("right class", "wrong class") if summary.labelled else ("first class", "new class")
    )
    said = (
        f"Confidence of {wording.plural(sum(before), 'flipped image')}: in the {was} before, "
        f"above; in the {became} after, below."
    )
    names = (f"before, in the {was}", f"after, in the {became}")
    return charts.confidences(before, after, names, said)


def deltas(exhibits: list[Exhibit]) -> dict[str, Any] | None:
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
    sizes = (table.mul(abs(counts), axis=0).sum() / totals).tolist()
    return {
        "chart": charts.deltas(table) if len(table) > 1 else None,
        "pictures": len(found),
        "channels": [
            {
                "name": name,
                "changed": float(1 - still[channel] / totals[channel]),
                "mean": mean,
                "low": int(counts[table[channel] > 0].min()),
                "high": int(counts[table[channel] > 0].max()),
            }
            for channel, (name, mean) in enumerate(zip(names, wording.alike(sizes), strict=True))
        ],
    }


_MATRIX = 10


def matrix(
    pairs: Sequence[Pair], class_names: Sequence[str], *, diagonal: bool = False
) -> dict[str, Any] | None:
    """From which class to which: a matrix for a few classes; for more the commonest pairs.

    With `diagonal` a class can stay what it is, and the pairs are those where it did not. `wide` says
    that the matrix needs a line of its own.
    """
    if not pairs:
        return None
    names = [n for n in class_names if any(n in (p.before, p.after) for p in pairs)]
    cells = {(pair.before, pair.after): pair.count for pair in pairs}
    fits = len(names) <= _MATRIX and len(set(names)) == len(names)
    listed = [p for p in pairs if not diagonal or p.before != p.after]
    listed.sort(key=lambda p: -p.count)
    top = max((pair.count for pair in listed), default=1)
    rows = [
        (
            before,
            [(cells.get((before, after), 0), "same" if before == after else "") for after in names],
        )
        for before in names
    ]
    return {
        "names": names,
        "rows": rows if fits else None,
        "wide": fits and (len(names) > 4 or sum(map(len, names)) > 24),
        "diagonal": diagonal,
        "pairs": [(pair, charts.meter(pair.count / top, "bar accent")) for pair in listed[:12]],
        "more": max(0, len(listed) - 12),
    }
