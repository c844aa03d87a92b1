"""Tests of budgets: one default in every interface, steps that depend on epsilon, unreachable budgets."""

from __future__ import annotations

import csv
import inspect
import json
import re
import shutil
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from typer.testing import CliRunner

import robustness
from robustness.attacks import (
    BIM,
    DDN,
    EOT,
    FGSM,
    FMN,
    MIFGSM,
    NES,
    NIFGSM,
    PGD,
    SPSA,
    VMIFGSM,
    Bisection,
    CarliniWagner,
    Corruptions,
    FewPixel,
    HopSkipJump,
    Regression,
    SimBA,
    Square,
    UniformNoise,
)
from robustness.cli import app, audit
from robustness.configuration import choices
from robustness.configuration import epsilons as units
from robustness.configuration.template import init_text
from robustness.contract import ensembles
from robustness.engine import compiled_batch, jobs
from robustness.errors import RunError, SettingError
from robustness.models.classifier import Classifier
from robustness.reports import summarise
from robustness.reports.comparison.compare import compare
from robustness.reports.comparison.page import render_comparison
from robustness.reports.formats.markdown import markdown
from robustness.reports.formats.outcome_table import to_csv
from robustness.reports.gate.rules import Gate, Rule, Suppression
from robustness.reports.gate.verdict import decide, verdict_of
from robustness.reports.page.html import render
from robustness.runs.store import Run
from robustness.threat.goals import Targeted, Untargeted
from robustness.threat.mask import Mask
from robustness.threat.norms import KNOWN, NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import linear, subjects

SHAPE = (6, 6, 3)
SIZE = 6 * 6 * 3
COUNTS = st.integers(1, 255)


# --- one default -------------------------------------------------------------------------------


def asked_by(monkeypatch, *words: str) -> list[str]:
    """The attacks that a command line selects."""
    seen = []

    def perform(config, *_, **__):
        seen.append(list(config.attacks))
        raise SettingError("seen")

    monkeypatch.setattr(audit, "perform", perform)
    CliRunner().invoke(app, list(words))
    (found,) = seen
    return found


