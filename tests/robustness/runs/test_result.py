"""Tests of results: cases with pictures, HTML without scripts, escaped names."""

from __future__ import annotations

import builtins
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from robustness.images.png import from_png
from robustness.reports import summarise
from robustness.runs.result import AuditResult
from robustness.runs.result_curve import svg
from robustness.runs.result_html import SIDE
from robustness.runs.store import Run
from tests.reports.folder import Folder


@pytest.fixture
def result(tmp_path) -> AuditResult:
    folder = Folder(tmp_path / "run")
    rng = np.random.default_rng(1)
    for number in range(5):
        key = f"<b>cat.{number}.jpg"
        folder.flip(key, rng=rng, confidence_after=0.5 + number / 10)
        folder.outcome(key, "robust", 1.0)
    folder.image("dog.jpg", label=1, clean_class=1)
    for epsilon in (1.0, 4.0):
        folder.outcome("dog.jpg", "robust", epsilon)
    return AuditResult(folder.write())


def test_cases_are_flips_sorted_by_confidence(result):
    assert len(result.cases) == 5
    assert [c.confidence_after for c in result.cases] == sorted(
        (c.confidence_after for c in result.cases), reverse=True
    )
    case = result.cases[0]
    assert (case.before, case.after, case.epsilon) == ("cat", "dog", 4.0)
    row = result.outcomes[result.outcomes.image == case.image].query("epsilon == 4").iloc[0]
    assert np.array_equal(case.flipped, from_png((result.path / row.png).read_bytes()))
    assert np.abs(case.change).max() == row.linf
    assert [c.image for c in result.cases[3:]] == [result.cases[3].image, result.cases[4].image]
    with pytest.raises(IndexError):
        result.cases[5]


def test_the_change_is_drawn_with_the_stated_amplification(result):
    case = result.cases[0]
    shown, factor = case.amplified
    assert factor == 127 // np.abs(case.change).max()
    assert np.array_equal((shown.astype(int) - 128), factor * case.change)
    strip = case.picture()
    assert strip.size == (3 * 16 * (SIDE // 16), SIDE)
    assert np.array_equal(np.asarray(strip)[::12, : 16 * 12 : 12], case.original)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        assert all(v.startswith("data:image/png") for k, v in attrs if k == "src")


def test_a_run_shows_table_curve_and_cases(result):
    text = result._repr_html_()
    page = Tags()
    page.feed(text)
    assert "script" not in page.tags and "b" not in page.tags
    assert page.tags.count("img") == 9
    assert "polyline" in page.tags and "table" in page.tags
    assert "83.3 %</td>" in text and "83.3 % flip" in text
    assert "&lt;b&gt;cat" in text


def test_the_curve_falls_from_clean_to_robust_accuracy():
    (points,) = re.findall(r'points="([^"]+)"', svg({"pgd": [(1.0, 0, 10), (4.0, 5, 10)]}))
    places = [tuple(map(float, p.split(","))) for p in points.split()]
    assert [x for x, _ in places] == [44.0, 121.0, 352.0]
    top, bottom = 12, 172
    assert [y for _, y in places] == [top, top, (top + bottom) / 2]
    assert svg({"pgd": [(4.0, 5, 10)]}) == ""


def test_every_curve_is_labelled_without_overlap():
    rates = {f"attack {n}": [(1.0, 0, 9), (4.0, 9 - n % 2, 9)] for n in range(6)}
    drawn = svg(rates | {"rtl\u202e<b>": [(1.0, 0, 9), (4.0, 9, 9)]})
    names = re.findall(r'<text x="360" y="([\d.]+)">([^<]+)</text>', drawn)
    assert {name for _, name in names} == {*rates, "rtl⟨U+202E⟩&lt;b&gt;"}
    heights = sorted(float(y) for y, _ in names)
    assert all(b - a >= 14 - 1e-6 for a, b in pairwise(heights))
    assert 0 < heights[0] < heights[-1] < 200


def test_show_outside_a_notebook_opens_the_picture(result, monkeypatch):
    from PIL import Image

    seen = []
    monkeypatch.setattr(
        Image.Image, "show", lambda self, title=None: seen.append((self.size, title))
    )
    plain = builtins.__import__

    def without(name, *rest):
        if name.startswith("IPython"):
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    result.cases[3].show()
    assert seen == [((3 * SIDE, SIDE), result.cases[3].caption)]


def test_rates_are_those_of_the_reports_where_a_larger_epsilon_was_used_worse(tmp_path):
    """A flip within 1 is one within 4 as well, whatever the attack returned there."""
    folder = Folder(tmp_path / "run")
    for key, statuses in (("a", "fr"), ("b", "rf"), ("c", "rr"), ("d", "fx"), ("e", "xx")):
        folder.image(key)
        for epsilon, status in zip((1.0, 4.0), statuses, strict=True):
            folder.outcome(key, {"f": "flipped", "r": "robust", "x": "failed"}[status], epsilon)
    found = AuditResult(folder.write())
    with Run.open(folder.path) as run:
        rates = {rate.epsilon: rate.tally.flip_rate.share for rate in summarise(run).rates}
    assert rates == {1.0: 2 / 4, 4.0: 3 / 4}
    assert found.flip_rates.droplevel("attack").to_dict() == rates
