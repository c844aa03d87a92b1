"""Tests of progress output: plain lines in a log, a live bar on a terminal, correct shares."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import time
import unicodedata
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from robustness.cli import terminal
from robustness.cli.tables import print_table
from robustness.runs import progress as runs_progress
from robustness.runs.progress import Pace, Progress, in_words
from tests.reports.folder import Folder
from tests.reports.hostile import fill


def progress(done: int, *, stage: str = "pgd", **counts: Any) -> Any:
    return Progress(stage, done, 20, **counts)


def test_robust_accuracy_counts_wrong_images_and_those_of_earlier_attacks():
    seen: dict[str, Any] = {"flipped": 3, "robust": 5, "wrong": 2, "settled": 10}
    assert terminal.sentence(progress(20, **seen)) == "3 flipped, robust at most 25.0 %"
    assert terminal.sentence(progress(10, wrong=3)) == ""


def test_during_a_run_undecided_images_count_as_robust():
    said = terminal.sentence(progress(10, flipped=3, robust=1, wrong=2, settled=4))
    assert said == "3 flipped, robust at most 55.0 %"


@pytest.mark.parametrize("forced", ["FORCE_COLOR", "TTY_INTERACTIVE"])
def test_continuous_integration_gets_plain_lines(monkeypatch, forced):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv(forced, "1")
    for console in (terminal.stdout(), terminal.stderr()):
        assert not console.is_terminal
        console.file = io.StringIO()
        with terminal.Display(console) as display:
            for done in (0, 5, 20):
                display(progress(done, flipped=done))
        said = console.file.getvalue()
        assert "\x1b" not in said and "\r" not in said
        assert "pgd: 20/20, 20 flipped, robust at most 0 %" in said.splitlines()


def test_a_terminal_gets_a_bar():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, force_interactive=True, width=120)
    with terminal.Display(console) as display:
        display(progress(20, flipped=5, robust=15))
    assert "\x1b" in out.getvalue()
    assert "robust at most 75.0 %" in out.getvalue()


@pytest.mark.parametrize("stage", ["clean", "pgd(steps=40)", "apgd-t(steps=100,restarts=5)"])
def test_a_bar_fits_into_80_columns_and_loses_no_number(stage):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, force_interactive=True, width=80)
    said = {"flipped": 12, "robust": 4, "wrong": 3, "epsilon": 4.0, "place": 2, "places": 5}
    with terminal.Display(console) as display:
        for done in (0, 2):
            display(progress(done, stage=stage, place=2, places=5))
        display(progress(19, stage=stage, **said))
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n").split("\n")
    last = [frame for frame in frames if frame.strip()][-1]
    assert len(last) <= 80
    assert last.startswith("2 of 5 ")
    assert "19/20 12 flipped at epsilon 4, " in last and last.rstrip().endswith(" left")


def test_the_remaining_time_excludes_the_time_before_the_first_result(monkeypatch):
    seconds = iter([0.0, 3.0, 4.0, 9.0, 9.0, 10.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(seconds))
    clock = terminal.Clock()
    # Resumed at 10 of 20; compiling takes 3 s, each image 1 s.
    told = [clock.left(progress(done)) for done in (10, 11, 12, 17)]
    assert told == ["", "", "8 s left", "3 s left"]
    assert [clock.left(progress(done, stage="next")) for done in (0, 20)] == ["", ""]


def test_hostile_names_have_no_effect_on_terminal_and_log(tmp_path, monkeypatch, capsys):
    """The final output of an audit with hostile names, written to a log."""
    from robustness.cli import compare, result
    from robustness.reports import write_html

    run = fill(Folder(tmp_path / "run"))
    manifest = json.loads((run / "run.json").read_text())
    bad = "\n::error file=a.py::x\x1b]0;y\x07\u202e"
    manifest["config"]["attacks"][0]["name"] = bad
    for one in manifest["diagnostics"]:
        one["sentence"] += bad
    manifest["gate"] = {
        "rules": [{"name": bad, "metric": "robust_accuracy", "threshold": 1.0}],
        "suppressions": [],
        "baseline": None,
    }
    (run / "run.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("CI", "1")
    result.show(run, [write_html(run)], as_json=False)
    compare.compare(run, run)
    terminal.stderr().print(f"error: {bad}", markup=False)
    with terminal.Display(terminal.stderr()) as display:
        display(progress(20, stage=bad, flipped=20))
    said = "".join(capsys.readouterr())
    assert "verdict: FAIL" in said and "file=a.py" in said
    for line in said.split("\n"):
        assert not line.lstrip().startswith("::"), line
        assert not {unicodedata.category(c) for c in line} & {"Cc", "Cf"}, line


def test_the_rate_is_of_this_process_and_the_whole_stage(monkeypatch):
    seconds = iter([10.0, 10.5, 14.0, 110.0])
    monkeypatch.setattr(runs_progress.time, "monotonic", lambda: next(seconds))
    pace = Pace(400)
    assert pace.rate(402) == 0
    assert pace.rate(410) == 2.5
    assert pace.rate(500) == 1
    assert terminal.status(progress(5, rate=2.5, workers=2), "3 s left") == (
        "2 workers, 2.5 images/s, 3 s left"
    )
    assert [in_words(rate) for rate in (1234.5, 12.34, 0.5, 0.02, 0)] == [
        "1,234 images/s",
        "12.3 images/s",
        "0.5 images/s",
        "50 s per image",
        "",
    ]


@pytest.mark.parametrize("columns", ["0", "-1", "x", ""])
def test_results_are_printed_on_a_terminal_that_states_no_columns(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    terminal.stdout().print("result")
    assert capsys.readouterr().out == "result\n"


def test_quiet_prints_nothing():
    out = io.StringIO()
    with terminal.Display(Console(file=out), quiet=True) as display:
        display(progress(20, flipped=20))
    assert out.getvalue() == ""


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarms on this system")
def test_ctrl_c_stays_ignored_in_a_process_that_ignores_it():
    """A shell starts `robustness audit &` in a script so."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with terminal.insisting():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no alarms")
