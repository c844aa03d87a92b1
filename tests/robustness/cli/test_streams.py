"""Tests of the standard streams: closed, full, without a reader, or with a narrow encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -m robustness"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
POSIX = pytest.mark.skipif(os.name != "posix", reason="redirections of a POSIX shell")


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, with `robustness` for the command."""
    return subprocess.run(
        ["bash", "-c", line.replace("robustness ", f"{COMMAND} ")],
        env=os.environ | {"PYTHONPATH": str(Path.cwd())} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("words", ["--help", "models", "init --schema", "--show-completion bash"])
def test_output_without_a_reader_is_no_failed_gate(words):
    """Typer and rich end with 1 in this case, which means that a rule of the gate is broken."""
    done = shell(f"robustness {words} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (3, "")


def test_an_end_of_file_in_a_command_is_no_failed_gate():
    """Typer prints "Aborted!" and ends with 1."""
    code = (
        "import robustness.cli as c\n"
        "@c.app.command('odd')\n"
        "def odd(): raise EOFError('no data left')\n"
        "import sys; sys.argv = ['robustness', 'odd']\n"
        "c.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "EOFError: no data left" in done.stderr


@pytest.mark.slow
@FULL
@pytest.mark.parametrize("words", ["attacks nosuch", "audit --nosuch", "report nosuch"])
def test_errors_that_cannot_be_printed_keep_their_exit_code(words):
    assert shell(f"robustness {words} 2>/dev/full").returncode == 2
    assert shell(f"robustness {words} 2>&1 | true; exit ${{PIPESTATUS[0]}}").returncode == 2


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_files_do_not_get_the_numbers_of_closed_streams(closed, tmp_path):
    code = tmp_path / "descriptors.py"
    code.write_text(
        "import os, sys\nfrom robustness.cli import streams\nstreams.secure()\n"
        f"file = open({str(tmp_path / 'data')!r}, 'wb')\n"
        "assert file.fileno() > 2, file.fileno()\n"
        "os.write(1, b'message of C code'); os.write(2, b'message of C code')\n"
        "print('progress', file=sys.stderr, flush=True)\n"
    )
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {code} {closed}"],
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data").read_bytes() == b""


@POSIX
@pytest.mark.slow
def test_a_command_with_tensorflow_and_without_standard_error():
    done = shell("robustness attacks fgsm 2>&-")
    assert done.returncode == 0
    assert "Fast gradient sign" in done.stdout


@POSIX
def test_errors_are_never_printed_among_results():
    done = shell("robustness audit --nosuch 2>&-")
    assert (done.returncode, done.stdout) == (2, "")


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("where", ["2>/dev/full", "2> >(true)"])
def test_an_audit_whose_progress_cannot_be_shown_goes_on(where, tmp_path):
    done = shell(
        f"cd {tmp_path} && robustness audit -i pets:2 -a fgsm -e 1 --report json -o run {where}"
    )
    assert done.returncode == 0
    assert "verdict: NO GATE" in done.stdout
    assert (tmp_path / "run" / "report.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", r"2-3 <= \u043a\xfc"), ("cp1252", r"2–3 <= \u043aü")]
)
def test_characters_that_an_encoding_lacks(encoding, shown):
    """A file that Windows redirects to has the code page, which lacks ≤."""
    code = (
        "from robustness.cli import streams, terminal\nstreams.secure()\n"
        "terminal.stdout().print('2–3 ≤ кü')\nterminal.stderr().print('2–3 ≤ кü')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        encoding=encoding,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == (f"{shown}\n", f"{shown}\n")
