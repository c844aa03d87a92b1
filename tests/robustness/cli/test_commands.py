"""Tests of the command line: fast help, one-sentence errors, exit codes, only results on stdout."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from robustness.cli import main
from robustness.runs.store import Run
from tests.robustness.helpers import small_cnn


def robustness(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "robustness", *map(str, words)],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200", "PYTHONPATH": str(Path.cwd())} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def inside(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the entry point of the command in this process, where TensorFlow is already imported."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    said, columns = sys.argv, os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = ["robustness", *map(str, words)], "200"
    try:
        with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    finally:
        sys.argv = said
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    classifier = small_cnn(9)
    images = np.random.default_rng(4).integers(0, 256, (24, 12, 12, 3)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    classifier.model.save(folder / "model.keras")
    np.savez(folder / "data.npz", images=images, labels=labels, class_names=["x", "y", "z"])
    return folder


@pytest.mark.slow
def test_help_imports_no_framework():
    code = (
        "import sys\n"
        "from robustness.cli import app\n"
        "asked = '--help', 'audit --help', '--version', 'report -h', 'verify -h', 'init -h', 'compare -h'\n"
        "for words in asked:\n"
        "    try: app(words.split())\n"
        "    except SystemExit as leave: assert not leave.code, words\n"
        "    loaded = {'tensorflow', 'keras', 'pandas', 'jinja2'} & set(sys.modules)\n"
        "    assert not loaded, (words, loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_command_has_examples(tmp_path):
    listed = inside("--help", cwd=tmp_path).stdout
    for command in (
        *("audit", "attacks", "check-attack", "models", "report", "fetch"),
        *("init", "verify", "rerun", "compare"),
    ):
        assert command in listed
        shown = inside(command, "--help", cwd=tmp_path).stdout
        assert "Examples:" in shown, command
        assert f"robustness {command}" in shown, command


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["audit", "--attack", "bimm"], 2, "Did you mean bim?"),
        (["audit", "--epsilon", "0.03"], 2, "write 8"),
        (["audit", "--epsilon", "x"], 2, "not a budget"),
        (["audit", "--epsilon", "4,300"], 2, "at most 255 counts"),
        (["audit", "--images", "nowhere"], 2, "nowhere"),
        (["audit", "--attack", "bim:steps"], 2, "expected name=value"),
        (["audit", "--resume", "nowhere"], 2, "no run.json"),
        (["audit", "--resume", "nowhere", "--seed", "3"], 2, "cannot be combined with --seed"),
        (["audit", "--images", "pets:0"], 2, "expected 1 to 1000000"),
        (["audit", "--config", "nowhere.toml"], 2, "robustness init"),
        (["audit", "--report", "htm"], 2, "Did you mean html?"),
        (["verify", "nowhere"], 2, "no run.json"),
        (["rerun", "nowhere"], 2, "no run.json"),
        (["compare", "nowhere", "elsewhere"], 2, "no run.json"),
        (["report", "nowhere"], 2, "no run.json"),
        (["report", "nowhere", "--kind", "htm"], 2, "Did you mean html?"),
        (
            ["attacks", "pdg"],
            2,
            "Unknown attack 'pdg'. Did you mean pgd? `robustness attacks` lists",
        ),
        (["attacks", "zzzz"], 2, "Unknown attack 'zzzz'. `robustness attacks` lists the"),
        (["check-attack", "no_such_module:Attack"], 2, "no_such_module"),
        (["fetch", "kaggle:oops"], 2, "kaggle:"),
        (["audit", "--no-such-option"], 2, "No such option"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_errors_are_one_sentence_and_immediate(words, code, said, tmp_path):
    done = inside(*words, cwd=tmp_path)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_argument_errors_and_the_list_of_models_import_no_framework():
    code = (
        "import sys\n"
        "from robustness.cli import app\n"
        "from robustness.errors import SettingError\n"
        "for words in (\n"
        "    'audit --attack bimm', 'audit --epsilon 0.5', 'solve regression none.csv --x a --y b',\n"
        "    'solve spread --count 5 --dim 2 --start none.npy',\n"
        "):\n"
        "    try: app(words.split(), standalone_mode=False)\n"
        "    except SettingError: pass\n"
        "    else: raise AssertionError('no error')\n"
        "    assert 'tensorflow' not in sys.modules, words\n"
        "try: app(['models'])\n"
        "except SystemExit as leave: assert not leave.code\n"
        "assert 'tensorflow' not in sys.modules, 'models'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "dogs-vs-cats" in done.stdout


@pytest.mark.slow
def test_an_audit_prints_a_table_and_the_path_of_the_report(material):
    done = robustness(
        *("audit", "-m", "model.keras", "-i", "data.npz", "-a", "pgd:steps=5", "-a", "bim"),
        *("-e", "2,8", "--scaling", "0..1", "-o", "first"),
        cwd=material,
        CI="1",
    )
    assert done.returncode == 0, done.stderr
    assert "pgd(steps=5)" in done.stdout
    assert "95 % interval" in done.stdout
    assert "clean accuracy 100 % (24 of 24 images correct); reliability" in done.stdout
    assert str(Path("first") / "report.html") in done.stdout
    assert (material / "first" / "report.html").stat().st_size > 5000
    assert "Traceback" not in done.stderr
    assert "tensorflow" not in done.stderr.lower()
    # In a log: complete lines, no cursor movements.
    assert "\x1b" not in done.stdout + done.stderr
    again = inside("audit", "-m", "model.keras", "-i", "data.npz", "-o", "first", cwd=material)
    assert again.returncode == 2
    assert "--resume first" in again.stderr


@pytest.mark.slow
def test_json_is_the_only_standard_output(material):
    done = robustness(
        *("audit", "-m", "model.keras", "-i", "data.npz", "-e", "4", "--scaling", "0..1"),
        *("-a", "bim", "--json", "-o", "second"),
        cwd=material,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["summary"]["attacks"] == ["bim(steps=4)"]
    assert summary["verdict"]["label"] == "NO GATE"
    shown = inside("report", "second", "--out", "elsewhere.html", cwd=material)
    assert shown.returncode == 0, shown.stderr
    assert (material / "elsewhere.html").exists()


@pytest.mark.slow
def test_ctrl_c_loses_no_outcome(material):
    words = ["audit", "-m", "model.keras", "-i", "data.npz", "-a", "pgd:steps=4000,step_size=0.01"]
    words += ["-e", "1,2", "--scaling", "0..1", "-o", "third", "--batch-size", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "robustness", *words],
        cwd=material,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not images_in(material / "third"):
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "robustness audit --resume third" in said
    assert "Traceback" not in said
    with Run.open(material / "third") as run:
        assert run.manifest.to_json()["finished"] is None


def images_in(path: Path) -> int:
    try:
        with Run.open(path) as run:
            return len(run.images())
    except Exception:
        return 0


@pytest.mark.slow
def test_attacks_and_their_parameters_are_listed(tmp_path):
    listed = inside("attacks", cwd=tmp_path).stdout
    for name in ("fgsm", "bim", "pgd", "mi-fgsm", "arXiv:1706.06083", "white-box"):
        assert name in listed
    shown = inside("attacks", "pgd", cwd=tmp_path).stdout
    for word in ("step_size", "epsilon / 4", "restarts", "1 .. 10000"):
        assert word in shown
    assert "Madry" in shown and "-----" not in shown