def test_a_lost_interrupt_is_raised_again(monkeypatch):
    monkeypatch.setattr(terminal, "INSISTENCE", 0.05)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), terminal.insisting():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        time.sleep(5)
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def plain(reports: list[Any]) -> list[str]:
    """The lines of a log for these reports."""
    out = io.StringIO()
    with terminal.Display(Console(file=out, width=80)) as display:
        for report in reports:
            display(report)
    return out.getvalue().splitlines()


def test_a_log_names_the_place_of_an_attack_its_whole_name_and_its_epsilon():
    name = "apgd-t(steps=100,restarts=5,loss=dlr,target=runner-up)"
    counts: dict[str, Any] = {"stage": name, "place": 2, "places": 5, "epsilon": 8.0}
    lines = plain([progress(0, **counts), progress(20, flipped=5, robust=15, **counts)])
    assert lines == [
        f"2 of 5 {name} ...",
        f"2 of 5 {name}: 20/20, 5 flipped at epsilon 8, robust at most 75.0 %",
    ]


def test_a_single_attack_and_other_stages_have_no_place():
    assert terminal.title(progress(0, place=1, places=1)) == "pgd"
    assert terminal.title(progress(0, stage="clean")) == "clean pass"
    assert terminal.title(progress(0, stage="diagnostics")) == "diagnostics"


def test_every_stage_says_in_a_log_when_it_starts():
    stages = ("checks", "clean", "pgd", "step pictures", "diagnostics", "reports")
    lines = plain([progress(done, stage=stage) for stage in stages for done in (0, 20)])
    assert [line for line in lines if line.endswith(" ...")] == [
        f"{terminal.TITLES.get(stage, stage)} ..." for stage in stages
    ]


@pytest.mark.slow
def test_a_stage_that_is_silent_for_long_gets_lines(monkeypatch):
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.05)
    out = io.StringIO()
    with terminal.Display(Console(file=out)) as display:
        display(progress(3, stage="diagnostics", part="one step"))
        time.sleep(0.5)
    assert out.getvalue().count("diagnostics (one step): running for 0 s") >= 2
    before = out.getvalue()
    time.sleep(0.2)
    assert out.getvalue() == before, "a line after the end"


def test_no_color_gives_no_colours(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    out = io.StringIO()
    console = terminal.Plain(file=out, force_terminal=True, force_interactive=True)
    with terminal.Display(console) as display:
        display(progress(20, flipped=5, robust=15))
    coloured = re.findall(r"\x1b\[[0-9;]*m", out.getvalue())
    assert not [code for code in coloured if re.search(r"\b(3[0-9]|9[0-7]|4[0-9])\b", code)]


LONG = "apgd-t(steps=100,restarts=5,loss=dlr)"


def outcomes() -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("attack", "epsilon", "flipped", "of", "flip rate", "95 % interval", "steps"):
        table.add_column(title, overflow="fold")
    for epsilon in (1, 2):
        table.add_row(LONG, str(epsilon), "123", "1234", "12.5 %", "10.1 % to 15.2 %", "17")
    return table


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("tty", [False, True])
def test_names_in_tables_are_whole_at_any_width(width, tty):
    out = io.StringIO()
    print_table(Console(file=out, width=width, force_terminal=tty), outcomes(), grouped=True)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    wide = width == 120 or not tty
    assert sum(LONG in line for line in lines) == (2 if wide else 1)
    rows = [line for line in lines if "12.5 %" in line]
    assert [row.split()[1 if wide else 0] for row in rows] == ["1", "2"]
    assert all("10.1 % to 15.2 %" in row and row.split()[-1] == "17" for row in rows)
    assert not tty or all(len(line) <= max(width, 62) for line in lines)
