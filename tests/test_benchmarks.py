"""Tests of the benchmarks: the judge's arithmetic, the contests, the tables, and optimality."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import against_peers, throughput
from benchmarks.contests import CONTESTS
from benchmarks.peers import Setting, times
from robustness.contract.ensembles import create
from robustness.images.png import to_png
from tests import forked

ROOT = Path(__file__).resolve().parents[1]


def bright(images: np.ndarray) -> np.ndarray:
    """Class 1 where the mean is above 100 counts."""
    return (images.mean(axis=(1, 2, 3)) > 100).astype(int)


def grey(*counts: float) -> np.ndarray:
    return np.stack([np.full((4, 4, 1), c, np.float32) for c in counts])


def test_the_judge_counts_8_bit_flips_inside_the_ball():
    images, labels = grey(98, 90, 110), np.array([0, 0, 1])
    # The first crosses within 4 counts; the second only if it leaves the ball; the third rounds back.
    found = grey(101.2, 140, 100.6)
    told = against_peers.score_of(found, images, labels, bright, epsilon=4, norm=None)
    assert told == pytest.approx(2 / 3)


@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2)])
def test_the_judge_measures_the_shortest_file_that_flips(norm, order):
    images, labels = grey(98, 98, 98), np.zeros(3, int)
    found = images + np.array([3.0, 5.0, 9.0], np.float32).reshape(-1, 1, 1, 1)
    told = against_peers.score_of(found, images, labels, bright, epsilon=4, norm=norm)
    assert told == pytest.approx(np.linalg.norm(np.full(16, 5.0), order))


def test_a_change_that_rounding_undoes_is_lengthened():
    images, labels = grey(98), np.zeros(1, int)
    # 2.4 counts round to 2, which is on the edge; 2.4 * 1.05 rounds to 3.
    told = against_peers.score_of(images + 2.4, images, labels, bright, epsilon=4, norm="l2")
    assert told == pytest.approx(3 * 4)
    missed = against_peers.score_of(images + 1.0, images, labels, bright, epsilon=4, norm="l2")
    assert missed == np.inf


def test_changes_that_do_not_flip_before_rounding_are_not_lengthened():
    images, labels = grey(90, 90), np.zeros(2, int)
    # 10 counts end on the edge, a tenth more crosses it; 10.4 cross it, and rounding undoes that.
    found = images + np.array([10.0, 10.4], np.float32).reshape(-1, 1, 1, 1)
    told = against_peers.score_of(found, images, labels, bright, epsilon=20, norm=None)
    assert told == pytest.approx(1 / 2)


def test_files_replace_images_that_flipped():
    images = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3).astype("uint8")
    flipped = 255 - images[1]
    found = against_peers.with_files(images / 255, {1: to_png(flipped)})
    np.testing.assert_allclose(found, np.stack([images[0], flipped]))


def test_parameters_are_replaced_by_numbers():
    setting = Setting(model=None, epsilon=0.5, classes=7)
    told = setting.resolved({"eps": "eps*1", "n": "classes", "steps": 3, "loss": "margin"})
    assert told == {"eps": 0.5, "n": 7, "steps": 3, "loss": "margin"}


@pytest.mark.parametrize("contest", CONTESTS, ids=lambda c: c.name)
def test_every_contest_names_an_existing_attack_and_parameters(contest):
    name, _, told = contest.ours.partition(":")
    words = dict(part.split("=") for part in told.split(",") if part)
    made = create(name, {k: str(times(v, 20.0)) for k, v in words.items()})
    assert made.name == name
    assert contest.theirs


def test_table_rows_match_their_headers():
    told = {"scores": [0.4, 0.6], "cold": (1.0, 0.9), "warm": (0.5, 0.4)}
    cells = against_peers.line(CONTESTS[0], "ours", told).count("|")
    assert cells == against_peers.line(CONTESTS[0], "art", {"error": "no"}).count("|") == 7
    filed = against_peers.line(CONTESTS[0], "art", told | {"filed": 0.25})
    assert filed.count("|") == 7 and "0.50 (0.40) + 0.25 |" in filed
    row = {"attack": "pgd", "epsilon": 4.0, "library": "ours", "photos": 5, "seconds": 1.0}
    row |= {"steps": 40, "megabytes": 1.0, "robust": 0.1, "robust_some": 0.2}
    broken = {**{k: row[k] for k in ("attack", "epsilon", "library", "photos")}, "error": "no"}
    assert throughput.line(row).count("|") == throughput.line(broken).count("|") == 9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["against_peers", "throughput", "optimality"])
def test_help_says_what_is_measured(name):
    done = forked.script(ROOT / "benchmarks" / f"{name}.py", ["--help"])
    assert done.returncode == 0, done.stderr
    assert "--images" in done.stdout
    assert "judge" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "sizes", "words"),
    [
        ("spreading", (8, 3), "smallest angle 74.8585"),
        ("regression", (2000, 3), "largest error of a coefficient"),
        ("naive", (9, 3), "one gradient by a double loop"),
    ],
)
def test_the_benchmarks_of_solvers_run(side, sizes, words):
    done = forked.script(ROOT / "benchmarks" / "solvers.py", [side, *map(str, sizes)])
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


def test_optimality_matches_areas_computed_by_hand():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from benchmarks.optimality import optimality

    best = np.array([1.0, 2.0, 4.0])
    # Curves of robust accuracy over 0..4, by hand: areas 7/3 (envelope), 9/3 and 12/3 (nothing flips).
    assert optimality(best, best) == 1.0
    assert optimality(np.array([2.0, 3.0, np.inf]), best) == pytest.approx(1 - 2 / 5)
    assert optimality(np.full(3, np.inf), best) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("budget", [100, 1000])
def test_steps_use_the_budget_of_passes(budget):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from benchmarks.optimality import OURS, fitted
    from robustness.contract.cost import passes

    for make in OURS.values():
        paid = sum(passes(fitted(make, budget, 10), 10))
        assert budget * 0.7 < paid <= budget
