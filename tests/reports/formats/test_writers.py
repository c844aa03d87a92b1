"""Tests of the report formats: each parses, has the numbers of the run, and neutralises hostile names."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import statistics
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from scipy.stats import binomtest

from robustness import plugins
from robustness.errors import RunError, RunUsageError, SettingError
from robustness.reports import wording
from robustness.reports.comparison.compare import compare
from robustness.reports.formats import github, markdown, outcome_table, pdf, report_json
from robustness.runs.result import AuditResult
from tests.reports.folder import Folder
from tests.reports.hostile import ATTACK, HOSTILE
from tests.reports.page import browser

TEXTS = ("json", "csv", "parquet", "markdown", "junit", "sarif", "github")
# As the npm package @microsoft/jest-sarif 1.0.0-beta.0 (MIT) carries it: 2.1.0-rtm.5.
OFFICIAL = Path(__file__).parent / "sarif-2.1.0.schema.json"


def write(kind: str, run: Path, path: Path | None = None) -> Path:
    return plugins.load(plugins.REPORTS, kind)(run, path)


def rows_of(run: Path, table: str) -> list[dict[str, Any]]:
    database = sqlite3.connect(run / "run.sqlite")
    database.row_factory = sqlite3.Row
    found = [dict(row) for row in database.execute(f"SELECT * FROM {table}")]
    database.close()
    return found


def gated(folder: Folder, threshold: float, **changes: Any) -> None:
    rule = {"name": "linf, all", "metric": "robust_accuracy", "threshold": threshold, **changes}
    folder.manifest["gate"] = {"rules": [rule], "suppressions": [], "baseline": None}


# --- JSON --------------------------------------------------------------------------------------


def test_the_schema_matches_the_published_file() -> None:
    """Equal except for the descriptions, which are docstrings and may change."""

    def bare(node: Any) -> Any:
        if isinstance(node, dict):
            kept = {k: v for k, v in node.items() if k != "description" or not isinstance(v, str)}
            return {key: bare(value) for key, value in kept.items()}
        return [bare(item) for item in node] if isinstance(node, list) else node

    published = json.loads(report_json.PUBLISHED.read_text(encoding="utf-8"))
    assert bare(published) == bare(report_json.schema()), (
        "The summary's fields changed: raise report_json.VERSION if a reader could break, and "
        "write reports/formats/schemas anew from report_json.published()."
    )
    jsonschema.Draft202012Validator.check_schema(report_json.schema())


@pytest.mark.parametrize("name", ["mixed", "hostile"])
def test_report_json_is_valid_and_pure_ascii(name: str, request: pytest.FixtureRequest) -> None:
    text = write("json", request.getfixturevalue(name)).read_bytes()
    found = json.loads(text.decode("ascii"))
    jsonschema.Draft202012Validator(report_json.schema()).validate(found)
    assert found["version"] == report_json.VERSION


def test_the_schema_refuses_unknown_fields(mixed: Path) -> None:
    found = json.loads(write("json", mixed).read_text())
    found["summary"]["overall"]["flipped"] = "many"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(report_json.schema()).validate(found)


def test_report_json_matches_the_rows(folder: Folder) -> None:
    """Two attacks, two epsilons, every status: each number is recounted in Python."""
    folder.manifest["config"]["attacks"] = [
        {"name": n, "label": n, "knowledge": k, "parameters": {}}
        for n, k in (("pgd", "white-box"), ("square", "score"), ("gaussian-noise", "none"))
    ]
    for number in range(60):
        key, label = f"i{number}", number % 2
        right = number % 7 != 3
        folder.image(key, label=label, clean_class=label if right else 1 - label)
        for attack, every in (("pgd", 3), ("square", 4), ("gaussian-noise", 19)):
            first = {0: 1.0, 1: 2.0}.get(number % every)
            for epsilon in (1.0, 2.0):
                status = "misclassified"
                if right:
                    status = "flipped" if first is not None and epsilon >= first else "robust"
                values = {"adversarial_class": 1 - label, "step": 1 + number % 5}
                values = values if status == "flipped" else {}
                folder.outcome(key, status, epsilon, attack=attack, **values)
    run = folder.write()
    found = json.loads(write("json", run).read_text())["summary"]
    images, rows = rows_of(run, "images"), rows_of(run, "outcomes")
    right_keys = {i["key"] for i in images if i["label"] == i["clean_class"]}
    clean = found["images"]["clean_accuracy"]
    assert (clean["count"], clean["total"]) == (len(right_keys), len(images))
    by = {(r["image"], r["attack"], r["epsilon"]): r["status"] for r in rows}
    names = ("pgd", "square", "gaussian-noise")
    fallen: dict[str, set[str]] = {
        a: {k for k in right_keys if "flipped" in (by[k, a, 1.0], by[k, a, 2.0])} for a in names
    }
    for row in found["attacked"]:
        mine = fallen[row["label"]]
        others = set().union(*(fallen[a] for a in names if a != row["label"]))
        assert row["flip_rate"]["count"] == len(mine)
        assert row["flip_rate"]["total"] == len(right_keys)
        assert row["alone"] == len(mine - others)
        interval = binomtest(len(mine), len(right_keys)).proportion_ci(method="wilson")
        assert row["flip_rate"]["low"] == pytest.approx(interval.low, abs=1e-12)
        assert row["flip_rate"]["high"] == pytest.approx(interval.high, abs=1e-12)
        assert row["forward"] == sum(r["forward"] for r in rows if r["attack"] == row["label"])
        assert row["baseline"] == (row["label"] == "gaussian-noise")
    union = set().union(*fallen.values())
    assert found["overall"]["flipped"] == len(union)
    worst = found["worst"][-1]["robust_accuracy"]
    assert (worst["count"], worst["total"]) == (len(right_keys - union), len(images))
    confusion = {(p["before"], p["after"]): p["count"] for p in found["confusion"]}
    names_of = ["cat", "dog"]
    again = Counter((names_of[i["label"]], names_of[i["clean_class"]]) for i in images)
    assert confusion == dict(again)
    for one in found["results"]:
        hits = [a for a in names if one["key"] in fallen[a]]
        assert sorted(one["attacks"]) == sorted(hits)
        epsilons = [e for k, a, e in by if k == one["key"] and by[k, a, e] == "flipped"]
        assert one["smallest_epsilon"] == min(epsilons, default=None)
    for course in found["courses"]:
        steps = [
            min(
                (r["epsilon"], r["step"])
                for r in rows
                if r["image"] == k and r["attack"] == course["attack"] and r["status"] == "flipped"
            )[1]
            for k in fallen[course["attack"]]
        ]
        for step, share in course["points"]:
            assert share == pytest.approx(sum(s <= step for s in steps) / len(right_keys))
        assert course["points"][-1][0] == max(steps)
    findings = json.loads(write("json", run).read_text())["findings"]
    assert {(f["weakness"]["rule"], f["epsilon"]) for f in findings} == {
        (rule, epsilon)
        for rule in ("evasion-white-box", "evasion-score-based", "accident")
        for epsilon in (1.0, 2.0)
    }


def test_misclassified_images_are_not_flips_in_any_format(folder: Folder) -> None:
    folder.image("a", label=1)
    folder.outcome("a", "misclassified", adversarial_class=1)
    folder.image("b")
    folder.outcome("b", "robust", float_flip=1)
    run = folder.write()
    found = json.loads(write("json", run).read_text())
    assert found["findings"] == []
    assert found["summary"]["overall"]["flipped"] == 0
    assert found["summary"]["rates"][0]["float_flips"] == 1
    assert json.loads(write("sarif", run).read_text())["runs"][0]["results"] == []
    assert "::warning" not in write("github", run).read_text()


# --- tables ------------------------------------------------------------------------------------


def test_csv_cells_hold_no_formulas_and_keep_every_row(hostile: Path) -> None:
    text = write("csv", hostile).read_bytes().decode("utf-8")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    head, body = rows[0], rows[1:]
    assert len(body) == len(rows_of(hostile, "outcomes"))
    assert {len(row) for row in body} == {len(head)}
    texts = [
        head.index(n) for n in ("image", "name", "attack", "label", "reason", "adversarial_class")
    ]
    for row in body:
        for place in texts:
            assert not re.match(r"\s*[=+\-@|%]", row[place]), row[place]
        assert not any(unseen in cell for cell in row for unseen in "\r\n\t\0\x1b\u202e")
    names = {row[head.index("name")] for row in body}
    assert "'=cmd|'/C calc'!A0" in names
    assert any(name.startswith("x" * 300) for name in names)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("cat", "cat"),
        ("=1+1", "'=1+1"),
        (" =1+1", "' =1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("＝1", "'＝1"),
        ("\t=1", "⟨U+0009⟩=1"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_formulas_are_escaped(text: str, cell: str) -> None:
    assert outcome_table.defused(text) == cell


def test_csv_and_parquet_hold_the_same_table(mixed: Path) -> None:
    left = pd.read_csv(write("csv", mixed), encoding="utf-8", keep_default_na=False, na_values=[""])
    right = pd.read_parquet(write("parquet", mixed))
    assert list(left.columns) == list(right.columns)
    assert len(left) == len(right) == 12
    for name in ("epsilon", "l2", "linf", "confidence_after", "l0", "step"):
        pd.testing.assert_series_equal(
            left[name].astype(float), right[name].astype(float), check_names=False
        )
    rows = {r["image"]: r for r in rows_of(mixed, "outcomes")}
    for row in right.to_dict("records"):
        assert row["status"] == rows[row["image"]]["status"]
        assert row["l2"] == rows[row["image"]]["l2"] or pd.isna(row["l2"])


def test_parquet_cells_hold_no_formulas_and_keep_every_row(hostile: Path) -> None:
    """Data frames are often exported to spreadsheets, so text is escaped as in the CSV file."""
    file = write("parquet", hostile)
    frame = pd.read_parquet(file)
    assert len(frame) == len(rows_of(hostile, "outcomes"))
    text = ["image", "name", "attack", "label", "clean_class", "reason", "adversarial_class", "png"]
    for name in text:
        for cell in frame[name].dropna():
            assert not re.match(r"\s*[=+\-@|%]", cell), cell
            assert not any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") for c in cell), cell
    assert "'=cmd|'/C calc'!A0" in set(frame["name"])
    assert any(name.startswith("x" * 300) for name in frame["name"])
    # Metadata of the file, beside the cells.
    import pyarrow.parquet

    described = repr(pyarrow.parquet.read_schema(file).metadata)
    assert "alert(1)" not in described and "calc" not in described
    csv_names = pd.read_csv(write("csv", hostile), encoding="utf-8")["name"]
    assert list(csv_names) == list(frame["name"])


def test_parquet_without_pyarrow_names_the_package_to_install(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("no pyarrow")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", missing)
    with pytest.raises(SettingError, match=r"robustness-toolkit\[parquet\]"):
        write("parquet", mixed)


# --- Markdown ----------------------------------------------------------------------------------


def test_markdown_is_tables_and_text_only(hostile: Path) -> None:
    text = write("markdown", hostile).read_text(encoding="utf-8")
    assert len(text) < 65_000
    allowed = {
        *("heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline"),
        *("table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close"),
        *("tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close"),
        *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
    }
    inner = {"text", "code_inline", "strong_open", "strong_close", "softbreak"}
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    assert {t.type for t in tokens} <= allowed
    assert {c.type for t in tokens for c in t.children or ()} <= inner
    outside = re.sub(r"`[^`]*`", "", text)
    assert not re.search(r"(?<!\\)<", outside)
    assert not re.search(r"@\w|://|www\.", outside)
    shown = [c.content for t in tokens for c in t.children or () if c.type == "code_inline"]
    assert any("<svg/onload=alert(1)>" in name for name in shown)
    # Each row of a table has as many cells as its header.
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = table.strip().split("\n")
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_markdown_states_the_verdict_and_the_rates(folder: Folder) -> None:
    gated(folder, 0.5)
    for number in range(40):
        folder.image(str(number))
        folder.outcome(str(number), "flipped" if number < 30 else "robust")
    text = write("markdown", folder.write()).read_text(encoding="utf-8")
    assert text.startswith("## ❌ FAIL: robustness of `pets`")
    assert "| `bim(steps=4)` | 4 | 30 of 40 | **75.0 %** | 59.8–85.8 % | 25.0 % |" in text


# --- JUnit -------------------------------------------------------------------------------------


ALLOWED = {
    "testsuites": "name time tests failures errors",
    "testsuite": "name tests failures errors group time skipped timestamp hostname id package file log url",
    "testcase": "name time classname group",
    "failure": "type message",
    "error": "type message",
    "skipped": "type message",
    "system-out": "",
}
"""Elements and their attributes in Jenkins' schema (junit-10.xsd of the xUnit plug-in), the strictest known.

