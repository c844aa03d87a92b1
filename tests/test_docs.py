"""Tests of README and docs: every command runs, every example works, names and links exist."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from PIL import Image

from tests import forked

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(name: str, kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall((ROOT / name).read_text()) if found == kind]


def commands(name: str) -> list[str]:
    return [line for text in blocks(name, "console") for line in text.splitlines() if line]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder as the README assumes it: a model, photos, and the example plug-in installed."""
    import keras

    from robustness.images.png import to_png

    folder = tmp_path_factory.mktemp("newcomer")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.save(folder / "model.keras")
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (folder / "photos" / kind).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
            (folder / "photos" / kind / f"{number}.png").write_bytes(to_png(pixels))
    code, test = blocks("docs/adding-an-attack.md", "python")
    (folder / "sign_and_fade.py").write_text(code)
    (folder / "test_sign_and_fade.py").write_text(test)
    package = tomllib.loads(blocks("docs/adding-an-attack.md", "toml")[0])["project"]
    info = folder / f"sign_and_fade-{package['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package['name']}\nVersion: {package['version']}\n"
    )
    points = package["entry-points"]["robustness.attacks"]
    (info / "entry_points.txt").write_text(
        "[robustness.attacks]\n" + "".join(f"{k} = {v}\n" for k, v in points.items())
    )
    return folder


