"""Tests of the diagnostics that query the model: each reports a model with its fault and no healthy model."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
import pytest
from keras import ops

import robustness
from robustness.attacks import BIM, PGD, Square
from robustness.contract.attack import Attack
from robustness.contract.types import Knowledge
from robustness.diagnostics import TITLES, convergence, model_queries, reruns
from robustness.diagnostics.controls import break_control, linear_control, masked_control_is_flagged
from robustness.diagnostics.convergence import still_falling
from robustness.diagnostics.diagnose import diagnose, merged, sample_of
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.diagnostics.stored_run import StoredRun
from robustness.images import from_arrays
from robustness.images.cache import PictureCache
from robustness.images.png import from_png, to_png
from robustness.models.classifier import Classifier
from robustness.runs.plan import Plan
from robustness.runs.schema import Check, Settings
from robustness.runs.store import Run
from robustness.threat.norms import L2
from robustness.threat.threat import Threat
from tests.robustness.helpers import small_cnn, two_sided

SHAPE = (8, 8, 3)


class Own(keras.Model):
    """A subclassed model around a function of images in counts."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x, training=False):
        return self.function(x)


def own(function, classes=2) -> Classifier:
    model = Own(function)
    model(np.zeros((1, *SHAPE), "float32"))
    return Classifier(model, scaling="0..255", head="logits", name="own")


def brightness(x):
    return ops.mean(x, axis=(1, 2, 3)) - 128.0


def two(score):
    return ops.stack([-score, score], axis=1)


def pictures(rng, means) -> np.ndarray:
    """A noisy picture for each mean."""
    noise = rng.integers(-20, 21, (len(means), *SHAPE))
    noise -= np.rint(noise.mean(axis=(1, 2, 3), keepdims=True)).astype(int)
    return np.clip(noise + np.reshape(means, (-1, 1, 1, 1)), 0, 255).astype(np.uint8)


@dataclass
class Bench:
    trial: RerunSetup
    path: Path
    shelf: PictureCache
    entries: list


def audited(classifier, images, attack, epsilon, folder, labels=None) -> Bench:
    """Run an audit; return it with the input of the diagnostics."""
    labels = classifier.probabilities(images).argmax(1) if labels is None else labels
    robustness.audit(
        classifier, images, labels=labels, attacks=[attack], epsilons=[epsilon], out=folder
    )
    source = from_arrays(images, labels, classifier.class_names)
    shelf, entries = PictureCache(source), source.entries()
    plan = Plan((attack,), Threat((float(epsilon),)), 0, 16, False, "flips")
    with Run.open(folder) as run:
        record = StoredRun.of(run)
    sample = sample_of(record, shelf, entries, classifier)
    return Bench(RerunSetup(classifier, plan, record, sample), folder, shelf, entries)


def status_of(path: Path) -> dict[str, str]:
    return {
        d["id"]: d["status"] for d in json.loads((path / "run.json").read_text())["diagnostics"]
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["network", "linear"])
def test_healthy_models_have_no_findings_in_a_thorough_audit(kind, tmp_path):
    if kind == "network":
        classifier = small_cnn(9)
        images = np.random.default_rng(4).integers(0, 256, (40, 12, 12, 3)).astype(np.uint8)
    else:
        classifier, images, *_ = two_sided(np.random.default_rng(0), rows=60, shape=SHAPE, far=40)
    labels = classifier.probabilities(images).argmax(1)
    robustness.audit(
        classifier,
        images,
        labels=labels,
        attacks=[PGD(steps=20)],
        epsilons=[2, 8],
        out=tmp_path / "run",
        thorough=True,
    )
    found = status_of(tmp_path / "run")
    assert set(found) == set(TITLES)
    speaking = {number: status for number, status in found.items() if status in ("warn", "fail")}
    # These small audits do have few images (D23) and one kind of attack (D24).
    assert set(speaking) <= {"D23", "D24"}, speaking
    asked = {"D06", "D07", "D08", "D09", "D12", "D13", "D17", "D20", "D22"}
    assert {found[number] for number in asked} == {"ok"}


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> Bench:
    """Classifies by brightness with a zero gradient everywhere; some images are near the boundary."""
    flat = own(lambda x: two(ops.clip(brightness(x) * 1e4, -1, 1)))
    rng = np.random.default_rng(0)
    images = pictures(rng, np.r_[np.full(12, 90), np.full(12, 170)])
    near = pictures(rng, np.full(12, 128)).astype(int)
    images = np.concatenate([near.astype(np.uint8), images])
    return audited(flat, images, BIM(steps=4), 8, tmp_path_factory.mktemp("masked") / "run")


