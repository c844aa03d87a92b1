"""Tests of the hashes of plug-ins: a run is not continued with another code of its attack or norm."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import robustness
from robustness.attacks import PGD, Bisection
from robustness.errors import RunUsageError
from robustness.reports.comparison.compare import compare
from robustness.runs.plugin_code import plugin_code
from robustness.threat import norms
from tests.robustness.helpers import small_cnn

ATTACK = """
from dataclasses import dataclass
from robustness.attacks import BIM
from robustness.threat.norms import parse
from {helper} import SIZE

@dataclass(frozen=True)
class Mine(BIM):
    name = "mine"
    steps: int = 2

    def step(self, task, state, look):
        return super().step(task, state, look)

class Norm(type(parse("l2"))):
    name = "mine"
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that writes the modules of an attack, and imports the attack anew."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(number: int, helper: str = "SIZE = 1\n", attack: str = ATTACK):
        (tmp_path / "mine_helper.py").write_text(helper)
        (tmp_path / "mine_attack.py").write_text(attack.format(helper="mine_helper"))
        importlib.invalidate_caches()
        for name in ("mine_attack", "mine_helper"):
            sys.modules.pop(name, None)
            # Files that are written within a second may have stale bytecode.
            for file in tmp_path.glob(f"__pycache__/{name}*"):
                file.unlink()
        return importlib.import_module("mine_attack")

    yield written
    for name in ("mine_attack", "mine_helper"):
        sys.modules.pop(name, None)


def test_code_of_the_toolkit_is_known_by_its_version():
    assert plugin_code(PGD()) is None
    assert plugin_code(norms.parse("linf")) is None


@pytest.mark.parametrize("kind", ["Mine", "Norm"])
def test_the_hash_is_that_of_the_files(package, kind):
    first = plugin_code(getattr(package(0), kind)())
    assert first is not None and first.sha256 and first.python is None
    assert plugin_code(getattr(package(1), kind)()) == first
    helped = plugin_code(getattr(package(2, helper="SIZE = 2\n"), kind)())
    changed = plugin_code(getattr(package(3, attack=ATTACK + "\nOTHER = 1\n"), kind)())
    assert len({first.sha256, helped.sha256, changed.sha256}) == 3


def test_the_attack_inside_a_wrapper_counts(package):
    inner = package(0).Mine()
    assert plugin_code(Bisection(of=inner)) == plugin_code(inner)
    assert plugin_code(Bisection(of=PGD())) is None


def test_the_way_in_which_a_module_is_imported_does_not_count(tmp_path, monkeypatch):
    """As `pkg.mine`, from beside it as `mine`, and beside libraries that are installed into its folder."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "mine.py").write_text(
        "import keras, lib\nfrom robustness.attacks import BIM\nclass Mine(BIM):\n    name = 'mine'\n"
    )
    for folder in (tmp_path, tmp_path / "pkg"):
        (folder / "lib").mkdir()
        (folder / "lib" / "__init__.py").write_text(f"PLACE = {str(folder)!r}\n")
        (folder / "lib_extra-1.0.dist-info").mkdir()
        (folder / "lib-1.0.dist-info").mkdir()
    found = []
    for place, name in ((tmp_path, "pkg.mine"), (tmp_path / "pkg", "mine")):
        with monkeypatch.context() as context:
            context.syspath_prepend(place)
            for module in ("lib", name):
                context.delitem(sys.modules, module, raising=False)
            found.append(plugin_code(importlib.import_module(name).Mine()))
            sys.modules.pop(name), sys.modules.pop("lib")
    assert found[0] == found[1] and found[0] is not None


SCRIPT = """
from robustness.attacks import BIM
from robustness.reports.comparison.compare import compare
from robustness.runs.plugin_code import plugin_code

SCALE = 1.0

def helper(x, *, factor=1):
    return x * factor * SCALE

class Mine(BIM):
    name = "mine"
    slack = 0.5

    def step(self, task, state, look, many=(1, 2)):
        helper(1)
        return {} if "a" in {"a", "b", "c", "d"} else super().step(task, state, look)

code = plugin_code(Mine())
print(code.sha256, code.python)
"""


@pytest.mark.slow
def test_a_class_of_a_script_is_known_by_its_bytecode(tmp_path):
    said = []
    edits = [("", ""), ("code =", "resumed = True\ncode ="), ('"a" in', '"b" in'), ("0.5", "0.6")]
    edits += [("(1, 2)", "(1, 3)"), ("factor=1", "factor=2"), ("SCALE = 1.0", "SCALE = 2.0")]
    for seed, (old, new) in enumerate(edits):
        file = tmp_path / "script.py"
        file.write_text(SCRIPT.replace(old, new) if old else SCRIPT)
        environment = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            [sys.executable, str(file)], env=environment, capture_output=True, text=True, check=True
        )
        said.append(done.stdout.split())
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert said[0] == said[1] and said[0][1] == version
    assert len({tuple(one) for one in said}) == len(edits) - 1


@pytest.mark.slow
def test_a_run_is_not_continued_with_other_code(package, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3)).astype(np.uint8)
    run = tmp_path / "run"

    def audited(module, out=run, **more):
        return robustness.audit(
            small_cnn(9), images, attacks=[module.Mine()], epsilons=[4], out=out, **more
        )

    (entry,) = audited(package(0)).manifest["config"]["attacks"]
    assert entry["code"]["sha256"]
    audited(package(1), resume=True)
    with pytest.raises(RunUsageError, match=r"started differently: code of mine"):
        audited(package(2, helper="SIZE = 2\n"), resume=True)
    audited(sys.modules["mine_attack"], tmp_path / "other")
    told = compare(run, tmp_path / "other").notes
    assert any("Another version in B than in A: code of mine" in note for note in told)
    assert not any("Another version" in note for note in compare(run, run).notes)
