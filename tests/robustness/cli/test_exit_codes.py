"""Tests of every exit code by real commands: 0 pass, 1 fail, 2 usage, 3 run error, 4 inconclusive, 5 nothing.

The first two run in new processes; the others call the same entry point in this process, because each new
process imports TensorFlow.
"""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustness.images.png import to_png
from robustness.runs.store import Run
from tests.robustness.cli.test_commands import inside, robustness
from tests.robustness.helpers import small_cnn

pytestmark = pytest.mark.slow

TEXT = """
[model]
path = "model.keras"
scaling = "0..1"
{model}
[images]
path = "{images}"
[threat]
epsilons = [2, 8]
[[attacks]]
name = "bim"
steps = 8
{gate}
"""


def toml(path: Path, gate: str = "", images: str = "data.npz", model: str = "") -> str:
    path.write_text(TEXT.format(gate=gate, images=images, model=model))
    return path.name


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exit")
    classifier = small_cnn(9)
    images = np.random.default_rng(4).integers(0, 256, (30, 12, 12, 3)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    classifier.model.save(folder / "model.keras")
    names = ["x", "y", "z"]
    np.savez(folder / "data.npz", images=images, labels=labels, class_names=names)
    np.savez(folder / "wrong.npz", images=images, labels=(labels + 1) % 3, class_names=names)
    (folder / "broken.keras").write_bytes(b"no model")
    return folder


RULE = '[[gate.rules]]\nname = "floor"\nthreshold = {}\n'


@pytest.fixture(scope="module")
def passed(place):
    """A run that passes its gate (exit code 0), which the other commands use."""
    name = toml(place / "pass.toml", RULE.format(0.0))
    return robustness("audit", "--config", name, "-o", "sound", cwd=place)


def test_0_the_gate_passes(place, passed):
    assert passed.returncode == 0, passed.stderr
    assert "verdict: PASS. The rule passed: floor" in passed.stdout
    with Run.open(place / "sound") as run:
        assert run.manifest.to_json()["gate"]["rules"][0]["name"] == "floor"
        assert {d["id"] for d in run.manifest.to_json()["diagnostics"]} >= {
            f"D{n:02}" for n in range(1, 26)
        }


def test_1_the_gate_fails_and_json_agrees(place, passed):
    name = toml(place / "fail.toml", RULE.format(1.0))
    done = robustness("audit", "--config", name, "-o", "weak", "--json", cwd=place)
    assert done.returncode == 1, done.stderr
    verdict = json.loads(done.stdout)["verdict"]
    assert (verdict["status"], verdict["exit_code"], verdict["label"]) == ("fail", 1, "FAIL")
    assert verdict["rules"][0]["passed"] is False


def test_1_worse_than_the_baseline(place, passed):
    with Run.open(place / "sound") as run:
        manifest = run.manifest.to_json()
    shutil.copytree(place / "sound", place / "better")
    import sqlite3

    database = sqlite3.connect(place / "better" / "run.sqlite")
    database.execute("UPDATE outcomes SET status = 'robust' WHERE status = 'flipped'")
    database.commit()
    database.close()
    assert manifest["finished"]
    same = toml(place / "same.toml", '[gate.baseline]\nrun = "sound"\n')
    done = inside("audit", "--config", same, "-o", "again", cwd=place)
    assert done.returncode == 0, done.stdout
    worse = toml(place / "worse.toml", '[gate.baseline]\nrun = "better"\n')
    done = inside("audit", "--config", worse, "-o", "worse", cwd=place)
    assert done.returncode == 1, done.stdout
    assert "no worse than baseline" in done.stdout


def test_2_usage_errors(place):
    name = toml(place / "usage.toml", "[[gate.rules]]\nthreshold = 3\n")
    done = inside("audit", "--config", name, cwd=place)
    assert done.returncode == 2
    assert "usage.toml: gate.rules[0].threshold is 3" in done.stderr
    name = toml(place / "rung.toml", RULE.format(0.1) + "epsilon = 3\n")
    done = inside("audit", "--config", name, cwd=place)
    assert done.returncode == 2
    assert "needs epsilon 3; the epsilons of this audit are 2, 8" in done.stderr
    bad = (place / "usage.toml").read_text().partition("[[gate")[0].replace("= 8", "= 0")
    (place / "steps.toml").write_text(bad)
    done = inside("audit", "--config", "steps.toml", cwd=place)
    assert done.returncode == 2
    assert "steps.toml: attacks[0] (bim): steps=0 is out of range" in done.stderr


def test_3_a_run_that_cannot_resume(place, passed):
    (place / "sound" / "run.json").rename(place / "kept.json")
    (place / "sound" / "run.json").write_text("{")
    for command in (["report", "sound"], ["verify", "sound"], ["compare", "sound", "sound"]):
        done = inside(*command, cwd=place)
        assert done.returncode == 3, (command, done.stderr)
        assert "Traceback" not in done.stderr
    (place / "kept.json").replace(place / "sound" / "run.json")


def test_3_a_crash_is_not_a_failed_gate(tmp_path):
    """Python ends after a crash with 1, which here would mean a failed gate."""
    code = (
        "import robustness.cli as c\n"
        "def crash(): raise ZeroDivisionError('odd')\n"
        "c.app = crash\nc.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "ZeroDivisionError: odd" in done.stderr


@pytest.mark.parametrize(
    "ended", ["raise SystemExit(130)", "raise KeyboardInterrupt"], ids=["exit", "interrupt"]
)
def test_130_an_interrupted_process_ends_without_waiting_for_threads(ended):
    """Python's finalization would wait for them; one in TensorFlow's code may abort the process in it."""
    code = (
        "import atexit, threading, time\n"
        "import robustness.cli as c, robustness.__main__ as process\n"
        f"def interrupted(): {ended}\n"
        "c.app = interrupted\n"
        "atexit.register(print, 'cleaned up')\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "process.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (130, "cleaned up\n"), done.stderr
    assert "Traceback" not in done.stderr


def test_130_while_the_commands_are_imported():
    """They take half a second: the time in which a mistyped command is noticed."""
    code = (
        "import builtins, robustness.__main__ as process\n"
        "real = builtins.__import__\n"
        "def imported(name, *others):\n"
        "    if name == 'typer': raise KeyboardInterrupt\n"
        "    return real(name, *others)\n"
        "builtins.__import__ = imported\n"
        "process.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_4_inconclusive_by_the_interval_and_by_a_diagnostic(place, passed):
    with Run.open(place / "sound") as run:
        from robustness.reports import summarise

        share = summarise(run).worst[-1].robust_accuracy
    assert share is not None and share.low is not None and share.high is not None
    between = (share.low + share.high) / 2
    name = toml(place / "between.toml", RULE.format(round(between, 6)))
    done = inside("audit", "--config", name, "-o", "between", cwd=place)
    assert done.returncode == 4, done.stdout
    assert "verdict: INCONCLUSIVE. 1 of 1 rule undecided" in done.stdout
    # Without a gate, but the model is not what was declared: D21 fails.
    shutil.copy(place / "data.npz", place / "half.npz")
    data = dict(np.load(place / "data.npz"))
    data["labels"][:10] = (data["labels"][:10] + 1) % 3
    np.savez(place / "half.npz", **data)
    done = inside(
        *("audit", "-m", "model.keras", "-i", "half.npz", "--scaling", "0..1"),
        *("--accuracy", "0.99", "-o", "declared"),
        cwd=place,
    )
    assert done.returncode == 4, done.stdout
    assert "fail D21" in done.stdout


def test_5_nothing_evaluated(place):
    done = inside(
        *("audit", "-m", "model.keras", "-i", "wrong.npz", "--scaling", "0..1", "-o", "none"),
        cwd=place,
    )
    assert done.returncode == 5, done.stdout
    assert "verdict: NOTHING EVALUATED" in done.stdout


def test_verify_rerun_and_compare(place, passed):
    done = inside("verify", "sound", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "flips hold" in done.stdout
    shutil.copytree(place / "sound", place / "torn")
    with Run.open(place / "torn") as run:
        flips = run.outcomes().query("status == 'flipped'")
    file = place / "torn" / flips.png.iloc[0]
    file.write_bytes(to_png(np.zeros((12, 12, 3), np.uint8)))
    done = inside("verify", "torn", "--json", cwd=place)
    assert done.returncode == 1, done.stderr
    assert flips.image.iloc[0] in {f["image"] for f in json.loads(done.stdout)["faults"]}
    assert inside("report", "sound", "--kind", "json", cwd=place).returncode == 0
    done = inside(
        *("rerun", "sound/report.json", "--out", "twice", "--html", "twice.html", "-q"), cwd=place
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "No difference: all 30 images have the same outcome" in done.stdout
    assert (place / "twice.html").exists() and (place / "twice" / "report.html").exists()
    done = inside("compare", "sound", "declared", cwd=place)
    assert done.returncode in (2, 3)
    other = small_cnn(10).model
    other.save(place / "other.keras")
    done = inside("verify", "sound", "--model", "other.keras", cwd=place)
    assert done.returncode == 1
    assert "weights have the hash" in done.stdout


def test_a_rerun_of_a_model_whose_class_names_are_spelled_differently(place, passed):
    (place / "renamed").mkdir()
    shutil.copy(place / "model.keras", place / "renamed" / "model.keras")
    (place / "renamed" / "class_names.txt").write_text("X\nY\nZ\n")
    words = ("rerun", "sound", "--model", "renamed/model.keras", "-q")
    done = inside(*words, "-o", "respelled", cwd=place)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "No difference: all 30 images have the same outcome" in done.stdout
    assert "x and X, y and Y, z and Z" in done.stdout
    # Labels by number: nothing but the names differs.
    data = dict(np.load(place / "data.npz"))
    np.savez(place / "bare.npz", images=data["images"], labels=data["labels"])
    (place / "renamed" / "class_names.txt").write_text("p\nq\nr\n")
    done = inside(*words, "--images", "bare.npz", "-o", "foreign", cwd=place)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "could not be compared with sound (A), so it is not made" in done.stderr
    assert not (place / "foreign").exists()


def test_init_does_not_overwrite(tmp_path):
    assert inside("init", cwd=tmp_path).returncode == 0
    assert (tmp_path / "audit.toml").exists()
    done = inside("init", cwd=tmp_path)
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert inside("init", "--force", cwd=tmp_path).returncode == 0


def test_3_a_report_fails_and_the_others_are_written(place, tmp_path, monkeypatch):
    from robustness import plugins
    from tests.robustness.files.test_readers import install

    (tmp_path / "odd_writer.py").write_text("def write(run, path=None): raise ValueError('odd')\n")
    install(tmp_path, "odd", plugins.REPORTS, odd="odd_writer:write")
    monkeypatch.syspath_prepend(str(tmp_path))
    name = toml(place / "odd.toml")
    kinds = ("--report", "odd", "--report", "json", "--report", "csv")
    done = inside("audit", "--config", name, "-o", "odd", *kinds, cwd=place)
    assert done.returncode == 3
    assert "'odd' (odd_writer:write) failed: ValueError: odd" in done.stderr
    assert "Traceback" not in done.stderr and "verdict: " in done.stdout
    assert (place / "odd" / "report.json").is_file() and list((place / "odd").glob("*.csv"))
    done = inside("report", "odd", "--kind", "odd", cwd=place)
    assert done.returncode == 3 and "odd_writer:write" in done.stderr

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "c.html")

    monkeypatch.setattr("robustness.reports.comparison.page.write_comparison", full)
    done = inside("rerun", "odd", "-o", "odd-again", "-q", "--html", "c.html", cwd=place)
    assert done.returncode == 3
    assert "odd_writer:write" in done.stderr and "no space is left" in done.stderr
    assert "No difference: all 30 images" in done.stdout and "run: odd-again" in done.stdout


def test_3_an_attack_that_fails_says_how_to_continue(place, monkeypatch):
    from robustness.auditing.auditor import Auditor
    from robustness.errors import AttackError

    def fails(self, attack):
        raise AttackError("The attack 'other' failed.")

    name = toml(place / "failing.toml")
    with monkeypatch.context() as patch:
        patch.setattr(Auditor, "_attack", fails)
        done = inside("audit", "--config", name, "-o", "failing", cwd=place)
    assert done.returncode == 3
    note, error = done.stderr.strip().splitlines()[-2:]
    assert (
        note
        == "Ended early; finished results are kept. Continue with: robustness audit --resume failing"
    )
    assert error == "error: The attack 'other' failed."
    done = inside("audit", "--resume", "failing", cwd=place)
    assert done.returncode == 0, done.stderr
    # A second audit into the folder of a run did not end early.
    done = inside("audit", "--config", name, "-o", "failing", cwd=place)
    assert done.returncode == 2 and "Ended early" not in done.stderr