def test_every_interface_has_the_same_default(monkeypatch, tmp_path):
    (tmp_path / "bare.toml").write_text("[images]\npath = 'pets:4'\n")
    (tmp_path / "init.toml").write_text(init_text())
    interfaces = {
        "line": asked_by(monkeypatch, "audit"),
        "file": asked_by(monkeypatch, "audit", "--config", str(tmp_path / "bare.toml")),
        "init": asked_by(monkeypatch, "audit", "--config", str(tmp_path / "init.toml")),
        "python": list(inspect.signature(robustness.audit).parameters["attacks"].default),
        "written": [one["name"] for one in tomllib.loads(init_text())["attacks"]],
    }
    assert all(found == [choices.ATTACK] for found in interfaces.values()), interfaces
    python = inspect.signature(robustness.audit).parameters["epsilons"].default
    line = inspect.signature(audit.audit).parameters["epsilon"].default
    assert units.parse_epsilons(line) == units.parse_epsilons(python)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("goal", [Untargeted(), Targeted(1)], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_default_attacks_suit_every_threat(norm, goal, classes):
    names = [str(n) for n in range(classes)]
    found = ensembles.resolve([choices.ATTACK], NORMS[norm], goal, names).attacks
    assert found[0].knowledge == "white-box"
    for one in found:
        one.expect_norm(NORMS[norm])
    budgets = (1.0, 4.0, 16.0, 36.0)
    for epsilon in budgets:
        assert any(
            NORMS[norm].covers(a.farthest(NORMS[norm], epsilon, SHAPE), epsilon) for a in found
        )
    blind = ensembles.resolve([choices.ATTACK], NORMS[norm], goal, names, gradients=False).attacks
    if norm != "l1":  # where the toolkit has no attack that needs no gradient
        assert {a.knowledge for a in blind} <= {"score", "decision"}


def test_the_default_is_refused_without_a_norm():
    with pytest.raises(SettingError, match=r"spatial \(degrees\) or corruptions \(severity"):
        ensembles.resolve([choices.ATTACK], KNOWN["free"], Untargeted(), ["a", "b"])


def test_the_attack_of_the_article_has_a_name_and_steps_of_one_count():
    found = ensembles.resolve(["article"], NORMS["linf"], Untargeted(), ["cat", "dog"])
    assert found.attacks == (BIM(steps=4, step_size=1.0),)
    assert (found.cascade, found.replaced) == (False, ())


# --- steps depend on epsilon -------------------------------------------------------------------


@given(epsilon=COUNTS, steps=st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_bim_uses_the_smallest_whole_step_that_reaches_epsilon(epsilon, steps):
    length = float(BIM(steps=steps).length(float(epsilon)))
    assert length == -(-epsilon // steps)
    rows = BIM(steps=steps).length(ops.convert_to_tensor([float(epsilon)]))
    assert float(rows[0]) == length


def far_away(shape=SHAPE, classes: int = 2):
    """A linear model that no change can flip, and pictures far from 0 and 255."""
    weights = np.zeros((int(np.prod(shape)), classes))
    weights[:, 0] = 1e-4 * (1 + np.arange(len(weights)) / len(weights))
    bias = np.zeros(classes)
    bias[0] = 2.0
    return linear(weights, bias, shape), np.full((3, *shape), 128, np.uint8)


def walked(attack, norm: str, epsilon: float) -> np.ndarray:
    """The largest distance of each row from its image, over all points that count."""
    classifier, images = far_away()
    some = subjects(classifier, images)
    threat = Threat((epsilon,), NORMS[norm])
    rows = compiled_batch.CompiledBatch(classifier, attack, threat, batch_size=len(some), seed=0)
    state = rows.load(None, range(len(some)), [jobs.AttackJob(s, epsilon) for s in some])
    far = np.zeros(len(some))
    # For minimum-distance attacks only evaluated points count, not the last point.
    for _ in range(attack.steps - (attack.seeks == "closest")):
        state, _ = rows.step(state)
        change = ops.convert_to_tensor(state["own"]["point"]) - images.astype("float32")
        far = np.maximum(far, ops.convert_to_numpy(NORMS[norm].size(change)))
    return far


STRAIGHT = [
    (BIM(steps=3, step_size=1.5), "linf"),
    (BIM(steps=5), "linf"),
    (PGD(steps=6, step_size=1.0, random_start=False), "linf"),
    (PGD(steps=6, step_size=9.0, random_start=False), "l2"),
    (PGD(steps=4, step_size=9.0, random_start=False), "l1"),
    (MIFGSM(steps=4), "linf"),
    (MIFGSM(steps=4, step_size=0.5), "l2"),
    (NIFGSM(steps=3, step_size=2.0), "linf"),
    (VMIFGSM(steps=3, step_size=2.0, neighbours=2), "linf"),
    (FMN(steps=7), "l0"),
    (FewPixel(steps=2, population=8, pixels=3), "l0"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "norm"), STRAIGHT, ids=lambda v: getattr(v, "label", v))
def test_an_attack_reaches_exactly_its_declared_distance(attack, norm):
    """With a constant gradient no step turns, so the declared distance is reached."""
    epsilon = {"linf": 16.0, "l2": 80.0, "l1": 120.0, "l0": 30.0}[norm]
    told = attack.farthest(NORMS[norm], epsilon, SHAPE)
    far = walked(attack, norm, epsilon)
    np.testing.assert_allclose(far.max(), min(told, epsilon), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        (NES(steps=3, step_size=1.0, probes=10), "linf"),
        (Regression(steps=3, step_size=1.0, probes=10), "linf"),
        (SPSA(steps=3, learning_rate=1.0, samples=8), "linf"),
        (SimBA(steps=12, step_size=5.0), "l2"),
        (SimBA(steps=12, step_size=5.0, frequencies=1), "l2"),
        (DDN(steps=4), "l2"),
        (EOT(of=BIM(steps=3, step_size=1.0), samples=2), "linf"),
    ],
    ids=lambda v: getattr(v, "label", v),
)
def test_no_attack_exceeds_its_declared_distance(attack, norm):
    epsilon = 60.0
    told = attack.farthest(NORMS[norm], epsilon, SHAPE)
    # Minimum-distance attacks may evaluate points beyond epsilon.
    most = told if attack.seeks == "closest" else min(told, epsilon)
    assert walked(attack, norm, epsilon).max() <= most * (1 + 1e-3) + 1e-3


# --- unreachable budgets are not reported ------------------------------------------------------


def audited(attacks, norm, epsilons, folder, **more):
    classifier, images = far_away()
    return robustness.audit(
        classifier, images, labels=np.zeros(3, int), attacks=attacks, norm=norm, epsilons=epsilons,
        out=folder, **more,
    )  # fmt: skip


def read(folder: Path):
    with Run.open(folder) as run:
        return summarise(run)


SHORT = [
    ([BIM(steps=4, step_size=1.0)], "linf", 16),
    (["article"], "linf", 5),
    ([PGD(steps=1, step_size=0.01)], "linf", 1),
    ([PGD(steps=8, step_size=1.0)], "linf", 16),
    ([PGD(steps=3, step_size=9.0, random_start=False)], "l2", 60),
    ([PGD(steps=3, step_size=9.0)], "l1", 60),
    ([PGD(steps=3, step_size=4.0, start="ods")], "linf", 12),
    ([MIFGSM(steps=3, step_size=2.0)], "linf", 8),
    ([VMIFGSM(steps=3, step_size=2.0, neighbours=1)], "linf", 8),
    ([NES(steps=2, probes=4)], "linf", 8),
    ([SPSA(steps=4, samples=2)], "linf", 8),
    ([SimBA(steps=9)], "l2", 50),
    ([Square(steps=1)], "linf", 8),
    ([Square(steps=2)], "linf", 8),
    ([Square(steps=99)], "linf", 8),
    ([HopSkipJump(steps=1)], "linf", 8),
    ([HopSkipJump(steps=19)], "l2", 60),
    ([BIM(steps=4, step_size=1.0), Square(steps=2)], "linf", 16),
    ([FewPixel(steps=1, population=4)], "l0", 6),
    ([FMN(steps=4)], "l0", 8),
    ([DDN(steps=2)], "l2", 2000),
    ([CarliniWagner(steps=36)], "l2", 60),
    ([Bisection(of=BIM(steps=2, step_size=1.0), rounds=2)], "linf", 8),
    ([EOT(of=BIM(steps=2, step_size=1.0), samples=2)], "linf", 8),
    ([Corruptions(kind="contrast")], "free", 8),
    ([BIM(steps=2, step_size=1.0), UniformNoise(steps=2)], "linf", 8),
]


@pytest.mark.slow
@pytest.mark.parametrize(("attacks", "norm", "epsilon"), SHORT, ids=lambda v: str(v)[:50])
def test_no_result_is_stated_for_a_budget_that_no_attack_can_reach(
    attacks, norm, epsilon, tmp_path
):
    audited(attacks, norm, [epsilon], tmp_path / "r")
    summary = read(tmp_path / "r")
    (d27,) = [d for d in summary.diagnostics if d.id == "D27"]
    assert d27.status == "fail", d27
    assert f"epsilon {epsilon}" in d27.sentence
    assert "at most from the image" in d27.sentence or "too few queries" in d27.sentence
    verdict = verdict_of(summary)
    assert (verdict.status, verdict.exit_code) == ("inconclusive", 4)
    assert [r.robust_accuracy for r in summary.worst] == [None]
    assert [c.robust_accuracy for c in summary.classes] == [None]
    assert summary.smallest_epsilon.total == 0
    assert summary.median_epsilons
    for one in summary.median_epsilons:
        assert (one.median, one.low, one.high, one.bracket_low) == (None,) * 4
        assert "no epsilon" in one.note
    assert "says nothing about robustness" in summary.sentence


@pytest.fixture(scope="module")
def ladder(tmp_path_factory) -> Path:
    """Four steps of one count at epsilons 2, 4 and 16: the last one cannot be reached."""
    folder = tmp_path_factory.mktemp("ladder") / "r"
    audited([BIM(steps=4, step_size=1.0)], "linf", [2, 4, 16], folder)
    return folder


def test_a_ladder_is_reported_up_to_the_reachable_epsilon(ladder):
    summary = read(ladder)
    said = {r.epsilon: r.robust_accuracy and r.robust_accuracy.share for r in summary.worst}
    assert said == {2: 1.0, 4: 1.0, 16: None}
    assert said == {r.epsilon: r.robust_accuracy and r.robust_accuracy.share for r in summary.rates}
    assert [b.reached for b in summary.budgets] == [True, True, False]
    assert summary.smallest_epsilon.total == 3  # from the reachable epsilons
    (median,) = summary.median_epsilons
    assert "16" not in median.note
    assert (median.median, median.bracket_low, median.bracket_high) == (None, 4, None)


def test_every_report_format_states_unreachable_epsilons(ladder):
    plain = read(ladder).to_dict()
    assert plain["worst"][-1]["robust_accuracy"] is None
    assert plain["worst"][-1]["unreached"] is True
    assert "reaches 4 at most" in plain["budgets"][-1]["reason"]
    json.dumps(plain, allow_nan=False)
    with Run.open(ladder) as run:
        page, table = render(run), to_csv(run).decode("utf-8")
    assert "not reached" in page
    assert not re.search(r"robust accuracy at epsilon 16", page)
    assert "&gt; 4" in page and "&gt; 16" not in page  # the median smallest epsilon
    header, *rows = csv.reader(table.splitlines())
    column = header.index("reached")
    reached = {(row[header.index("epsilon")], row[column]) for row in rows}
    assert reached == {("2.0", "True"), ("4.0", "True"), ("16.0", "False")}
    summary = read(ladder)
    text = markdown(summary, verdict_of(summary))
    assert "| not reached |" in text
    assert "robust accuracy at epsilon 16" not in text


def test_notebook_and_python_results_state_unreachable_epsilons(ladder):
    found = robustness.AuditResult(ladder)
    assert found.unreached == (16.0,)
    assert "epsilon 16 not reached" in repr(found)
    shown = found._repr_html_()
    assert "nothing about robustness at epsilon 16" in shown
    assert ">epsilon 4</text>" in shown  # where the robust accuracy curve ends


def test_a_budget_reachable_by_another_attack_is_reported_with_a_warning(tmp_path):
    audited([BIM(steps=4, step_size=1.0), FGSM()], "linf", [16], tmp_path / "r")
    summary = read(tmp_path / "r")
    (d27,) = [d for d in summary.diagnostics if d.id == "D27"]
    assert d27.status == "warn" and "bim(steps=4, step_size=1)" in d27.sentence
    assert [r.robust_accuracy.share for r in summary.worst] == [1.0]
    by = {r.attack: r.robust_accuracy for r in summary.rates}
    assert by["bim(steps=4, step_size=1)"] is None
    assert by["fgsm(steps=1)"].share == 1.0


@pytest.mark.parametrize(
    ("attack", "norm", "epsilon"),
    [
        (BIM(steps=4, step_size=1.0), "linf", 4.9),  # effective value 4
        (BIM(steps=9, step_size=0.4), "linf", 4),  # 3.6 counts are 4 in a file
        (BIM(steps=7), "linf", 23),
        (MIFGSM(steps=7), "linf", 23),
        (MIFGSM(steps=3), "l2", 50),
        (FGSM(), "l1", 50),
        (PGD(), "l2", 50),
        (SPSA(), "linf", 255),
    ],
    ids=lambda v: getattr(v, "label", str(v)),
)
def test_reachable_budgets_give_no_warning(attack, norm, epsilon):
    assert NORMS[norm].covers(attack.farthest(NORMS[norm], epsilon, SHAPE), epsilon)


def test_a_gate_is_inconclusive_at_an_unreachable_budget(ladder):
    summary = read(ladder)
    off = Suppression("D27", "we know", date(2100, 1, 1))
    found = summary.diagnostics

    def ruled(**rule):
        gate = Gate((Rule(**{"name": "r", "bound": "point"} | rule),), suppressions=(off,))
        return decide(summary, gate, found)

    for metric, threshold in (("robust_accuracy", 0.1), ("flip_rate", 0.5)):
        for scope in ("worst", "class", "attack"):
            rule = {"metric": metric, "threshold": threshold, "scope": scope}
            assert ruled(**rule, epsilon=4.0).status == "pass"
            opened = ruled(**rule, epsilon=16.0)
            assert opened.status == "inconclusive"
            assert "4 at most" in opened.sentence


def test_runs_without_declared_distances_are_read(ladder, tmp_path):
    folder = shutil.copytree(ladder, tmp_path / "r")
    manifest = json.loads((folder / "run.json").read_text())
    budgets: list[list[Any] | None] = [None, []]
    for told in budgets:
        manifest["budgets"] = told
        known = {key: value for key, value in manifest.items() if value is not None}
        (folder / "run.json").write_text(json.dumps(known))
        assert [r.robust_accuracy.share for r in read(folder).worst] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "told",
    ["x", [None], [{"epsilon": "far"}], [{"epsilon": 16.0, "short": [3], "reached": "no"}]],
    ids=["text", "null", "no number", "no attacks"],
)
def test_damaged_budgets_are_refused(told, ladder, tmp_path):
    folder = shutil.copytree(ladder, tmp_path / "r")
    manifest = json.loads((folder / "run.json").read_text()) | {"budgets": told}
    (folder / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"run\.json is damaged: budgets"):
        read(folder)


def test_a_resumed_run_reports_the_same(ladder, tmp_path):
    folder = tmp_path / "r"
    shutil.copytree(ladder, folder)
    audited([BIM(steps=4, step_size=1.0)], "linf", [2, 4, 16], folder, resume=True)
    assert read(folder).budgets == read(ladder).budgets


# --- budgets beyond every possible change ------------------------------------------------------


BEYOND = [
    ("linf", 255.0),
    ("l2", 255 * np.sqrt(SIZE)),
    ("l1", 255.0 * SIZE),
    ("l0", 36.0),
]


@pytest.mark.parametrize(("norm", "most"), BEYOND)
def test_a_budget_beyond_every_change_is_refused(norm, most, tmp_path):
    Threat((most,), NORMS[norm]).expect_possible(SHAPE)
    with pytest.raises(SettingError, match="more than any change of these pictures"):
        Threat((1, most * 1.001 + 0.01), NORMS[norm]).expect_possible(SHAPE)
    with pytest.raises(SettingError, match="more than any change of these pictures"):
        audited(["uniform-noise"], norm, [1, most + 1], tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(("norm", "most"), BEYOND)
def test_a_mask_lowers_the_largest_budget(norm, most):
    free = np.zeros(SHAPE[:2], bool)
    free[:3, :3] = True  # a quarter
    shrunk = {"linf": 1.0, "l2": 0.5, "l1": 0.25, "l0": 0.25}[norm] * most
    mask = Mask.of(free, SHAPE)
    Threat((shrunk,), NORMS[norm], mask=mask).expect_possible(SHAPE)
    with pytest.raises(SettingError, match="more than any change"):
        Threat((shrunk + 1,), NORMS[norm], mask=mask).expect_possible(SHAPE)


def test_without_a_norm_there_is_no_largest_budget():
    Threat((300.0,), KNOWN["free"]).expect_possible(SHAPE)


@pytest.mark.parametrize(
    "words", [("-e", "300"), ("-e", "4,255.5"), ("-e", "1e999"), ("-e", "nan")]
)
def test_the_command_line_refuses_too_large_budgets_before_loading(words, monkeypatch):
    done = CliRunner().invoke(app, ["audit", "-q", "-m", "nowhere.keras", *words])
    assert isinstance(done.exception, SettingError)
    assert "Epsilon" in str(done.exception)


@pytest.mark.parametrize(
    ("given", "ladder"),
    [
        ("4,1,4", (1.0, 4.0)),
        ([8, "2", 8.0], (2.0, 8.0)),
        (np.int64(4), (4.0,)),
        (np.array(4.0), (4.0,)),
        (np.array([4, 2]), (2.0, 4.0)),
        ((1 for _ in range(3)), (1.0,)),
    ],
    ids=["text", "mixed list", "NumPy number", "0-d array", "array", "generator"],
)
def test_ladders_are_accepted_in_any_order_and_type(given, ladder):
    assert Threat(units.parse_epsilons(given)).epsilons == ladder


@pytest.mark.parametrize(
    "given", [None, "", "1,,2", [float("inf")], [float("nan")], [[1, 2]], True]
)
def test_invalid_ladders_are_refused(given):
    with pytest.raises(SettingError):
        units.parse_epsilons(given)


# --- budgets with a smaller effective value ----------------------------------------------------


@pytest.mark.slow
@given(epsilon=st.floats(1, 255), norm=st.sampled_from(["linf", "l1", "l0"]))
def test_files_use_the_integer_part_of_a_budget(epsilon, norm):
    acts_as = NORMS[norm].effective(epsilon)
    assert acts_as == np.floor(epsilon)
    low, high = ops.full((1, *SHAPE), -255.0), ops.full((1, *SHAPE), 255.0)
    change = ops.full((1, *SHAPE), 200.0)
    grid = NORMS[norm].to_grid(change, ops.convert_to_tensor([epsilon], "float32"), low, high)
    assert float(NORMS[norm].size(grid)[0]) <= acts_as


@pytest.mark.slow
def test_a_smaller_effective_budget_is_stated_in_all_outputs(tmp_path):
    from rich.console import Console

    from robustness.cli.tables import outcome_table
    from robustness.reports.page.headline import figures_sentence

    audited([FGSM()], "linf", [4, 76.5], tmp_path / "r")
    summary = read(tmp_path / "r")
    assert [b.effective_epsilon for b in summary.budgets] == [4.0, 76.0]
    assert [b["effective_epsilon"] for b in summary.to_dict()["budgets"]] == [4.0, 76.0]
    console = Console(width=200)
    with console.capture() as shown:
        console.print(outcome_table(summary))
    verdict = verdict_of(summary)
    with Run.open(tmp_path / "r") as run:
        page, table = render(run), to_csv(run).decode()
    for text in (
        shown.get(),
        summary.sentence,
        figures_sentence(summary, verdict),
        page,
        markdown(summary, verdict),
    ):
        assert "76.5" in text
        assert re.search(r"76\.5[^(]{0,20}\(acts as 76\)", text.replace("\\", ""))
        assert "4 (acts" not in text.replace("\\", "")
    assert "76.0" in table


def test_fgsm_notes_that_its_file_is_scaled():
    names = ["a", "b"]
    for norm in ("l2", "l1"):
        (said,) = ensembles.resolve(["fgsm"], NORMS[norm], Untargeted(), names).replaced
        assert said.startswith("fgsm: ") and "scaled before it is rounded" in said
    assert ensembles.resolve(["fgsm"], NORMS["linf"], Untargeted(), names).replaced == ()
    around = ensembles.resolve([EOT(of=FGSM(), samples=2)], NORMS["l2"], Untargeted(), names)
    assert "scaled before it is rounded" in around.replaced[0]
    # The note is true: the file is farther than the rounded point of the published attack.
    rng = np.random.default_rng(0)
    step = NORMS["l2"].steepest(
        ops.convert_to_tensor(rng.normal(size=(1, 16, 16, 3)).astype("float32"))
    )
    wide = ops.full((1, 16, 16, 3), 128.0)
    point, radius = 5.0 * step, ops.convert_to_tensor([5.0])
    rounded = float(NORMS["l2"].size(ops.round(point))[0])
    file = float(NORMS["l2"].size(NORMS["l2"].to_grid(point, radius, -wide, wide))[0])
    assert rounded < 3
    assert 4 < file <= 5


# --- a target without gradients ----------------------------------------------------------------


class Rounding(keras.layers.Layer):
    """Rounds its inputs to whole numbers, which blocks gradients."""

    def call(self, x):
        return ops.cast(ops.cast(x, "int32"), "float32")


def without_gradient():
    """A linear model behind `Rounding`, and pictures that eight counts flip."""
    model = keras.Sequential(
        [keras.layers.Input(SHAPE), Rounding(), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    weights = np.stack([np.full(SIZE, 1e-2), np.full(SIZE, -1e-2)], axis=1)
    model.layers[-1].set_weights([weights, np.array([-1.24 * SIZE, 1.24 * SIZE])])
    images = np.full((4, *SHAPE), 128, np.uint8)
    return Classifier(model, scaling="0..255", head="logits"), images


@pytest.mark.slow
def test_a_target_without_gradients_gets_gradient_free_attacks(tmp_path):
    classifier, images = without_gradient()
    settings = {"labels": np.zeros(4, int), "epsilons": [2, 8], "out": tmp_path / "r"}
    found = robustness.audit(classifier, images, **settings)
    config = found.manifest["config"]
    assert [a["knowledge"] for a in config["attacks"]] == ["score", "decision"]
    assert any("no gradient" in note for note in config["replaced"])
    assert found.flip_rate == 1.0
    assert set(found.to_frame().query("epsilon == 2").status) == {"robust"}
    robustness.audit(classifier, images, resume=True, **settings)
    # Attacks given by name run unchanged and report the missing gradient.
    named = robustness.audit(classifier, images, labels=np.zeros(4, int), attacks=["fgsm"])
    assert set(named.to_frame().status) == {"failed"}


@pytest.mark.slow
def test_a_surrogate_provides_the_gradient(tmp_path):
    classifier, images = without_gradient()
    weights = np.stack([np.full(SIZE, 1e-2), np.full(SIZE, -1e-2)], axis=1)
    eyes = linear(weights, np.array([-1.24 * SIZE, 1.24 * SIZE]), SHAPE)
    found = robustness.audit(
        classifier, images, labels=np.zeros(4, int), epsilons=[8], surrogate=eyes
    )
    assert found.manifest["config"]["attacks"][0]["name"] == "apgd"
    assert found.flip_rate == 1.0


def test_runs_are_not_compared_at_an_unreachable_budget(ladder, tmp_path):
    audited([FGSM()], "linf", [4, 16], tmp_path / "strong")
    found = compare(ladder, tmp_path / "strong")
    stated = [p.epsilon for p in found.pairings if p.what == "robust accuracy"]
    assert stated == [4.0]
    (note,) = [n for n in found.notes if "is not compared" in n]
    assert "at epsilon 16: in A no attack of the run could use all of it" in note
    assert found.sentence
    assert "is not compared" in render_comparison(found)