def test_d04_reports_a_flat_model(masked):
    before = {check.id: check for check in masked.trial.record.manifest.preflight}
    assert model_queries.dead_gradient(before, masked.trial.record).status == "fail"
    black = replace(
        masked.trial.record,
        manifest=masked.trial.record.manifest.with_changes(config=Settings(attacks=())),
    )
    assert model_queries.dead_gradient(before, black).status == "warn"
    assert status_of(masked.path)["D04"] == "fail"


def test_d08_and_d17_report_a_flat_model_that_no_attack_flips(masked):
    first, second = reruns.unbounded(masked.trial)
    assert (first.id, first.status) == ("D08", "fail")
    assert (second.id, second.status) == ("D17", "fail")


def test_d14_reports_flips_of_a_flat_model_by_a_black_box_attack(masked):
    """BIM does not move on it; Square finds the images near the boundary."""
    found = reruns.without_gradient(masked.trial)
    assert found.status == "warn", found
    assert found.evidence["only_black_box"]
    black = replace(masked.trial, surrogate=masked.trial.classifier)
    assert reruns.without_gradient(black).status == "skipped"


@pytest.mark.slow
def test_d14_reports_a_shattered_gradient_by_square(tmp_path):
    """A ripple on the input, small compared with the budget, randomises the sign of the gradient."""
    plain = small_cnn(9, SHAPE)
    rippled = own(lambda x: plain.logits(x + 6.0 * ops.sin(1.9 * x)), classes=3)
    images = np.random.default_rng(4).integers(0, 256, (40, *SHAPE)).astype(np.uint8)
    labels = rippled.probabilities(images).argmax(1)
    attacks = [PGD(steps=20), Square(steps=1000)]
    robustness.audit(
        rippled, images, labels=labels, attacks=attacks, epsilons=[4], out=tmp_path / "run"
    )
    with Run.open(tmp_path / "run") as run:
        outcomes = run.outcomes()
        found = {d["id"]: d for d in run.manifest.to_json()["diagnostics"]}
    flips = outcomes[outcomes.status == "flipped"].groupby("attack").size()
    assert flips.get(attacks[1].label, 0) > flips.get(attacks[0].label, 0) + 4
    assert found["D14"]["status"] == "warn"
    assert "gradient masking" in found["D14"]["sentence"]


@pytest.mark.slow
def test_d14_is_ok_if_the_attack_works(short):
    """Images 0.5 to 3 counts from the boundary, a budget of 8: a black-box attack finds nothing more."""
    images = np.stack([s.pixels for s in short.trial.sample.examples])
    assert len(images) > 20
    record = replace(
        short.trial.record, outcomes=short.trial.record.outcomes.assign(status="flipped")
    )
    done = replace(short.trial, record=record, sample=replace(short.trial.sample, survivors=0))
    assert reruns.without_gradient(done).status == "ok"


