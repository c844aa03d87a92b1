"""audit.toml: every option can be set there, the command line wins, every error names its key."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from robustness.cli import audit
from robustness.cli.configuration import Configuration, load
from robustness.cli.init import TEMPLATE
from robustness.configuration import defaults
from robustness.errors import SettingError
from robustness.runs.plan import EVIDENCE

FULL = """
[model]
path = "model.keras"
classes = ["cat", "dog"]
scaling = "0..1"
trust = true
accuracy = 0.9
[images]
path = "data.npz"
limit = 30
per_class = 10
label_column = "ClassId"
held_out = true
[threat]
norm = "l2"
epsilons = [100, "4/255", 2.5]
target = "dog"
mask = "mask.png"
surrogate = "dogs-vs-cats"
[[attacks]]
name = "pgd"
steps = 20
random_start = false
step_size = "auto"
[[attacks]]
name = "bim"
[run]
seed = 3
precision = "bfloat16"
all_steps = true
cascade = true
thorough = true
evidence = 5
batch_size = 16
reports = ["html"]
[[gate.rules]]
threshold = 0.3
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "audit.toml"
    path.write_text(text)
    return path


def test_every_option_comes_through(tmp_path):
    found = load(written(tmp_path, FULL))
    assert found.options == {
        "model": "model.keras", "classes": "cat,dog", "scaling": "0..1", "trust_model": True,
        "accuracy": 0.9, "images": "data.npz", "label_column": "ClassId",
        "limit": 30, "per_class": 10, "held_out": True,
        "norm": "l2", "epsilon": "100,4/255,2.5", "target": "dog", "mask": "mask.png",
        "surrogate": "dogs-vs-cats", "seed": 3, "precision": "bfloat16", "all_steps": True,
        "cascade": True, "thorough": True, "evidence": "5", "batch_size": 16, "report": ["html"],
    }  # fmt: skip
    assert found.gate is not None and found.gate["rules"][0]["threshold"] == 0.3
    merged = found.merged({"attack": ["bim"], "seed": 0}, {})
    assert merged["attack"] == ["pgd:steps=20,random_start=false,step_size=auto", "bim"]
    assert merged["seed"] == 3


def test_nothing_of_the_command_line_is_left_out(tmp_path):
    """Every option of `robustness audit` that says what is run has a key."""
    known = set(load(written(tmp_path, FULL)).options) | {
        "attack",
        "steps",
        "step_size",
        "restarts",
    }
    shown = {"context", "config", "out", "resume", "as_json", "quiet"}
    assert set(inspect.signature(audit.audit).parameters) - shown == known


def test_python_takes_the_same():
    import robustness

    names = {
        "model": "model", "images": "images", "classes": "class_names", "scaling": "scaling",
        "trust_model": "trust", "accuracy": "declared_accuracy", "limit": "limit",
        "label_column": "label_column",
        "per_class": "per_class", "held_out": "only", "norm": "norm", "epsilon": "epsilons",
        "target": "target", "mask": "mask", "surrogate": "surrogate",
        "seed": "seed", "precision": "precision", "all_steps": "all_steps", "thorough": "thorough",
        "cascade": "cascade", "evidence": "evidence", "batch_size": "batch_size", "attack": "attacks",
    }  # fmt: skip
    taken = inspect.signature(robustness.audit).parameters
    assert set(names.values()) <= set(taken)
    assert "gate" in taken


def test_the_command_line_wins(tmp_path):
    found = load(written(tmp_path, FULL))
    merged = found.merged({"seed": 0, "norm": "linf"}, {"seed": 9, "steps": 7})
    assert (merged["seed"], merged["norm"]) == (9, "l2")
    # --steps is for all attacks: those of the file no longer say theirs.
    assert merged["attack"] == ["pgd:random_start=false,step_size=auto", "bim"]
    assert found.merged({}, {"attack": ["fgsm"]})["attack"] == ["fgsm"]


