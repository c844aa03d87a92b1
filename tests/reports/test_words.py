"""Text that hides nothing, numbers that claim nothing."""

from __future__ import annotations

import pytest

from reports import words


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
    assert words.visible(text) == shown


def test_piles_of_marks_are_cut() -> None:
    shown = words.visible("a" + "\u0301" * 50)
    assert sum(character == "\u0301" for character in shown) == 3


def test_shorten_keeps_both_ends() -> None:
    text = "start" + "x" * 300 + ".jpg"
    shown = words.shorten(text, 40)
    assert len(shown) == 40
    assert shown.startswith("start")
    assert shown.endswith(".jpg")


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (1, "100 %"), (0.97, "97.0 %"), (0.9999, "99.9 %"), (1e-6, "0.1 %"), (None, "–")],
)
def test_percent_says_all_or_nothing_only_where_exact(share: float | None, shown: str) -> None:
    assert words.percent(share) == shown
