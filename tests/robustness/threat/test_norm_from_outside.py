"""Tests of a norm of a plug-in: registration, audit, report, verification."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from keras import ops

import robustness
from robustness import plugins, reports
from robustness.attacks.apgd import APGD
from robustness.attacks.bim import BIM
from robustness.attacks.fgsm import FGSM
from robustness.attacks.pgd import PGD
from robustness.errors import RunError, SettingError
from robustness.reports import wording
from robustness.reports.summary.summary import summarise
from robustness.runs.store import Run
from robustness.threat import norms
from robustness.verification.pictures import broken_files
from robustness.verification.verify import verify
from tests.robustness.helpers import small_cnn
from tests.robustness.threat.luminance import LuminanceL2

NORM, CLASSIFIER = LuminanceL2(), small_cnn(9)


@pytest.fixture
def registered(monkeypatch):
    """The norm, registered for one test."""
    monkeypatch.setattr(norms.registry, "KNOWN", dict(norms.KNOWN))
    return norms.register(NORM)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An audit of a small CNN in the norm."""
    patch = pytest.MonkeyPatch()
    patch.setattr(norms.registry, "KNOWN", dict(norms.KNOWN))
    norms.register(NORM)
    folder = tmp_path_factory.mktemp("luma") / "run"
    rng = np.random.default_rng(3)
    images = rng.integers(60, 200, (6, 12, 12, 3)).astype(np.uint8)
    robustness.audit(
        CLASSIFIER, images, out=folder, attacks=[PGD(steps=10)], epsilons=[30, 900], norm="l2-luma"
    )
    patch.undo()
    return folder


@pytest.mark.slow
def test_every_flip_has_its_distance_in_the_norm_within_the_budget(registered, run):
    with Run.open(run) as opened:
        outcomes = opened.outcomes()
        names = dict(opened.images().set_index("key")["png"])
        flips = outcomes[outcomes["status"] == "flipped"]
        assert len(flips) > 0
        assert (flips["l2-luma"] <= flips["epsilon"] * (1 + 1e-9)).all()
        assert outcomes["l2-luma"].notna().equals(outcomes["status"] == "flipped")
        for row in flips.to_dict("records"):
            assert row["l2-luma"] <= row["l2"]
            assert row["png"] != names[row["image"]]


@pytest.mark.slow
def test_a_run_without_flips_has_the_column_of_the_norm_too(registered, tmp_path):
    pictures = np.full((2, 12, 12, 3), 90, np.uint8)
    result = robustness.audit(
        CLASSIFIER,
        pictures,
        out=tmp_path / "run",
        attacks=[PGD(steps=1)],
        epsilons=[1],
        norm=NORM.name,
    )
    frame = result.to_frame()
    assert "flipped" not in set(frame["status"])
    assert frame["l2-luma"].isna().all()


@pytest.mark.slow
def test_verify_measures_distances_in_the_norm(registered, run):
    with Run.open(run) as opened:
        found = verify(opened, CLASSIFIER)
    assert found.exit_code == 0
    assert found.held == found.checked == found.flips > 0


