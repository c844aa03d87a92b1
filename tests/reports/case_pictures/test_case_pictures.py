"""Tests of pictures of a case: they hold the pixels of the files and only known probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFont
from typer.testing import CliRunner

from robustness.cli import app
from robustness.errors import RunError, SettingError
from robustness.reports.case_pictures import drawing, letters, write_case
from robustness.reports.case_pictures.chosen import chosen
from robustness.reports.case_pictures.drawing import ACCENT, EDGE, GAP, HEAD, LEAST
from robustness.reports.case_pictures.sheet import sheet
from robustness.reports.page import pixels
from robustness.runs.result import AuditResult
from robustness.runs.store import Run
from tests.reports.folder import Folder

SIDE = 16
SHOWN = 256
"""16 pixels are enlarged 16 times."""


@pytest.fixture
def flips(folder: Folder) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Flips of two images within 4, one of them within 2 by another attack as well, and a robust image."""
    rng = np.random.default_rng(2)
    made = {"a": folder.flip("cats/a.jpg", rng=rng), "b": folder.flip("cats/b.jpg", rng=rng)}
    before = made["a"][0]
    near = np.clip(before.astype(int) + rng.integers(-2, 3, before.shape), 0, 255).astype(np.uint8)
    values = {"linf": 2.0, "png": folder.picture(near), "confidence_after": 0.55}
    folder.outcome("cats/a.jpg", "flipped", 2.0, attack="pgd(steps=40)", **values)
    made["near"] = (before, near)
    folder.image("dogs/c.jpg")
    folder.outcome("dogs/c.jpg", "robust")
    folder.write()
    return made


def part(strip: Path, place: int) -> np.ndarray:
    """The picture at a place of the strip, one pixel for each square."""
    left, top = EDGE + place * (max(SHOWN, LEAST) + GAP), EDGE + HEAD
    with Image.open(strip) as picture:
        whole = np.asarray(picture.convert("RGB"))[top : top + SHOWN, left : left + SHOWN]
    squares = whole.reshape(SIDE, SHOWN // SIDE, SIDE, SHOWN // SIDE, 3)
    assert (squares == squares[:, :1, :, :1]).all()
    return squares[:, 0, :, 0]


def test_a_strip_holds_the_pixels_of_the_files(folder: Folder, flips, tmp_path: Path) -> None:
    before, after = flips["b"]
    target = write_case(folder.path, "b.jpg", tmp_path / "strip.png")
    assert np.array_equal(part(target, 0), before)
    assert np.array_equal(part(target, 2), after)
    change = after.astype(int) - before
    assert np.array_equal(part(target, 1), np.clip(128 + 32 * change, 0, 255))


def test_the_smallest_change_is_drawn_unless_another_is_asked_for(
    folder: Folder, flips, tmp_path: Path
) -> None:
    near = write_case(folder.path, "a.jpg", tmp_path / "near.png")
    assert np.array_equal(part(near, 2), flips["near"][1])
    for asked in ({"attack": "bim"}, {"attack": "bim(steps=4)"}, {"epsilon": 4.0}):
        far = write_case(folder.path, "cats/a.jpg", tmp_path / "far.png", **asked)
        assert np.array_equal(part(far, 2), flips["a"][1])


def test_the_gif_alternates_between_exact_pictures_of_few_colours(
    folder: Folder, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    before = rng.integers(0, 90, (SIDE, SIDE, 1), dtype=np.uint8)
    after = before + rng.integers(0, 3, before.shape, dtype=np.uint8)
    folder.image("grey", png=folder.picture(before))
    folder.outcome("grey", "flipped", png=folder.picture(after), linf=2.0)
    target = write_case(folder.write(), "grey", tmp_path / "flip.gif", pixels=True)
    with Image.open(target) as gif:
        assert getattr(gif, "n_frames", 1) == 2
        assert gif.info["loop"] == 0
        for place, picture in enumerate((before, after)):
            gif.seek(place)
            shown = np.asarray(gif.convert("RGB"))[EDGE + HEAD :, EDGE:][:SHOWN, :SHOWN]
            # The outline of the pixel values touches other pixels.
            square = pixels.patch(before, after)
            middle = shown[8::16, 8::16]
            outside = np.ones((SIDE, SIDE), bool)
            outside[square.top : square.top + 8, square.left : square.left + 8] = False
            assert np.array_equal(middle[outside], picture.repeat(3, -1)[outside])


def test_a_gif_of_many_colours_says_that_it_reduces_them(folder: Folder, flips) -> None:
    with Run.open(folder.path) as run:
        case = sheet(run, chosen(run, "b.jpg"))
    titles: list[str] = []
    write = drawing._Paper.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            drawing._Paper,
            "write",
            lambda paper, x, y, words, *a, **k: (
                titles.append(words) or write(paper, x, y, words, *a, **k)
            ),
        )
        drawing.frames(case)
    assert "original (256 colours)" in titles
    assert "adversarial (256 colours)" in titles


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))),
    st.integers(1, 40),
)
def test_reduced_colours_are_near_and_few(picture: np.ndarray, most: int) -> None:
    colours = drawing._colours([picture])
    table = drawing._reduced(colours, most)
    assert len(table) <= most
    places = drawing._nearest(colours, table)
    if len(colours) <= most:
        assert np.array_equal(table[places], colours)
    chosen_distance = ((table[places].astype(int) - colours) ** 2).sum(-1)
    every = ((table[None].astype(int) - colours[:, None]) ** 2).sum(-1)
    assert np.array_equal(chosen_distance, every.min(-1))