def environment(folder: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(folder), str(ROOT)])
    return {**os.environ, "PYTHONPATH": paths, "CI": "1", "COLUMNS": "160"}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def robustness(words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `robustness ...` in a fork with TensorFlow already imported."""
    return forked.robustness(shlex.split(words), folder, environment(folder))


def test_the_first_two_commands_match_continuous_integration():
    first, second = commands("README.md")[:2]
    assert "robustness audit" in first
    assert "pytest" in second
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.slow
def test_every_other_command_of_the_readme_runs(workplace):
    typed = commands("README.md")[2:]
    assert typed
    # This command runs in a new interpreter, as a user would run it.
    words = shlex.split("audit --images pets:4 --attack fgsm --out audit-run")
    done = run([sys.executable, "-m", "robustness", *words], workplace)
    assert done.returncode == 0, done.stderr
    for line in typed:
        program, _, rest = line.partition(" ")
        assert program == "robustness"
        done = robustness(rest, workplace)
        assert done.returncode == 0, (line, done.stderr)
    assert (workplace / "audit-run" / "report.html").exists()


@pytest.mark.slow
def test_the_python_of_the_readme_runs(workplace):
    done = run([sys.executable, "-c", blocks("README.md", "python")[0]], workplace)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_example_attack_is_checked_listed_and_run(workplace):
    outputs = {}
    for line in commands("docs/adding-an-attack.md"):
        done = robustness(line.partition(" ")[2], workplace)
        assert done.returncode == 0, (line, done.stderr)
        outputs[line] = done.stdout
    assert "sign-and-fade" in outputs["robustness attacks"]
    assert "number of steps" in outputs["robustness attacks sign-and-fade"]
    assert (
        "ok  treats rows independently"
        in outputs["robustness check-attack sign_and_fade:SignAndFade"]
    )
    assert "sign-and-fade" in outputs[commands("docs/adding-an-attack.md")[-1]]
    tested = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_sign_and_fade.py"],
        workplace,
    )
    # The declarations, and eight clauses for each of two goals.
    assert "17 passed" in tested.stdout, tested.stdout


def test_the_example_attack_is_short():
    code = blocks("docs/adding-an-attack.md", "python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 30


@pytest.mark.slow
def test_the_pipeline_of_the_docs_runs(workplace):
    first, *others = commands("docs/ci.md")
    done = robustness(first.partition(" ")[2], workplace)
    assert done.returncode == 0, done.stderr
    file = workplace / "audit.toml"
    text = file.read_text().replace('"dogs-vs-cats"', '"model.keras"').replace('"pets"', '"photos"')
    file.write_text(text)
    for line in (one.replace("audit-run", "pipeline-run") for one in others):
        done = robustness(line.partition(" ")[2], workplace)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert (workplace / "pipeline-run" / "junit.xml").exists()
    assert (workplace / "difference.html").exists()


@pytest.mark.slow
def test_every_threat_of_the_docs_runs(workplace):
    mask = np.zeros((16, 16, 1), np.uint8)
    mask[4:12, 4:12] = 255
    from robustness.images.png import to_png

    (workplace / "mask.png").write_bytes(to_png(mask))
    typed = commands("docs/threats.md")
    assert len(typed) == 10
    for line in typed:
        done = robustness(line.partition(" ")[2], workplace)
        assert done.returncode == 0, (line, done.stdout, done.stderr)


@pytest.mark.slow
def test_the_shards_of_the_docs_are_run_and_merged(workplace):
    """The commands run; the scripts of batch systems give the commands that they should."""
    typed = commands("docs/many-machines.md")
    parts = ["plan", "audit", "audit", "merge", "verify"]
    assert [line.split()[1] for line in typed] == [*parts, "audit", "verify"]
    for line in typed:
        done = robustness(line.partition(" ")[2], workplace)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    script, slurm, submitted, kubernetes, sky = blocks("docs/many-machines.md", "bash")
    (workplace / "shard.sh").write_text(script)
    (workplace / "bin").mkdir()
    for name in ("robustness", "sbatch"):
        (workplace / "bin" / name).write_text(
            f'#!/bin/bash\nprintf "%s\\n" {name} "$@" > words; echo 17; exit ${{CODE:-0}}\n'
        )
        (workplace / "bin" / name).chmod(0o755)

    def words_of(text: str, *, code: int = 0, **variables: str) -> tuple[list[str], int]:
        """The command that a script ends with, and the exit code of the script if that exits with `code`."""
        paths = f"{workplace / 'bin'}{os.pathsep}{os.environ['PATH']}"
        place = {**variables, "PATH": paths, "CODE": str(code)}
        done = subprocess.run(["bash", "-c", text], cwd=workplace, env=place, check=False)
        return (workplace / "words").read_text().splitlines(), done.returncode

    begun = typed[1].replace("0/2", "3/16").replace("shards/0", "shards/3") + " --quiet"
    array = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16"}
    assert words_of(slurm, code=0, **array) == (shlex.split(begun), 0)
    assert words_of("bash shard.sh 3 16", code=4)[1] == 0
    assert words_of("bash shard.sh 3 16", code=3)[1] == 1
    resumed, _ = words_of("bash shard.sh 1 2")
    assert resumed[:4] == ["robustness", "audit", "--resume", "shards/1"]
    assert robustness(shlex.join(resumed[1:]), workplace).returncode == 0
    merging, _ = words_of(submitted.splitlines()[-1].replace("$job", "17"))
    assert merging[1:] == [
        "--dependency=afterany:17",
        "--wrap=robustness merge shards/* --out merged",
    ]
    assert kubernetes == sky
    shutil.rmtree(workplace / "merged")
    merged, _ = words_of(kubernetes)
    assert merged[:4] == ["robustness", "merge", "shards/0", "shards/1"]
    assert robustness(shlex.join(merged[1:]), workplace).returncode == 0
    job, task = map(yaml.safe_load, blocks("docs/many-machines.md", "yaml"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    number = {"JOB_COMPLETION_INDEX": "3"}
    assert words_of(container["command"][-1], code=0, **number) == (shlex.split(begun), 0)
    rank = {"SKYPILOT_NODE_RANK": "3", "SKYPILOT_NUM_NODES": "16"}
    assert words_of(task["run"].splitlines()[0], code=0, **rank) == (shlex.split(begun), 0)


@pytest.mark.slow
def test_every_solver_of_the_docs_runs(workplace):
    rng = np.random.default_rng(0)
    rows = "".join(f"{x},{6 * x - 230 + rng.normal()}\n" for x in rng.normal(69, 2, 30))
    (workplace / "heights.csv").write_text(f"Height,Weight\n{rows}")
    *solvers, article = commands("docs/solvers.md")
    assert len(solvers) == 4 and article.startswith("robustness article ")  # has a test of its own
    for line in solvers:
        done = robustness(line.partition(" ")[2], workplace)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert {p.name for p in workplace.glob("*.gif")} == {"fit.gif", "compare.gif", "losses.gif"}


def test_the_gate_of_the_docs_is_valid(tmp_path):
    from robustness.configuration.toml import Section
    from robustness.reports.gate.gate_file import read_gate

    table = tomllib.loads(blocks("docs/ci.md", "toml")[0])["gate"]
    base = table.pop("baseline")
    assert set(base) == {"run", "max_drop"}
    gate = read_gate(Section(table, "gate"))
    assert [rule.name for rule in gate.rules] == ["floor", "no class left behind"]
    assert gate.suppressions[0].rule == "D24"


def test_the_workflow_of_the_docs_uses_existing_options():
    import typer.main

    from robustness.cli import app

    (workflow,) = blocks("docs/ci.md", "yaml")
    known = typer.main.get_group(app).commands
    steps = re.findall(r"robustness (audit|verify|report)((?: +\S+|\n +--\S+ \S+)*)", workflow)
    assert [name for name, _ in steps] == ["audit", "verify"]
    for name, words in steps:
        options = {option for p in known[name].params for option in p.opts}
        assert {w for w in words.split() if w.startswith("--")} <= options
    kinds = re.findall(r"--report (\w+)", workflow)
    written = {"summary.md": "markdown", "annotations.txt": "github", "report.sarif": "sarif"}
    for file, kind in written.items():
        assert f"audit-run/{file}" in workflow and kind in kinds


def test_every_diagnostic_has_its_section():
    from robustness.cli.audit import audit
    from robustness.diagnostics import TITLES
    from robustness.reports.page.explanations import explained

    attacks = {entry.name for entry in entry_points(group="robustness.attacks")}
    options = inspect.signature(audit).parameters
    text = (ROOT / "docs" / "diagnostics.md").read_text()
    sections = dict(re.findall(r"^### (\w\d\d) (.+)$", text, re.MULTILINE))
    assert sections == TITLES
    # The page quotes the docs word for word.
    for name, body in re.findall(
        r"^### (\w\d\d) [^\n]+\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL
    ):
        said = explained(name)
        assert said is not None
        assert " ".join(body.split()) == f"{said.rule} **What to do:** {said.do}"
        for word in re.findall(r"`([a-z]+)`", said.do):
            assert word in {*attacks, "margin", "restarts", "head"}, word
        for option in re.findall(r"--([a-z-]+)", said.do):
            assert option.replace("-", "_") in options, option


def test_the_layers_of_the_docs_match_the_import_contracts():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    picture = blocks("docs/architecture.md", "text")[0].splitlines()
    assert [set(row.split()) for row in picture] == [
        {name.removeprefix("robustness.") for name in layer.split(" | ")} for layer in layers
    ]


def imported_packages(package: Path) -> set[str]:
    """The packages of robustness that the files of `package` import."""
    imports = r"^\s*from robustness(?:\.(\w+)[. ]| import ([\w, ]+)$)"
    return {
        name
        for path in package.rglob("*.py")
        for inside, listed in re.findall(imports, path.read_text(), re.MULTILINE)
        for name in [inside, *re.findall(r"\w+", listed)]
    }


def test_the_package_graph_of_the_docs_matches_the_imports():
    (graph,) = blocks("docs/architecture.md", "mermaid")
    arrows = [
        (source, target)
        for line in graph.splitlines()[1:]
        for sources, targets in [line.split(" --> ")]
        for source in re.findall(r"\w+", sources)
        for target in re.findall(r"\w+", targets)
    ]
    packages = {
        path.parent.name: path.parent for path in (ROOT / "robustness").glob("*/__init__.py")
    }
    for source, target in arrows:
        assert target in imported_packages(packages[source].resolve()), (source, target)
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    assert set(table) == set(packages)


def test_the_architecture_page_is_short_and_its_names_exist():
    text = (ROOT / "docs/architecture.md").read_text()
    assert len(text.splitlines()) <= 200
    sources = "\n".join(
        path.read_text()
        for room in ("robustness", "attacks", "reports")
        for path in (ROOT / room).rglob("*.py")
    )
    for row in re.findall(r"^\| [a-z]+ \(([^)]+)\) \|", text, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            assert f"class {name}" in sources, name


TRACED = """
import os, sys, threading
import keras, numpy as np
import robustness
from robustness.attacks.bim import BIM
from robustness.attacks.fgsm import FGSM

root, calls = os.path.realpath(sys.argv[1]), []

def note(frame, event, _):
    if event == "call":
        path = frame.f_code.co_filename
        if path.startswith((root, sys.argv[1])) and ".venv" not in path:
            calls.append((os.path.relpath(os.path.realpath(path), root), frame.f_code.co_name))

layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(2)]
model = keras.Sequential([keras.layers.Input((8, 8, 3)), *layers])
images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
threading.setprofile(note)
sys.setprofile(note)
result = robustness.audit(model, images, attacks=[FGSM(), BIM()], epsilons=[64], out="traced-run")
result.report()
sys.setprofile(None)
for path, name in calls:
    print(path, name)
