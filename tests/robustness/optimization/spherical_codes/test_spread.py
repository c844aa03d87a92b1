"""Tests of spherical codes: published codes, Thomson energies, and properties of the losses."""

import math
from itertools import combinations

import numpy as np
import pytest
from keras import ops

from robustness import backend
from robustness.errors import SettingError
from robustness.optimization.spherical_codes import energies, polish
from robustness.optimization.spherical_codes.bounds import best_bound
from robustness.optimization.spherical_codes.polish import polish_codes
from robustness.optimization.spherical_codes.problem import (
    checked_problem,
    starts,
    with_symmetric_starts,
)
from robustness.optimization.spherical_codes.spread import LOSSES, spread
from robustness.optimization.spherical_codes.subset import choose


def check(found, count, dim):
    """Check the stated properties on the vectors."""
    x = found.vectors
    assert x.shape == (count, dim)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1.0, rtol=1e-12)
    pairs = [(a, b) for a, b in combinations(range(count), 2)]
    cosines = np.array([x[a] @ x[b] for a, b in pairs])
    assert found.cosine == pytest.approx(cosines.max(), abs=1e-12)
    distances = np.array([np.linalg.norm(x[a] - x[b]) for a, b in pairs])
    assert found.energy == pytest.approx(np.sum(distances**-found.power), rel=1e-10)
    assert found.gap > -1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "dim", "cosine"),
    [
        (5, 3, 0.0),
        (7, 3, 0.2101383127),
        (8, 3, 0.2612038750),
        (9, 3, 1 / 3),
        (10, 3, 0.4043943252),
        (11, 3, 1 / math.sqrt(5)),
        (12, 3, 1 / math.sqrt(5)),
        (14, 3, math.cos(math.radians(55.6705700))),  # Musin & Tarasov 2015
        (24, 3, math.cos(math.radians(43.6907671))),
        (24, 4, 0.5),
        (10, 4, 1 / 6),  # Petersen's code; optimal (Bachoc & Vallentin 2009)
        # Sharp codes, all optimal (Cohn & Kumar 2007, table 1).
        (16, 5, 1 / 5),
        (27, 6, 1 / 4),
        # Sloane, Hardin and Smith, tables of spherical codes: rare optima among many good ones.
        pytest.param(29, 3, math.cos(math.radians(38.7136512)), marks=pytest.mark.slow),
        pytest.param(40, 3, math.cos(math.radians(33.1583563)), marks=pytest.mark.slow),
        pytest.param(56, 7, 1 / 3, marks=pytest.mark.slow),
        pytest.param(120, 4, math.cos(math.pi / 5), marks=pytest.mark.slow),
        pytest.param(240, 8, 0.5, marks=pytest.mark.slow),
    ],
)
def test_published_spherical_codes_are_found(count, dim, cosine):
    found = spread(count, dim)
    check(found, count, dim)
    assert found.cosine == pytest.approx(cosine, abs=1e-8)
    assert found.converged
    if (count, dim) == (27, 6):  # attains the bound
        assert abs(found.gap) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(("count", "cosine"), [(20, -1 / 19), (64, 0.0)])
def test_simplex_and_orthoplex_in_32_dimensions(count, cosine):
    found = spread(count, 32)
    check(found, count, 32)
    assert found.cosine == pytest.approx(cosine, abs=1e-6)
    assert found.bound.exact and found.gap == pytest.approx(0.0, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "energy"),
    [
        (2, 0.5),
        (5, 6.474691495),
        (11, 40.596450508),
        (12, 49.165253058),
        (16, 92.911655302),
        (20, 150.881568334),
        (24, 223.347074052),
        (32, 412.261274651),
        (48, 968.713455344),
        (72, 2255.001190975),
    ],
)
def test_thomson_energies_are_reached(count, energy):
    found = spread(count, 3, power=1, restarts=12)
    check(found, count, 3)
    assert found.energy == pytest.approx(energy, abs=1e-9 * energy + 5e-10)
    assert found.converged


@pytest.mark.slow
def test_the_thomson_energy_missed_by_random_starts_is_reached():
    found = spread(78, 3, power=1)
    assert found.energy == pytest.approx(2662.046474566, abs=1e-8)
    assert found.converged


@pytest.mark.parametrize(("count", "dim", "order"), [(14, 3, 3), (13, 5, 3), (15, 4, 3)])
def test_every_third_start_is_invariant_under_a_rotation(count, dim, order):
    problem = checked_problem(count, dim, None, False)
    begin = starts(problem, 0, None, 3)
    made = with_symmetric_starts(problem, begin)
    np.testing.assert_array_equal(made[:2], begin[:2])
    np.testing.assert_allclose(np.linalg.norm(made, axis=2), 1.0)
    angle, turn = 2 * math.pi / order, np.eye(dim)
    for first in range(0, dim - 2, 2):
        turn[first : first + 2, first : first + 2] = [
            [math.cos(angle), -math.sin(angle)],
            [math.sin(angle), math.cos(angle)],
        ]
    met = np.max(
        made[2] @ turn @ made[2].T, axis=1
    )  # the rotation maps each vector to another or to itself
    assert np.min(met) > 1 - 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "least"), [("variance", 17.9), ("force", 17.9), ("angle", 15.0)])