def test_d15_reports_that_transferred_examples_flip_more(masked, tmp_path):
    """The steep version of a flat model has the gradient that the flat one lacks."""
    flat = masked.trial.classifier
    steep = own(lambda x: two(brightness(x)))
    bench = masked.trial
    flipped = RerunSetup(steep, bench.plan, bench.record, bench.sample)
    away = flipped.flips(BIM(steps=4), bench.sample.examples, 8.0)
    assert len(away) > 3
    rows = bench.record.outcomes
    rows = rows.assign(
        status=["flipped" if k in away else s for k, s in zip(rows.image, rows.status, strict=True)]
    )
    record = replace(bench.record, outcomes=rows)
    found = reruns.own_gradient(RerunSetup(flat, bench.plan, record, bench.sample, steep))
    # On the model itself the attack finds almost nothing, as in the audit.
    own_flips = len(bench.record.flipped())
    assert own_flips < len(away) / 2
    assert (found.status, found.evidence["white_box"]) == ("warn", own_flips), found
    assert found.evidence["transferred"] == len(away)
    # In the other direction: the steep model attacked through the flat one.
    found = reruns.own_gradient(RerunSetup(steep, bench.plan, bench.record, bench.sample, flat))
    assert found.status == "ok"
    assert found.evidence["white_box"] == len(away)
    assert reruns.own_gradient(bench).status == "skipped"


@pytest.mark.slow
def test_d16_reports_flips_by_noise_that_the_attack_misses(masked):
    found = model_queries.noise(
        masked.trial.classifier, masked.trial.plan, masked.trial.record, masked.trial.sample,
        thorough=True,
    )  # fmt: skip
    assert found.status == "warn"
    assert found.evidence["draws"] == 1000
    assert found.evidence["only_by_noise"]


@pytest.mark.slow
def test_noise_stays_within_its_budget(masked):
    subject = masked.trial.sample.examples[0]
    plan = masked.trial.plan
    drawn = model_queries.noisy(plan, subject, 60, model_queries.compiled_noise(plan)).astype(int)
    assert drawn.shape == (60, *SHAPE)
    assert np.abs(drawn - subject.pixels).max() == 8
    assert len(np.unique(drawn.reshape(60, -1), axis=0)) == 60
    wide = replace(plan, attacks=(PGD(),), threat=Threat((40.0,), L2()))
    drawn = model_queries.noisy(wide, subject, 60, model_queries.compiled_noise(wide)).astype(float)
    sizes = np.linalg.norm((drawn - subject.pixels).reshape(60, -1), axis=1)
    assert sizes.max() <= 40 * (1 + 1e-6) and sizes.min() > 20


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Bench:
    """A linear model, images 0.5 to 3 counts from the boundary, and an attack that moves by one count."""
    classifier, images, *_ = two_sided(np.random.default_rng(1), rows=200, shape=SHAPE, far=3.0)
    attack = BIM(steps=2, step_size=0.5)
    return audited(classifier, images, attack, 8, tmp_path_factory.mktemp("short") / "run")


@pytest.mark.slow
def test_d07_d09_d13_report_an_attack_that_ends_too_early(short):
    path = convergence.replay(short.trial, short.trial.plan.attacks[0])
    assert len(path.margins) > 5
    # On a linear model each of the two steps is half of the distance.
    assert still_falling(path.margins) == pytest.approx(0.5, abs=0.02)
    assert convergence.converged([path]).status == "warn"
    assert convergence.overlooked([path]).status == "ok"
    first, second = reruns.more_steps(short.trial)
    assert (first.id, first.status) == ("D09", "warn")
    assert (second.id, second.status) == ("D12", "ok")
    assert reruns.one_step(short.trial).status == "warn"


@pytest.mark.slow
def test_d06_reports_a_flip_that_was_found_and_lost(tmp_path):
    classifier, images, *_ = two_sided(np.random.default_rng(1), rows=40, shape=SHAPE, far=3.0)
    bench = audited(classifier, images, BIM(steps=8), 8, tmp_path / "run")
    database = sqlite3.connect(tmp_path / "run" / "run.sqlite")
    database.execute(
        "UPDATE outcomes SET status='robust', png=NULL, adversarial_class=NULL WHERE status='flipped'"
    )
    database.commit()
    database.close()
    with Run.open(tmp_path / "run") as run:
        record = StoredRun.of(run)
    sample = sample_of(record, bench.shelf, bench.entries, classifier)
    path = convergence.replay(
        RerunSetup(classifier, bench.trial.plan, record, sample), BIM(steps=8)
    )
    found = convergence.overlooked([path])
    assert found.status == "fail"
    assert len(path.lost) == min(16, len(images))


