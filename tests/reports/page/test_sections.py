"""Tests of page sections: order, anchors, and sections of plug-ins."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from robustness import plugins
from robustness.errors import SettingError
from robustness.reports import PageData, Section, write_html
from robustness.reports.page.sections import SECTIONS
from robustness.reports.page.sections.worst_case import weakest_first
from robustness.reports.summary.image_results import ImageResult
from robustness.reports.summary.summary import Summary
from tests.reports.folder import Folder


def queries(page: PageData) -> Section:
    """A section as a plug-in writes it, from the summary and the tables of the run."""
    outcomes = page.run.outcomes()
    return Section(
        anchor="queries",
        title="Queries <b>",
        template="<p>{{ passes | number }} passes for {{ name }} in {{ count | plural('outcome') }}</p>",
        data={
            "passes": page.summary.cost.forward,
            "name": "<script>alert(1)</script>\u202e",
            "count": len(outcomes),
        },
        link="Queries",
    )


def nothing(page: PageData) -> None:
    """A section without content."""


def broken(page: PageData) -> Section:
    raise RuntimeError("<b>no tables</b>")


def leaves(page: PageData) -> Section:
    raise SystemExit(0)


def undefined(page: PageData) -> Section:
    return Section("undefined", "Undefined", "<p>{{ no_such_variable }}</p>")


def twice(page: PageData) -> Section:
    return Section("findings", "Findings again", "")


def text(page: PageData) -> str:
    return "<p>text</p>"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """Install functions of this module as sections, given by name."""

    def made(*names: str) -> None:
        points = [EntryPoint(name, f"{__name__}:{name}", plugins.REPORT_SECTIONS) for name in names]
        known = plugins.entry_points
        monkeypatch.setattr(
            plugins,
            "entry_points",
            lambda **wanted: (
                points
                if wanted.get("group") == plugins.REPORT_SECTIONS and "name" not in wanted
                else [p for p in points if p.name == wanted.get("name")]
                if wanted.get("group") == plugins.REPORT_SECTIONS
                else known(**wanted)
            ),
        )

    return made


def page_of(run: Path) -> str:
    return write_html(run).read_text(encoding="utf-8")


def test_a_section_of_a_plug_in_is_shown_with_its_entry(mixed: Path, install) -> None:
    install("queries", "nothing")
    page = page_of(mixed)
    assert '<a href="#queries">Queries</a>' in page
    body = page[page.index('<section id="queries"') : page.index("</main>")]
    assert '<h2 id="queries-title">Queries &lt;b&gt;</h2>' in body
    assert (
        "<p>48 passes for &lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩ in 12 outcomes</p>" in body
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "RuntimeError: &lt;b&gt;no tables&lt;/b&gt;"),
        ("leaves", "SystemExit: 0"),
        ("undefined", "&#39;no_such_variable&#39; is undefined"),
        ("twice", "anchor &#39;findings&#39; is taken"),
        ("text", "returned str; expected a Section or None"),
        ("no_such_function", "cannot be imported"),
    ],
)
def test_a_broken_section_is_replaced_by_a_message(
    mixed: Path, install, name: str, reason: str
) -> None:
    whole = page_of(mixed)
    install(name, "queries")
    page = page_of(mixed)
    anchor = f"plugin-{name.replace('_', '-')}"
    body = page[page.index(f'<section id="{anchor}"') :].partition("</section>")[0]
    assert reason in body
    assert '<section id="queries"' in page
    # The rest of the page is unchanged.
    assert page.startswith(whole[: whole.index("</nav>")][:-1])
    assert whole[whole.index("</nav>") : whole.index("</main>")] in page


def test_anchors_are_unique_and_every_entry_has_a_target(mixed: Path) -> None:
    page = page_of(mixed)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    contents = page[page.index("<nav") : page.index("</nav>")]
    links = re.findall(r'href="#([^"]+)"', contents)
    assert len(links) > len(SECTIONS) // 2
    assert set(links) <= set(ids)


@pytest.mark.parametrize("anchor", ["", "Top", "a b", "1st", 'x"y'])
def test_an_anchor_is_a_plain_word(anchor: str) -> None:
    with pytest.raises(SettingError, match="lower-case letters"):
        Section(anchor, "Title", "")


@pytest.mark.parametrize(
    "timing",
    [
        {"seconds": 90.0, "load model": 30.0, "attack_pgd": 45.5},
        {"seconds": 90.0, "stages": {"load model": 30.0, "attack_pgd": 45.5}},
    ],
)
def test_recorded_stages_of_the_time_are_listed(folder: Folder, timing) -> None:
    folder.manifest["timing"] = timing
    folder.image("a")
    folder.outcome("a", "robust")
    page = page_of(folder.write())
    body = page[page.index('id="device"') :].partition("</section>")[0]
    for term, value in (
        ("Time without the reports", "1 min 30 s"),
        ("Time, load model", "30 s"),
        ("Time, attack pgd", "45.5 s"),
    ):
        assert f"<dt>{term}</dt><dd><bdi>{value}</bdi></dd>" in body


def test_the_time_is_that_of_everything_once_the_reports_are_timed(folder: Folder) -> None:
    folder.manifest["timing"] = {"seconds": 90.0, "stages": {"loading": 30.0, "reports": 12.0}}
    folder.image("a")
    folder.outcome("a", "robust")
    page = page_of(folder.write())
    body = page[page.index('id="device"') :].partition("</section>")[0]
    assert "<dt>Time</dt><dd><bdi>1 min 42 s</bdi></dd>" in body
    assert "without the reports" not in page


def test_the_page_says_what_skipped_diagnostics_mean(folder: Folder) -> None:
    folder.image("a")
    folder.outcome("a", "robust")
    folder.manifest["diagnostics"] = [
        {"id": f"D{n:02}", "title": "T", "status": "skipped", "sentence": "S."} for n in (7, 8)
    ]
    page = page_of(folder.write())
    assert "2 diagnostics were skipped" in page
    assert "covers only the checks that ran" in page
    quiet = Folder(folder.path.parent / "quiet")
    quiet.image("a")
    quiet.outcome("a", "robust")
    assert "covers only the checks that ran" not in page_of(quiet.write())


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(SettingError, match="'wide'"):
        Section("a", "Title", "", layout="wide")  # type: ignore[arg-type]


def test_images_alike_in_change_and_confidence_have_one_order():
    """Saturated confidences tie: the table must not show another order than the case browser."""

    def image(key: str, sure: float) -> ImageResult:
        return ImageResult(
            key,
            key,
            "a",
            "a",
            1.0,
            "flipped",
            4.0,
            ("x",),
            ("x",),
            change=4.0,
            confidence_after=sure,
        )

    shuffled = (image("c", 1.0), image("d", 0.9), image("a", 1.0), image("b", 1.0))
    ordered = weakest_first(cast("Summary", SimpleNamespace(results=shuffled, worst=(1,))))
    assert [one.key for one in ordered] == ["a", "b", "c", "d"]


def test_numbers_stay_with_names_written_from_right_to_left(folder: Folder) -> None:
    names = ["קטול", "قط"]
    folder.manifest["class_names"] = names
    for number, label in enumerate((0, 0, 1)):
        folder.image(f"{number}", label=label, clean_class=label)
        folder.outcome(f"{number}", "robust")
    page = write_html(folder.write()).read_text(encoding="utf-8")
    assert f"<bdi>{names[0]}</bdi> 2, <bdi>{names[1]}</bdi> 1" in page
    assert f"<bdi>{names[0]}</bdi>, <bdi>{names[1]}</bdi>" in page


def test_what_a_median_leaves_out_is_said_once(folder: Folder) -> None:
    for number, status in enumerate(("flipped", "robust", "failed")):
        folder.image(f"{number}")
        folder.outcome(f"{number}", status)
    page = write_html(folder.write()).read_text(encoding="utf-8")
    (caption,) = re.findall(r"Median smallest epsilon:.*?</figcaption>", page, re.DOTALL)
    assert caption.count("1 image left out, on which attacks failed") == 1


def test_a_budget_of_one_count_is_in_the_singular(folder: Folder) -> None:
    folder.manifest["config"]["epsilons"] = [1.0]
    folder.image("a")
    folder.outcome("a", "robust", 1.0)
    page = write_html(folder.write()).read_text(encoding="utf-8")
    assert "largest change: 1 count of 0–255 (1/255)" in page
