"""Tests of runs used from another directory, and of the messages after an interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from robustness.attacks.universal_fit import Fitted
from robustness.auditing import setup
from robustness.auditing.auditor import Auditor
from robustness.cli.recorded_files import ROLES
from robustness.errors import RunError
from robustness.runs.recorded_paths import resolve_options, resolve_recorded
from robustness.runs.run_json import manifest_of
from robustness.runs.schema import Origin
from robustness.runs.seal import sealed
from robustness.runs.store import Run
from tests.robustness.cli.test_commands import inside
from tests.robustness.helpers import small_cnn

WORDS: tuple[str, ...] = (
    "audit",
    "-m",
    "models/model.keras",
    "-i",
    "data/",
    "--scaling",
    "0..1",
    "-q",
)
WORDS += ("--surrogate", "models/other.keras", "--mask", "mask.png", "-e", "8")
WORDS += ("-a", "bim", "-a", "universal:file=models/change.npz", "--classes", "x,y,z")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """An audited project with a model, pictures and everything else that an audit takes by relative path."""
    folder = tmp_path_factory.mktemp("project") / "work"
    (folder / "models").mkdir(parents=True)
    classifier = small_cnn(9)
    classifier.model.save(folder / "models" / "model.keras")
    layers = [keras.layers.Input((12, 12, 3)), keras.layers.Rescaling(1 / 255)]
    other = keras.Sequential([*layers, *small_cnn(10).model.layers])
    other.save(folder / "models" / "other.keras")
    from robustness.images.png import to_png

    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (8, 12, 12, 3)).astype(np.uint8)
    for number, (image, label) in enumerate(
        zip(images, classifier.probabilities(images).argmax(1), strict=True)
    ):
        place = folder / "data" / "xyz"[label]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(to_png(image))
    (folder / "mask.png").write_bytes(to_png(np.full((12, 12, 1), 255, np.uint8)))
    values = rng.uniform(-8, 8, (12, 12, 3)).astype("float32")
    told: dict[str, Any] = {"norm": "linf", "epsilon": 8.0, "goal": "", "place": None, "images": 1}
    Fitted(values=values, **told, flipped=0.0, model="", losses=()).save(
        folder / "models" / "change.npz"
    )
    done = inside(*WORDS, "-o", "runs/one", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def tables(run: Path):
    with Run.open(run) as opened:
        return opened.outcomes()


@pytest.mark.slow
def test_a_run_resumes_verifies_and_reruns_from_another_directory(project, tmp_path):
    before = tables(project / "runs" / "one")
    run = str(project / "runs" / "one")
    done = inside("audit", "--resume", run, "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert inside("verify", run, cwd=tmp_path).returncode == 0
    done = inside("rerun", run, "-o", "again", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No difference: all 8 images have the same outcome" in done.stdout
    assert "The attacks differ" not in done.stdout
    assert "Both runs audited the same weights" in done.stdout
    again = tables(tmp_path / "again")
    assert again.attack.tolist() == before.attack.tolist()
    assert again.status.tolist() == before.status.tolist()
    # Also for a run that was itself repeated from another directory.
    assert inside("verify", str(tmp_path / "again"), cwd=project).returncode == 0


@pytest.mark.slow
def test_a_moved_run_and_a_moved_project_are_found(project, tmp_path):
    shutil.copytree(project / "runs" / "one", tmp_path / "moved")
    assert inside("verify", "moved", cwd=tmp_path).returncode == 0
    shutil.copytree(project, tmp_path / "copy")
    with Run.open(tmp_path / "copy" / "runs" / "one") as run:
        manifest = run.manifest
    gone = str(tmp_path / "gone")
    origin = sealed(manifest.origin.with_changes(directory=gone, run=f"{gone}/runs/one"))
    file = tmp_path / "copy" / "runs" / "one" / "run.json"
    file.write_text(json.dumps(manifest.with_changes(origin=origin).to_json()))
    done = inside("verify", "copy/runs/one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = inside("audit", "--resume", "copy/runs/one", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_recorded_paths_are_resolved(tmp_path):
    for name in ("old/m.keras", "new/m.keras", "new/only.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    old, new = str(tmp_path / "old"), tmp_path / "new"
    origin = Origin(directory=old, run=f"{old}/runs/r")
    folder = new / "runs" / "r"
    assert resolve_recorded("m.keras", origin, folder) == f"{old}/m.keras"
    assert resolve_recorded("only.png", origin, folder) == str(new / "only.png")
    assert resolve_recorded("only.png", origin) == "only.png"
    assert resolve_recorded("nowhere", origin, folder) == "nowhere"
    assert resolve_recorded("/dev/null", origin, folder) == "/dev/null"
    (tmp_path / "old" / "own.py").write_text("")
    options = resolve_options({"imports": ["own", "own.py", "keras"]}, origin, folder)
    assert options["imports"] == [f"{old}/own.py", f"{old}/own.py", "keras"]
    # Older versions recorded no directory.
    assert resolve_recorded("m.keras", Origin(), folder) == "m.keras"
    with pytest.raises(RunError, match=r"origin\.directory is 3; expected a string"):
        manifest_of(b'{"schema": 1, "origin": {"directory": 3}}', "run.json")


def test_recorded_ranges_and_joined_paths_are_resolved(tmp_path):
    for name in ("a-0.tar", "a-1.tar", "b.tar"):
        (tmp_path / name).touch()
    origin = Origin(directory=str(tmp_path))
    assert resolve_recorded("a-{0..1}.tar", origin) == str(tmp_path / "a-{0..1}.tar")
    assert resolve_recorded("a-*.tar::b.tar::s3://x/c.tar", origin) == (
        f"{tmp_path}/a-*.tar::{tmp_path}/b.tar::s3://x/c.tar"
    )
    assert resolve_recorded("c-{0..1}.tar", origin) == "c-{0..1}.tar"


def test_names_are_not_treated_as_paths(tmp_path):
    for name in ("dogs-vs-cats", "pets", "pets:4"):
        (tmp_path / name).mkdir()
    origin = Origin(directory=str(tmp_path), run=str(tmp_path / "run"))
    for images in ("pets", "pets:4", "kaggle-competition:dogs"):
        options = {"model": "dogs-vs-cats", "images": images, "mask": None, "attack": ["pgd"]}
        assert resolve_options(options, origin) == options


# Interrupted.


def interrupting(monkeypatch, where: str) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if where == "loading":
        monkeypatch.setattr(setup, "resolve", interrupt)
    elif where == "making":
        monkeypatch.setattr(setup, "describe", interrupt)
    else:
        monkeypatch.setattr(Auditor, "_attack", interrupt)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["loading", "making", "attacking"])
def test_ctrl_c_suggests_only_possible_commands(project, monkeypatch, where):
    out = f"runs/interrupted-{where}"
    with monkeypatch.context() as patched:
        interrupting(patched, where)
        done = inside(*WORDS, "-o", out, cwd=project)
    assert done.returncode == 130
    if where == "attacking":
        assert f"robustness audit --resume {out}" in done.stderr
        done = inside("audit", "--resume", out, "-q", cwd=project)
    else:
        assert "--resume" not in done.stderr
        assert "before the run was created" in done.stderr
        assert not (project / out).exists()
        done = inside(*WORDS, "-o", out, cwd=project)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_occupied_folder_is_refused_before_the_model_is_loaded(project, monkeypatch):
    interrupting(monkeypatch, "loading")
    done = inside(*WORDS, "-o", "runs/one", cwd=project)
    assert done.returncode == 2
    assert "robustness audit --resume runs/one" in done.stderr


@pytest.mark.slow
def test_repairs_are_reported(project):
    shutil.copytree(project / "runs" / "one", project / "runs" / "hurt")
    next((project / "runs" / "hurt" / "images").rglob("*.png")).write_bytes(b"")
    done = inside("audit", "--resume", "runs/hurt", "-q", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "made again: 1 " in done.stderr


@pytest.mark.slow
def test_a_full_disk_is_reported_with_the_command_to_resume(project, monkeypatch):
    from robustness.runs import store

    replace = store.replace_within

    def full(folder: Path, name: str, data: bytes) -> None:
        if name.endswith(".png"):
            raise OSError(28, "No space left on device", str(folder / name))
        replace(folder, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(store, "replace_within", full)
        done = inside(*WORDS, "-o", "runs/full", cwd=project)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "no space is left" in done.stderr
    assert "robustness audit --resume runs/full" in done.stderr
    assert inside("audit", "--resume", "runs/full", "-q", cwd=project).returncode == 0
    expected = tables(project / "runs" / "one")
    assert tables(project / "runs" / "full").equals(expected)


def test_a_second_audit_is_refused_before_the_model_is_loaded(project, monkeypatch):
    interrupting(monkeypatch, "loading")
    with Run.resume(project / "runs" / "one"):
        for words in (("audit", "--resume", "runs/one", "-q"), (*WORDS, "-o", "runs/one")):
            done = inside(*words, cwd=project)
            assert done.returncode == 2
            assert "another audit is writing to it" in done.stderr
        # Readers are not affected.
        assert inside("report", "runs/one", "--kind", "json", cwd=project).returncode == 0


@pytest.mark.slow
def test_a_run_of_an_older_version_resumes_and_verifies(project, tmp_path):
    shutil.copytree(project / "runs" / "one", project / "runs" / "old")
    file = project / "runs" / "old" / "run.json"
    manifest = json.loads(file.read_text())
    for card in (manifest["model"], manifest["surrogate"]):
        del card["identity"]
    for name in ("directory", "run"):
        del manifest["origin"][name]
    file.write_text(json.dumps(manifest))
    # It has no valid seal and counts as untrusted: what it loads must be typed.
    done = inside("audit", "--resume", "runs/old", "-q", cwd=project)
    assert done.returncode == 2
    options = manifest["origin"]["options"]
    roles = [role for role in ROLES if options[role]]
    assert all(ROLES[role] in done.stderr for role in roles)
    typed = [word for role in roles for word in (ROLES[role], options[role])]
    done = inside("audit", "--resume", "runs/old", "-q", *typed, cwd=project)
    assert done.returncode == 2 and "--attack" in done.stderr
    typed += [word for attack in options["attack"] for word in ("--attack", attack)]
    assert inside("audit", "--resume", "runs/old", "-q", *typed, cwd=project).returncode == 0
    assert inside("verify", "runs/old", "-m", options["model"], cwd=project).returncode == 0


@pytest.mark.slow
def test_a_perturbation_fitted_on_another_model_is_reported(project):
    words = ("fit", "runs/fitted.npz", "-m", "models/other.keras", "-i", "data", "--steps", "2")
    assert inside(*words, cwd=project).returncode == 0
    attack = ("-a", "universal:file=runs/fitted.npz", "-e", "8", "-i", "data", "-q")
    done = inside("audit", "-m", "models/other.keras", *attack, "-o", "runs/same", cwd=project)
    assert "fitted on another model" not in done.stdout, done.stdout
    model = ("-m", "models/model.keras", "--scaling", "0..1")
    done = inside("audit", *model, *attack, "-o", "runs/cross", cwd=project)
    assert "universal(steps=1, file=fitted.npz) was fitted on another model" in done.stdout or (
        "universal(file=fitted.npz) was fitted on another model" in done.stdout
    ), done.stdout
    assert "model weights" in done.stdout