@dataclass(frozen=True, kw_only=True)
class Fading(Attack):
    """An attack whose step shrinks with the cube of the number of steps, so that more steps move less."""

    name: ClassVar[str] = "fading"
    paper: ClassVar[str] = "none"

    def init(self, task):
        return {"point": task.images}

    def step(self, task, state, look):
        move = 8.0 / self.steps**3 * ops.sign(look(state["point"]).gradient)
        return {"point": task.project(state["point"] - move)}


@dataclass(frozen=True, kw_only=True)
class Idle(Attack):
    """An attack that evaluates the model and does not move."""

    name: ClassVar[str] = "idle"
    paper: ClassVar[str] = "none"

    def init(self, task):
        return {"point": task.images}

    def step(self, task, state, look):
        return {"point": state["point"] + 0 * look(state["point"]).gradient}


@pytest.mark.slow
def test_d12_reports_that_more_steps_lose_flips(tmp_path):
    classifier, images, *_ = two_sided(np.random.default_rng(1), rows=60, shape=SHAPE, far=6.0)
    bench = audited(classifier, images, Fading(steps=1), 8, tmp_path / "run")
    found = {d.id: d.status for d in reruns.more_steps(bench.trial)}
    assert found["D12"] == "fail"


@pytest.mark.slow
def test_d22_controls_flip_under_attack_and_not_without_movement(masked):
    threat = Threat((8.0,))
    assert break_control(BIM(steps=4), threat) == 1.0
    assert break_control(PGD(steps=10), Threat((100.0,), L2())) == 1.0
    assert break_control(Idle(), threat) == 0.0
    assert masked_control_is_flagged()
    idle = replace(masked.trial, plan=replace(masked.trial.plan, attacks=(Idle(),)))
    assert reruns.controls(idle).status == "fail"
    classifier, normal, images = linear_control()
    # The margin in closed form, up to a constant.
    scores = images[:50].reshape(50, -1) @ normal
    from robustness.diagnostics.controls import margins

    far = margins(classifier, images[:50]) - scores
    assert np.ptp(far) < 1e-3


@pytest.mark.slow
def test_d10_reports_random_starts_that_matter(tmp_path):
    """Many local minima: the start decides, and the step is too short to leave them."""
    pits = own(lambda x: two(1.0 + 2.0 * ops.sin(0.4 * ops.sum(x[:, 0, 0], axis=-1))))
    images = np.random.default_rng(3).integers(20, 230, (60, *SHAPE)).astype(np.uint8)
    bench = audited(pits, images, PGD(steps=1, step_size=0.001), 4, tmp_path / "run")
    found = reruns.one_restart_more(bench.trial)
    assert found.status == "warn"
    assert max(found.evidence["added"].values()) > 1
    still = replace(bench.trial, plan=replace(bench.trial.plan, attacks=(BIM(),)))
    assert reruns.one_restart_more(still).status == "skipped"


def test_d05_reports_a_rough_loss(tmp_path):
    rough = own(lambda x: two(1.0 + 0.9 * ops.sin(ops.sum(x, axis=(1, 2, 3)) * 3.0)))
    images = np.random.default_rng(3).integers(0, 256, (12, *SHAPE)).astype(np.uint8)
    bench = audited(rough, images, BIM(), 4, tmp_path / "run")
    found = model_queries.unsteady(rough, bench.trial.sample, 20)
    assert found.status == "warn"
    assert found.evidence["change"] > 0.2


def test_d18_reports_an_altered_picture(short, tmp_path):
    import shutil

    path = shutil.copytree(short.path, tmp_path / "run")
    with Run.open(path) as run:
        assert model_queries.files(run, None).status == "ok"
        name = run.outcomes().query("status == 'flipped'").png.iloc[0]
    picture = from_png((path / name).read_bytes()).astype(int)
    (path / name).write_bytes(
        to_png(np.where(picture < 128, picture + 60, picture - 60).astype(np.uint8))
    )
    with Run.open(path) as run:
        assert model_queries.files(run, None).status == "fail"


