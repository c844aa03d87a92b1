"""Tests of `robustness solve`: tables, files and refusals."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from robustness.cli.solve import app
from robustness.errors import SettingError


def solve(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).output


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(5.0, 2.0, 40)
    lines = [f"{a:.6f},{3 * a + 1:.6f},{int(a + random.normal() > 5)}" for a in x]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["size, weight, big", *lines]))
    return path


def test_the_table_shows_the_fit_beside_the_exact_solution(table):
    text = solve("regression", table, "--x", "size", "--y", "weight", "--standardize")
    slope = next(line for line in text.splitlines() if line.startswith("size")).split()
    assert [float(v) for v in slope[1:3]] == pytest.approx([3.0, 3.0], abs=1e-4)
    assert "exact" in text and "did not" not in text


def test_compare_draws_one_animation_and_names_unconverged_optimizers(table, tmp_path):
    target = tmp_path / "fit.gif"
    words = ["--x", "size", "--y", "weight", "--standardize", "--steps", "12", "--plot", target]
    text = solve("regression", table, *words, "--compare", "sgd,adam")
    assert "adam did not converge in 12 steps" in text and "sgd did not" not in text
    with Image.open(target) as picture:
        assert picture.size == (1200, 360) and getattr(picture, "n_frames", 1) == 13


def code_of(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return result.exit_code, result.output


def test_a_descent_that_does_not_converge_ends_with_code_4_and_says_where_it_stopped(
    table, tmp_path
):
    words = ["regression", table, "--x", "size", "--y", "weight"]
    code, text = code_of(*words, "--steps", 3)
    fitted = {line.split()[0]: line.split() for line in text.splitlines() if line}
    lost, best = (float(value) for value in fitted["mean"][3:5])
    (sentence,) = [line for line in text.splitlines() if "did not converge" in line]
    assert code == 4 and lost > best
    assert (
        f"its mean squared error is {fitted['mean'][3]}, the optimum's {fitted['mean'][4]}"
        in sentence
    )
    assert "--steps" in sentence and "--standardize" in sentence
    assert code_of(*words, "--standardize")[0] == 0
    assert code_of(*words, "--method", "exact")[0] == 0
    # Of several optimizers one is enough.
    assert code_of(*words, "--standardize", "--steps", 2, "--compare", "sgd,adam")[0] == 0
    assert code_of(*words, "--standardize", "--steps", 2, "--compare", "adam,rmsprop")[0] == 4


def test_a_diverging_descent_is_called_that(table):
    words = ["regression", table, "--x", "size", "--y", "weight", "--learning-rate", 9]
    code, text = code_of(*words)
    assert code == 4 and "did not converge in" in text and "diverged" in text


@pytest.mark.slow
def test_a_descent_of_one_step_is_an_animation(table, tmp_path):
    """Standardised descents on one feature take a step or two; the pictures between them show the way."""
    target = tmp_path / "fit.gif"
    words = ["--x", "size", "--y", "weight", "--standardize", "--plot", target]
    text = solve("regression", table, *words)
    assert int(text.split("steps")[1].split()[0]) <= 2
    with Image.open(target) as picture:
        assert getattr(picture, "n_frames", 1) >= 24
        frames = [np.asarray(picture.convert("L"))[30:300, 30:370]]
        for number in (12, 24):
            picture.seek(number)
            frames.append(np.asarray(picture.convert("L"))[30:300, 30:370])
    assert all((a != b).mean() > 0.002 for a, b in pairwise(frames))


def test_each_optimizer_has_a_row_and_no_text_is_cut_off(table):
    names = "sgd,momentum,rmsprop,adam,adamw,adagrad,nadam,lion"
    text = solve("regression", table, "--x", "size", "--y", "weight", "--standardize",
                 "--steps", 30, "--compare", names)  # fmt: skip
    assert "…" not in text
    lines = [line for line in text.splitlines() if line and "did not converge" not in line]
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    for name in [*names.split(","), "exact"]:
        slope, level, _, share, _ = rows[name]
        assert (float(slope), float(level), float(share)) == pytest.approx((3, 1, 1), abs=9), name
    assert [float(v) for v in rows["sgd"][:2]] == pytest.approx([3.0, 1.0], abs=1e-4)


def test_logistic_draws_a_still_picture(table, tmp_path):
    target = tmp_path / "fit.png"
    words = ["--logistic", "--ridge", "1", "--plot", target, "--method", "exact"]
    text = solve("regression", table, "--x", "size", "--y", "big", *words)
    assert "log-loss" in text
    with Image.open(target) as picture:
        assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    ["regression table.csv --x size --y weight --standardize", "spread --count 3 --dim 2"],
    ids=lambda words: words.split()[0],
)
def test_solve_prints_only_the_result(table, words):
    code = "from robustness.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "solve", *words.split()],
        cwd=table.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--x", "sise", "--y", "weight"], "no column 'sise'.*Did you mean size"),
        (["--x", "size", "--y", "weight", "--optimizer", "admm"], "Did you mean adam"),
        (["--x", "size", "--y", "weight", "--start", "1,two"], "--start 1,two"),
        (["--x", "size", "--y", "weight", "--plot", "fit.bmp"], ".gif or .png"),
    ],
)
def test_invalid_regressions_are_refused(table, words, sentence):
    with pytest.raises(SettingError, match=sentence):
        solve("regression", table, *words)


@pytest.mark.slow
def test_spread_saves_vectors_and_draws_them(tmp_path):
    saved, drawn = tmp_path / "v.npy", tmp_path / "v.gif"
    text = solve(
        "spread", "--count", 5, "--dim", 2, "--loss", "force", "--steps", 60,
        "--save", saved, "--plot", drawn,
    )  # fmt: skip
    assert "72.0000000°" in text  # the bound
    vectors = np.load(saved)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0)
    with Image.open(drawn) as picture:
        assert picture.size == (860, 420) and getattr(picture, "n_frames", 1) == 60
    more = solve("spread", "--count", 1, "--dim", 2, "--fixed", saved)
    assert "smallest angle" in more


@pytest.mark.slow
def test_compare_spreads_with_three_losses_in_one_animation(tmp_path):
    drawn = tmp_path / "v.gif"
    words = ["spread", "--count", 6, "--dim", 3, "--compare", "--steps", 40]
    code, text = code_of(*words, "--plot", drawn)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert code == 0 and "no stopping rule" in text
    assert len({rows[loss][3] for loss in ("angle", "variance", "force")}) == 1  # the same start
    assert all(float(rows[loss][1][:-1]) > float(rows[loss][3][:-1]) for loss in ("angle", "force"))
    with Image.open(drawn) as picture:
        assert picture.size == (960, 640) and getattr(picture, "n_frames", 1) == 41
    with pytest.raises(SettingError, match="leave out --loss, --antipodal"):
        code_of(*words, "--loss", "force", "--antipodal")


@pytest.mark.slow
def test_an_energy_that_does_not_converge_ends_with_code_4():
    words = ["spread", "--count", 30, "--dim", 3, "--power", 1, "--restarts", 1, "--steps", 2]
    code, text = code_of(*words)
    assert code == 4 and "did not converge: stages spent" in text


def test_choose_finds_the_axes_among_their_sums(tmp_path):
    rows, saved = tmp_path / "rows.npy", tmp_path / "chosen.npy"
    np.save(rows, np.concatenate([np.ones((2, 3)), np.eye(3), 1.0 - np.eye(3)]))
    text = solve("choose", rows, "--count", 3, "--save", saved)
    assert text.splitlines()[:2] == ["2 3 4", "smallest angle 90.0000000°"]
    np.testing.assert_array_equal(np.load(saved), np.eye(3))
    with pytest.raises(SettingError, match=r"expected 1 \.\. 8"):
        solve("choose", rows, "--count", 9)


def test_invalid_spreads_are_refused(tmp_path):
    with pytest.raises(SettingError, match="loss='forse'"):
        solve("spread", "--count", 5, "--dim", 2, "--loss", "forse")
    with pytest.raises(SettingError, match=r"expected a \.npy file"):
        solve("spread", "--count", 5, "--dim", 2, "--save", tmp_path / "v.txt")
    (tmp_path / "bad.npy").write_text("no")
    with pytest.raises(SettingError, match="cannot be read"):
        solve("spread", "--count", 5, "--dim", 2, "--start", tmp_path / "bad.npy")
