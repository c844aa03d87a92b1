"""Tests of wording: hidden characters, shortened texts, percentages and decimals."""

from __future__ import annotations

import pytest

from robustness.reports import wording
from robustness.threat import norms


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat.1.jpg", "cat.1.jpg"),
        ("größe 猫 é.jpg", "größe 猫 é.jpg"),
        ("a\u202egpj.exe", "a⟨U+202E⟩gpj.exe"),
        ("a\nb\tc\x00\x1b[31m", "a⟨U+000A⟩b⟨U+0009⟩c⟨U+0000⟩⟨U+001B⟩[31m"),
        ("zero\u200bwidth\ufeff\u2066", "zero⟨U+200B⟩width⟨U+FEFF⟩⟨U+2066⟩"),
        ("\ud800", "⟨U+D800⟩"),
    ],
)
def test_hidden_characters_are_shown(text: str, shown: str) -> None:
    assert wording.visible(text) == shown


def test_stacked_combining_marks_are_limited() -> None:
    shown = wording.visible("a" + "\u0301" * 50)
    assert sum(character == "\u0301" for character in shown) == 3


def test_shorten_leaves_no_part_of_a_code() -> None:
    for most in range(8, 40):
        cut = wording.shorten("cat 1\u200d2\u200d3\u200d4\u200d dog", most)
        assert len(cut) <= most
        assert cut.count("⟨U+200D⟩") == cut.count("⟨") == cut.count("⟩")


def test_shorten_keeps_both_ends() -> None:
    text = "start" + "x" * 300 + ".jpg"
    shown = wording.shorten(text, 40)
    assert len(shown) == 40
    assert shown.startswith("start")
    assert shown.endswith(".jpg")


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (1, "100 %"), (0.97, "97.0 %"), (0.9999, "99.9 %"), (1e-6, "0.1 %"), (None, "–")],
)
def test_percent_shows_0_and_100_only_if_exact(share: float | None, shown: str) -> None:
    assert wording.percent(share) == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([43.3, 51.094, 51.41], ["43.30", "51.09", "51.41"]),
        ([0.5, 0.5031], ["0.5000", "0.5031"]),
        ([13847, 16350], ["13,847", "16,350"]),
        ([23124, 23124.5], ["23,124", "23,124"]),
        ([0, 0.25], ["0.0000", "0.2500"]),
        ([], []),
    ],
)
def test_numbers_of_one_kind_share_their_decimals(values: list[float], shown: list[str]) -> None:
    assert wording.same_decimals(values, 4) == shown


def test_settings_of_an_attack_are_described() -> None:
    told = {"steps": 40, "random_start": True, "step_size": None, "momentum": False}
    assert wording.settings(told) == ["steps 40", "random start yes", "momentum no"]


@pytest.mark.parametrize("norm", sorted(norms.KNOWN))
def test_every_budget_is_explained_with_its_epsilon(norm: str) -> None:
    said = wording.meaning("robust accuracy", norm, 2.5)
    assert said.startswith("Robust accuracy: ")
    # Where distances are integers, files use two counts of it.
    whole = norm in ("linf", "l1", "l0")
    assert ("Epsilon 2.5 (acts as 2): " if whole else "Epsilon 2.5: ") in said
    assert said.count("2" if whole else "2.5") >= 2
    assert wording.meaning("flip rate", norm, None) == ""


def test_a_targeted_run_does_not_call_every_wrong_class_a_flip() -> None:
    """An image that gets a third class counts as robust, and is not classified correctly after."""
    robust = wording.meaning("robust accuracy", "linf", 4, goal="targeted at dog")
    assert "moves to its target (targeted at dog)" in robust
    assert "after every attack" not in robust
    flips = wording.meaning("flip rate", "linf", 4, goal="targeted at dog")
    assert "some attack moves to its target (targeted at dog)" in flips


@pytest.mark.parametrize(
    ("norm", "epsilon", "shown"),
    [
        ("l2", 2000.5, "2,000.5"),
        ("l0", 2000.5, "2,000.5 (acts as 2,000)"),
        ("l1", 1_234_567.0, "1,234,567"),
        ("linf", 4.0, "4"),
    ],
)
def test_an_epsilon_keeps_all_its_digits(norm: str, epsilon: float, shown: str) -> None:
    assert wording.budget(norm, epsilon) == shown
    assert wording.exact(epsilon) == shown.partition(" ")[0]


def test_a_share_that_is_not_a_number_is_a_dash() -> None:
    assert wording.percent(float("nan")) == "–"