There is no official schema.
"""


def suite_of(run: Path) -> ElementTree.Element:
    root = ElementTree.fromstring(write("junit", run).read_bytes())
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.keys()) <= set(ALLOWED[element.tag].split()), element.tag
        assert re.fullmatch(r"(\d{1,3})*(\.\d*)?", element.get("time", "0"))
    (suite,) = root
    cases = suite.findall("testcase")
    names = [(c.get("classname"), c.get("name")) for c in cases]
    assert len(set(names)) == len(names)
    assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))
    for holder in (root, suite):
        assert holder.get("tests") == str(len(cases))
        for kind, tag in (("failures", "failure"), ("errors", "error")):
            assert holder.get(kind) == str(len(suite.findall(f"testcase/{tag}")))
    for case in cases:
        (inner,) = case
        assert inner.tag in ("failure", "error", "skipped", "system-out")
        assert inner.text
    return suite


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flips", "threshold", "failures", "errors"),
    [(1, 0.5, 0, 0), (39, 0.5, 2, 0), (20, 0.5, 2, 0), (-1, 0.5, 1, 1)],
)
def test_junit_fails_exactly_if_the_verdict_fails(
    folder: Folder, flips: int, threshold: float, failures: int, errors: int
) -> None:
    gated(folder, threshold)
    for number in range(40):
        folder.image(str(number), label=int(flips < 0))
        status = "misclassified" if flips < 0 else "flipped" if number < flips else "robust"
        folder.outcome(str(number), status)
    run = folder.write()
    suite = suite_of(run)
    verdict = json.loads(write("json", run).read_text())["verdict"]
    assert (suite.get("failures"), suite.get("errors")) == (str(failures), str(errors))
    assert (failures + errors == 0) == (verdict["exit_code"] == 0)
    log = json.loads(write("sarif", run).read_text())["runs"][0]
    assert log["invocations"][0]["exitCode"] == verdict["exit_code"]


def test_junit_case_names_do_not_depend_on_the_result(folder: Folder, tmp_path: Path) -> None:
    """Pipelines identify new failures by the name of the case."""

    def names(where: Folder, flips: int, status: str) -> list[tuple[str | None, str | None]]:
        gated(where, 0.5)
        where.manifest["diagnostics"] = [
            {"id": "D01", "title": "Alike", "status": status, "sentence": "So.", "evidence": {}}
        ]
        for number in range(40):
            where.image(str(number))
            where.outcome(str(number), "flipped" if number < flips else "robust")
        return sorted((c.get("classname"), c.get("name")) for c in suite_of(where.write()))

    good = names(folder, 1, "ok")
    assert names(Folder(tmp_path / "bad"), 39, "fail") == good
    assert ("verdict", "the run as a whole") in good
    assert ("diagnostic", "D01 Alike") in good


def test_junit_parses_with_hostile_names(hostile: Path) -> None:
    suite = suite_of(hostile)
    assert suite.get("name") == "<script>alert(1)</script>"
    assert any("<svg/onload=alert(1)>" in (c.get("classname") or "") for c in suite)


# --- SARIF -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mixed", "hostile"])
def test_sarif_is_valid_against_the_official_schema(
    name: str, request: pytest.FixtureRequest
) -> None:
    log = json.loads(write("sarif", request.getfixturevalue(name)).read_text())
    jsonschema.Draft4Validator(json.loads(OFFICIAL.read_text())).validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert run["results"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9._~%-]+", uri)
        assert "[" not in result["message"]["text"].replace("\\[", "")
    for rule in rules:
        assert 0 < float(rule["properties"]["security-severity"]) <= 10
        assert "security" in rule["properties"]["tags"]
        assert len(rule["properties"]["tags"]) <= 10


@pytest.mark.parametrize(
    ("configuration", "file", "uri"),
    [
        ("ci/audit.toml", "pets.keras", "ci/audit.toml"),
        ("audit.toml", None, "audit.toml"),
        ("/home/me/secret/audit.toml", None, "audit.toml"),
        ("../me/audit.toml", None, "audit.toml"),
        (None, "pets.keras", "pets.keras"),
        (None, None, "run.json"),
        (
            "<img src=x>\n/a b.toml",
            None,
            "%3Cimg%20src%3Dx%3E%E2%9F%A8U%2B000A%E2%9F%A9/a%20b.toml",
        ),
    ],
)
def test_findings_point_to_a_file_of_the_repository(
    folder: Folder, configuration: str | None, file: str | None, uri: str
) -> None:
    folder.manifest["origin"] = {"options": {}, "configuration": configuration}
    folder.manifest["model"]["file"] = file
    folder.image("a")
    folder.outcome("a", "flipped")
    found = json.loads(write("sarif", folder.write()).read_text())["runs"][0]["results"]
    places = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in found]
    assert places
    assert set(places) == {uri}


def test_fingerprints_are_stable_and_distinct(folder: Folder, tmp_path: Path) -> None:
    def prints(place: Folder, flips: int, name: str) -> set[str]:
        place.manifest["model"]["name"] = name
        for number in range(20):
            place.image(str(number))
            for epsilon in (1.0, 2.0):
                status = "flipped" if number < flips * epsilon else "robust"
                place.outcome(str(number), status, epsilon)
        found = json.loads(write("sarif", place.write()).read_text())["runs"][0]["results"]
        return {r["partialFingerprints"]["primaryLocationLineHash"] for r in found}

    first = prints(folder, 2, "pets")
    assert len(first) == 2
    assert prints(Folder(tmp_path / "again"), 9, "pets") == first
    assert not prints(Folder(tmp_path / "other"), 2, "cars") & first


# --- annotations -------------------------------------------------------------------------------


def test_annotations_are_complete_commands_and_few(hostile: Path) -> None:
    lines = write("github", hostile).read_text(encoding="utf-8").splitlines()
    kinds: Counter[str] = Counter()
    for line in lines:
        match = re.fullmatch(r"::(error|warning|notice) title=([^:,\r\n]*)::(.*)", line)
        assert match, line
        kinds[match[1]] += 1
        assert not re.search(r"%(?!25|0D|0A|3A|2C)", match[2] + match[3])
    assert kinds["notice"] >= 1
    assert max(kinds.values()) <= 10


def test_annotations_are_limited_to_ten_of_a_kind(folder: Folder) -> None:
    folder.manifest["diagnostics"] = [
        {"id": f"D{n:02}", "title": "doubt", "status": "warn", "sentence": "Hm.", "evidence": {}}
        for n in range(25)
    ]
    folder.image("a")
    folder.outcome("a", "robust")
    lines = write("github", folder.write()).read_text().splitlines()
    assert sum(line.startswith("::warning") for line in lines) == 10


# --- all formats -------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_formats_state_the_same_verdict(folder: Folder) -> None:
    gated(folder, 0.9)
    for number in range(30):
        folder.image(str(number))
        folder.outcome(str(number), "flipped" if number % 3 else "robust")
    run = folder.write()
    said = json.loads(write("json", run).read_text())["verdict"]["sentence"]
    assert said in words_of(write("html", run))
    assert said in (suite_of(run)[0][0].text or "")
    sarif = json.loads(write("sarif", run).read_text())["runs"][0]["invocations"][0]
    assert sarif["exitCodeDescription"] == said
    assert said.replace("%", "%25") in write("github", run).read_text()


def words_of(page: Path) -> str:
    from tests.reports.page.test_html import Page

    return Page(page.read_text(encoding="utf-8")).text


@pytest.mark.slow
def test_every_format_is_written_to_its_path_reproducibly(mixed: Path, tmp_path: Path) -> None:
    for kind in TEXTS:
        first = write(kind, mixed)
        assert first.parent == mixed
        second = write(kind, mixed, tmp_path / "deep" / f"a.{kind}")
        assert second.read_bytes() == first.read_bytes()
        with pytest.raises(RunError, match="is not a run"):
            write(kind, tmp_path / "nothing")


@pytest.mark.slow
def test_no_format_imports_a_framework(mixed: Path) -> None:
    code = (
        "import sys; from robustness import plugins\n"
        f"for kind in {TEXTS!r}: plugins.load(plugins.REPORTS, kind)(sys.argv[1])\n"
        "bad = {'tensorflow', 'keras', 'torch', 'jax', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(mixed)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_hostile_names_cover_the_required_list() -> None:
    """Without the required names the tests of hostile names would pass without testing."""
    every = " ".join([*HOSTILE, ATTACK])
    for sign in ("<img src=x onerror=alert(1)>.png", "=cmd|'/C calc'!A0", "</script>", "::error"):
        assert sign in every
    assert any(wording.visible(name) != name for name in HOSTILE)
    assert max(map(len, HOSTILE)) >= 300


def test_pdf_without_a_chromium_is_an_error(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROME", "no-such-browser")
    with pytest.raises(SettingError, match="No Chromium was found"):
        write("pdf", mixed)


@pytest.mark.skipif(browser.find() is None, reason="there is no Chromium here")
@pytest.mark.slow
def test_pdf_has_pages(mixed: Path) -> None:
    data = write("pdf", mixed).read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 2
    assert pdf.browser()


@pytest.mark.slow
def test_ten_thousand_outcomes_in_seconds(folder: Folder) -> None:
    folder.many(2500)
    run = folder.write()
    took = {}
    for kind in TEXTS:
        start = time.process_time()
        write(kind, run)
        took[kind] = time.process_time() - start
    assert max(took.values()) < 5, took
    assert statistics.fmean(took.values()) < 3, took


# --- arbitrary names ---------------------------------------------------------------------------


@given(st.text(max_size=60))
def test_any_name_becomes_one_code_span(name: str) -> None:
    (paragraph,) = [
        t for t in MarkdownIt().enable("table").parse(markdown.code(name)) if t.children
    ]
    assert [child.type for child in paragraph.children or ()] == ["code_inline"]


@given(st.text(max_size=60))
def test_any_text_stays_plain_text_in_markdown(text: str) -> None:
    tokens = MarkdownIt("commonmark", {"html": True}).parse(markdown.prose(text))
    inner = {child.type for token in tokens for child in token.children or ()}
    assert inner <= {"text", "text_special"}
    assert not {t.type for t in tokens} & {"html_block", "fence", "code_block", "heading_open"}


@given(st.text(max_size=60))
def test_any_cell_holds_no_formula(text: str) -> None:
    cell = outcome_table.defused(text)
    assert not re.match(r"\s*[=+\-@|%]", cell)
    assert not {unicodedata.category(c) for c in cell} & {"Cc", "Cf", "Zl", "Zp"}
    assert cell.removeprefix("'").endswith(wording.visible(text)) or wording.visible(text) in cell


@given(st.text(max_size=60))
def test_any_name_is_valid_in_xml_and_annotations(text: str) -> None:
    element = ElementTree.Element("a", {"b": wording.visible(text)})
    element.text = wording.visible(text)
    again = ElementTree.fromstring(ElementTree.tostring(element))
    assert (again.get("b") or "") == wording.visible(text)
    assert "\n" not in github._data(text)
    assert not re.search(r"[:,\r\n]", github._property(text))


@pytest.mark.parametrize("text", ["1. a", "- a", "    a", "# a", "> a", "===", "a &lt; b", "1) a"])
def test_text_starts_no_markdown_block(text: str) -> None:
    (paragraph, inline, _) = MarkdownIt("commonmark", {"html": True}).parse(markdown.prose(text))
    assert paragraph.type == "paragraph_open"
    assert "".join(c.content for c in inline.children or ()) == text.strip()


def test_columns_of_reports_and_of_data_frames_have_the_same_names(mixed: Path) -> None:
    columns = set(pd.read_csv(write("csv", mixed)).columns)
    assert set(AuditResult(mixed).to_frame().columns) <= columns


def test_a_long_report_json_lists_no_images_and_says_so(mixed: Path, monkeypatch) -> None:
    whole = json.loads(write("json", mixed).read_text())["summary"]
    monkeypatch.setattr(report_json, "MOST_RESULTS", len(whole["results"]) - 1)
    page = write("json", mixed)
    short = json.loads(page.read_text())["summary"]
    assert short["results"] == []
    assert short["worst"] == whole["worst"]
    assert short["warnings"][:-1] == whole["warnings"]
    assert f"The {len(whole['results'])} images are not listed" in short["warnings"][-1]
    with pytest.raises(RunUsageError, match="give the run folder"):
        compare(page, mixed)