def test_only_known_probabilities_are_drawn(folder: Folder, flips) -> None:
    """Without kept steps only the class with its recorded confidence; with them the others too."""
    before, after = flips["b"]
    with Run.open(folder.path) as run:
        (original,), (adversarial,) = sheet(run, chosen(run, "b.jpg")).bars
    assert (original.name, original.share) == ("cat", 0.9)
    assert (adversarial.name, adversarial.share) == ("dog", 0.8)
    second = Folder(folder.path.parent / "second")
    rng = np.random.default_rng(9)
    before, after = second.flip("x", rng=rng)
    second.strip("x", 0, second.picture(before), [0.7, 0.3])
    second.strip("x", 3, second.picture(after), [0.2, 0.8])
    with Run.open(second.write()) as run:
        bars = sheet(run, chosen(run, "x")).bars
    assert [[(b.name, b.share, b.wins) for b in one] for one in bars] == [
        [("cat", 0.7, True), ("dog", 0.3, False)],
        [("cat", 0.2, False), ("dog", 0.8, True)],
    ]


def test_the_bar_is_as_long_as_the_probability(folder: Folder, flips, tmp_path: Path) -> None:
    target = write_case(folder.path, "b.jpg", tmp_path / "strip.png")
    with Image.open(target) as picture:
        whole = np.asarray(picture)
    # The line of the first bar, below its name.
    line = whole[EDGE + HEAD + SHOWN + 12 + 22, EDGE + 2 * (SHOWN + GAP) :]
    assert int((line == ACCENT).all(-1).sum()) == round(0.8 * SHOWN)


@pytest.mark.slow
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize(("height", "width", "channels"), [(3, 5, 1), (9, 700, 3), (1600, 40, 4)])
def test_pictures_of_any_shape_are_drawn(
    folder: Folder, tmp_path: Path, height: int, width: int, channels: int, values: bool
) -> None:
    rng = np.random.default_rng(4)
    before = rng.integers(0, 250, (height, width, channels), dtype=np.uint8)
    after = before.copy()
    after[-1, -1, 0] += 5
    folder.image("a", png=folder.picture(before))
    folder.outcome("a", "flipped", png=folder.picture(after), linf=5.0)
    folder.write()
    for name in ("strip.png", "flip.gif"):
        with Image.open(write_case(folder.path, "a", tmp_path / name, pixels=values)) as picture:
            picture.load()
            assert max(picture.size) < 3000


@pytest.mark.parametrize(
    ("names", "expected", "numbered"),
    [
        (["chat", "chien"], ["chat", "chien"], False),
        (["bébé", "Straße"], ["bébé", "Straße"], False),
        (["猫", "犬"], ["class 0", "class 1"], True),
        (["cat", "собака"], ["cat", "class 1"], True),
        (["e", "é"], ["e", "class 1"], True),
    ],
)
def test_names_that_the_font_has_not_are_given_by_number(
    folder: Folder, flips, names, expected, numbered
) -> None:
    file = folder.path / "run.json"
    file.write_text(json.dumps(folder.manifest | {"class_names": names}), encoding="utf-8")
    with Run.open(folder.path) as opened:
        drawn = sheet(opened, chosen(opened, "b.jpg"))
    shown = {bar.name for bars in drawn.bars for bar in bars}
    assert shown and shown <= set(expected)
    assert ("numbers, from 0" in drawn.note) is numbered


