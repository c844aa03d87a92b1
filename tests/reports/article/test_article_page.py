"""Tests of the page of `robustness article`: agreement with printed figures, escaping, no requests."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from robustness.reports.article import printed
from robustness.reports.article.page import (
    Article,
    FitRow,
    Flipping,
    Regression,
    Spreading,
    SpreadRow,
    Step,
    Strip,
    render_article,
)


def strip(name="img_1.jpg", change=4):
    first = np.full((64, 64, 3), 100, np.uint8)
    pictures = [first + number * change // 4 for number in range(5)]
    steps = [Step(pixels, "cat", 0.9, 0.9) for pixels in pictures]
    return Strip(name, ("cat", "dog"), steps)


@pytest.fixture
def article(tmp_path):
    gif = tmp_path / "a.gif"
    Image.new("P", (2, 2)).save(gif)
    fits = [FitRow(one, one.slope, one.intercept, one.loss) for one in printed.FITS]
    return Article(
        Regression("150 rows of it", True, fits, gif, gif),
        Spreading([SpreadRow("force", "the force", 17.99, 1.0, 5, 9)], 18.0, gif),
        Flipping("net", "five photos", 2, 2, False, [strip()], "run/report.html"),
        "robustness article",
    )


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        ({}, True),
        ({"slope": 0.004}, True),
        ({"slope": 0.006}, False),
        ({"intercept": -0.006}, False),
        ({"loss": 0.04}, True),
        ({"loss": 0.06}, False),
    ],
)
def test_a_fit_agrees_if_it_rounds_to_the_printed_figures(change, agrees):
    one = printed.FITS[1]
    row = FitRow(one, one.slope, one.intercept, one.loss)
    moved = {name: getattr(row, name) + value for name, value in change.items()}
    assert replace(row, **moved).agrees is agrees


def test_printed_and_reproduced_figures_stand_in_one_row(article):
    page = render_article(article)
    rows = re.findall(r"<tr><th scope=\"row\">(.+?)</th>(.+?)</tr>", page)
    cells = {name: re.findall(r"<td[^>]*>([^<]+)</td>", rest) for name, rest in rows}
    assert cells["Adam"] == ["5.29", "−180.77", "138.4", "5.29", "−180.77", "138.4", "yes"]
    assert "5 of 5" in page and "img_1.jpg" in page
    assert "article: cat 99.0" in page.replace("\N{NO-BREAK SPACE}", " ")


def test_a_differing_figure_is_marked(article):
    fits = [replace(article.regression.fits[0], slope=9.0), *article.regression.fits[1:]]
    page = render_article(replace(article, regression=replace(article.regression, fits=fits)))
    assert 'class="differs">no<' in page and "4 of 5" in page


def test_other_data_are_not_compared(article):
    page = render_article(replace(article, regression=replace(article.regression, own=False)))
    assert "other data" in page and ">yes<" not in page and "for orientation" in page


def test_the_patch_and_its_changes_are_those_of_the_pictures():
    found = strip(change=4)
    (_, first), (_, last), (_, change) = found.patches
    assert np.array(change).shape == (6, 6)
    assert np.array_equal(np.array(last) - np.array(first), change)
    assert found.largest == 4 and found.even == 1.0
    assert strip(change=3).even == 0.0


def test_names_are_escaped_and_nothing_is_requested(article):
    flips = replace(article.flipping, strips=[strip("<script>x</script>.png")], model="<b>m</b>")
    page = render_article(replace(article, flipping=flips))
    assert "<script" not in page and "<b>m" not in page
    sources = re.findall(r"src=\"(.{5})", page)
    assert set(sources) == {"data:"} and "default-src &#39;none&#39;" in page