"""


@pytest.mark.slow
def test_an_audit_makes_the_documented_calls_in_order(tmp_path):
    text = (ROOT / "docs/architecture.md").read_text()
    steps = re.findall(r"^\d+\. `([^`]+)` `([^`]+)`", text, re.MULTILINE)
    assert 10 <= len(steps) <= 12
    assert len({path for path, _ in steps}) == len(steps)
    done = run([sys.executable, "-c", TRACED, str(ROOT)], tmp_path)
    assert done.returncode == 0, done.stderr
    calls = iter([tuple(line.split()) for line in done.stdout.splitlines()])
    for step in steps:
        assert step in calls, f"{step} is not called after the steps before it"


def test_benchmark_commands_use_existing_options():
    text = (ROOT / "benchmarks/README.md").read_text()
    typed = re.findall(r"python (benchmarks/\w+\.py)([^\n`]*)", text)
    assert len(typed) >= 7
    for script, words in typed:
        source = (ROOT / script).read_text()
        for option in re.findall(r"--[\w-]+", words):
            assert f'"{option}"' in source, (script, option)
    scripts = set(re.findall(r"^\| `(\w+\.py)`", text, re.MULTILINE))
    assert scripts == {Path(script).name for script, _ in typed}


def test_files_named_in_contributing_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    files = re.findall(r"`((?:[\w.]+/)+[\w.]*)`", text)
    files += [word for line in commands("CONTRIBUTING.md") for word in line.split() if "/" in word]
    expected = [file for file in files if "my_" not in file and "_mybackend" not in file]
    assert len(expected) > 30
    missing = [
        file for file in expected if not (ROOT / file).exists() and file != ".venv/bin/activate"
    ]
    assert not missing


@pytest.mark.parametrize("name", ["architecture", "decisions"])
def test_modules_named_in_the_docs_exist(name):
    text = (ROOT / "docs" / f"{name}.md").read_text()
    modules = set(re.findall(r"`((?:\w+/)+\w+\.py)`", text))
    assert len(modules) > 10
    missing = [
        m for m in modules if not ((ROOT / m).exists() or (ROOT / "robustness" / m).exists())
    ]
    assert not missing


def test_the_test_command_of_contributing_runs():
    first, *_ = [line for line in commands("CONTRIBUTING.md") if "pytest" in line]
    words = shlex.split(first)
    assert words[:3] == ["python", "-m", "pytest"]
    done = run([sys.executable, *words[1:], "--collect-only"], ROOT)
    assert done.returncode == 0, done.stdout


def test_links_resolve():
    pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
    pages += [str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md")]
    pages += [str(p.relative_to(ROOT)) for p in (ROOT / "benchmarks").glob("*.md")]
    for name in pages:
        text = (ROOT / name).read_text()
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert ((ROOT / name).parent / target).exists(), (name, target)


def test_pictures_in_the_repository_are_readable():
    for path in ROOT.glob("docs/**/*.png"):
        Image.open(path).verify()