def test_only_letters_of_the_font_are_drawn() -> None:
    assert letters.plain("bébé Straße × 3 − 1… Łódź") == "bebe Strasse x 3 - 1... Lodz"
    assert letters.plain("猫 ok \u202e") == "? ok <U+202E>"
    for size in (12, 14):
        font = ImageFont.load_default(size)
        missing = bytes(font.getmask("\U0010ffff"))
        assert not [c for c in map(chr, range(33, 127)) if bytes(font.getmask(c)) == missing]
        assert bytes(font.getmask("猫")) == missing


def test_hostile_names_are_drawn_as_codes(folder: Folder, tmp_path: Path) -> None:
    folder.manifest["class_names"] = ["<b>\u202ecat", "x" * 500]
    folder.flip("evil\n\u202e.jpg" + "y" * 300, rng=np.random.default_rng(1))
    folder.write()
    with Run.open(folder.path) as run:
        title = sheet(run, chosen(run, folder.rows["images"][0]["key"])).title
    assert "⟨U+202E⟩" in title
    target = write_case(folder.path, folder.rows["images"][0]["key"], tmp_path / "strip.png")
    with Image.open(target) as picture:
        assert picture.size[0] < 1000


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"image": "bb.jpg"}, r"has no image 'bb.jpg'; it has 3: .*Did you mean b.jpg\?"),
        ({"image": "c.jpg"}, r"c.jpg is no flip of this run: it is robust"),
        ({"image": "b.jpg", "attack": "pgd"}, r"No attack 'pgd' .*these do: bim\(steps=4\)"),
        ({"image": "b.jpg", "epsilon": 3.0}, r"no flip at epsilon 3; it has some at 4"),
        ({"image": "b.jpg", "path": "b.jpg"}, r"expected a name that ends in .png or .gif"),
    ],
)
def test_wrong_requests_say_what_there_is(folder: Folder, flips, asked, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        write_case(folder.path, **asked)


def test_a_name_that_is_not_utf8_finds_its_image(folder: Folder, tmp_path: Path) -> None:
    """A run records the bytes of a file name that are not UTF-8 as codes."""
    folder.flip("dog/caf\\udce9.jpg", rng=np.random.default_rng(1))
    folder.write()
    assert write_case(folder.path, "caf\udce9.jpg", tmp_path / "strip.png").exists()
    with pytest.raises(SettingError, match="No attack"):
        write_case(folder.path, "caf\udce9.jpg", tmp_path / "strip.png", "\udce9")


def test_an_ambiguous_name_is_refused(folder: Folder, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    folder.flip("one/a.jpg", rng=rng)
    folder.flip("two/a.jpg", rng=rng)
    folder.write()
    with pytest.raises(SettingError, match=r"2 images of the run are called 'a.jpg'"):
        write_case(folder.path, "a.jpg", tmp_path / "strip.png")
    assert write_case(folder.path, "two/a.jpg", tmp_path / "strip.png").exists()


def test_pictures_that_were_not_kept_or_were_altered_are_not_drawn(
    folder: Folder, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    folder.image("none")
    folder.outcome("none", "flipped")
    folder.flip("altered", rng=rng)
    folder.write()
    with pytest.raises(RunError, match=r"kept no pictures of none.*--evidence"):
        write_case(folder.path, "none", tmp_path / "strip.png")
    other = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(other).save(folder.path / folder.rows["outcomes"][1]["png"])
    with pytest.raises(RunError, match="not the file that the audit saved"):
        write_case(folder.path, "altered", tmp_path / "strip.png")
    assert not (tmp_path / "strip.png").exists()


def test_the_command_and_python_draw_the_same(folder: Folder, flips, tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    words = [
        "case",
        str(folder.path),
        "a.jpg",
        "--attack",
        "bim",
        "-e",
        "4",
        "--pixels",
        "-o",
        str(one),
    ]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.output.strip() == str(one)
    result = AuditResult(folder.path)
    assert result.case("a.jpg", two, attack="bim", epsilon=4.0, pixels=True) == two
    assert one.read_bytes() == two.read_bytes()
