"""Tests that unusable input ends every command with exit code 2 and one sentence, without a traceback."""

from __future__ import annotations

import ast
import contextlib
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from robustness import errors
from robustness.attacks import BIM
from robustness.errors import RunUsageError, SettingError, StorageError
from robustness.files import disk_errors
from robustness.runs import run_folder
from robustness.runs.plan import Plan
from robustness.runs.schema import Manifest
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.cli.test_commands import inside

COMMANDS = """
report nope
report f.txt
report empty
report nope --kind json
case nope a.jpg
case f.txt a.jpg
case empty a.jpg
case nope a.jpg --out a.jpg
verify nope
verify f.txt
verify nope --cluster nowhere
rerun nope
rerun f.txt
rerun notjson.json
compare nope nope
compare f.txt notjson.json
compare empty empty
report nope --kind json --kind html
audit -e 1 -e 2 -i pets:4
audit -i pets:4 --epsilon 1 -e 2
audit -i pets:4 --cascade --no-cascade
solve spread --count 3 --dim 2 --steps 3 --steps 4
audit --resume nope
audit --resume empty
audit --resume f.txt
audit --out f.txt
audit --out f.txt/run -i pets:4
audit -a bim:steps=2,steps=3 -i pets:4
audit -e 1_0 -i pets:4
audit -e ٤ -i pets:4
audit -i nowhere
audit -m nowhere.keras
audit -m nowhere
audit --limit 0 -i pets:4
audit --batch-size 0 -i pets:4
audit --target cow -i pets:4
audit --mask nowhere.png -i pets:4
audit --mask f.txt -i pets:4
audit --evidence some -i pets:4
audit --scaling odd -i pets:4
audit --classes a,a -i pets:4
audit --classes a,b,c -i pets:4
audit --norm l7 -i pets:4
audit --precision half -i pets:4
audit --surrogate nowhere.keras -i pets:4
audit -a bim:steps=x -i pets:4
audit -a universal -i pets:4
audit -a universal:file=nope.npz -i pets:4
audit --accuracy 3
audit -i pets:4 --seed x
audit --config f.txt
audit --config empty
audit --config notjson.json
fit out.npz -i nowhere
fit out.npz -m nowhere
fit out.npz --patch a
fit out.npz --patch 500,0,4 -i pets:4
fit out.npz --norm l7 -i pets:4
fit out.npz --norm l0 -i pets:4
fit out.npz --limit 0 -i pets:4
fit out.npz --steps 0
fit empty -i pets:4 --steps 1
fit out.npz -e 0.1
fit out.npz --target cow -i pets:4
fetch oops
fetch kaggle:oops
fetch kaggle-model:a
fetch kaggle-competition:
fetch http://example.org/x
solve regression nope.csv --x a --y b
solve regression empty --x a --y b
solve regression t.csv --x c --y b
solve regression t.csv --x a --y b --optimizer nope
solve regression t.csv --x a --y b --learning-rate -1
solve regression t.csv --x a --y b --learning-rate nan
solve regression t.csv --x a --y b --rates 1,x
solve regression t.csv --x a --y b --rates 1,2,3
solve regression t.csv --x a --y b --start 1
solve regression t.csv --x a --y b --method odd
solve regression t.csv --x a --y b --logistic
solve regression t.csv --x , --y b
solve regression t.csv --x a --y b --steps 2 --plot x.odd
solve regression t.csv --x a --y b --steps 2 --plot no/x.png
solve spread --count 0 --dim 2
solve spread --count 5 --dim 0
solve spread --count 5 --dim 2 --loss odd
solve spread --count 5 --dim 2 --power -1
solve spread --count 5 --dim 2 --restarts 0
solve spread --count 5 --dim 2 --steps 0
solve spread --count 5 --dim 2 --loss force --optimizer odd
solve spread --count 5 --dim 2 --loss force --learning-rate -1
solve spread --count 5 --dim 2 --start f.txt
solve spread --count 5 --dim 4 --start v.npy
solve spread --count 5 --dim 3 --fixed v.npy
solve spread --count 5 --dim 2 --fixed flat.npy
solve spread --count 5 --dim 2 --save no/x.npy
solve choose nope.npy --count 2
solve choose v.npy --count 9
solve choose v.npy --count 0
solve choose flat.npy --count 2
solve choose zero.npy --count 2
check-attack os:path
check-attack nope:nope
check-attack nope
check-attack o:x
check-attack o:A
check-attack o:f
check-attack o:missing
check-attack o:
check-attack :A
check-attack boom:A
check-attack quits:A
check-attack syn:A
check-attack robustness:Attack
attacks nope
init f.txt
init empty
init f.txt/x.toml
models x
nonsense
report nope --out no/dir/x.html
compare nope nope --html no/x.html
init empty --force
compare f.txt empty --html empty
audit --config baseline.toml
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Files and folders that no command can use."""
    folder = tmp_path_factory.mktemp("usage")
    (folder / "empty").mkdir()
    (folder / "f.txt").write_text("x")
    (folder / "notjson.json").write_text("{}")
    (folder / "boom.py").write_text("raise RuntimeError('no good')\n")
    (folder / "quits.py").write_text("import sys\nsys.exit(1)\n")
    (folder / "syn.py").write_text("def (:\n")
    (folder / "o.py").write_text("x = 3\nclass A: pass\ndef f(): pass\n")
    (folder / "t.csv").write_text("a,b\n1,2\n2,3\n3,5\n")
    (folder / "baseline.toml").write_text('[gate.baseline]\nrun = "notjson.json"\n')
    np.save(folder / "v.npy", np.eye(4))
    np.save(folder / "flat.npy", np.arange(4.0))
    np.save(folder / "zero.npy", np.zeros((3, 2)))
    return folder


