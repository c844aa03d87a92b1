"""Tests of received (untrusted) runs: nothing that they name is loaded unasked, and no code runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from robustness.cli import recorded_files
from robustness.errors import SettingError
from robustness.images.png import to_png
from robustness.runs import seal
from robustness.runs.schema import Options, Origin
from robustness.runs.store import Run
from tests.robustness.cli.test_commands import inside
from tests.robustness.helpers import small_cnn

COMMANDS = (("verify",), ("rerun", "-q", "-o", "again"), ("audit", "-q", "--resume"))
MARK = "it-ran"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a model, a copy of it that runs code, another model, pictures, a mask; their runs."""
    folder = tmp_path_factory.mktemp("home")
    classifier = small_cnn(9)
    classifier.model.save(folder / "model.keras")
    start = [keras.layers.Input((12, 12, 3)), keras.layers.Rescaling(1 / 255)]
    keras.Sequential([*start, *small_cnn(10).model.layers]).save(folder / "other.keras")
    mark = str(folder / MARK)
    code = f"lambda x: (__import__('pathlib').Path({mark!r}).write_text('x'), x)[1]"
    layers = classifier.model.layers
    first = keras.layers.Lambda(eval(code), output_shape=(12, 12, 3))
    evil = keras.Sequential([keras.layers.Input((12, 12, 3)), first, *layers])
    evil.save(folder / "evil.keras")
    (folder / MARK).unlink(missing_ok=True)
    images = np.random.default_rng(4).integers(0, 256, (8, 12, 12, 3)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    np.savez(folder / "data.npz", images=images, labels=labels, class_names=["x", "y", "z"])
    (folder / "mask.png").write_bytes(to_png(np.full((12, 12, 1), 255, np.uint8)))
    words = ("audit", "-i", "data.npz", "--scaling", "0..1", "-a", "bim:steps=2", "-e", "8", "-q")
    own = (*words, "-m", "model.keras", "--surrogate", "other.keras", "--mask", "mask.png")
    assert inside(*own, "-o", "run", cwd=folder).returncode in (0, 4)
    trusted = (*words, "-m", "evil.keras", "--trust-model", "-o", "trusted")
    done = inside(*trusted, cwd=folder)
    assert done.returncode in (0, 4), done.stderr
    assert (folder / MARK).exists()
    return folder


@pytest.fixture
def place(home, tmp_path) -> Path:
    """A copy of that folder, without the file that the model's code writes."""
    (home / MARK).unlink(missing_ok=True)
    return shutil.copytree(home, tmp_path / "home")


@pytest.fixture
def other_user(monkeypatch, tmp_path) -> None:
    """Act as another user than the one who made the runs."""
    monkeypatch.setenv("ROBUSTNESS_STATE", str(tmp_path / "state-of-another"))


def edit(run: Path, **options: object) -> None:
    """Edit the recorded command line options of a run."""
    file = run / "run.json"
    manifest = json.loads(file.read_text())
    manifest["origin"]["options"] |= options
    file.write_text(json.dumps(manifest))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_an_own_run_resumes_with_its_options(place, command):
    done = inside(*command, "run", cwd=place)
    assert done.returncode in (0, 4), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_of_a_received_run_nothing_is_loaded_unasked(place, other_user, command, monkeypatch):
    from robustness.models import loading

    def loaded(*_: object) -> None:
        raise AssertionError("a model was looked at")

    monkeypatch.setattr(loading, "scan", loaded)
    done = inside(*command, "run", cwd=place)
    assert done.returncode == 2
    assert "would load the model 'model.keras'" in done.stderr and "--model" in done.stderr
    assert done.stdout == ""
    if command != ("verify",):
        for role in ("images", "surrogate", "mask"):
            assert f"the {role} " in done.stderr and f"--{role}" in done.stderr
    assert not (place / "again").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_typed_files_are_loaded(place, other_user, command):
    typed = ["--model", "model.keras"]
    if command != ("verify",):
        typed += ["--images", "data.npz", "--surrogate", "other.keras", "--mask", "mask.png"]
    done = inside(*command, "run", *typed, cwd=place)
    assert done.returncode in (0, 4), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("who", ["owner", "other_user"])
def test_trust_must_be_typed_in_the_same_command(home, place, request, who, command):
    if who == "other_user":
        request.getfixturevalue("other_user")
    typed = [] if command == ("verify",) else ["--images", "data.npz"]
    with Run.open(place / "trusted") as run:
        assert run.manifest.to_json()["origin"]["options"]["trust_model"] is True
    done = inside(*command, "trusted", "--model", "evil.keras", *typed, cwd=place)
    assert done.returncode == 2
    assert "--trust-model" in done.stderr
    assert not (home / MARK).exists()
    words = ("--model", "evil.keras", "--trust-model", *typed)
    shutil.rmtree(place / "again", ignore_errors=True)
    done = inside(*command, "trusted", *words, cwd=place)
    assert done.returncode in (0, 1, 4), done.stderr
    assert (home / MARK).exists()


@pytest.mark.slow
def test_an_own_trusted_run_asks_for_trust_again(place):
    done = inside("audit", "--resume", "trusted", "-q", cwd=place)
    assert done.returncode == 2 and "--trust-model" in done.stderr
    with Run.open(place / "trusted") as run:
        options = run.manifest.to_json()["origin"]["options"]
    assert "--trust-model" in recorded_files.again(place / "trusted", options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("model", "/etc/hostname"),
        ("model", "../model.keras"),
        ("model", "kaggle:owner/notebook"),
        ("model", "kaggle-model:owner/model/keras/v/1"),
        ("images", "/etc"),
        ("images", "kaggle-competition:dogs"),
        ("images", "pets/../.."),
        ("surrogate", "kaggle:owner/notebook"),
        ("surrogate", "/dev/zero"),
        ("mask", "/dev/stdin"),
        ("mask", "~/private.png"),
    ],
)
def test_everything_named_by_a_received_run_is_listed(place, role, name, other_user, monkeypatch):
    from robustness.model_zoo import registry

    def download(*_: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(registry, "fetch", download)
    edit(place / "run", model="dogs-vs-cats", images="pets", surrogate=None, mask=None)
    edit(place / "run", **{role: name})
    for command in COMMANDS[1:]:
        done = inside(*command, "run", cwd=place)
        assert done.returncode == 2, done.stderr
        assert f"the {role} {name!r}" in done.stderr
        if name.startswith("kaggle"):
            assert "a download" in done.stderr


@pytest.mark.parametrize(
    "attack",
    ["universal:file=/etc/passwd", "universal:file=x", "patch:file=data.npz", "bim:steps=../x"],
)
def test_attacks_of_a_received_run_read_no_file(place, other_user, attack):
    edit(place / "run", model="dogs-vs-cats", images="pets", surrogate=None, mask=None)
    edit(place / "run", attack=[attack])
    done = inside("rerun", "run", cwd=place)
    assert done.returncode == 2 and "--attack" in done.stderr


@pytest.mark.parametrize("attack", ["os:path", "os.path:join", "json", "subprocess:Popen", "x y"])
def test_attacks_of_a_run_must_be_installed(place, attack):
    file = place / "run" / "run.json"
    manifest = json.loads(file.read_text())
    manifest["origin"]["options"]["attack"] = [attack]
    bare = {key: value for key, value in manifest["origin"].items() if key != "seal"}
    manifest["origin"] = seal.sealed(Origin.model_validate(bare)).to_json()
    file.write_text(json.dumps(manifest))
    for command in COMMANDS[1:]:
        done = inside(*command, "run", cwd=place)
        assert done.returncode == 2 and "Unknown attack" in done.stderr


@pytest.mark.slow
def test_files_in_the_folder_of_the_run_may_be_loaded(place, other_user):
    run = place / "run"
    for name in ("model.keras", "other.keras", "data.npz", "mask.png"):
        shutil.move(place / name, run / name)
    for command in COMMANDS:
        done = inside(*command, "run", cwd=place)
        assert done.returncode in (0, 4), done.stderr


@pytest.mark.parametrize("what", ["file", "folder", "inside"])
def test_a_link_in_the_folder_of_the_run_is_not_followed(place, other_user, what):
    run = place / "run"
    shutil.copy(place / "model.keras", run / "model.keras")
    edit(run, surrogate=None, mask=None, images="pictures")
    private = place / "private" / "x"
    private.mkdir(parents=True)
    (private / "secret.png").write_bytes(to_png(np.zeros((12, 12, 3), np.uint8)))
    if what == "file":
        (run / "model.keras").unlink()
        (run / "model.keras").symlink_to(place / "model.keras")
    elif what == "folder":
        (run / "pictures").symlink_to(private.parent)
    else:
        (run / "pictures" / "x").mkdir(parents=True)
        (run / "pictures" / "x" / "a.png").symlink_to(private / "secret.png")
    done = inside("rerun", "run", cwd=place)
    assert done.returncode == 2 and "would load" in done.stderr


def test_a_configuration_cannot_set_trust(place):
    text = '[model]\npath = "evil.keras"\nscaling = "0..1"\ntrust_model = true\n[images]\npath = "data.npz"\n'
    (place / "audit.toml").write_text(text + '[[attacks]]\nname = "bim"\nsteps = 2\n')
    done = inside("audit", "--config", "audit.toml", "-q", "-o", "new", cwd=place)
    assert done.returncode == 2
    assert "Type --trust-model" in done.stderr and "audit.toml" in done.stderr
    assert not (place / "new").exists()


# The seal


def test_a_seal_covers_the_typed_options(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTNESS_STATE", str(tmp_path / "mine"))
    told = Origin(options=Options(model="m.keras", step_size=1), directory="/here")
    made = seal.sealed(told)
    assert seal.made_here(Origin.model_validate(json.loads(json.dumps(made.to_json()))))
    assert not seal.made_here(told)
    for other in (
        made.with_changes(options=Options(model="n.keras", step_size=1)),
        made.with_changes(options=Options(model="m.keras", step_size=1.0)),
        made.with_changes(directory="/there"),
        made.with_changes(more=1),
        made.with_changes(seal="0" * 64),
        made.with_changes(seal=None),
        made.with_changes(seal="é"),
    ):
        assert not seal.made_here(other)
    monkeypatch.setenv("ROBUSTNESS_STATE", str(tmp_path / "others"))
    assert not seal.made_here(made)
    assert not (tmp_path / "others").exists()
    seal.sealed(told)
    assert not seal.made_here(made)


def test_the_secret_is_private_to_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTNESS_STATE", str(tmp_path / "state"))
    made = seal.sealed(Origin(run="x"))
    secret = tmp_path / "state" / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert len(secret.read_bytes()) == 32
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["secret"]
    # A secret that others could read, or that was planted, is not used.
    secret.chmod(0o644)
    assert not seal.made_here(made)
    secret.chmod(0o600)
    assert seal.made_here(made)
    kept = tmp_path / "kept"
    secret.rename(kept)
    secret.symlink_to(kept)
    assert not seal.made_here(made)


def test_without_a_writable_state_folder_audits_run_unsealed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROBUSTNESS_STATE", str(tmp_path / "file" / "below"))
    assert "seal" not in seal.sealed(Origin(run="x")).to_json()
    assert not seal.made_here(Origin(run="x"))


@pytest.mark.slow
def test_audits_started_at_once_share_one_secret(tmp_path):
    code = (
        "import os, sys; os.environ['ROBUSTNESS_STATE'] = sys.argv[1]\n"
        "from robustness.runs.schema import Origin\n"
        "from robustness.runs.seal import sealed; print(sealed(Origin(run='x')).seal)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "state")]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert len({one.communicate()[0] for one in running}) == 1


def test_options_of_a_run_started_from_python(tmp_path):
    assert recorded_files.options_of(Origin(), tmp_path, {}, trust=False) == {}
    with pytest.raises(SettingError, match=r"the model 'm\.keras' and the images 'd'"):
        told = Origin(options=Options(model="m.keras", images="d"))
        recorded_files.options_of(told, tmp_path, {}, trust=False)


def test_code_that_a_received_run_names_is_not_imported(tmp_path, monkeypatch):
    """Trusting its model does not trust a module of its choice; one that is typed is taken."""
    monkeypatch.setenv("ROBUSTNESS_STATE", str(tmp_path / "mine"))
    told = Origin(options=Options(model="dogs-vs-cats", images="pets:2", imports=("evil",)))
    given = {"model": None, "imports": None}
    assert recorded_files.options_of(told, tmp_path, given, trust=True)["imports"] == []
    typed = given | {"imports": ["mine"]}
    assert recorded_files.options_of(told, tmp_path, typed, trust=True)["imports"] == ["mine"]
    own = seal.sealed(told)
    assert recorded_files.options_of(own, tmp_path, given, trust=True)["imports"] == ["evil"]