def test_losses_on_the_circle_match_the_article(loss, least):
    found = spread(20, 2, loss=loss)
    check(found, 20, 2)
    assert least < found.angle <= 18.0 + 1e-9
    assert found.history.shape == (501,) and found.history[0] < 10
    assert found.history.max() == pytest.approx(found.angle)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_are_finite_for_equal_vectors(name):
    x = np.random.default_rng(0).normal(size=(1, 6, 3))
    x[0, 1], x[0, 2] = x[0, 0], -x[0, 0]
    look = backend.value_and_grad(lambda p: (LOSSES[name](p), ()))
    (values, _), slope = look(ops.convert_to_tensor(x))
    assert np.all(np.isfinite(np.asarray(values))) and np.all(np.isfinite(np.asarray(slope)))


def test_losses_match_their_definitions():
    x = np.array([[[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]])  # angles 90, 90, 180
    assert float(energies.smallest_angle(x)[0]) == pytest.approx(-math.pi / 2)
    y = np.array([[[1.0, 0.0], [0.0, 1.0], [math.cos(3.5), math.sin(3.5)]]])
    nearest = np.array([math.pi / 2, math.pi / 2, 3.5 - math.pi / 2])
    expected = 0.4 * np.var(nearest) - math.pi / 2
    assert float(energies.angle_and_variance(y)[0]) == pytest.approx(expected)
    # The forces on the middle vector cancel; the middle one pushes each end along the circle with
    # cos(45 degrees) / sqrt(2), and the opposite end exerts no force.
    assert float(energies.net_force(x)[0]) == pytest.approx(1.0, rel=1e-9)


def test_fixed_vectors_and_lines_give_known_codes():
    pole = [[0.0, 0.0, 5.0]]
    found = spread(5, 3, fixed=pole)  # an octahedron around the pole
    assert found.cosine == pytest.approx(0.0, abs=1e-8)
    assert np.min(found.vectors[:, 2]) == pytest.approx(-1.0, abs=1e-6)
    lines = spread(6, 3, antipodal=True)  # the diagonals of the icosahedron
    assert lines.cosine == pytest.approx(1 / math.sqrt(5), abs=1e-8)
    inner = lines.vectors @ lines.vectors.T - np.eye(6)
    np.testing.assert_allclose(np.abs(inner[~np.eye(6, dtype=bool)]), 1 / math.sqrt(5), atol=1e-6)


def test_warm_starts_and_seeds_are_respected():
    first, again, other = (spread(5, 4, seed=seed, restarts=1) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert np.max(np.abs(first.vectors - other.vectors)) > 0.01
    warm = spread(5, 4, start=first.vectors, restarts=1, path=True)
    np.testing.assert_allclose(warm.vectors, first.vectors, atol=1e-5)
    assert warm.path.shape[1:] == (5, 4)
    apart = spread(4, 3, start=np.ones((4, 3)), restarts=1)  # all equal: must be separated
    assert apart.cosine == pytest.approx(-1 / 3, abs=1e-6)


def test_the_best_stage_of_a_large_code_is_kept():
    """Multipliers of points that have not converged mislead; the best earlier result is kept."""
    found = spread(60, 12, restarts=1, steps=10, path=True)
    assert found.angle == pytest.approx(found.history.max(), abs=1e-9)
    assert found.path is not None
    np.testing.assert_array_equal(found.path[-1], found.vectors)


@pytest.mark.slow
def test_a_warm_start_never_gets_worse():
    best = spread(9, 3)
    again = spread(9, 3, start=best.vectors, restarts=1)
    assert again.cosine <= best.cosine + 1e-12
    np.testing.assert_allclose(again.vectors, best.vectors, atol=1e-6)


def icosahedron():
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0, a, b * golden) for a in (1, -1) for b in (1, -1)]
    turned = [np.roll(corner, shift) for corner in corners for shift in range(3)]
    return np.array(turned) / math.hypot(1, golden)


def cosines(vectors):
    return vectors @ vectors.T - 3 * np.eye(len(vectors))


def test_polishing_returns_to_the_icosahedron():
    shaken = icosahedron() + 0.05 * np.random.default_rng(0).normal(size=(12, 3))
    shaken /= np.linalg.norm(shaken, axis=1, keepdims=True)
    exact, found = polish_codes([icosahedron(), shaken], cosines, np.zeros((0, 3)))
    assert exact.optimal and len(exact.moves) == 1
    assert found.optimal and found.largest == pytest.approx(1 / math.sqrt(5), abs=1e-11)
    largest = [cosines(x).max() for x in found.moves]
    assert largest == sorted(largest, reverse=True) and largest[-1] == found.largest


