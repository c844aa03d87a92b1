"""Tests of the page and the columns of a run whose pictures were attacked at their own size."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustness.reports import write_html
from robustness.reports.formats.writers import write_csv
from tests.reports.folder import Folder

SIDES = (30, 44, 1100)
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
    rng = np.random.default_rng(3)
    for number, side in enumerate(SIDES):
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
    return folder.write()


@pytest.mark.slow
def test_the_section_shows_stages_sizes_views_and_survival(deployed):
    page = write_html(deployed).read_text(encoding="utf-8")
    found = re.search(r'<section id="pipeline".*?</section>', page, re.DOTALL)
    assert found is not None
    html = found[0]
    for words in (
        *("JPEG, quality 90, 4:2:0", "keras.load_img:nearest", "2,048 pixels", "16 × 16"),
        *("30 × 30 to 1,100 × 1,100", "15 of 20 at quality 75", "20 flips of 31", "4 of 18"),
    ):
        assert words in html, words
    assert "pillow:&lt;b&gt;" in html and "<i>" not in html
    assert html.count("What the model sees of the uploaded file") >= len(SIDES)


@pytest.mark.slow
def test_large_pictures_are_reduced_in_the_page(deployed):
    text = write_html(deployed).read_text(encoding="utf-8")
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
