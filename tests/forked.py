"""The command line in a process of its own that starts with TensorFlow imported.

Importing TensorFlow takes longer than most commands. So one process imports it, and nothing else happens
there; each command runs in a fork of that process, with a folder, an environment, and output of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST = 300
"""Seconds after which a command is ended."""
PRELOADED = [
    *("tensorflow", "keras", "pandas", "scipy.optimize", "skimage.metrics", "rich.table"),
    *(
        "robustness.cli",
        "robustness.attacks",
        "robustness.auditing.audit",
        "robustness.conformance",
    ),
    *("robustness.conformance.check_attack", "robustness.diagnostics.diagnose"),
    *("robustness.reports", "robustness.reports.formats.writers", "robustness.verification.verify"),
]
"""All of it only defines: whoever ran TensorFlow before the fork would leave its threads behind."""


def _context() -> ForkServerContext:
    """The process that is forked; it starts with the first command."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _main(words: Sequence[str], folder: str, environment: dict[str, str], out: str) -> None:
    """What the installed command does, in this process, which is nobody else's."""
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(Path(out) / name, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in paths if path not in sys.path]
    sys.argv = ["robustness", *words]
    from robustness.cli import main

    main()


def robustness(
    words: Sequence[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `robustness WORDS` in `folder`, with the variables `environment`, and wait for its end."""
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    with tempfile.TemporaryDirectory() as out:
        given = (list(words), str(folder), environment, out)
        process = _context().Process(target=_main, args=given)
        process.start()
        process.join(LONGEST)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(words), LONGEST)
        code, texts = process.exitcode, [(Path(out) / name).read_text() for name in ("out", "err")]
        process.close()
    return subprocess.CompletedProcess(list(words), code, *texts)
