"""Tests of charts: round ticks, lines that claim nothing unmeasured, labels that do not overlap."""

from __future__ import annotations

import math
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from robustness.numerics.intervals import Share
from robustness.reports.page import charts
from robustness.reports.page.charts import Label, Line, Mark
from robustness.reports.summary.breakdown import Course


@given(st.floats(1e-6, 1e9), st.integers(3, 10))
def test_ticks_are_round_and_few(end: float, most: int) -> None:
    ticks = charts.round_ticks(end, most)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= most + 1
    assert ticks[-1] <= end * (1 + 1e-6)
    digits = ticks[1] / 10 ** math.floor(math.log10(ticks[1]) + 1e-9)
    assert min(abs(digits - one) for one in (1, 2, 5, 10)) < 1e-6


@given(st.lists(st.floats(14, 224), min_size=1, max_size=13))
def test_labels_do_not_overlap_and_stay_on_the_chart(ends: list[float]) -> None:
    labels = [Label(300, y, str(i), "strong" if not i else "series1") for i, y in enumerate(ends)]
    places = sorted(y for y, _ in charts._apart(labels, 15, 14, 224))
    assert all(b - a >= 15 - 1e-9 for a, b in pairwise(places))
    assert places[-1] <= 224
    assert places[0] >= 14 - 1e-9


def test_a_label_moves_only_where_it_must() -> None:
    labels = [Label(300, 30, "top", "s"), Label(300, 224, "a", "s"), Label(300, 224, "b", "s")]
    assert {label.words: y for y, label in charts._apart(labels, 15, 14, 224)} == {
        "top": 30,
        "a": 209,
        "b": 224,
    }


def corners(svg: str, look: str) -> list[tuple[float, float]]:
    (path,) = re.findall(rf'<path class="{look}" d="M([^"]+)"', svg)
    return [(float(x), float(y)) for x, y in (p.split() for p in path.split(" L"))]


def drawn(*names: str, marks: tuple[Mark, ...] = ()) -> str:
    def line(name: str, low: int) -> Line:
        return Line(name, ((2.0, Share.of(low + 4, 10)), (8.0, Share.of(low, 10))))

    lines = [line(name, n) for n, name in enumerate(names)]
    return str(charts.curve(lines, line("all", 0), "counts", 0.9, "Robust accuracy", marks))


def test_a_course_has_no_ticks_between_steps() -> None:
    for last in (1, 2, 3, 7):
        one = Course("pgd", "steps", 4, ((1, 0.5), (last, 1.0)), 0.5, every_step=False)
        ticks = re.findall(r"<text[^>]*>([\d.,]+)</text>", str(charts.course([one], ["pgd"])))
        assert len(ticks) >= 2
        assert all("." not in tick for tick in ticks)


def test_an_attack_without_a_measured_point_has_no_line_and_no_name() -> None:
    """Its name beside the share at epsilon 0 would look like a line along the top."""
    worst = Line("all", ((2.0, Share.of(4, 10)),))
    svg = str(charts.curve([worst, Line("idle", ())], worst, "counts", 1.0, "Robust accuracy"))
    assert "idle" not in svg
    assert "series1" not in svg


def test_a_curve_is_level_between_measured_epsilons() -> None:
    for svg, looks in (
        (drawn("pgd"), ["line worst"]),
        (drawn("pgd", "bim"), ["line worst wide", "line series0 dash0", "line series1 dash1"]),
    ):
        for look in looks:
            places = corners(svg, look)
            assert len(places) == 5
            for (x1, y1), (x2, y2) in pairwise(places):
                assert x1 == x2 or y1 == y2
            assert places[1][1] == places[0][1]


def test_lines_and_medians_are_named_on_the_chart() -> None:
    marks = (
        Mark("median", 3.0, 2.0, 8.0),
        Mark("fitted, pgd", 2.51, 2.0, 3.0),
    )
    svg = drawn("pgd", "bim", marks=marks)
    words = re.findall(r">([^<>]+)</text>", svg)
    for name in ("pgd", "bim", "all together", "median 3", "fitted, pgd 2.51"):
        assert name in words
    assert len(re.findall('class="leader"', svg)) == 3
    # Ticks are round, not the tested epsilons.
    assert [w for w in words if w in ("0", "2", "4", "6", "8")] == ["0", "2", "4", "6", "8"]
