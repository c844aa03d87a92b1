"""What each attack did at the largest epsilon: rates, security curve, convergence, random baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from markupsafe import Markup

from robustness.numerics.intervals import Share
from robustness.reports import wording
from robustness.reports.page import charts
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.breakdown import AttackRow, Course, MedianEpsilon
from robustness.reports.summary.metrics import SmallestEpsilon
from robustness.reports.summary.summary import Rate, Summary
from robustness.runs import smallest_epsilon
from robustness.threat.norms import described


@dataclass(frozen=True)
class CurveChart:
    """The security curve; `what` it shows is the robust accuracy or the flip rate."""

    what: str
    chart: Markup


@dataclass(frozen=True)
class ConvergenceChart:
    """How flips came with steps or passes (`unit`); `chart` is None where no attack tells."""

    unit: str
    chart: Markup | None
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class RandomBaseline:
    """What random changes flip.

    Attributes
    ----------
    rows
        The random attacks of the run.
    best
        The largest flip rate of a kind of attack at the largest epsilon.
    only
        How many images flip under random changes, and under no attack that ran on them.
    unasked
        How many images that random changes flip the attacks did not run on.
    aimed
        Whether the run has attacks beside the random ones.
    sentences
        What diagnostic D16 says.
    """

    rows: tuple[AttackRow, ...]
    best: Share | None
    only: int
    unasked: int
    aimed: bool
    sentences: tuple[str, ...]


def section(page: PageData) -> Section:
    """The table of attacks with its charts."""
    summary = page.summary
    return Section(
        anchor="attacks",
        title="Attacks",
        template=read_template("sections/attacks.html.j2"),
        data={
            "summary": summary,
            "curve": security_curve(summary),
            "medians": medians(summary),
            "convergence": convergence(summary),
            "cascade": summary.has_spared,
            "baseline": random_baseline(summary),
        },
        link="Attacks",
    )


def security_curve(summary: Summary) -> CurveChart | None:
    """Return the robust accuracy over epsilon, without labels the flip rate; None without a rate."""
    clean = summary.images.clean_accuracy
    start = clean.share if clean is not None else None

    def line(name: str, rates: Sequence[Rate]) -> charts.Line:
        shares = [
            (r.epsilon, r.tally.flip_rate if start is None else r.robust_accuracy) for r in rates
        ]
        return charts.Line(name, tuple((e, share) for e, share in shares if share is not None))

    worst = line("all together", summary.worst)
    if not any(share.share is not None for _, share in worst.points):
        return None
    lines = [
        line(short, [r for r in summary.rates if r.attack == name])
        for name, short in _short_names(summary).items()
    ]
    what = "Flip rate" if start is None else "Robust accuracy"
    unit = described(summary.norm).axis
    return CurveChart(what, charts.curve(lines, worst, unit, start or 0.0, what, _marks(summary)))


def _short_names(summary: Summary) -> dict[str, str]:
    """The name of each attack without its parameters, where these names differ."""
    return dict(zip(summary.attacks, summary.attack_names, strict=True))


def _marks(summary: Summary) -> list[charts.Mark]:
    """The median of all attacks together, and those of the curves fitted to attacks."""
    median, marks = summary.smallest_epsilon, []
    if median.median is not None:
        marks.append(charts.Mark("median", median.median, median.low, median.high))
    for one in summary.median_epsilons:
        if one.fit is not None:
            alone = len(summary.attacks) == 1
            attack = _short_names(summary).get(str(one.attack), str(one.attack))
            name = "median of the fitted curve" if alone else f"fitted, {attack}"
            marks.append(charts.Mark(name, one.fit.median, one.fit.low, one.fit.high))
    return marks


def medians(summary: Summary) -> list[tuple[str, str]]:
    """Return the median smallest epsilon in words, after the attacks it belongs to.

    Attacks with the same text share an entry; that of all attacks together is the last.
    """
    attacks_by_text: dict[str, list[str]] = {}
    for median in summary.median_epsilons:
        attacks_by_text.setdefault(median_text(median), []).append(str(median.attack))
    entries = [(wording.listed(attacks), text) for text, attacks in attacks_by_text.items()]
    if len(summary.attacks) > 1:
        entries.append(("all together", median_text(summary.smallest_epsilon)))
    return entries


def median_text(median: MedianEpsilon | SmallestEpsilon) -> str:
    """Return a median in words: the point, the bracket, the interval, and a fitted curve's median."""
    parts = [smallest_epsilon.said(asdict(median))]
    fit = median.fit if isinstance(median, MedianEpsilon) else None
    if fit is not None:
        ends = smallest_epsilon.reach(fit.low, fit.high)
        parts.append(f"by a logistic curve {wording.number(fit.median, 3)}, {ends}")
    # With a bracket the note is part of what is said.
    unsaid = median.note if median.bracket_low is None else ""
    return ", ".join(parts) + (f" ({unsaid})" if unsaid else "")


def convergence(summary: Summary) -> list[ConvergenceChart]:
    """Return a chart for each unit (steps, passes), with a sentence on each attack."""
    shown, names = [], _short_names(summary)
    for unit in ("steps", "passes"):
        courses = [course for course in summary.courses if course.unit == unit]
        drawn = [
            replace(course, attack=names[course.attack])
            for course in courses
            if not course.every_step
        ]
        if courses:
            chart = charts.course(drawn, list(names.values())) if drawn else None
            shown.append(ConvergenceChart(unit, chart, tuple(map(_course_sentence, courses))))
    return shown


def _course_sentence(course: Course) -> str:
    name, last = wording.shorten(course.attack, 60), course.points[-1][0]
    unit = {"steps": "step", "passes": "pass"}[course.unit]
    if course.every_step:
        return f"{name}: every flip came at {unit} {last:g}."
    if last <= 1:
        return f"{name}: every flip came within the first {unit}."
    return (
        f"{name}: {wording.percent(course.by_half)} of its flips came in the first half of the "
        f"{last:g} {course.unit} that the slowest flip took."
    )


def random_baseline(summary: Summary) -> RandomBaseline | None:
    """Return what random changes flip: those of the run and of D16; None without either.

    Also None without a norm: an epsilon then has the unit of its attack, so that attacks do not compare.
    """
    if not described(summary.norm).measures:
        return None
    rows = tuple(row for row in summary.attacked if row.baseline)
    sentences = tuple(
        d.sentence for d in summary.diagnostics if d.id == "D16" and d.status != "skipped"
    )
    if not rows and not sentences:
        return None
    aimed = [g for g in summary.groups if g.kind != "baseline" and g.epsilon == summary.epsilon]
    # A rate of what earlier attacks left cannot be compared with one of all images.
    complete = [g.flip_rate for g in aimed if not g.spared]
    random_attacks = {row.label for row in rows}
    flipped = [r for r in summary.results if r.attacks and set(r.attacks) <= random_attacks]
    only = [r for r in flipped if set(r.asked) - random_attacks]
    return RandomBaseline(
        rows=rows,
        best=max(complete, key=lambda rate: rate.share or 0.0, default=None),
        only=len(only),
        unasked=len(flipped) - len(only) if aimed else 0,
        aimed=bool(aimed),
        sentences=sentences,
    )