@pytest.mark.slow
def test_verify_finds_a_distance_that_was_altered(registered, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    with sqlite3.connect(copy / "run.sqlite") as database:
        database.execute("UPDATE distances SET distance = distance / 2")
    with Run.open(copy) as opened:
        _, faults = broken_files(opened)
    assert any("l2-luma is " in fault.sentence for fault in faults)


def test_reports_use_the_words_of_the_norm(registered, run, tmp_path):
    with Run.open(run) as opened:
        summary = summarise(opened)
    assert "a luminance distance of 900 counts" in summary.headline
    assert "Length of the change in luminance (L2 of luminance)" in [
        one.name for one in summary.distances
    ]
    page = reports.write_html(run, tmp_path / "report.html").read_text()
    assert "epsilon, counts of luminance" in page
    assert "L2 of luminance, length of the change in luminance: 30, 900 counts of 0–255" in page
    assert "Length of the change in luminance" in page
    table = plugins.writer("csv")(run, tmp_path / "run.csv").read_text(encoding="utf-8")
    assert "l0,components,l1,l2,linf,l2-luma,step" in table.splitlines()[0]
    frame = robustness.AuditResult(run).to_frame()
    assert frame["l2-luma"].notna().any()


def test_a_run_is_reported_and_not_verified_where_its_norm_is_not_installed(run, tmp_path):
    page = reports.write_html(run, tmp_path / "report.html").read_text()
    assert "l2-luma" in page
    assert "a distance of 900 counts in l2-luma" in page
    missing = "the norm 'l2-luma' is not known; expected one of linf, l2, l1, l0, free"
    with Run.open(run) as opened, pytest.raises(RunError, match=missing):
        verify(opened, CLASSIFIER)


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """The norm as a plug-in that raises on import."""
    (tmp_path / "norm_that_raises.py").write_text("raise ImportError('no libluma.so')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(norms.registry, "_reported", set())
    point = EntryPoint("l2-luma", "norm_that_raises:Luma", plugins.NORMS)
    own = plugins.entry_points

    def entry_points(**asked):
        if asked.get("group") != plugins.NORMS:
            return own(**asked)
        return [point] if asked.get("name", "l2-luma") == "l2-luma" else []

    monkeypatch.setattr(plugins, "entry_points", entry_points)


def test_a_report_distinguishes_failed_from_missing_norms(broken, run, tmp_path, caplog):
    assert norms.described("l3-luma").label == "l3-luma"
    assert not caplog.records
    page = reports.write_html(run, tmp_path / "report.html").read_text()
    assert "a distance of 900 counts in l2-luma" in page
    (record,) = caplog.records
    assert "the norm l2-luma is installed but failed" in record.getMessage()
    assert "cannot be imported: ImportError: no libluma.so." in record.getMessage()
    failed = "cannot be imported: ImportError: no libluma.so"
    with Run.open(run) as opened, pytest.raises(SettingError, match=failed):
        verify(opened, CLASSIFIER)


def test_attacks_that_need_only_norm_methods_work(registered):
    for attack in (PGD(), FGSM(), APGD()):
        attack.expect_norm(NORM)
    with pytest.raises(SettingError, match="bim has no l2-luma version"):
        BIM().expect_norm(NORM)


def test_a_missing_method_is_named(registered):
    with pytest.raises(SettingError, match="l2-luma has no projection onto planes"):
        NORM.onto_plane(None, None, None, None)


def test_a_budget_beyond_black_to_white_is_refused(registered):
    with pytest.raises(SettingError, match="expected at most 2040, the largest change"):
        NORM.expect_within([2041.0], 64, 3)
    NORM.expect_within([2040.0], 64, 3)


def test_files_stay_inside_the_ball_of_the_norm():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 6, 5, 3)).astype("float32")
    radius = np.array([1.0, 5.0, 20.0, 400.0], "float32")
    delta = rng.normal(0, 30, images.shape).astype("float32")
    box = -images, 255.0 - images
    near = NORM.project(delta, radius, *box)
    files = ops.convert_to_numpy(NORM.to_grid(near, radius, *box) + images).astype(np.uint8)
    for before, after, most in zip(images.astype(np.uint8), files, radius, strict=True):
        assert NORM.distance(before, after) <= most * (1 + 1e-6)
        assert NORM.recount(before, after) == pytest.approx(NORM.distance(before, after))


def test_an_installed_package_registers_a_norm(monkeypatch):
    monkeypatch.setattr(norms.registry, "KNOWN", dict(norms.KNOWN))
    point = EntryPoint("l2-luma", f"{LuminanceL2.__module__}:LuminanceL2", plugins.NORMS)
    monkeypatch.setattr(
        plugins,
        "entry_points",
        lambda **asked: [point] if asked.get("name", "l2-luma") == "l2-luma" else [],
    )
    assert norms.names() == ("linf", "l2", "l1", "l0", "free", "l2-luma")
    assert isinstance(norms.parse("l2-luma"), LuminanceL2)
    wrong = EntryPoint("l3", f"{LuminanceL2.__module__}:LuminanceL2", plugins.NORMS)
    monkeypatch.setattr(plugins, "entry_points", lambda **_: [wrong])
    with pytest.raises(SettingError, match="installed as 'l3' has the name 'l2-luma'"):
        norms.parse("l3")


@pytest.mark.parametrize(
    ("norm", "sentence"),
    [
        ("l2", "A norm is an instance"),
        (type("Odd", (LuminanceL2,), {"name": "L 2"})(), "expected lower-case words"),
        (type("Second", (LuminanceL2,), {"name": "linf"})(), "is registered already, as Linf"),
    ],
)
def test_invalid_norms_are_refused(norm, sentence):
    with pytest.raises(SettingError, match=sentence):
        norms.register(norm)


def test_built_in_norms_have_their_words():
    assert wording.size("linf", 4) == "4 counts"
    assert wording.size("l2", 100) == "an L2 distance of 100 counts"
    assert wording.size("l1", 76.5) == "an L1 distance of 76.5 counts (acts as 76)"
    assert wording.size("l0", 1) == "1 pixel"
    assert wording.size("free", 5) == "a budget of 5 (degrees or severity)"
    assert [norm.title for norm in norms.NORMS.values()] == [
        "Largest change (L∞)",
        "Euclidean length (L2)",
        "Sum of changes (L1)",
        "Changed pixels (L0)",
    ]


def test_reading_the_words_of_a_norm_loads_no_framework():
    code = (
        "import sys; from robustness.threat import norms; norms.parse('l2').effective(2.5); "
        "assert not {'keras', 'tensorflow'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_manifest_names_the_norm(run):
    assert json.loads((run / "run.json").read_text())["config"]["norm"] == "l2-luma"


class Unmakeable:
    """A norm whose constructor fails."""

    name = "l2-unmakeable"

    def __init__(self) -> None:
        raise OSError("no table of weights")


def test_a_norm_whose_constructor_fails_is_named_with_its_error(monkeypatch):
    monkeypatch.setattr(norms.registry, "names", lambda: ("l2-unmakeable",))
    monkeypatch.setattr(plugins, "load", lambda group, name: Unmakeable)
    with pytest.raises(SettingError, match="cannot be made: OSError: no table of weights"):
        norms.parse("l2-unmakeable")
