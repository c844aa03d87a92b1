"""Tests of commands that continue in a child process: both end alike, and a lost child is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")

SCRIPT = """
import os, signal, sys, time, typer
from robustness.cli.child_process import continue_in_child
try:
    continue_in_child(lambda: "it was lost; repeat the command")
except typer.Exit as end:
    sys.exit(end.exit_code)
print(os.getpid(), os.getppid(), flush=True)
{}
"""


def started(body: str) -> tuple[subprocess.Popen, int]:
    """A process of the script, and its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert process.stdout is not None
    child, parent = map(int, process.stdout.readline().split())
    assert parent == process.pid
    return process, child


def ended(process: subprocess.Popen) -> tuple[str, str]:
    """What the process says until its end; `communicate` would lose what was read with the first line."""
    assert process.stdout is not None and process.stderr is not None
    with process, process.stdout, process.stderr:
        said = process.stdout.read().strip(), process.stderr.read()
        process.wait(60)
    return said


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ("print('done')", 0, ""),
        ("sys.exit(5)", 5, ""),
        ("raise ValueError('x')", 1, "ValueError"),
        ("os._exit(1)", 3, "error: it was lost; repeat the command"),
        ("os._exit(0)", 0, ""),
        ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
    ],
)
def test_both_processes_end_alike(body, code, told):
    process, _ = started(body)
    out, error = ended(process)
    assert process.returncode == code
    assert told in error and (told or not error)
    assert out == ("done" if "done" in body else "")


WAITING = """
try:
    print("waits", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_to_the_process_reach_its_child(sent):
    process, child = started(WAITING)
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    process.send_signal(sent)
    out, _ = ended(process)
    expected = 130 if sent == signal.SIGINT else -sent
    assert process.returncode == expected
    assert out == ("interrupted" if sent == signal.SIGINT else "")
    ends = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < ends:
        time.sleep(0.01)
    assert not is_alive(child)


def test_a_process_with_threads_goes_on_itself():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, threading, time\n"
            "from robustness.cli.child_process import continue_in_child\n"
            "threading.Thread(target=time.sleep, args=(1,), daemon=True).start()\n"
            "before = os.getpid()\n"
            "continue_in_child(str)\n"
            "print(os.getpid() == before)",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert done.stdout == "True\n"
