"""Tests of commands that continue in a child process: both end alike, and a lost child is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robustness.cli.child_process import continue_in_child

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")

SCRIPT = """
import os, signal, sys, time, typer
from robustness.cli import child_process
from robustness.cli.child_process import continue_in_child
child_process.allow()
{start}
try:
    continue_in_child(lambda: "it was lost; repeat the command")
except typer.Exit as end:
    sys.exit(end.exit_code)
print(os.getpid(), os.getppid(), flush=True)
{body}
"""


def started(body: str, start: str = "") -> tuple[subprocess.Popen, int]:
    """A process of the script, and its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(start=start, body=body)],
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


def state_of(process: int) -> str:
    """The state of a process, such as "T" for a stopped one; "Z" once it has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


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
    while state_of(child) != "Z" and time.monotonic() < ends:
        time.sleep(0.01)
    assert state_of(child) == "Z"


def test_a_process_with_threads_goes_on_itself():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, threading, time\n"
            "from robustness.cli import child_process\n"
            "from robustness.cli.child_process import continue_in_child\n"
            "child_process.allow()\n"
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


def test_a_program_that_calls_the_command_line_is_not_forked():
    before = os.getpid()
    continue_in_child(str)
    assert os.getpid() == before


@pytest.mark.slow
def test_an_ignored_end_of_children_does_not_hang():
    process, _ = started("sys.exit(5)", "signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
    ended(process)
    assert process.returncode == 5


COUNTING = """
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
print("waits", flush=True)
while not seen:
    time.sleep(0.01)
time.sleep(0.5)
print(len(seen))
"""


@pytest.mark.slow
def test_a_signal_to_the_group_comes_once():
    process, _ = started(COUNTING, "os.setpgid(0, 0)")
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process)[0] == "1"


IN_TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
child = int(os.read(terminal, 100).split()[0])
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.path.exists(f"/proc/{child}"))
"""


@pytest.mark.slow
def test_the_end_of_a_terminal_ends_both():
    done = subprocess.run(
        [sys.executable, "-c", IN_TERMINAL, SCRIPT.format(start="", body="time.sleep(60)")],
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [str(-signal.SIGHUP), "False"]


@pytest.mark.slow
def test_both_stop_and_go_on():
    process, child = started(WAITING)
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGTSTP)
    os.waitpid(process.pid, os.WUNTRACED)
    ends = time.monotonic() + 10
    while state_of(child) != "T" and time.monotonic() < ends:
        time.sleep(0.01)
    assert state_of(child) == "T"
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == "interrupted"
    assert process.returncode == 130