def of_mean(rng, mean: float) -> np.ndarray:
    """A noisy picture with this mean, as exactly as whole counts allow."""
    picture = rng.integers(108, 149, SHAPE)
    each, rest = divmod(round(mean * picture.size) - int(picture.sum()), picture.size)
    picture += each
    picture.ravel()[rng.permutation(picture.size)[:rest]] += 1
    return picture.astype(np.uint8)


def test_d19_reports_flips_between_two_counts(tmp_path):
    """The other class is between two adjacent 8-bit files, so that no file reaches it."""
    narrow = own(lambda x: two(0.2 - ops.abs(brightness(x) - 0.25)))
    images = np.stack([of_mean(np.random.default_rng(n), 127.8) for n in range(24)])
    labels = np.zeros(24, int)
    short = BIM(steps=3, step_size=0.3)
    bench = audited(narrow, images, short, 4, tmp_path / "run", labels)
    with Run.open(bench.path) as run:
        rows = run.outcomes()
    assert set(rows.status) == {"robust"}
    assert rows.float_flip.sum() == 24
    assert status_of(bench.path)["D19"] == "warn"


@dataclass(frozen=True, kw_only=True)
class Brightening(Attack):
    """An attack that brightens by one count with every query: images far from the boundary flip late."""

    name: ClassVar[str] = "brightening"
    paper: ClassVar[str] = "none"
    knowledge: ClassVar[Knowledge] = "score"

    def init(self, task):
        return {"point": task.images}

    def step(self, task, state, look):
        idle = 0 * ops.reshape(look(state["point"]).logits[:, 0], (-1, 1, 1, 1))
        return {"point": task.project(state["point"] + 1.0 + idle)}


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "status"), [(20, "warn"), (40, "ok")])
def test_d25_reports_flips_near_the_end_of_the_query_budget(steps, status, tmp_path):
    """Images are 1 to 30 counts below the boundary, so 20 queries end while images still flip and 40 do not.

    Images that start far below stay robust in both: a larger budget could flip them.
    """
    edge = own(lambda x: two(brightness(x)))
    rng = np.random.default_rng(3)
    dark = np.r_[np.linspace(1, 30, 60), np.full(4, 60)]
    images = np.stack([of_mean(rng, 128 - counts) for counts in dark])
    bench = audited(
        edge, images, Brightening(steps=steps), 50, tmp_path / "run", np.zeros(len(dark), int)
    )
    assert status_of(bench.path)["D25"] == status


def test_d20_reports_a_class_that_changes_by_saving(short):
    classifier, plan, sample = short.trial.classifier, short.trial.plan, short.trial.sample
    assert model_queries.round_trip(classifier, plan, sample, random=False).status == "ok"
    turned = tuple(replace(s, label=1 - s.label) for s in sample.examples)
    other = replace(sample, examples=turned)
    assert model_queries.round_trip(classifier, plan, other, random=False).status == "fail"
    assert model_queries.round_trip(classifier, plan, other, random=True).status == "fail"
    assert model_queries.round_trip(classifier, plan, sample, random=True).status == "ok"
    read = np.stack([example.pixels for example in sample.examples])
    sure = classifier.probabilities(read).max(axis=1)
    for change, status in ((0.0, "ok"), (0.01, "warn")):
        known = {e.key: p + change for e, p in zip(sample.examples, sure, strict=True)}
        found = model_queries.round_trip(classifier, plan, sample, random=False, confidences=known)
        assert found.status == status
    assert reruns.no_budget(short.trial).status == "ok"


