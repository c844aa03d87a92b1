"""Tests of comparisons: McNemar against SciPy, counted pairs, refusals, hostile names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2

from robustness.errors import RunError, SettingError
from robustness.images import Entry
from robustness.reports import summarise
from robustness.reports.comparison.compare import by_image, compare, mcnemar, p_equation
from robustness.reports.comparison.page import render_comparison, write_comparison
from robustness.reports.comparison.sides import expect_comparable, read_side
from robustness.runs.store import Run
from tests.reports.folder import Folder, manifest

FLIPPED, ROBUST, WRONG = "flipped", "robust", "misclassified"


@settings(deadline=None)
@given(lost=st.integers(0, 400), gained=st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(lost: int, gained: int) -> None:
    expected = 1.0 if lost + gained == 0 else binomtest(lost, lost + gained, 0.5).pvalue
    assert mcnemar(lost, gained) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_mcnemar_approaches_the_corrected_chi_square_for_many_images() -> None:
    # The textbook table (Agresti): 59 against 6; and a nearly even one.
    for lost, gained in ((590, 480), (5050, 4950)):
        approximate = chi2.sf((abs(lost - gained) - 1) ** 2 / (lost + gained), 1)
        assert mcnemar(lost, gained) == pytest.approx(approximate, rel=0.02)
    assert mcnemar(10_000, 10_000) == 1.0
    assert mcnemar(86, 150) == pytest.approx(3.716e-05, rel=1e-3)


def run_of(path: Path, fates: dict[str, list[str]], **changes: Any) -> Path:
    """A run whose images have these statuses at epsilon 1 and 4."""
    folder = Folder(path, **changes)
    for key, (first, second) in fates.items():
        wrong = first == WRONG
        folder.image(key, label=0, clean_class=1 if wrong else 0, digest=f"d{key}")
        folder.outcome(key, first, 1.0)
        folder.outcome(key, second, 4.0)
    return folder.write()


FATES_A = {f"i{n:03}": [ROBUST, FLIPPED if n < 30 else ROBUST] for n in range(60)}
FATES_A |= {f"w{n}": [WRONG, WRONG] for n in range(5)}
FATES_B = FATES_A | {f"i{n:03}": [ROBUST, ROBUST] for n in range(12)}
FATES_B |= {f"i{n:03}": [FLIPPED, FLIPPED] for n in range(40, 43)}
FATES_B |= {"i059": [WRONG, WRONG], "w0": [ROBUST, ROBUST]}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return run_of(tmp_path / "a", FATES_A), run_of(tmp_path / "b", FATES_B)


def test_pairs_are_counted(two: tuple[Path, Path]) -> None:
    found = compare(*two)
    assert [m.key for m in found.newly_robust if m.epsilon == 4] == [f"i{n:03}" for n in range(12)]
    assert {(m.key, m.epsilon) for m in found.newly_flipped} == {
        (f"i{n:03}", e) for n in range(40, 43) for e in (1.0, 4.0)
    }
    assert [m.key for m in found.newly_wrong] == ["i059"]
    assert [m.key for m in found.newly_right] == ["w0"]
    rows = {(p.what, p.epsilon): p for p in found.pairings}
    clean = rows["clean accuracy", None]
    assert (clean.total, clean.before, clean.after, clean.lost, clean.gained) == (65, 60, 60, 1, 1)
    robust = rows["robust accuracy", 4.0]
    assert (robust.before, robust.after) == (30, 30 + 12 - 3 - 1 + 1)
    assert (robust.lost, robust.gained) == (4, 13)
    assert robust.p_value == pytest.approx(binomtest(4, 17).pvalue)
    flips = rows["flip rate of the images right in both", 4.0]
    assert (flips.total, flips.lost, flips.gained) == (59, 12, 3)
    assert found.differs
    assert "3 flip newly and 12 no longer flip at epsilon 4" in found.sentence
    assert len(dict(by_image(found.newly_robust))) == len({m.key for m in found.newly_robust})
    assert dict(by_image(found.newly_wrong)) == {found.newly_wrong[0].name: ""}
    assert json.loads(json.dumps(found.to_dict()))["images"] == 65


def test_the_sentence_is_about_the_epsilon_with_most_differences(tmp_path: Path) -> None:
    """At the largest epsilon everything flips in both runs; they differ at the smaller one."""
    a = {f"i{n}": [ROBUST if n < 9 else FLIPPED, FLIPPED] for n in range(40)}
    b = a | {f"i{n}": [FLIPPED, FLIPPED] for n in range(7)}
    found = compare(run_of(tmp_path / "a", a), run_of(tmp_path / "b", b))
    assert "7 flip newly and 0 no longer flip at epsilon 1" in found.sentence
    assert "Robust accuracy at epsilon 1: 22.5 % in A, 5.0 % in B" in found.sentence


def test_epsilons_of_one_run_alone_are_named(tmp_path: Path) -> None:
    """No difference where both were audited says nothing of the epsilons of one."""
    for name, epsilons in (("a", (1.0, 4.0, 8.0)), ("b", (1.0, 4.0, 2.5))):
        folder = Folder(tmp_path / name)
        folder.image("i")
        for epsilon in epsilons:
            folder.outcome("i", "robust", epsilon)
        folder.write()
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found.sentence == "No difference: 1 image has the same outcome in both runs."
    assert "Not compared: epsilon 8, audited in A only." in found.notes
    assert "Not compared: epsilon 2.5, audited in B only." in found.notes


def test_images_that_one_run_has_not_decided_are_not_called_equal(tmp_path: Path) -> None:
    """An unfinished run, and images on which attacks failed."""
    fates = {f"i{n}": [ROBUST, FLIPPED] for n in range(10)}
    whole = run_of(tmp_path / "a", fates)
    failed = run_of(tmp_path / "b", fates | {"i3": [ROBUST, "failed"], "i4": ["failed", FLIPPED]})
    found = compare(whole, failed)
    assert (found.differs, found.images, found.uncompared) == (False, 10, 2)
    assert (
        "No difference among 8 of 10 images; nothing can be said of the other 2" in found.sentence
    )
    part = Folder(tmp_path / "c", finished=None)
    for key, statuses in fates.items():
        part.image(key, label=0, clean_class=0, digest=f"d{key}")
        for status, epsilon in zip(statuses[: 1 + (key < "i6")], (1.0, 4.0), strict=False):
            part.outcome(key, status, epsilon)
    found = compare(whole, part.write())
    assert (found.differs, found.uncompared) == (False, 4)
    assert "all 10 images" not in found.sentence
    assert any("Run B is not finished. Its shares" in note for note in found.notes)
    turned = run_of(tmp_path / "d", fates | {"i0": [FLIPPED] * 2, "i1": [ROBUST, "failed"]})
    found = compare(whole, turned)
    assert (found.differs, found.uncompared) == (True, 1)
    assert "Of 1 images nothing" not in found.sentence and "Of 1 image nothing" in found.sentence


def test_a_run_compared_with_itself_has_no_difference(two: tuple[Path, Path]) -> None:
    found = compare(two[0], two[0])
    assert not found.differs
    assert "No difference: all 65 images" in found.sentence
    assert {p.p_value for p in found.pairings} == {1.0}
    assert "Both runs audited the same weights." in found.notes


def test_a_json_report_can_replace_its_run(two: tuple[Path, Path], tmp_path: Path) -> None:
    with Run.open(two[0]) as run:
        plain = json.dumps(summarise(run).to_dict())
    (tmp_path / "report.json").write_text(plain)
    assert compare(tmp_path / "report.json", two[1]).pairings == compare(*two).pairings
    (tmp_path / "broken.json").write_text(plain[:100])
    with pytest.raises(RunError, match="cannot be compared"):
        compare(tmp_path / "broken.json", two[1])
    with pytest.raises(RunError, match=r"no run\.json"):
        compare(tmp_path / "nowhere", two[1])


@pytest.mark.parametrize(
    ("fates", "changes", "said"),
    [
        ({k: v for k, v in FATES_A.items() if k != "i001"}, {}, r"1 only in A \(i001\)"),
        (FATES_A | {"new": [ROBUST, ROBUST]}, {}, r"1 only in B \(new\)"),
        (FATES_A, {"config": manifest()["config"] | {"norm": "l2"}}, "differ in their norm"),
        (
            FATES_A,
            {"config": manifest()["config"] | {"goal": "targeted at dog"}},
            "differ in their goal",
        ),
    ],
)
def test_other_data_is_refused(two, tmp_path: Path, fates, changes, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        compare(two[0], run_of(tmp_path / "c", fates, **changes))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("digest", "other", "have other pixels"), ("label", 1, "have different labels")],
)
def test_images_exchanged_under_the_same_names_are_refused(two, column, value, said) -> None:
    import sqlite3

    database = sqlite3.connect(two[1] / "run.sqlite")
    database.execute(f"UPDATE images SET {column} = ? WHERE key = 'i007'", (value,))
    database.commit()
    database.close()
    with pytest.raises(SettingError, match=rf"different images: 1 {said} \(i007\)"):
        compare(*two)


def named(folder: Path, *names: str, **changes: Any) -> Path:
    return run_of(folder, FATES_A, class_names=list(names), **changes)


@pytest.mark.parametrize("names", [("Cat", "DOG"), ("0 cat", "1 dog"), ("cat", "dog")])
def test_class_names_in_another_spelling_are_the_same_classes(two, tmp_path: Path, names) -> None:
    found = compare(two[0], named(tmp_path / "c", *names))
    assert not found.differs
    said = [note for note in found.notes if "spelled differently" in note]
    assert len(said) == (names != ("cat", "dog"))
    assert all(f"cat and {names[0]}" in note for note in said)


def test_a_target_class_in_another_spelling_is_the_same_goal(tmp_path: Path) -> None:
    def aimed(place: str, target: str, *names: str) -> Path:
        config = manifest()["config"] | {"goal": f"targeted at {target}"}
        return named(tmp_path / place, *names, config=config)

    first = aimed("a", "dog", "cat", "dog")
    assert not compare(first, aimed("b", "Dog", "Cat", "Dog")).differs
    with pytest.raises(SettingError, match=r"goal \(targeted at dog in A, targeted at Cat in B\)"):
        compare(first, aimed("c", "Cat", "Cat", "Dog"))


def test_other_class_names_are_told_with_an_example(two, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"cat in A, pear in B.*name them alike"):
        compare(two[0], named(tmp_path / "c", "pear", "plum"))
    # A name that fits two classes fits none.
    with pytest.raises(SettingError, match="have different labels"):
        compare(named(tmp_path / "d", "cat", "CAT"), named(tmp_path / "e", "Cat", "dog"))


def test_labels_are_compared_before_the_second_run_is_made(two) -> None:
    side = read_side(two[0])
    index = {name: number for number, name in enumerate(side.manifest.class_names)}
    entries = [
        Entry(key, key, None if label is None else index[label])
        for key, label in side.labels.items()
    ]
    for names in (("cat", "dog"), ("Cat", "Dog")):
        expect_comparable(side, side.manifest.with_changes(class_names=names), entries)
    with pytest.raises(SettingError, match=r"could not be compared with a .*cat in A, pear in B"):
        other = side.manifest.with_changes(class_names=("pear", "plum"))
        expect_comparable(side, other, entries)


def test_a_model_of_another_size_is_matched_by_name(two, tmp_path: Path) -> None:
    model = manifest()["model"] | {"input_shape": [32, 32, 3], "weights_sha256": "00"}
    found = compare(two[0], run_of(tmp_path / "c", FATES_B, model=model))
    assert any("matched by name" in note for note in found.notes)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_closes_all_tags_and_escapes_names(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>\u202e<script>.png"
    fates = {name: [ROBUST, ROBUST]} | {f"i{n}": [ROBUST, ROBUST] for n in range(9)}
    a = run_of(tmp_path / "a", fates)
    b = run_of(tmp_path / "b", fates | {name: [FLIPPED, FLIPPED]})
    text = render_comparison(compare(a, b))
    page = Page()
    page.feed(text)
    tags = [tag for tag, _ in page.tags]
    assert "img" not in tags and "script" not in tags
    assert not any(k.startswith("on") or k in ("src", "href") for _, at in page.tags for k in at)
    assert "Newly flipped: 1<" in text and "epsilon 1, 4" in text
    assert "\u202e" not in text and "U+202E" in text
    policy = next(at["content"] for _, at in page.tags if at.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")
    assert not re.search(r"https?://", text)
    assert write_comparison(compare(a, b), tmp_path / "deep" / "x.html").read_text() == text


@pytest.mark.slow
def test_the_command_needs_no_framework(two, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code = (
        "import sys\nfrom robustness.cli import app\n"
        f"try: app(['compare', {str(two[0])!r}, {str(two[1])!r}, '--html', {str(page)!r}])\n"
        "except SystemExit as leave: assert not leave.code\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "robust accuracy" in done.stdout and "newly robust" in done.stdout
    assert page.stat().st_size > 2000


def test_statuses_match_the_rows(tmp_path: Path) -> None:
    """Random statuses, counted with NumPy."""
    rng = np.random.default_rng(3)
    kinds = np.array([ROBUST, FLIPPED])
    pair = rng.integers(0, 2, (2, 80))
    sides = [
        run_of(tmp_path / where, {f"i{n}": [ROBUST, str(kinds[v])] for n, v in enumerate(values)})
        for where, values in zip("ab", pair, strict=True)
    ]
    found = compare(*sides)
    last = found.pairings[-1]
    assert (last.before, last.after) == tuple((pair == 0).sum(axis=1))
    assert last.lost == ((pair[0] == 0) & (pair[1] == 1)).sum()


@pytest.mark.parametrize(("value", "said"), [(0.0312, "p = 0.031"), (1e-9, "p < 0.0001")])
def test_a_p_value_has_one_relation_sign(value: float, said: str) -> None:
    assert p_equation(value) == said
