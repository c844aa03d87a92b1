"""Tests of the wheel: one import name, all needed files, no conflict with a user's files."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LINKED = ("attacks", "model_zoo", "reports")
USER_MODULES = (*LINKED, "tests", "robustness_plugin")


def dependency_folders() -> list[str]:
    """The import path of this process, without the repository."""
    return [entry for entry in sys.path if Path(entry).is_dir() and Path(entry).resolve() != ROOT]


def run_python(
    arguments: list[str], folder: Path, search_path: list[Path], text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder` with only `search_path` and the dependencies: `-S` ignores editable installs."""
    paths = [*map(str, search_path), *dependency_folders()]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": os.pathsep.join(paths), "CI": "1", "COLUMNS": "160"},
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def setuptools_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the build backend named in pyproject.toml."""
    folder = tmp_path_factory.mktemp("setuptools")
    done = pip("install", "--no-deps", "--target", str(folder), "setuptools>=77")
    if done.returncode:
        pytest.skip("setuptools 77 or newer cannot be installed here")
    return folder


@pytest.fixture(scope="module")
def tracked_files() -> list[Path]:
    """Every existing file tracked by git, relative to the root of the repository."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("this is not a git checkout")
    paths = [Path(name) for name in done.stdout.split("\0") if name]
    return [path for path in paths if (ROOT / path).exists()]


def build(hook: str, source: Path, target: Path, backend: Path) -> Path:
    """Call a PEP 517 hook of setuptools in `source`; return the file built in `target`."""
    code = f"from setuptools import build_meta; print(build_meta.{hook}({str(target)!r}))"
    done = run_python(["-c", code], source, [backend])
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def checkout(tracked_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files and links, so that builds do not write to the repository."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in tracked_files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / path, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def wheel(
    checkout: Path, setuptools_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return build("build_wheel", checkout, tmp_path_factory.mktemp("wheel"), setuptools_folder)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    done = pip("install", "--no-deps", "--no-index", "--target", str(folder), str(wheel))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    """A user's folder whose modules are named like our packages; importing one raises."""
    for name in USER_MODULES:
        (tmp_path / f"{name}.py").write_text(
            f"raise RuntimeError('the file {name}.py of the user')\n"
        )
    return tmp_path


def contents(wheel: Path) -> dict[str, str]:
    """The files of a wheel with their hashes, as its RECORD lists them."""
    with zipfile.ZipFile(wheel) as archive:
        (record,) = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
        rows = csv.reader(archive.read(record).decode().splitlines())
        return {path: digest for path, digest, _ in rows}


def test_the_wheel_has_one_top_level_package(wheel):
    top_level = {path.partition("/")[0] for path in contents(wheel)}
    assert len(top_level) == 2
    assert "robustness" in top_level
    (information,) = top_level - {"robustness"}
    assert information.endswith(".dist-info")


def test_the_wheel_contains_every_tracked_file_of_its_packages(wheel, tracked_files):
    expected = {
        ("robustness" / path).as_posix() if path.parts[0] in LINKED else path.as_posix()
        for path in tracked_files
        if path.parts[0] in (*LINKED, "robustness") and not (ROOT / path).is_symlink()
    }
    packed = {path for path in contents(wheel) if path.startswith("robustness/")}
    assert packed == expected
    # Each linked folder also contains files that are not Python.
    for name in ("model_zoo", "reports"):
        assert any(f"robustness/{name}/" in path and not path.endswith(".py") for path in packed)


def test_the_wheel_metadata_are_complete(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    assert metadata["Author"] == "The robustness-toolkit contributors"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Keywords"]
    assert "Typing :: Typed" in (metadata.get_all("Classifier") or [])


def test_a_source_distribution_gives_the_same_wheel(
    checkout, wheel, setuptools_folder, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("sdist")
    archive = build("build_sdist", checkout, folder, setuptools_folder)
    with tarfile.open(archive) as sdist:
        assert not [member.name for member in sdist if member.issym() or member.islnk()]
        sdist.extractall(folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz")
    again = build("build_wheel", source, tmp_path_factory.mktemp("again"), setuptools_folder)
    assert contents(again) == contents(wheel)


AUDIT = """
import keras
import numpy as np
import robustness

layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(2)]
model = keras.Sequential([keras.layers.Input((8, 8, 3)), *layers])
images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype("float32")
result = robustness.audit(model, images, attacks=["fgsm"], epsilons=[64], out="audit-run")
result.report()
print("from", robustness.__file__)
"""


def test_a_script_and_the_command_line_work_next_to_user_files(installed, user_folder):
    (user_folder / "script.py").write_text(AUDIT)
    done = run_python(["script.py"], user_folder, [installed])
    assert done.returncode == 0, done.stderr
    assert f"from {installed / 'robustness'}" in done.stdout
    report = user_folder / "audit-run" / "report.html"
    assert report.exists()
    report.unlink()
    done = run_python(["-m", "robustness", "report", "audit-run"], user_folder, [installed])
    assert done.returncode == 0, done.stderr
    assert report.exists()
    done = run_python(["-m", "robustness", "attacks"], user_folder, [installed])
    assert done.returncode == 0, done.stderr
    assert "pgd" in done.stdout
    assert "broken" not in done.stdout


SESSION = """
from robustness import plugins
for group in (plugins.ATTACKS, plugins.MODELS, plugins.REPORTS): print(sorted(plugins.names(group)))

print(plugins.load(plugins.ATTACKS, "pgd").__module__, plugins.load(plugins.REPORTS, "html").__module__)
"""


@pytest.mark.parametrize("arguments", [["-i"], ["-c", SESSION]], ids=["prompt", "notebook"])
def test_an_interactive_session_works_next_to_user_files(installed, user_folder, arguments):
    text = SESSION if arguments == ["-i"] else ""
    done = run_python(arguments, user_folder, [installed], text)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    assert "robustness.attacks.pgd robustness.reports" in done.stdout


def test_modules_of_the_user_take_precedence(installed, tmp_path):
    for name in USER_MODULES:
        (tmp_path / f"{name}.py").write_text(f"OWNER = 'user {name}'\n")
    code = "import robustness.attacks, robustness.reports, robustness.model_zoo\n" + "".join(
        f"import {name}; assert {name}.OWNER == 'user {name}'\n" for name in USER_MODULES
    )
    done = run_python(["-c", code], tmp_path, [installed])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [*LINKED, "tests"])
def test_without_user_files_there_is_no_such_import(installed, tmp_path, name):
    done = run_python(["-c", f"import {name}"], tmp_path, [installed])
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
