"""Tests of the HTML page: a single file, no requests, no foreign scripts, hostile names as text."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import io
import json
import re
import subprocess
import sys
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustness.errors import RunError
from robustness.reports import summarise, write_html
from robustness.reports.gate.verdict import verdict_of
from robustness.reports.page import case_browser
from robustness.reports.page.case_browser import browser_data
from robustness.reports.page.explanations import explained
from robustness.reports.page.headline import figures_sentence
from robustness.reports.page.html import render
from robustness.reports.summary import metrics
from robustness.runs.result import AuditResult
from robustness.runs.store import Run
from tests.reports.folder import Folder
from tests.reports.summary.test_summary import OldRun

TABLES, EXPORT, SCRIPT = (
    importlib.resources.files("robustness.reports.page")
    .joinpath(f"templates/{name}")
    .read_text(encoding="utf-8")
    for name in ("tables.js", "export.js", "browser.js")
)
VOID = {"meta", "img", "link", "br", "input", "hr"}


class Page(HTMLParser):
    """Parser that collects tags, attributes and text, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).replace("\u00a0", " ").split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(path: Path) -> Page:
    return Page(write_html(path).read_text(encoding="utf-8"))


def assert_harmless(page: Page) -> None:
    assert page.open == []
    known = {"iframe", "object", "embed", "link", "base", "form", "foreignobject"}
    assert not {tag for tag, _ in page.tags} & known
    scripts = page.all("script")
    assert scripts in ([{}], [{}, {"type": "application/json", "id": "case-data"}, {}, {}])
    assert page.scripts[0] == TABLES
    if len(scripts) > 1:
        assert page.scripts[2:] == [EXPORT, SCRIPT]
        json.loads(page.scripts[1])
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("style", "srcset", "data", "action", "formaction", "xlink:href")
            if name == "src":
                assert tag == "img"
                assert value is not None
                assert re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/]+=*", value)
            if name == "href":
                cases = r"#status=flipped&epsilon=[0-9.]+(&attack=[0-9]+)?"
                assert re.fullmatch(rf"#[a-z0-9-]+|{cases}|#name=[A-Za-z0-9_.~%/-]+", value or "")


def test_hostile_names_are_shown_as_text(hostile: Path) -> None:
    page = page_of(hostile)
    assert_harmless(page)
    for name in (
        "<img src=x onerror=alert(1)>.png",
        "{{ 7 * 7 }}",
        "]]><!--",
        "<svg/onload=alert(1)>",
    ):
        assert name in page.text
    for shown in ("photo⟨U+202E⟩gpj.exe", "line⟨U+000A⟩break⟨U+0000⟩⟨U+001B⟩[31m⟨U+007F⟩"):
        assert shown in page.text
    assert "\u202e" not in page.text
    assert "x" * 300 + ".jpg" in page.text


def test_hostile_class_names_are_text_in_alt_texts(hostile: Path) -> None:
    alts = {image["alt"] for image in page_of(hostile).all("img")}
    assert "The original, classified as <b>cat</b>" in alts
    assert any(alt and 'alert("dog")' in alt for alt in alts)


