"""Tests of what a notebook shows: a progress bar, links, no log lines of TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robustness import environment
from robustness.runs import notebook
from robustness.runs.notebook import LinkedPath, ProgressBar
from robustness.runs.progress import Progress

pytest.importorskip("IPython")


class Display:
    """Stands in for IPython's display: keeps every HTML that a cell showed."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, thing, display_id=False):
        assert display_id is True
        self.update(thing)
        return self

    def update(self, thing):
        self.shown.append(thing._repr_html_())


@pytest.fixture
def display(monkeypatch):
    import IPython.display

    made = Display()
    monkeypatch.setattr(IPython.display, "display", made)
    return made


def test_a_bar_per_stage_is_shown_and_updated(display, monkeypatch):
    monkeypatch.setattr(notebook.time, "monotonic", iter(range(100)).__next__)
    bar = ProgressBar()
    for done in (0, 4, 8):
        bar(Progress("clean", done, 8))
    for done in (2, 8):
        bar(Progress("<b>pgd</b>", done, 8, flipped=done - 1, robust=1))
    assert len(display.shown) == 5
    assert display.shown[1].count("<progress") == 1
    last = display.shown[-1]
    assert last.count("<progress") == 2 and 'value="8"' in last
    assert "&lt;b&gt;pgd" in last and "<b>" not in last
    assert "7 flipped" in last and "8 of 8" in last
    assert repr(bar).splitlines()[0] == "classifying: 8 of 8, 2 s"


def test_a_fast_stage_is_not_shown_at_every_image(display, monkeypatch):
    monkeypatch.setattr(notebook.time, "monotonic", lambda: 5.0)
    bar = ProgressBar()
    for done in range(1, 101):
        bar(Progress("clean", done, 100))
    assert len(display.shown) == 2
    assert 'value="100"' in display.shown[-1]


def test_outside_a_notebook_nothing_is_shown(display):
    assert not environment.in_notebook()
    notebook.default_listener()(Progress("clean", 1, 2))
    assert display.shown == []


def test_a_report_in_the_folder_of_the_notebook_is_a_relative_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = LinkedPath("my runs/a&b.html")
    assert '<a href="my%20runs/a%26b.html"' in link._repr_html_()
    assert ">my runs/a&amp;b.html</a>" in link._repr_html_()
    assert "outside" not in link._repr_html_()
    assert link == Path("my runs/a&b.html") and isinstance(link, Path)
    assert os.fspath(link.parent / "c") == "my runs/c"


def test_a_report_elsewhere_says_that_a_browser_may_refuse_it(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    shown = LinkedPath(tmp_path / "report.html")._repr_html_()
    assert f'href="{(tmp_path / "report.html").as_uri()}"' in shown
    assert "outside this notebook's folder" in shown


KERNEL = """
import os
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.displaypub import CapturingDisplayPublisher
shell = InteractiveShell.instance()
shell.kernel = object()  # what a kernel's shell has, and a terminal's has not
shell.display_pub = CapturingDisplayPublisher()
cell = '''
import numpy as np
import robustness
import keras
model = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype("float32")
classifier = robustness.Classifier(model, scaling="0..1")
result = robustness.audit(classifier, images, attacks=["fgsm"], epsilons=[64])
'''
first, second = cell.split("import keras", 1)
shell.run_cell(first + "robustness.audit")
done = shell.run_cell("import keras" + second)
assert done.success, done.error_in_exec
assert not {"TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"} & set(os.environ)
print(len(shell.display_pub.outputs), shell.display_pub.outputs[-1]["data"]["text/html"])
"""


@pytest.mark.slow
def test_an_audit_in_a_notebook_shows_bars_and_no_log_lines(tmp_path):
    # IPython warns of another virtual environment that is activated.
    out = ("TF_", "VIRTUAL_ENV")
    quiet = {k: v for k, v in os.environ.items() if not k.startswith(out)}
    done = subprocess.run(
        [sys.executable, "-c", KERNEL],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**quiet, "IPYTHONDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    count, _, html = done.stdout.splitlines()[-1].partition(" ")
    stages = ("checks", "classifying", "fgsm(steps=1)", "step pictures", "diagnostics")
    assert int(count) >= 5 and html.count("<progress") == 5
    assert all(f">{stage}</td>" in html for stage in stages), html
