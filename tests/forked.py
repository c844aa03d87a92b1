"""Run functions, commands and scripts in forked processes that have TensorFlow imported.

Importing TensorFlow takes longer than most commands. Therefore one server process imports it, and each
command runs in a fork of that process, with its own folder, environment and output.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
LONGEST = 300
"""Seconds after which a command is killed."""
PRELOADED = [
    *("tensorflow", "keras", "pandas", "scipy.optimize", "skimage.metrics", "rich.table"),
    *(
        "robustness.cli",
        "robustness.attacks",
        "robustness.auditing.audit",
        "robustness.testing.contract_checks",
    ),
    "robustness.diagnostics.diagnose",
    *("robustness.reports", "robustness.reports.formats.writers", "robustness.verification.verify"),
]
"""Modules that compute nothing on import: TensorFlow's threads would not survive a fork."""


def start(target: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Call `target`, a function of a module, in a fork of a process that the first call starts."""
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=target, args=arguments)
    # The server process imports from the repository.
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):
        process.start()
    return process


def _main(
    program: str, words: Sequence[str], folder: str, environment: dict[str, str], out: str
) -> None:
    """Run the installed command, the script `program` or the module of that name in this process."""
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(Path(out) / name, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in paths if path not in sys.path]
    sys.argv = [program, *words]
    if program.startswith("robustness."):
        runpy.run_module(program, run_name="__main__")
        return
    if program != "robustness":
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")
        return
    from robustness.cli import main

    main()


def robustness(
    words: Sequence[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `robustness WORDS` in `folder`, with the variables `environment`, and wait for its end."""
    return run("robustness", words, folder, environment)


def script(path: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run `python PATH WORDS` at the top of the repository, and wait for its end."""
    return run(str(path), words, ROOT, dict(os.environ))


def limited(
    command: Sequence[str], *, env: dict[str, str], **_: object
) -> subprocess.CompletedProcess[bytes]:
    """Run ``python -P -m MODULE WORDS``, in place of `subprocess.run` in `limited_process`."""
    _python, safe, by_name, module, *words = command
    assert (safe, by_name) == ("-P", "-m")
    done = run(module, words, ROOT, env)
    out, err = done.stdout.encode(), done.stderr.encode()
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def run(
    program: str, words: Sequence[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `PROGRAM WORDS` in a fork; see `_main`."""
    with tempfile.TemporaryDirectory() as out:
        process = start(_main, program, list(words), str(folder), environment, out)
        process.join(LONGEST)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(words), LONGEST)
        code, texts = process.exitcode, [(Path(out) / name).read_text() for name in ("out", "err")]
        process.close()
    return subprocess.CompletedProcess(list(words), code, *texts)