@pytest.mark.parametrize("command", COMMANDS.strip().splitlines())
def test_usage_errors_have_exit_code_2(command, place):
    before = {p.name for p in place.iterdir()} - {"__pycache__"}
    done = inside(*command.split(), cwd=place)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert sum(line.lower().startswith("error: ") for line in lines) == 1
    last = lines[-1]
    assert last.lower().startswith("error: ") and len(last) < 900
    assert done.stdout == ""
    assert {p.name for p in place.iterdir()} - {"__pycache__"} == before


def test_every_error_has_the_documented_exit_code():
    root = Path(__file__).parents[3]
    known = {
        name: one.exit_code
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.RobustnessError)
    }
    assert set(known.values()) == {2, 3}
    told = (root / "docs" / "ci.md").read_text()
    rows = [line.split("|")[1:3] for line in told.splitlines() if line.startswith("| `")]
    written = {name.strip().strip("`"): int(code) for name, code in rows if "Error`" in name}
    assert written == known


def test_only_main_sets_exit_codes_of_errors():
    """Only `main` exits, with the code of the error."""
    root = Path(__file__).parents[3] / "robustness" / "cli"
    for file in root.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ExceptHandler) and "Error" in ast.unparse(node.type or node):
                assert "typer.Exit" not in ast.unparse(node), (file.name, node.lineno)


@pytest.mark.parametrize("name", ["run.json", "run.sqlite", "pipe"])
def test_no_report_overwrites_a_file_of_the_run(tmp_path, name):
    (tmp_path / "run.json").write_text("{}")
    if name == "pipe":
        os.mkfifo(tmp_path / name)
    with pytest.raises(SettingError, match=r"a part of the run|a device or a pipe"):
        disk_errors.expect_place(tmp_path / name)


def test_a_run_below_a_file_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "f.txt").write_text("x")
    with pytest.raises(RunUsageError, match=r"f\.txt is not a folder"):
        run_folder.expect_free(tmp_path / "f.txt" / "a" / "run")
    run_folder.expect_free(tmp_path / "a" / "run")
    assert not (tmp_path / "a").exists()


