"""Tests of the page and the columns of a run whose pictures were attacked at their own size."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from robustness.cli.result import lines
from robustness.reports import summarise, write_html
from robustness.reports.formats.markdown import prose
from robustness.reports.formats.writers import (
    write_csv,
    write_json,
    write_junit,
    write_markdown,
    write_sarif,
)
from robustness.reports.gate.verdict import verdict_of
from robustness.reports.page.case_panels import ALTERED, Shot
from robustness.reports.page.pipeline_pictures import heat_map
from robustness.reports.summary.deployed import deployed as pipeline_of
from robustness.runs.deployed_schema import PixelsReadEntry
from robustness.runs.schema import Manifest
from robustness.runs.store import Run
from tests.reports.folder import Folder

SIDES, LARGE_SIDES = (30, 44, 110), (30, 44, 1100)
FULL = {"at": "full", "pipeline": "keras.load_img:nearest", "upload": "jpeg:90", "max_side": 2048}
SURVIVAL = {
    "epsilon": 4.0,
    "examined": 20,
    "found": 31,
    "points": [
        {"name": "jpeg:75", "quality": 75, "flips": {"count": 15, "total": 20}},
        {"name": "jpeg:90", "quality": 90, "flips": {"count": 20, "total": 20}},
        {"name": "pillow:<b>", "flips": {"count": 4, "total": 18}, "refused": 2},
    ],
}


@pytest.fixture
def deployed(folder: Folder) -> Path:
    """Three flips at their own sizes, with uploaded files and what the model sees of them."""
    return deployed_run(folder, SIDES)


@pytest.fixture
def large(folder: Folder) -> Path:
    """As `deployed`; the page shows the largest picture reduced, which takes seconds."""
    return deployed_run(folder, LARGE_SIDES)


def deployed_run(folder: Folder, sides: tuple[int, ...]) -> Path:
    rng = np.random.default_rng(3)
    for number, side in enumerate(sides):
        key = f"<i>{number}.jpg"
        before, after = folder.flip(key, rng=rng, side=side)
        buffer = io.BytesIO()
        Image.fromarray(after).save(buffer, "JPEG", quality=90)
        row = {"image": key, "attack": "bim(steps=4)", "epsilon": 4.0}
        file = folder.file(buffer.getvalue(), ".jpg")
        folder.rows["uploads"].append(row | {"file": file, "linf": 11.0 + number, "l2": 99.5})
        seen = {
            "before": folder.picture(before[:16, :16]),
            "after": folder.picture(after[:16, :16]),
        }
        folder.rows["views"].append(row | seen)
        folder.rows["sizes"].append({"image": key, "height": side, "width": side})
    folder.manifest["config"]["deployment"] = FULL
    folder.manifest["survival"] = SURVIVAL
    folder.manifest["pixels_read"] = pixels_read(nearest(375), nearest(500)).to_json()
    return folder.write()


@pytest.mark.slow
def test_the_section_shows_stages_sizes_views_and_survival(large):
    page = write_html(large).read_text(encoding="utf-8")
    found = re.search(r'<section id="pipeline".*?</section>', page, re.DOTALL)
    assert found is not None
    html = found[0]
    for words in (
        *("JPEG, quality 90, 4:2:0", "keras.load_img:nearest", "2,048 pixels", "16 × 16"),
        *("30 × 30 to 1,100 × 1,100", "15 of 20 at quality 75", "20 flips of 31", "4 of 18"),
    ):
        assert words in html, words
    assert "pillow:<wbr>&lt;b&gt;" in html and "<i>" not in html
    assert html.count("What the model sees of the uploaded file") >= len(LARGE_SIDES)
    assert ALTERED not in html


def test_the_page_says_what_was_attacked_and_judged(deployed):
    page = write_html(deployed).read_text(encoding="utf-8")
    assert "8-bit pictures at their own size, before the pipeline" in page
    assert "pixels (at their own size, before the pipeline)" in page
    assert "read back (JPEG, quality 90, 4:2:0)" in page
    assert "exactly as the model received it" not in page
    assert "pictures at the input size of the model" not in page


def test_the_uploaded_file_is_shown_as_it_is_decoded(deployed):
    html = write_html(deployed).read_text(encoding="utf-8")
    section = html[html.index('<section id="pipeline"') :]
    for number, side in enumerate(SIDES[:2]):
        alt = f"&lt;i&gt;{number}.jpg: adversarial, the uploaded file"
        (shown,) = re.findall(rf'base64,([^"]+)"[^>]*alt="{re.escape(alt)}"', section)
        paths = (deployed / "images").rglob("*.jpg")
        files = [np.asarray(Image.open(io.BytesIO(path.read_bytes()))) for path in paths]
        (file,) = [one for one in files if one.shape == (side, side, 3)]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(shown)))), file)


def the_section(run: Path) -> str:
    html = write_html(run).read_text(encoding="utf-8")
    return html[html.index('<section id="pipeline"') : html.index("Which flips survive</h3>")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "column"), [("views", "before"), ("views", "after"), ("uploads", "file")]
)
def test_an_altered_picture_of_the_section_is_named(deployed, folder, table, column):
    assert ALTERED not in the_section(deployed)
    path = deployed / folder.rows[table][1][column]
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(buffer, picture.format)
    path.write_bytes(buffer.getvalue())
    section = the_section(deployed)
    assert section.count(ALTERED) == 1
    name = section.index("<bdi>&lt;i&gt;1.jpg</bdi>")
    assert name < section.index(ALTERED) < section.index("adversarial, the uploaded file", name)


def test_a_picture_of_the_section_that_cannot_be_read_is_named(deployed, folder):
    (deployed / folder.rows["views"][0]["after"]).write_bytes(b"no picture")
    (deployed / folder.rows["uploads"][1]["file"]).unlink()
    section = the_section(deployed)
    assert section.count("or what the model sees, cannot be shown: ") == 2
    assert section.count("What the model sees of the uploaded file") == 1


def pixels_read(rows: np.ndarray, columns: np.ndarray) -> PixelsReadEntry:
    share = float((rows > 0).mean() * (columns > 0).mean())
    sizes = {"height": rows.size, "width": columns.size, "pictures": 1, "total": 1}
    shares = {"share": share, "share_of_window": share}
    shares |= {f"median_{name}": value for name, value in shares.items()}
    return PixelsReadEntry.model_validate(
        sizes | shares | {"rows": rows.tolist(), "columns": columns.tolist()}
    )


def nearest(size: int, side: int = 128) -> np.ndarray:
    read = np.zeros(size)
    read[((np.arange(side) + 0.5) * size / side).astype(int)] = 1
    return read


def shown(shot: Shot) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot.uri.partition(",")[2]))))


def test_a_reduced_heat_map_has_no_pattern_of_its_own():
    heat = heat_map(pixels_read(nearest(375), nearest(500)))
    assert heat is not None and heat.detail is not None and heat.reduced
    whole = shown(heat.whole).astype(int)
    assert np.ptp(whole.reshape(-1, 3), axis=0).max() <= 24
    dots = shown(heat.detail)
    read = (nearest(375)[167:207, None] * nearest(500)[None, 230:270]).astype(bool)
    assert np.array_equal((dots == dots[read][0]).all(axis=-1), read)


def test_pixels_beside_a_crop_are_dark_and_an_even_middle_is_not_enlarged():
    columns = np.zeros(500)
    columns[100:400] = 0.5
    heat = heat_map(pixels_read(np.full(300, 0.5), columns))
    assert heat is not None and heat.detail is None
    whole = shown(heat.whole)
    assert (whole[:, :50] == whole[0, 0]).all() and (whole[:, 200:] == whole[0, 0]).all()
    assert (whole[:, 50:200] == (255, 226, 178)).all() and tuple(whole[0, 0]) == (23, 26, 34)


def test_a_small_heat_map_shows_every_pixel():
    heat = heat_map(pixels_read(nearest(30, 10), nearest(20, 10)))
    assert heat is not None and heat.detail is None and not heat.reduced
    read = (nearest(30, 10)[:, None] * nearest(20, 10)).astype(bool)
    assert np.array_equal(shown(heat.whole)[..., 0] == 255, read)


def test_every_summary_states_the_pipeline_and_what_survives(deployed):
    with Run.open(deployed) as run:
        summary, images = summarise(run), run.images()
    stated = summary.deployed
    assert stated is not None and stated.survival is not None and stated.pixels_read is not None
    assert "15 of 20 survive as JPEG 75; 20 of 20 survive as JPEG 90" in stated.survival.sentence
    assert "4 of 18 survive behind pillow:<b>" in stated.survival.sentence
    assert "20 of 31 were judged again" in stated.survival.sentence
    assert stated.pixels_read.sentence == "The resize ignores 91.3 % of the picture (500 × 375)."
    assert stated.sentence.startswith("keras.load_img:nearest;")
    assert stated.sentence.endswith("uploaded as JPEG, quality 90, 4:2:0.")
    said = list(stated.properties().values())
    assert len(said) == 3
    terminal = "\n".join(lines(summary, verdict_of(summary), images))
    markdown = write_markdown(deployed).read_text(encoding="utf-8")
    for one in said:
        assert one[1:] in terminal and prose(one) in markdown
    suite = ElementTree.fromstring(write_junit(deployed).read_bytes())[0]
    found = {one.get("name"): one.get("value") for one in suite.findall("properties/property")}
    assert found == stated.properties()
    assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
    log = json.loads(write_sarif(deployed).read_text(encoding="utf-8"))
    assert stated.properties().items() <= log["runs"][0]["properties"].items()
    told = json.loads(write_json(deployed).read_text(encoding="utf-8"))["summary"]["deployed"]
    assert told["survival"]["files"][0]["flips"]["count"] == 15
    assert told["pixels_read"]["ignored"] == pytest.approx(0.9126, abs=1e-4)


def test_changes_without_an_attack_are_stated_beside_the_flips_that_survive():
    shares = {"flips": {"count": 3, "total": 4}, "originals": {"count": 2, "total": 4}}
    points = [
        {"name": "jpeg:75", "quality": 75, **shares},
        {"name": "opencv:area", "flips": {"count": 1, "total": 1}},
    ]
    entry = {"epsilon": 2.5, "examined": 4, "found": 4, "points": points}
    manifest = Manifest.model_validate({"config": {"deployment": FULL}, "survival": entry})
    stated = pipeline_of(manifest)
    assert stated is not None and stated.survival is not None
    assert stated.survival.sentence == (
        "Flips at epsilon 2.5: 3 of 4 survive as JPEG 75 (2 unchanged originals get another class "
        "there too); 1 of 1 survives behind opencv:area."
    )


def test_without_a_pipeline_nothing_is_stated_and_an_early_resize_is():
    assert pipeline_of(Manifest()) is None
    entry = {"at": "model", "function": {"name": "prep:prepare"}}
    stated = pipeline_of(Manifest.model_validate({"config": {"deployment": entry}}))
    assert stated is not None and stated.sentences == (
        "Deployed pipeline: the own function prep:prepare; images of the model's size were attacked, "
        "after the resize.",
    )


@pytest.mark.slow
def test_large_pictures_are_reduced_in_the_page(large):
    text = write_html(large).read_text(encoding="utf-8")
    outside = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    files = re.findall(r'src="data:image/png;base64,([^"]+)"', outside)
    sides = [max(Image.open(io.BytesIO(base64.b64decode(data))).size) for data in files]
    assert len(sides) > 9 and max(sides) <= 384
    # Of 1,100 pixels a third remains.
    assert 1100 // 3 in sides
    assert "the mean of 3 × 3, of the difference the largest" in outside


def test_outcomes_have_sizes_and_uploaded_files(deployed):
    head, *rows = write_csv(deployed).read_text(encoding="utf-8").splitlines()
    assert head.endswith(",png,height,width,upload,upload_linf,upload_l2")
    assert len(rows) == len(SIDES)
    for number, side in enumerate(SIDES):
        (row,) = [row for row in rows if f"<i>{number}.jpg" in row]
        assert f",{side},{side},images/" in row and row.endswith(f".jpg,{11.0 + number},99.5")


def test_other_runs_have_no_such_section_and_columns(mixed):
    assert '<section id="pipeline"' not in write_html(mixed).read_text(encoding="utf-8")
    assert "height" not in write_csv(mixed).read_text(encoding="utf-8").splitlines()[0]
