"""Tests of the configuration: audit.toml, command line, Python, and errors that name the option."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

import robustness
from robustness.attacks import BIM
from robustness.cli import app, audit
from robustness.configuration import AuditConfig, audit_config, choices
from robustness.configuration.audit_config import audit_options
from robustness.configuration.audit_file import config_of, expect_trust_given, read_audit_file
from robustness.configuration.option import Option, option_fields
from robustness.configuration.recorded import from_recorded, recorded
from robustness.configuration.schema import json_schema
from robustness.configuration.template import init_text
from robustness.errors import SettingError

ROOT = Path(__file__).parents[3]

FULL = """
[model]
path = "model.keras"
architecture = "keras.applications:MobileNetV2"
classes = ["cat", "dog"]
scaling = "0..1"
head = "sigmoid-argmax"
output = 1
input_size = [28, 28, 1]
image_input = "image"
constants = { age = 0.5, site = 2 }
imports = ["my_layers"]
trust_model = true
accuracy = 0.9
[images]
path = "data.npz"
limit = 30
per_class = 10
label_column = "ClassId"
held_out = true
[pipeline]
name = "keras.load_img"
preprocess = "own.py:prepare"
at = "full"
upload = "jpeg:90"
max_side = 512
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
evidence_to = "s3://bucket/runs"
cache_bytes = 5_000
shard = "1/4"
reports = ["html"]
[cluster]
address = "local:2"
[[gate.rules]]
threshold = 0.3
"""


EXPECTED = {
    "model": "model.keras", "architecture": "keras.applications:MobileNetV2",
    "classes": ("cat", "dog"), "scaling": "0..1", "trust_model": True,
    "head": "sigmoid-argmax", "output": "1", "input_size": "28x28x1", "image_input": "image",
    "constants": ("age=0.5", "site=2"), "imports": ("my_layers",),
    "accuracy": 0.9, "images": "data.npz", "label_column": "ClassId",
    "limit": 30, "per_class": 10, "held_out": True,
    "pipeline": "keras.load_img", "preprocess": "own.py:prepare", "at": "full",
    "upload": "jpeg:90", "max_side": 512,
    "norm": "l2", "epsilons": (100.0, 4.0, 2.5), "target": "dog", "mask": "mask.png",
    "surrogate": "dogs-vs-cats", "seed": 3, "precision": "bfloat16", "all_steps": True,
    "cascade": True, "thorough": True, "evidence": "5", "batch_size": 16,
    "shard": "1/4", "cluster": "local:2", "evidence_to": "s3://bucket/runs", "cache_bytes": 5000,
    "reports": ("html",),
    "attacks": ("pgd:steps=20,random_start=false,step_size=auto", "bim"),
}  # fmt: skip


def written(folder: Path, text: str) -> Path:
    path = folder / "audit.toml"
    path.write_text(text)
    return path


def test_own_layers_are_looked_for_beside_the_file(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "my_layers.py").write_text("")
    (tmp_path / "keras").mkdir()
    text = '[model]\nimports = ["my_layers", "my_layers.py", "keras", "elsewhere.py"]\n'
    beside = str(tmp_path / "my_layers.py")
    found = load(written(tmp_path, text)).imports
    # A folder is no file of code, and a module that is not there may be installed.
    assert found == (beside, beside, "keras", "elsewhere.py")


def load(path: Path) -> AuditConfig:
    return read_audit_file(path)


def test_every_option_is_read(tmp_path):
    config = load(written(tmp_path, FULL))
    assert config.gate is not None and config.gate["rules"][0]["threshold"] == 0.3
    given = config.given()
    del given["gate"]
    assert given == EXPECTED


def test_every_field_is_an_option_with_a_key_and_a_help_text():
    """Only the parameters for all attacks have no key: a file sets them for each attack."""
    fields = audit_options()
    assert set(AuditConfig.model_fields) == {*fields, "gate"}
    assert {name for name, f in fields.items() if not f.place} == set(audit_config.FOR_ALL)
    assert set(EXPECTED) | set(audit_config.FOR_ALL) == set(fields)
    for field in fields.values():
        assert field.option.help.endswith("."), field.name


def test_every_interface_has_every_option():
    fields = audit_options()
    line = set(inspect.signature(audit.audit).parameters)
    plain = {"model_first", "images_second"}
    assert line - plain - {"context", "config", "out", "resume", "as_json", "quiet"} == {
        f.argument for f in fields.values()
    }
    python = inspect.signature(robustness.audit).parameters
    assert set(fields) <= set(python) and "gate" in python
    for name in set(fields) - {"model", "images"}:
        assert python[name].default == fields[name].default
        assert fields[name].option.help in str(robustness.audit.__doc__)
    assert "{options}" not in str(robustness.audit.__doc__)


def test_a_new_option_needs_only_one_field(monkeypatch, tmp_path):
    """Command line, file, record, template and schema are derived from the fields."""

    class More(AuditConfig):
        patience: Annotated[int, Option("Wait so long.", table="run")] = 3

    field = option_fields(More)["patience"]
    assert (field.flag, field.place, field.kind) == ("--patience", "run.patience", int)
    code = (
        "import sys\n"
        "from typing import Annotated\n"
        "from pydantic import Field\n"
        "from robustness.configuration import audit_config as a\n"
        "from robustness.configuration.option import Option\n"
        "class AuditConfig(a.AuditConfig):\n"
        "    patience: Annotated[int, Field(ge=1), Option('Wait so long.', table='run')] = 3\n"
        "a.AuditConfig = AuditConfig\n"
        "from robustness.cli import app, audit\n"
        "from robustness.configuration import audit_file, recorded, reference_page, schema, template\n"
        "assert '#patience = 3' in template.init_text()\n"
        "assert 'run.patience' in reference_page.reference_page()\n"
        "assert schema.json_schema()['properties']['run']['properties']['patience']['minimum'] == 1\n"
        "open('p.toml', 'w').write('[run]\\npatience = 7')\n"
        "def perform(config, *_, **__): print('patience', config.patience); sys.exit(0)\n"
        "audit.perform = perform\n"
        "try: app(['audit', '-c', 'p.toml'])\n"
        "except SystemExit: pass\n"
        "try: app(['audit', '-c', 'p.toml', '--patience', '9'])\n"
        "except SystemExit: pass\n"
        "assert recorded.recorded(AuditConfig(patience=5))['patience'] == 5\n"
        "from robustness.errors import SettingError\n"
        "try: app(['audit', '--patience', '0'], standalone_mode=False)\n"
        "except SettingError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "patience 7",
        "patience 9",
        "--patience is 0; expected a whole number of at least 1.",
    ]


def test_the_command_line_overrides_the_file(tmp_path):
    config = load(written(tmp_path, FULL))
    merged = config.overridden_by({"seed": 9, "steps": 7})
    assert (merged.seed, merged.norm) == (9, "l2")
    # --steps applies to all attacks and overrides those of the file.
    assert merged.attacks == ("pgd:random_start=false,step_size=auto", "bim")
    assert merged.attack_choices()[1] == ("bim", {"steps": 7})
    assert config.overridden_by({"attacks": ["fgsm"]}).attacks == ("fgsm",)
    # Parameters typed with an attack override those for all attacks.
    typed = AuditConfig(attacks=["pgd:steps=5"], steps=9, restarts=2)
    assert typed.attack_choices() == [("pgd", {"steps": "5", "restarts": 2})]


def performed(monkeypatch, *words: str) -> AuditConfig:
    """The options that result from a command line."""
    configs = []

    def perform(config, *_, **__):
        configs.append(config)
        raise SettingError("performed")

    monkeypatch.setattr(audit, "perform", perform)
    done = CliRunner().invoke(app, ["audit", *words])
    assert str(done.exception) == "performed", done.exception
    return configs[0]


def test_command_line_words_set_the_expected_options(monkeypatch, tmp_path):
    file = written(tmp_path, FULL.replace("trust_model = true", ""))
    to = ("--evidence-to", "gs://other/place")
    config = performed(
        monkeypatch,
        *("-c", str(file), "--classes", "a,b", "-e", "1,4/255", "--evidence", "7", "--trust-model"),
        *to,
        *("--no-cascade", "--report", "json", "--report", "pdf", "--accuracy", "0.5"),
    )
    assert (config.classes, config.epsilons, config.evidence) == (("a", "b"), (1.0, 4.0), "7")
    assert (config.trust_model, config.cascade, config.reports) == (True, False, ("json", "pdf"))
    assert (config.accuracy, config.seed, config.evidence_to) == (0.5, 3, to[1])
    assert performed(monkeypatch) == AuditConfig()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "0"], "--limit is 0; expected a whole number of at least 1."),
        (["--accuracy", "3"], "--accuracy is 3.0; expected a number from 0 to 1."),
        (["--norm", "linv"], "--norm is 'linv'; expected one of 'linf', .* Did you mean linf?"),
        (
            ["--evidence", "some"],
            "--evidence is 'some'; expected 'all', 'flips', 'none', or a number",
        ),
        (["--attack", "bimm"], "Unknown attack 'bimm'. Did you mean bim? .* lists the .*"),
    ],
)
def test_errors_name_the_option_of_the_command_line(words, message):
    done = CliRunner().invoke(app, ["audit", *words])
    assert isinstance(done.exception, SettingError)
    assert re.match(message.replace("?", r"\?"), str(done.exception)), done.exception


def test_trust_in_a_file_alone_is_not_enough(tmp_path):
    file = written(tmp_path, FULL)
    with pytest.raises(
        SettingError, match=r"model\.trust_model is true, but only the command line"
    ):
        expect_trust_given(load(file), file, {})
    with pytest.raises(SettingError, match="in Python: trust_model=True"):
        config_of(file, {"limit": 3})
    with pytest.raises(SettingError, match="Type --evidence-to"):
        config_of(file, {"trust_model": True})
    assert config_of(file, {"trust_model": True, "evidence_to": "s3://b/e"}).trust_model
    done = CliRunner().invoke(app, ["audit", "--config", str(file)])
    assert "Type --trust-model" in str(done.exception)


def test_python_accepts_a_configuration_in_every_form(tmp_path):
    expected = AuditConfig(seed=3, limit=5)
    file = written(tmp_path, "[run]\nseed = 3\n[images]\nlimit = 9")
    for form in (AuditConfig(seed=3), {"seed": 3}, file, str(file)):
        assert config_of(form, {"limit": 5}) == expected
    assert config_of(None, {"seed": 3, "limit": 5}) == expected
    with pytest.raises(SettingError, match="config is a int; expected an AuditConfig, the path"):
        config_of(3, {})  # type: ignore[arg-type]


def test_python_accepts_numpy_numbers_and_single_members():
    config = AuditConfig(limit=np.int64(3), target=np.int32(1), accuracy=np.float32(0.5))
    assert (config.limit, config.target, config.accuracy) == (3, 1, 0.5)
    assert type(config.limit) is int
    assert AuditConfig(attacks="pgd", reports="json").attacks == ("pgd",)
    attack = BIM()
    assert AuditConfig(attacks=[attack, {"name": "pgd", "steps": 3}]).attacks == (
        attack,
        "pgd:steps=3",
    )
    assert AuditConfig(attacks=iter(["fgsm"])).attacks == ("fgsm",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lmit": 3}, "Unknown option 'lmit'. Did you mean limit?"),
        ({"limit": True}, "limit is True; expected a whole number of at least 1."),
        (
            {"seed": 1 << 63},
            "seed is 9223372036854775808; expected a whole number of at most 63 bits.",
        ),
        ({"cascade": 1}, "cascade is 1; expected true or false."),
        ({"precision": "half"}, "precision is 'half'; expected one of 'float32', 'bfloat16'."),
        ({"epsilons": [0.03]}, "Epsilon 0.03 is below 1 count"),
        (
            {"attacks": ["pgd:steps"]},
            "'steps' in 'pgd:steps' is not a parameter; expected name=value.",
        ),
        (
            {"attacks": [{"steps": 3}]},
            r"attacks\[0\].name is missing; expected the name of an attack.",
        ),
    ],
)
def test_errors_name_the_option_of_python(options, message):
    with pytest.raises(SettingError) as caught:
        AuditConfig(**options)
    assert re.match(message.replace("?", r"\?"), str(caught.value)), caught.value
    with pytest.raises(SettingError):
        AuditConfig().overridden_by(options)


def test_an_object_keeps_its_own_parameters():
    with pytest.raises(SettingError, match="steps cannot be set for the attack object"):
        AuditConfig(attacks=[BIM()], steps=3).attack_choices()


def test_a_configuration_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        AuditConfig().limit = 3


def test_a_record_restores_the_same_options(tmp_path):
    config = load(written(tmp_path, FULL)).overridden_by({"steps": 7})
    plain = json.loads(json.dumps(recorded(config)))
    assert plain["epsilon"] == "100,4,2.5" and plain["classes"] == "cat,dog"
    again = from_recorded(plain | {"of another version": 1})
    assert json.dumps(recorded(again)) == json.dumps(plain)
    with pytest.raises(SettingError, match="--limit is 'x'"):
        from_recorded(plain | {"limit": "x"})
    for names in (["a, b", "c"], ["[x]", "c"], ["cat"], [" a", "b"]):
        plain = recorded(AuditConfig(classes=names))
        assert from_recorded(plain).classes == tuple(names)


def test_a_record_names_no_file_to_read(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog")
    (tmp_path / "stats.json").write_text('{"mean": 120, "std": 60}')
    config = AuditConfig(classes=str(tmp_path / "names.txt"), scaling=str(tmp_path / "stats.json"))
    plain = recorded(config)
    assert plain["classes"] == "cat,dog" and plain["scaling"] == "mean=120,std=60,of=0..255"
    assert from_recorded(plain).classes == ("cat", "dog")
    # A run that was received cannot make the reader open its author's choice of files.
    received = from_recorded({"classes": str(tmp_path / "names.txt")})
    assert received.classes == (str(tmp_path / "names.txt"),)
    for text in (str(tmp_path / "stats.json"), f"file={tmp_path / 'stats.json'}"):
        with pytest.raises(SettingError, match=r"is not known|names a file"):
            from_recorded({"scaling": text})


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "model.keras").write_bytes(b"")
    config = load(written(tmp_path / "deep", '[model]\npath="model.keras"\n[images]\npath="pets"'))
    assert config.given() == {"model": str(tmp_path / "deep" / "model.keras"), "images": "pets"}


def test_schema_and_reader_accept_the_same(tmp_path):
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    check.validate(tomllib.loads(init_text()))
    check.validate(tomllib.loads(FULL))
    for text in (
        "[model]\npth = 'x'",
        "[images]\nlimit = 0",
        "[threat]\nnorm = 'linv'",
        "[run]\nevidence = 'some'",
        "[[attacks]]\nsteps = 3",
        "[model]\naccuracy = 91",
        "seed = 3",
    ):
        assert not check.is_valid(tomllib.loads(text)), text
        with pytest.raises(SettingError):
            load(written(tmp_path, text))
    done = CliRunner().invoke(app, ["init", "--schema"])
    assert json.loads(done.output) == schema


def test_the_reference_page_is_up_to_date():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json, runpy, sys\n"
            "pages = runpy.run_path(sys.argv[1])['pages']()\n"
            "print(json.dumps(pages))",
            str(ROOT / "scripts" / "write_configuration_docs.py"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    for name, text in json.loads(done.stdout).items():
        assert (ROOT / "docs" / name).read_text() == text, (
            f"run scripts/write_configuration_docs.py: {name}"
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 3", r"unknown key seed\. Expected attacks, cluster, gate, images"),
        (
            "[model]\nmodel = 'x'",
            r"unknown key model\.model\. The option 'model' is model\.path in audit",
        ),
        (
            "[model]\nnorm = 'l2'",
            r"unknown key model\.norm\. The option 'norm' is threat\.norm in audit",
        ),
        ("[model]\npth = 'x'", r"unknown key model.pth.* Did you mean path\?"),
        ("[model]\npath = 3", "model.path is 3; expected a text"),
        ("[model]\ntrust_model = 'yes'", "model.trust_model is 'yes'; expected true or false"),
        ("[model]\naccuracy = 91", "model.accuracy is 91; expected a number from 0 to 1"),
        ("[model]\nclasses = [1, 2]", r"model.classes is \[1, 2\]; expected names"),
        ("[images]\nlimit = 0", "images.limit is 0; expected a whole number of at least 1"),
        ("[images]\nlimit = 2.5", "images.limit is 2.5"),
        ("[threat]\nnorm = 'linv'", r"threat.norm is 'linv'; .*Did you mean linf\?"),
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
        ("[model", "is not valid TOML"),
    ],
)
def test_errors_name_the_key_of_the_file(tmp_path, text, message):
    with pytest.raises(SettingError, match=message):
        load(written(tmp_path, text))


def test_evidence_accepts_the_values_of_audit(tmp_path):
    for word in choices.EVIDENCE:
        assert load(written(tmp_path, f"[run]\nevidence = '{word}'")).evidence == word


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SettingError, match="robustness init"):
        load(tmp_path / "nowhere.toml")


def test_the_template_is_valid_as_is_and_uncommented(tmp_path):
    plain = load(written(tmp_path, init_text()))
    assert plain.given() == {
        "model": "dogs-vs-cats", "images": "pets", "norm": "linf", "epsilons": (1.0, 2.0, 4.0),
        "seed": 0, "attacks": (choices.ATTACK,),
    }  # fmt: skip
    # An ensemble has no parameters: those shown belong to an attack that can replace it.
    named = init_text().replace(f'name = "{choices.ATTACK}"', "#")
    everything = re.sub(r"(?m)^#(?=\[|\w+ = )", "", named)
    keys = tomllib.loads(everything)
    assert len(keys["gate"]["rules"][0]) == 8
    # A rule takes the attack or the class by its scope, and the baseline needs its file.
    fitting = everything.replace('class = "cat"', '#class = "cat"').replace('attack = "pgd"', "#")
    with pytest.raises(SettingError, match=r"gate.baseline.run is .*expected a run folder"):
        load(written(tmp_path, fitting))
    without = re.sub(r"(?s)\[gate.baseline\].*?(?=\[\[gate.suppress)", "", fitting)
    full = load(written(tmp_path, without))
    assert full.gate is not None and full.gate["rules"][0]["name"] == "floor"
    # Every option is shown; with its default where there is no example.
    fields = audit_options()
    assert set(full.given()) - {"gate"} == set(fields) - set(audit_config.FOR_ALL)
    for name, field in fields.items():
        if field.place and not field.optional and not field.option.example and name != "attacks":
            assert getattr(full, name) == field.default, name


def test_the_usual_suffixes_of_model_files_are_named_where_a_model_is_expected():
    usual = (".keras", ".h5", ".hdf5")

    readme = (ROOT / "README.md").read_text()
    texts = {
        "help": audit_options()["model"].option.help,
        "audit": "".join(
            re.findall(r"^ +model : .*", robustness.audit.__doc__ or "", re.MULTILINE)
        ),
        "README": "".join(re.findall(r"^\| `--model` .*", readme, re.MULTILINE)),
    }
    for place, text in texts.items():
        missing = [s for s in usual if not re.search(rf"{re.escape(s)}\b", text)]
        assert not missing, (place, missing)


@pytest.mark.parametrize(("before", "now"), choices.FORMER.items())
def test_a_former_name_of_an_option_says_the_name_of_today(before, now):
    with pytest.raises(SettingError, match=f"^The option {before} is now called {now}; "):
        config_of(None, {before: True})


def test_a_former_key_of_the_file_says_the_key_of_today(tmp_path):
    with pytest.raises(SettingError, match=r"model\.trust is now called model\.trust_model"):
        load(written(tmp_path, "[model]\ntrust = true\n"))


def test_an_option_has_one_name_in_python_the_file_and_on_the_command_line():
    """Except for plurals, which are singular on the command line, and the main key of a table."""
    for name, field in audit_options().items():
        assert field.argument in (name, name.removesuffix("s"))
        assert field.key in (name, "path", "name", "address")


def test_a_file_of_an_editor_that_writes_a_byte_order_mark(tmp_path):
    file = tmp_path / "audit.toml"
    file.write_bytes("\ufeff[threat]\r\nepsilons = [3]\r\n".encode())
    assert read_audit_file(file).epsilons == (3.0,)
    file.write_bytes("[threat]\nepsilons = [3]\n".encode("utf-16"))
    with pytest.raises(SettingError, match=r"not in UTF-8\. Save it in that encoding"):
        read_audit_file(file)