def test_a_run_in_a_folder_without_permission_is_refused_before_anything_is_loaded(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(StorageError, match="permission is denied"):
        run_folder.expect_free(tmp_path / "a" / "run")


@pytest.mark.parametrize(
    "words", ["audit --out {}", "audit -i {}", "audit {}", "rerun {}", "merge a --out {}"]
)
def test_a_path_that_is_not_utf8_is_refused_at_once_where_it_is_recorded(words, tmp_path):
    done = inside(*words.format(os.fsdecode(b"caf\xe9")).split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert r"'caf\udce9' holds bytes that are not UTF-8" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_current_folder_that_is_not_utf8_is_refused_at_once(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    done = inside("audit", "-i", "pets:2", cwd=folder)
    assert (done.returncode, "not UTF-8" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("target", ["loop", "gone"])
def test_images_at_a_link_to_nothing(target, tmp_path):
    (tmp_path / "loop").symlink_to(target)
    done = inside("audit", "-i", "loop", cwd=tmp_path)
    assert done.returncode == 2
    assert "'loop' is a link that leads to nothing" in done.stderr
    assert "Did you mean" not in done.stderr


@pytest.mark.parametrize(
    "words",
    ["init --force kept.toml", "solve spread --count 3 --dim 2 --steps 2 --save kept.npy"],
)
def test_an_output_file_stays_whole_if_its_disk_is_full(words, tmp_path, monkeypatch):
    kept = tmp_path / words.split()[-1]
    kept.write_bytes(b"the file of before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("robustness.files.writing.os.fdopen", full)
    done = inside(*words.split(), cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert f"{kept.name}: no space is left on the disk" in done.stderr
    assert kept.read_bytes() == b"the file of before"
    assert list(tmp_path.iterdir()) == [kept]


def test_an_endless_view_in_a_database_is_refused_at_once(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as database:
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
        database.execute(f"CREATE VIEW images AS {endless} WHERE x < 0")
        database.commit()
    with pytest.raises(RunUsageError):
        run_folder.expect_free(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [{"slots": (1 << 20) + 1}, {"seed": 1 << 63}, {"evidence": "9" * 13}, {"evidence": "²"}],
    ids=str,
)
def test_a_plan_accepts_only_values_that_its_manifest_can_hold(settings):
    known = {"seed": 0, "slots": 1, "evidence": "all"} | settings
    threat = Threat((1.0,), NORMS["linf"])
    with pytest.raises(SettingError, match=r"not usable|not known"):
        Plan((BIM(),), threat, all_steps=False, **known)


def _commands():
    """Every command with each of its path options, other required words filled in."""
    from robustness.cli import app, solve
    from robustness.cli.arguments import paths_of

    for words, one in (((), app), (("solve",), solve.app)):
        for command in one.registered_commands:
            name = command.name or command.callback.__name__
            for path in sorted(paths_of(command.callback)):
                yield (*words, name), command.callback, path


def _empty(words, function, path):
    """A command line with only `path` empty."""
    import inspect

    line = list(words)
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        given = next(iter(getattr(parameter.annotation, "__metadata__", ())), None)
        value = "" if name == path else "1"
        if type(given).__name__ == "ArgumentInfo":
            line += [value] if name == path or parameter.default is inspect.Parameter.empty else []
        elif name == path or (given is not None and parameter.default is inspect.Parameter.empty):
            # In an annotation the first spelling is in the place of the default.
            spellings = [given.default, *(given.param_decls or ())]
            flag = [one for one in spellings if isinstance(one, str) and one.startswith("--")]
            line += [*(flag or ["--" + name.replace("_", "-")]), value]
    return line


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [_empty(*one) for one in _commands()], ids=lambda line: " ".join(map(repr, line))
)
def test_an_empty_path_is_refused(tmp_path, line):
    done = inside(*line, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "is empty; expected a path" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_every_command_with_a_path_is_covered():
    asked = {" ".join(words) for words, _, _ in _commands()}
    assert asked >= {"audit", "report", "verify", "rerun", "compare", "fit", "init", "solve choose"}
    assert {path for words, _, path in _commands() if words == ("audit",)} == {
        *("model", "images", "surrogate", "mask", "config", "out", "resume"),
        *("model_first", "images_second", "imports", "preprocess", "architecture"),
    }


def test_an_empty_path_is_refused_in_python(tmp_path):
    import model_zoo
    import robustness
    from robustness.attacks.universal_fit import Fitted
    from robustness.images import open_source
    from robustness.models import loading
    from robustness.reports.comparison.compare import compare
    from robustness.reports.files import report_path
    from robustness.runs.result import AuditResult
    from robustness.runs.store import Run
    from robustness.threat.mask import Mask

    images = np.zeros((1, 4, 4, 3), np.uint8)
    for call in (
        lambda: open_source(""),
        lambda: robustness.audit("model.keras", images, out=""),
        lambda: robustness.audit("", images),
        lambda: loading.scan(""),
        lambda: model_zoo.load(""),
        lambda: Mask.of("", (4, 4, 3)),
        lambda: AuditResult(""),
        lambda: Run.open(""),
        lambda: Run.resume(""),
        lambda: Run.create("", Manifest()),
        lambda: Fitted.load(""),
        lambda: compare("", tmp_path),
        lambda: report_path(tmp_path, "", "x.html"),
    ):
        with pytest.raises(SettingError, match="is empty; expected a path"):
            call()


@pytest.mark.parametrize("table", ["model", "images"])
def test_an_empty_path_in_a_file_is_refused(tmp_path, table):
    (tmp_path / "audit.toml").write_text(f'[{table}]\npath = ""\n')
    done = inside("audit", "--config", "audit.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{table}.path is ''" in done.stderr


@pytest.mark.parametrize("kind", ["nope", "broken"])
def test_report_formats_are_checked_before_the_audit(tmp_path, monkeypatch, kind):
    from robustness import plugins
    from tests.robustness.files.test_readers import install

    install(tmp_path, "kinds", plugins.REPORTS, broken="no_such_module:X")
    monkeypatch.syspath_prepend(str(tmp_path))
    done = inside("audit", "-i", "pets:4", "--report", kind, "-o", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert repr(kind) in done.stderr and "Loading" not in done.stderr
    assert not (tmp_path / "run").exists()