def test_polishing_handles_rattlers_and_reports_an_early_end(monkeypatch):
    # Eleven vertices of the icosahedron: each is fixed by the others, and no code of eleven is better.
    eleven = icosahedron()[:11]
    loose = eleven.copy()
    loose[3] += 0.02
    loose /= np.linalg.norm(loose, axis=1, keepdims=True)
    assert polish_codes([loose], cosines, np.zeros((0, 3)))[0].largest == pytest.approx(
        1 / math.sqrt(5)
    )
    four = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [-0.6, -0.64, -0.48]])
    four /= np.linalg.norm(four, axis=1, keepdims=True)
    found = polish_codes([four], cosines, np.zeros((0, 3)), enough=-1 / 3)[0]
    assert found.optimal and found.largest == pytest.approx(-1 / 3, abs=1e-11)
    monkeypatch.setattr(polish, "_STEPS", 2)
    assert not polish_codes([four], cosines, np.zeros((0, 3)))[0].optimal


def test_polishing_keeps_fixed_vectors():
    pole = np.array([[0.0, 0.0, 1.0]])
    begin = np.array([[0.8, 0.1, 0.59], [-0.5, 0.3, 0.8]])
    begin /= np.linalg.norm(begin, axis=1, keepdims=True)

    def around(x):
        return np.concatenate([cosines(x), x @ pole.T], axis=1)

    found = polish_codes([begin], around, pole)[0]
    assert found.optimal and found.largest == pytest.approx(-0.5, abs=1e-11)


def test_bounds_match_known_values():
    assert best_bound(4, 3).angle == pytest.approx(math.acos(-1 / 3))
    assert best_bound(6, 3).angle == pytest.approx(math.pi / 2)
    assert best_bound(20, 2).angle == pytest.approx(math.radians(18))
    assert best_bound(12, 3).angle == pytest.approx(math.acos(1 / math.sqrt(5)))
    assert math.pi / 3 < best_bound(24, 4).angle < math.pi / 2
    assert best_bound(6, 3, antipodal=True).angle == pytest.approx(math.acos(1 / math.sqrt(5)))
    angles = [best_bound(n, 8).angle for n in range(2, 300, 7)]
    assert angles == sorted(angles, reverse=True)


@pytest.mark.parametrize(
    ("count", "dim", "cosine"),
    [  # Cohn & Kumar 2007, table 1
        (16, 5, 1 / 5), (27, 6, 1 / 4), (56, 7, 1 / 3), (240, 8, 1 / 2), (112, 21, 1 / 9), (162, 21, 1 / 7),
        (100, 22, 1 / 11), (275, 22, 1 / 6), (891, 22, 1 / 4), (552, 23, 1 / 5), (4600, 23, 1 / 3),
        (196560, 24, 1 / 2),
    ],
)  # fmt: skip
def test_sharp_codes_attain_the_levenshtein_bound(count, dim, cosine):
    bound = best_bound(count, dim)
    assert bound.name == "Levenshtein"
    assert math.cos(bound.angle) == pytest.approx(cosine, abs=1e-13)


@pytest.mark.parametrize(
    ("count", "dim", "cosine"),
    [(16, 6, 1 / 3), (28, 7, 1 / 3), (276, 23, 1 / 5), (12, 4, 1 / 2), (36, 6, 1 / 2), (63, 7, 1 / 2),
     (120, 8, 1 / 2)],
)  # fmt: skip
def test_equiangular_lines_and_root_systems_attain_the_bounds_on_lines(count, dim, cosine):
    bound = best_bound(count, dim, antipodal=True)
    assert math.cos(bound.angle) == pytest.approx(cosine, abs=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [3, 4, 9])
def test_no_bound_rises_with_the_number_of_vectors(dim):
    for lines in (False, True):
        angles = [best_bound(n, dim, antipodal=lines).angle for n in range(2, 300, 5)]
        assert np.all(np.diff(angles) <= 1e-12)


def test_the_chosen_subset_has_the_largest_separation():
    rows = np.random.default_rng(2).normal(size=(12, 3))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def closest(chosen):
        return max(unit[a] @ unit[b] for a, b in combinations(chosen, 2))

    chosen = choose(rows, 4)
    assert list(chosen) == sorted(set(chosen)) and len(chosen) == 4
    best = min(closest(c) for c in combinations(range(12), 4))
    assert closest(chosen) == pytest.approx(best, abs=0.08)
    assert list(choose(np.concatenate([np.eye(3), 0.9 * np.eye(3) + 0.1]), 3)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((0, 3), {}, "count=0"),
        ((3, 1), {}, "dim=1"),
        ((3, 3), {"loss": "forse"}, "loss='forse'"),
        ((3, 3), {"loss": "force", "antipodal": True}, "use loss='energy'"),
        ((3, 3), {"fixed": [[1.0, 0.0]]}, "2 columns; expected 3"),
        ((3, 3), {"fixed": [[0.0, 0.0, 0.0]]}, "zero vector"),
        ((3, 3), {"start": np.eye(3)[:2]}, r"expected \(3, 3\)"),
        ((3, 3), {"power": -1.0}, "power=-1"),
    ],
)
def test_invalid_codes_are_refused(arguments, options, sentence):
    with pytest.raises(SettingError, match=sentence):
        spread(*arguments, **options)