def test_the_page_requests_nothing_and_its_policy_forbids_requests(mixed: Path) -> None:
    text = write_html(mixed).read_text(encoding="utf-8")
    page = Page(text)
    assert_harmless(page)
    (policy,) = [
        str(meta["content"])
        for meta in page.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(digests) == 3
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    for script in scripts:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document.write|eval\(", script)
    assert "frame-src" not in rules
    # The browser hashes the text between the tags, so the policy needs exactly this hash.
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert rules["style-src"] == f"'sha256-{digest}'"
    assert "url(" not in style
    assert "@import" not in style
    assert set(re.findall(r"https?://[^\"' ]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_pictures_match_the_run(folder: Folder, mixed: Path) -> None:
    page = page_of(mixed)
    shown = set()
    for image in page.all("img"):
        data = base64.b64decode(str(image["src"]).partition(",")[2])
        with Image.open(io.BytesIO(data)) as picture:
            assert not picture.info
            shown.add(np.asarray(picture).tobytes())
        assert image["alt"]
    kept = {r["png"] for r in folder.rows["outcomes"] + folder.rows["images"] if r.get("png")}
    assert len(kept) == 10
    for name in kept:
        with Image.open(mixed / name) as picture:
            assert np.asarray(picture).tobytes() in shown


def test_patch_numbers_match_the_pixels_of_the_files(folder: Folder) -> None:
    before, after = folder.flip("a.jpg", rng=np.random.default_rng(3), side=8)
    page = page_of(folder.write())
    grids = re.findall(
        r'<table class="grid">(.*?)</table>', write_html(folder.path).read_text(), re.S
    )
    found = [
        [int(v.replace("−", "-")) for v in re.findall(r"<td[^>]*>([^<]+)</td>", grid)]
        for grid in grids
    ]
    channel = next(
        c for c, name in enumerate(("red", "green", "blue")) if f"channel {name}" in page.text
    )
    assert found[0] == before[..., channel].ravel().tolist()
    assert found[1] == after[..., channel].ravel().tolist()
    assert found[2] == (after.astype(int) - before)[..., channel].ravel().tolist()


def test_the_mixed_run_is_described_in_words(mixed: Path) -> None:
    text = page_of(mixed).text
    for said in (
        "5 of 8 correctly classified images flip within 4 counts.",
        "95 % interval 30.6–86.3 %",
        "Attacks failed on 1 image",
        "55.6–66.7 % if 1 undecided image is included",
        "The file ends too early.",
        "robustness audit --model pets.keras",
        "upper bound",
    ):
        assert said in text


def test_a_page_without_outcomes_states_it(folder: Folder) -> None:
    page = page_of(folder.write())
    assert_harmless(page)
    assert "No attack was run" in page.text
    assert "No image flipped" in page.text


@pytest.mark.slow
@pytest.mark.parametrize("status", ["misclassified", "unreadable", "failed"])
def test_a_page_without_judged_images_states_it(folder: Folder, status: str) -> None:
    for number in range(3):
        readable = {} if status != "unreadable" else {"clean_class": None, "reason": "torn"}
        folder.image(str(number), label=int(status == "misclassified"), **readable)
        folder.outcome(str(number), status)
    page = page_of(folder.write())
    assert_harmless(page)
    assert "nothing can be said about robustness" in page.text
    assert " flip within" not in page.text


def test_a_page_without_flips_states_it(folder: Folder) -> None:
    for number in range(20):
        folder.image(str(number))
        folder.outcome(str(number), "robust")
    text = page_of(folder.write()).text
    assert "0 of 20 correctly classified images flip within 4 counts." in text
    assert "0–16.1 %" in text


def test_a_run_without_columns_or_sections_is_shown() -> None:
    page = Page(render(OldRun()))
    assert_harmless(page)
    assert "1 of 2 images" in page.text


def test_missing_and_altered_pictures_are_reported(folder: Folder) -> None:
    rng = np.random.default_rng(4)
    folder.flip("lost.jpg", rng=rng)
    folder.flip("altered.jpg", rng=rng)
    path = folder.write()
    lost, altered = (row["png"] for row in folder.rows["outcomes"])
    (path / lost).unlink()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path / altered)
    text = page_of(path).text
    assert "Its pictures cannot be shown" in text
    assert "not the file that the audit saved" in text


def test_a_damaged_picture_is_reported(folder: Folder) -> None:
    folder.flip("a.jpg", rng=np.random.default_rng(4))
    path = folder.write()
    target = path / folder.rows["outcomes"][0]["png"]
    target.write_bytes(target.read_bytes()[:60])
    assert "Its pictures cannot be shown" in page_of(path).text


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures_are_shown(folder: Folder, channels: int) -> None:
    before = np.full((9, 12, channels), 100, np.uint8)
    after = before + np.uint8(3)
    folder.image("a", png=folder.picture(before))
    folder.outcome("a", "flipped", png=folder.picture(after), linf=3.0)
    assert_harmless(page_of(folder.write()))


@pytest.mark.slow
def test_a_downsized_strip_is_labelled(folder: Folder) -> None:
    rng = np.random.default_rng(3)
    before, after = folder.flip("large.jpg", rng=rng, side=400)
    for step, pixels in enumerate((before, after)):
        folder.strip("large.jpg", step, folder.picture(pixels), [0.9, 0.1])
    assert "one pixel here is the mean of 3 × 3" in page_of(folder.write()).text


def test_a_strip_of_small_pictures_is_not_labelled(mixed: Path) -> None:
    assert "the mean of" not in page_of(mixed).text


def test_flips_by_noise_come_from_the_diagnostic_without_noise_attack(folder: Folder) -> None:
    said = "100 random changes within epsilon 4 flip 0 of 9 images, none of which survives."
    folder.manifest["diagnostics"] = [
        {"id": "D16", "title": "Noise", "status": "ok", "sentence": said, "evidence": {}}
    ]
    folder.image("a")
    folder.outcome("a", "robust")
    text = page_of(folder.write()).text
    assert (
        f"Random changes as a baseline Random changes within the same epsilon, without an attacker. {said}"
        in text
    )


def test_nothing_is_said_of_attacks_where_only_noise_was_run(folder: Folder) -> None:
    noise = {"name": "uniform-noise", "label": "noise", "knowledge": "decision", "parameters": {}}
    folder.manifest["config"]["attacks"] = [noise]
    folder.image("a")
    folder.outcome("a", "robust", attack="noise")
    text = page_of(folder.write()).text
    assert "uniform-noise flips 0" in text
    assert "The attacks flip" not in text


def test_flips_at_one_step_are_not_called_judged_at_the_last(folder: Folder) -> None:
    """Two images of an attack of four steps may both flip at the third."""
    for key in "ab":
        folder.image(key)
        folder.outcome(key, "flipped", step=3)
    assert "bim(steps=4): every flip came at step 3." in page_of(folder.write()).text


def test_without_a_norm_attacks_are_not_compared_with_random_changes(folder: Folder) -> None:
    """An epsilon is degrees for one attack and a severity for another."""
    attacks: list[dict[str, Any]] = [
        {"name": name, "label": name, "knowledge": "decision", "parameters": {}}
        for name in ("spatial", "corruptions")
    ]
    folder.manifest["config"] |= {"norm": "free", "attacks": attacks}
    folder.image("a")
    folder.outcome("a", "robust", attack="spatial")
    folder.outcome("a", "flipped", attack="corruptions")
    assert "Random changes as a baseline" not in page_of(folder.write()).text


def test_the_median_is_the_same_in_all_outputs(
    folder: Folder,
) -> None:
    """44 of 100 images flip at 1 to 2, 56 at 7 to 11: the median is between 4 and 8 in every output."""
    folder.manifest["config"]["epsilons"] = [1.0, 2.0, 4.0, 8.0, 16.0]
    label = "bim(steps=4)"
    # As an older version wrote it.
    folder.manifest["median_epsilon"] = {
        label: {"median": 3.13, "low": 2.28, "high": 4.1, "note": ""}
    }
    for n, needs in enumerate([1] * 23 + [2] * 21 + [7] * 23 + [11] * 33):
        folder.image(f"{n}")
        for epsilon in (1.0, 2.0, 4.0, 8.0, 16.0):
            folder.outcome(f"{n}", "flipped" if epsilon >= needs else "robust", epsilon=epsilon)
    path = folder.write()
    text = page_of(path).text
    point = 4 + 4 * (0.5 - 0.44) / 0.23
    assert "3.13" not in text
    assert (
        f"Median smallest epsilon: {label} {point:.3g}, between 4 and 8, 95 % interval 1 to 8."
        in text
    )
    assert f"median smallest epsilon{point:.3g}between 4 and 8, 95 % interval" in text
    with Run.open(path) as run:
        summary = summarise(run)
    told = figures_sentence(summary, verdict_of(summary))
    assert f"median smallest epsilon {point:.3g} (between 4 and 8, 95 % interval" in told
    (by_attack,), every = summary.median_epsilons, summary.smallest_epsilon
    for name in metrics.MEDIAN:
        assert getattr(by_attack, name) == getattr(every, name)
    assert every.median == pytest.approx(point) and every.low is not None and every.low <= 4
    assert f"{point:.3g}, between 4 and 8, 95 % interval" in AuditResult(path)._repr_html_()


@pytest.mark.slow
def test_a_fitted_curve_is_named_beside_the_median(folder: Folder) -> None:
    fit = {"median": 2.51, "low": 1.6, "high": 3.4, "p_value": 0.4}
    folder.manifest["median_epsilon"] = {"bim(steps=4)": {"fit": fit}}
    for n, needs in enumerate([1, 2, 2, 4, 4, 4, 4]):
        folder.image(f"{n}")
        for epsilon in (1.0, 2.0, 4.0):
            folder.outcome(f"{n}", "flipped" if epsilon >= needs else "robust", epsilon=epsilon)
    path, said = folder.write(), "by a logistic curve 2.51, 1.6 to 3.4"
    assert said in page_of(path).text
    whole = json.loads((path / "run.json").read_text())
    for partial in ({"median": 1.0}, {**fit, "high": None}, None):
        whole["median_epsilon"] = {"bim(steps=4)": {"fit": partial}}
        (path / "run.json").write_text(json.dumps(whole))
        assert "logistic" not in page_of(path).text
    for spoiled in ({"fit": "text"}, {"fit": {"median": "x"}}, {"fit": [1]}, 3):
        whole["median_epsilon"] = {"bim(steps=4)": spoiled}
        (path / "run.json").write_text(json.dumps(whole))
        with pytest.raises(RunError, match=r"run\.json is damaged: median_epsilon"):
            page_of(path)


def test_channel_bars_are_shares_of_the_channel(folder: Folder) -> None:
    """They sum to the share of changed components in the table beside them."""
    rng = np.random.default_rng(5)
    for number in range(3):
        before, after = rng.integers(0, 200, (2, 20, 20, 3)).astype(np.uint8) // 40 * 40
        folder.image(f"{number}", png=folder.picture(before))
        folder.outcome(f"{number}", "flipped", png=folder.picture(after))
    text = write_html(folder.write()).read_text(encoding="utf-8")
    titles = re.findall(r"<title>[+−][\d]+ in (\w+): ([\d.]+) %</title>", text)
    table = dict(re.findall(r'<span class="swatch (\w+)"></span>\w+</th><td>([\d.]+)', text))
    assert set(table) == {"red", "green", "blue"}
    for name, changed in table.items():
        bars = [float(share) for channel, share in titles if channel == name]
        assert sum(bars) == pytest.approx(float(changed), abs=0.05 * (len(bars) + 1))


def test_quiet_sections_are_folded_and_others_open(folder: Folder) -> None:
    folder.manifest["diagnostics"] = [
        {"id": f"D{n:02}", "title": "T", "status": status, "sentence": f"{status} {n}."}
        for n, status in enumerate(("ok", "warn", "fail", "skipped", "ok"), 1)
    ]
    folder.manifest["preflight"] = [
        {"id": f"P{n:02}-x", "severity": severity, "sentence": f"{severity} {n}."}
        for n, severity in enumerate(("ok", "note", "warning"), 1)
    ]
    folder.image("a")
    folder.outcome("a", "robust")
    text = write_html(folder.write()).read_text(encoding="utf-8")
    checks = text[text.index('id="checks"') : text.index('id="limits"')]
    folds = re.findall(r'<details class="folded"><summary>(.*?)</summary>(.*?)</ul>', checks, re.S)
    assert [title for title, _ in folds] == [
        "2 diagnostics passed",
        "1 diagnostic skipped",
        "1 check passed",
    ]
    inside = " ".join(body for _, body in folds)
    for said in ("ok 1.", "ok 5.", "skipped 4."):
        assert said in inside
    for said in ("warn 2.", "fail 3.", "note 2.", "warning 3."):
        assert said in checks
        assert said not in inside


def test_each_diagnostic_has_its_explanation(folder: Folder) -> None:
    """The page contains rule, evidence and remedy; the remedy is visible where it is needed."""
    folder.manifest["diagnostics"] = [
        {
            "id": "D04",
            "title": "T",
            "status": "warn",
            "sentence": "S.",
            "evidence": {"share": 0.25},
        },
        {"id": "D18", "title": "T", "status": "ok", "sentence": "S."},
        {"id": "X99", "title": "<b>", "status": "fail", "sentence": "Of a plug-in."},
    ]
    folder.manifest["preflight"] = [{"id": "P02-scaling", "severity": "ok", "sentence": "Fine."}]
    folder.image("a")
    folder.outcome("a", "robust")
    text = write_html(folder.write()).read_text(encoding="utf-8")
    checks = text[text.index('id="checks"') : text.index('id="limits"')]
    lines = dict(zip(("X99", "D04", "D18", "P02"), checks.split("<li ")[1:], strict=True))
    for name in ("D04", "D18", "P02"):
        said = explained(name)
        assert said is not None
        shown = html.unescape(re.sub(r"</?code>", "`", lines[name]))
        assert said.rule in shown
        assert said.do in shown
    assert lines["D04"].index("What to do") < lines["D04"].index("<details")
    assert lines["D18"].index("<details") < lines["D18"].index("What to do")
    assert "0.25" in lines["D04"]
    assert "What to do" not in lines["X99"]
    assert "<details" not in lines["X99"]


def test_many_classes_become_pairs(folder: Folder) -> None:
    folder.manifest["class_names"] = [f"class {n}" for n in range(100)]
    for number in range(30):
        folder.image(str(number), label=number, clean_class=number)
        folder.outcome(str(number), "flipped", adversarial_class=99 - number)
    text = page_of(folder.write()).text
    assert "and 18 rarer pairs." in text


def test_the_same_run_gives_the_same_page(mixed: Path, tmp_path: Path) -> None:
    first = write_html(mixed).read_bytes()
    assert write_html(mixed, tmp_path / "new" / "page.html").read_bytes() == first


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        write_html(tmp_path)


@pytest.mark.slow
def test_no_framework_is_imported(mixed: Path) -> None:
    code = (
        "import sys, reports; reports.write_html(sys.argv[1]); "
        "bad = {'tensorflow', 'keras', 'torch', 'jax', 'matplotlib'} & set(sys.modules); "
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(mixed)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (mixed / "report.html").exists()


@pytest.mark.slow
def test_ten_thousand_outcomes_make_a_page_in_time(folder: Folder) -> None:
    for number in range(2500):
        folder.image(str(number))
        for attack in ("bim(steps=4)", "pgd(steps=40)"):
            for epsilon in (2.0, 4.0):
                flips = (number + int(epsilon)) % 3 == 0
                folder.outcome(
                    str(number), "flipped" if flips else "robust", epsilon, attack=attack
                )
    path = folder.write()
    start = time.process_time()
    write_html(path)
    assert time.process_time() - start < 5


def test_the_browser_of_many_cases_has_the_worst_of_each_outcome(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Run.open(mixed) as run:
        summary = summarise(run)
        whole = browser_data(run, summary)
        counts = Counter(case[2] for case in whole["cases"])
        monkeypatch.setattr(case_browser, "MOST_CASES", 2 * len(counts))
        few = browser_data(run, summary)
    assert whole["left_out"] == 0
    assert few["left_out"] == len(whole["cases"]) - 2 * len(counts) > 0
    assert {case[2] for case in few["cases"]} == set(counts)

    def texts(data: dict[str, Any]) -> list[tuple[str, list[Any]]]:
        return [(data["images"][case[0]][0], case[1:12]) for case in data["cases"]]

    # The same order, with the same images, and no image without a case.
    kept = iter(texts(whole))
    assert all(case in kept for case in texts(few))
    assert {case[0] for case in few["cases"]} == set(range(len(few["images"])))
    page = write_html(mixed).read_text()
    assert f"{few['left_out']} others are in" in page or "1 other is in" in page
