"""Tests of `robustness article`: the printed figures are reproduced, refusals come early."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from robustness.cli import app, article_parts
from robustness.errors import RunUsageError, SettingError
from robustness.reports.article import printed
from robustness.runs.store import Run


def run(*words):
    result = CliRunner().invoke(app, ["article", *map(str, words)], catch_exceptions=False)
    return result.exit_code, result.output


@pytest.mark.photos
def test_every_printed_figure_of_the_regressions_is_reproduced(article_photos):
    x, y, _ = article_parts.heights(article_photos)
    rows, own = article_parts.compared(article_parts.fitted(x, y), len(x))
    assert own and [row.agrees for row in rows] == [True] * 5
    by_name = {row.printed.name: row for row in rows}
    assert by_name["Adam"].loss == pytest.approx(138.4, abs=0.05)
    assert not article_parts.compared(article_parts.fitted(x, y), len(x) + 1)[1]


def test_synthetic_heights_are_not_taken_for_the_articles():
    x, y, source = article_parts.heights(None)
    assert len(x) == printed.ROWS and "synthetic" in source
    assert np.corrcoef(x, y)[0, 1] == pytest.approx(0.8, abs=0.08)  # 0.80 in the article's table
    rows, own = article_parts.compared(article_parts.fitted(x, y), len(x))
    assert not own
    # The same methods end at about the same place.
    assert all(row.loss == pytest.approx(rows[0].loss, rel=0.15) for row in rows)
    assert all(4 < row.slope < 8 for row in rows)


@pytest.mark.slow
def test_one_command_writes_one_page(tmp_path):
    code, text = run("--out", tmp_path / "out", "--quiet")
    assert code == 0 and "2 of 2 correctly classified images flip" in text
    page = (tmp_path / "out" / "article.html").read_text("utf-8")
    for title in ("1. Regression", "2. Vectors", "3. Four steps"):
        assert title in page
    assert page.count("data:image/gif") == 3 and page.count('class="when"') == 10
    assert (tmp_path / "out" / "run" / "report.html").is_file()
    with Run.open(tmp_path / "out" / "run") as stored:
        ends = stored.strips().sort_values("step").groupby("image").tail(1)
        confidences = [max(json.loads(text)) for text in ends.probabilities]
    for confidence in confidences:
        assert f"{100 * confidence:.1f}" in page


def test_unusable_arguments_are_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(SettingError, match=r"has no height_v_weight\.csv.*Leave --data out"):
        run("--data", tmp_path, "--out", tmp_path / "new")
    (tmp_path / printed.TABLE).write_text("Height,Mass\n1,2\n")
    with pytest.raises(SettingError, match="no column 'Weight'"):
        run("--data", tmp_path, "--out", tmp_path / "new")
    with pytest.raises(RunUsageError, match="exists already"):
        run("--out", tmp_path)
    assert not (tmp_path / "new").exists()