def test_paths_are_looked_for_beside_the_file(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "model.keras").write_bytes(b"")
    found = load(written(tmp_path / "deep", '[model]\npath="model.keras"\n[images]\npath="pets"'))
    assert found.options == {"model": str(tmp_path / "deep" / "model.keras"), "images": "pets"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = 3", r"unknown key seed; the file knows attacks, gate, images"),
        ("[model]\npth = 'x'", r"unknown key model.pth.* Did you mean path\?"),
        ("[model]\npath = 3", "model.path is 3; expected a text"),
        ("[model]\ntrust = 'yes'", "model.trust is 'yes'; expected true or false"),
        ("[model]\naccuracy = 91", "model.accuracy is 91; expected a number from 0 to 1"),
        ("[model]\nclasses = [1, 2]", r"model.classes is \[1, 2\]; expected names"),
        ("[images]\nlimit = 0", "images.limit is 0; expected a whole number of at least 1"),
        ("[images]\nlimit = 2.5", "images.limit is 2.5"),
        ("[threat]\nnorm = 'linv'", r"threat.norm is 'linv'; .*did you mean 'linf'"),
        ("[threat]\nepsilons = [0.03]", r"threat.epsilons is \[0.03\]; .*below 1 count"),
        ("[run]\nevidence = 'some'", "run.evidence is 'some'; .*'all', 'flips', 'none'"),
        ("[run]\nseed = true", "run.seed is True"),
        ("[run]\nreports = ['pfd']", "Unknown kind of report 'pfd'"),
        ("[[attacks]]\nsteps = 3", r"attacks\[0\].name is missing"),
        ("[[attacks]]\nname = 'pdg'", r"attacks\[0\].name is 'pdg'; .*Did you mean pgd\?"),
        ("[[attacks]]\nname = 'pgd'\nsteps = [1]", r"attacks\[0\].steps is \[1\]"),
        (
            "[attacks]\nname = 'pgd'",
            r"attacks is .*expected tables, each begun with \[\[attacks\]\]",
        ),
        ("model = 3", r"model is 3; expected a table, \[model\]"),
        ("[model", "is not TOML"),
    ],
)
def test_errors_name_the_key(tmp_path, text, said):
    with pytest.raises(SettingError, match=said):
        load(written(tmp_path, text))


def test_evidence_takes_every_word_an_audit_takes(tmp_path):
    for word in EVIDENCE:
        found = load(written(tmp_path, f"[run]\nevidence = '{word}'"))
        assert found.options["evidence"] == word


def test_a_missing_file(tmp_path):
    with pytest.raises(SettingError, match="robustness init"):
        load(tmp_path / "nowhere.toml")


def test_the_template_is_right_as_it_is_and_with_everything_uncommented(tmp_path):
    plain = load(written(tmp_path, TEMPLATE))
    assert plain.options == {
        "model": "dogs-vs-cats", "images": "pets", "norm": "linf", "epsilon": "1,2,4", "seed": 0,
    }  # fmt: skip
    assert plain.attacks == ((defaults.ATTACK, {}),)
    assert plain.gate is None
    # An ensemble has no parameters: those shown are of the attack that may stand in its place.
    named = TEMPLATE.replace(f'name = "{defaults.ATTACK}"', "#")
    everything = re.sub(r"(?m)^#(?=\[|\w+ = )", "", named)
    keys = tomllib.loads(everything)
    assert len(keys["gate"]["rules"][0]) == 8
    # A rule takes the attack or the class by its scope, and the baseline needs its file.
    fitting = everything.replace('class = "cat"', '#class = "cat"').replace('attack = "pgd"', "#")
    with pytest.raises(SettingError, match=r"gate.baseline.run is .*expected a run folder"):
        load(written(tmp_path, fitting))
    without = re.sub(r"(?s)\[gate.baseline\].*?(?=\[\[gate.suppress)", "", fitting)
    full = load(written(tmp_path, without))
    assert isinstance(full, Configuration)
    assert full.gate is not None and full.gate["rules"][0]["name"] == "floor"
    given = {
        name: parameter.default
        for name, parameter in inspect.signature(audit.audit).parameters.items()
    }
    for name in ("held_out", "all_steps", "thorough", "evidence", "trust_model"):
        assert full.options[name] == given[name], name