@pytest.mark.parametrize(
    ("finding", "severity", "number", "status"),
    [
        ("D01-random-outputs", "warning", "D01", "warn"),
        ("D02-head", "note", "D02", "warn"),
        ("D02-head", "ok", "D02", "ok"),
        ("P02-scaling", "note", "P02", "ok"),
        ("P07-rows", "error", "P07", "fail"),
    ],
)
def test_preflight_findings_are_included(finding, severity, number, status):
    (one,) = model_queries.of_preflight([Check(id=finding, severity=severity, sentence="So.")])
    assert (one.id, one.status, one.sentence) == (number, status, "So.")


def test_d03_reports_a_missing_gradient(masked):
    before = {"D03-gradient-missing": Check(severity="error", sentence="None.")}
    assert model_queries.no_gradient(before, masked.trial.record).status == "fail"
    assert model_queries.no_gradient({}, masked.trial.record).status == "skipped"
    alive = {"D04-gradient-zero": Check(severity="ok", sentence="Alive.")}
    assert model_queries.no_gradient(alive, masked.trial.record).status == "ok"


def test_a_random_model_is_reported(tmp_path):
    noise = keras.random.SeedGenerator(1)
    dice = own(
        lambda x: two(brightness(x) / 50 + 0.1 * keras.random.normal(ops.shape(x)[:1], seed=noise))
    )
    images = pictures(np.random.default_rng(0), np.r_[np.full(6, 60), np.full(6, 200)])
    bench = audited(dice, images, BIM(), 4, tmp_path / "run")
    found = status_of(bench.path)
    assert found["D01"] == "warn"
    assert found["D20"] == "ok"


class Counting(keras.layers.Layer):
    """Adds to the first output what grows with every call."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x + self.rate * self.calls * ops.one_hot(0, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "status"), [(1e-5, "ok"), (0.01, "fail")])
def test_a_model_that_counts_its_calls_is_reported(rate, status, tmp_path):
    """After some hundred calls every image has the first class; at the lower rate all keep theirs."""
    layers = keras.layers
    last = layers.Dense(2)
    model = keras.Sequential(
        [layers.Input(SHAPE), layers.GlobalAveragePooling2D(), last, Counting(rate)]
    )
    last.set_weights([np.array([[-0.02, 0.02]] * SHAPE[-1]), np.array([2.56 * 3, -2.56 * 3])])
    images = pictures(np.random.default_rng(0), np.r_[np.full(6, 120), np.full(6, 136)])
    counting = Classifier(model, scaling="0..255", head="logits")
    bench = audited(counting, images, Square(steps=600), 1, tmp_path / "run")
    assert status_of(bench.path)["D20"] == status


def test_a_softmax_that_cannot_be_removed_is_a_warning(tmp_path):
    def powers(z):  # a softmax that the toolkit does not recognise
        weights = ops.power(2.718281828, z)
        return weights / ops.sum(weights, axis=-1, keepdims=True)

    model = Own(lambda x: powers(two(brightness(x) / 20)))
    model(np.zeros((1, *SHAPE), "float32"))
    kept = Classifier(model, scaling="0..255", head="softmax")
    images = pictures(np.random.default_rng(0), np.r_[np.full(6, 110), np.full(6, 150)])
    bench = audited(kept, images, BIM(), 4, tmp_path / "run")
    assert status_of(bench.path)["D02"] == "warn"


def test_the_most_severe_of_several_results_is_kept():
    from robustness.diagnostics import fail, ok, warn

    some = merged([ok("D06", "a."), fail("D06", "b."), warn("D06", "c."), warn("D13", "d.")])
    assert [d.id for d in some] == sorted(TITLES)
    found = {d.id: d for d in some}
    assert (found["D06"].sentence, found["D13"].status) == ("b.", "warn")
    assert found["D22"].status == "skipped" and "--thorough" in found["D22"].sentence


def test_diagnosing_twice_gives_the_same(short):
    with Run.open(short.path) as run:
        one, other = (
            diagnose(short.trial.classifier, short.trial.plan, short.shelf, short.entries, run)
            for _ in range(2)
        )
    assert one == other
    entries = [diagnosis.to_json() for diagnosis in one]
    assert json.loads(json.dumps(entries)) == entries
