"""Tests of shell completion: commands, options and names, without a framework, installed by one command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROBUSTNESS = Path(sys.executable).with_name("robustness")
BASH = shutil.which("bash")

pytestmark = [
    pytest.mark.skipif(not ROBUSTNESS.exists(), reason="the command is not installed here"),
    pytest.mark.skipif(BASH is None, reason="this system has no bash"),
]


def bash(script: str, home: Path) -> str:
    done = subprocess.run(
        [str(BASH), "--norc", "-c", script],
        env=os.environ | {"HOME": str(home), "PATH": f"{ROBUSTNESS.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_installed_completion_completes_commands_options_and_names(tmp_path):
    # The shell is recognised from the parent process, which is this bash; the second command keeps it.
    bash("robustness --install-completion; true", tmp_path)
    ask = (
        "source ~/.bashrc\n"
        'ask() { COMP_WORDS=(robustness "$@"); COMP_CWORD=$#; _robustness_completion robustness; '
        'echo "${COMPREPLY[@]}"; }\n'
        "ask ver; ask audit --lim; ask audit -a apg; ask audit --model dogs-; ask audit --norm l; "
        "ask audit --report js\n"
    )
    lines = bash(ask, tmp_path).splitlines()
    assert lines == [
        "verify",
        "--limit",
        "apgd apgd-t",
        "dogs-vs-cats dogs-vs-cats-robust",
        "l0 l1 l2 linf",
        "json",
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fish") is None, reason="this system has no fish")
def test_installed_completion_completes_in_fish(tmp_path):
    script = (
        "robustness --install-completion >/dev/null; "
        "for words in 'ver' 'audit -a apg' 'audit --norm l'; complete -C \"robustness $words\"; end"
    )
    environment = os.environ | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config")}
    environment["PATH"] = f"{ROBUSTNESS.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(shutil.which("fish")), "-c", script], env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert found == ["verify", "apgd", "apgd-t", "l0", "l1", "l2", "linf"]
