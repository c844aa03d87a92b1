"""Tests of randomised models: noise is detected however rare or small, flips are decided by votes."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops
from scipy.stats import binom

import robustness
from robustness.contract.registry import make
from robustness.diagnostics import preflight
from robustness.engine import votes
from robustness.engine.judge import Candidate, Judge
from robustness.models.classifier import Classifier
from robustness.reports import summarise
from robustness.reports.gate.verdict import verdict_of
from robustness.runs.store import Run
from robustness.threat.threat import Threat
from robustness.verification.rows import RunContents, check_rows
from robustness.verification.verify import verify

SHAPE = (4, 4, 3)
RNG = np.random.default_rng(11)
# Class 1 is brighter than grey, class 0 is darker.
LABELS = np.arange(12) % 2
IMAGES = RNG.integers(0, 7, (12, *SHAPE), dtype=np.uint8) + np.where(LABELS, 130, 119)[
    :, None, None, None
].astype(np.uint8)


BIG = make("bim", steps=12, step_size=4)


class Noisy(keras.Model):
    """Brightness above grey as two logits, changed by `spoil(logits, seed)`."""

    def __init__(self, spoil, seed=1):
        super().__init__()
        self.spoil, self.seed = spoil, keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        score = ops.mean(ops.cast(x, "float32"), axis=(1, 2, 3)) - 127.5
        return self.spoil(ops.stack([-score, score], axis=1), self.seed)


def noisy(spoil, seed=1) -> Classifier:
    model = Noisy(spoil, seed)
    model(np.zeros((1, *SHAPE), "float32"))
    return Classifier(model, scaling="0..255", head="logits")


def rarely(share, shared=False):
    """Exchange the classes in `share` of the draws: for each picture, or for all pictures of a call."""

    def spoil(logits, seed):
        rows = 1 if shared else ops.shape(logits)[0]
        return ops.where(keras.random.uniform((rows, 1), seed=seed) < share, -logits, logits)

    return spoil


def noise(size, shared=False):
    def spoil(logits, seed):
        rows = 1 if shared else ops.shape(logits)[0]
        return logits + size * keras.random.normal((rows, 2), seed=seed)

    return spoil


def quiet(logits, seed):
    return logits


def d01(classifier: Classifier) -> preflight.Finding:
    return {f.id: f for f in preflight.run(classifier, IMAGES, None)}["D01-random-outputs"]


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "spoil", [noise(1.0), noise(1e-3), rarely(0.5)], ids=["large", "small", "rare"]
)
def test_noise_of_any_size_is_detected(spoil, shared):
    assert d01(noisy(spoil)).severity == "warning"


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.9])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_noise_in_a_tenth_of_the_answers_is_detected(share, shared, seed):
    found = d01(noisy(rarely(share, shared), seed))
    assert found.severity == "warning"
    assert "20 to 60 times" in found.sentence
    assert ("share its random numbers" in found.sentence) == shared


@pytest.mark.parametrize("shared", [False, True])
def test_noise_hidden_by_saturated_probabilities_is_detected(shared):
    # Saturated: each probability is exactly 0 or 1.
    sure = noisy(lambda logits, seed: noise(0.3, shared)(100 * logits, seed))
    assert set(np.unique(sure.probabilities(IMAGES))) == {0.0, 1.0}
    assert d01(sure).severity == "warning"


INSIDE = [
    layers.Dropout(0.3),
    layers.GaussianNoise(0.02),
    layers.RandomBrightness(0.2, value_range=(0, 1)),
]


class AlwaysTraining(layers.Layer):
    """A layer that always runs in training mode."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def call(self, x):
        return self.inside(x, training=True)


def around(layer) -> Classifier:
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Rescaling(1 / 255),
            layer,
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    return Classifier(model)


@pytest.mark.slow
@pytest.mark.parametrize("inside", INSIDE, ids=lambda layer: type(layer).__name__)
def test_only_layers_in_training_mode_are_random(inside):
    made = type(inside).from_config(inside.get_config())
    left_on, off = around(AlwaysTraining(inside)), around(made)
    left_on.probabilities(IMAGES)
    off.probabilities(IMAGES)
    assert left_on.may_draw(IMAGES)
    assert d01(left_on).severity == "warning"
    assert not off.may_draw(IMAGES)
    assert d01(off).severity == "ok"


def test_a_deterministic_model_is_not_queried_again(monkeypatch):
    classifier = noisy(quiet)
    assert d01(classifier).severity == "ok"
    monkeypatch.setattr(votes, "ask", None)
    found = robustness.audit(classifier, IMAGES, labels=LABELS, attacks=[BIG], epsilons=[12])
    assert "draws" not in found.manifest["config"]
    assert found.flip_rate == 1.0


@given(st.integers(1, 60), st.integers(0, 60))
def test_the_sign_test_matches_the_binomial_distribution(draws, hits):
    hits = min(hits, draws)
    expected = binom.sf(hits - 1, draws, 0.5)
    assert votes.surely(hits, draws) == (expected <= votes.LEVEL)
    assert not (votes.surely(hits, draws) and votes.surely(draws - hits, draws))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_votes_follow_independent_draws(seed, share):
    rng = np.random.default_rng(seed)

    def predict(pictures):
        hit = rng.random(len(pictures)) < share
        return np.stack([~hit, hit], axis=1).astype("float32")

    wanted = [np.array([False, True])] * 40
    told = votes.flips(predict, np.zeros((40, 1, 1, 1), np.uint8), wanted)
    for vote, holds in told:
        assert vote.draws in votes.ROUNDS
        assert vote.counts.sum() == vote.draws
        assert holds == (vote.draws >= votes.DRAWS and votes.surely(vote.counts[1], vote.draws))
    held = sum(holds for _, holds in told)
    # At the lowest shares of flipping draws no candidate passes, at the highest none fails.
    if share < 0.25:
        assert held == 0
    if share > 0.95:
        assert held == 40


def test_equal_shares_pass_at_most_at_the_significance_level():
    rng = np.random.default_rng(0)

    def predict(pictures):
        hit = rng.random(len(pictures)) < 0.5
        return np.stack([~hit, hit], axis=1).astype("float32")

    many = 4000
    wanted = [np.array([False, True])] * many
    told = votes.flips(predict, np.zeros((many, 1, 1, 1), np.uint8), wanted)
    # Two tests at this level, plus three standard errors.
    most = 2 * votes.LEVEL * many
    assert sum(holds for _, holds in told) <= most + 3 * most**0.5


def test_answers_that_are_not_finite_are_not_counted():
    vote = votes.Vote.none(2)
    for row in ([np.nan, 1.0], [0.25, 0.75], [0.25, 0.75]):
        vote.add(np.array(row))
    assert (vote.draws, vote.counts.tolist(), vote.confidence(1)) == (3, [0, 2], 0.75)


@pytest.mark.parametrize("share", [0.3, 0.45])
def test_chance_flips_are_rejected_however_often_tried(share):
    """An unchanged picture flips in `share` of the draws and is judged a hundred times."""
    judge = Judge(noisy(rarely(share)), Threat((4.0,)), draws=votes.DRAWS)
    once = Judge(noisy(rarely(share)), Threat((4.0,)))
    suspects = [Candidate(IMAGES[0], 0, 4.0, IMAGES[0])] * 100
    assert sum(flip is not None for flip in once(suspects)) > 15
    assert sum(flip is not None for flip in judge(suspects)) <= 1
    assert all(passes in votes.ROUNDS for passes in judge.passes)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_flips_are_decided_by_most_draws(shared, tmp_path):
    classifier = noisy(rarely(0.1, shared))
    found = robustness.audit(
        classifier, IMAGES, labels=LABELS, attacks=[BIG], epsilons=[2, 12], out=tmp_path / "run"
    )
    assert found.manifest["config"]["draws"] == votes.DRAWS
    # Two draws agree most of the time, which says nothing of the next.
    assert found.manifest["model"]["identity"].get("answers") is None
    rows = found.outcomes
    # Within 2 counts none flips, although one answer in ten is wrong; within 12 counts most do.
    assert "flipped" not in set(rows[rows.epsilon == 2].status)
    at = rows[rows.epsilon == 12]
    assert (at.status == "flipped").sum() >= 10
    assert (at[at.status == "flipped"].confidence_after > 0.5).all()
    with Run.open(found.path) as run:
        for _ in range(3):
            verified = verify(run, noisy(rarely(0.1, shared), seed=np.random.randint(1 << 30)))
            assert verified.faults == ()
            assert verified.draws == votes.MOST
        assert "random outputs" in verified.sentence
        summary = summarise(run)
    assert any("20 times or more" in one for one in summary.warnings)
    assert "20 times or more" in found.report().read_text()
    told = json.loads(found.report(kind="json").read_text())["summary"]
    assert told["manifest"]["config"]["draws"] == votes.DRAWS
    assert any("20 times or more" in one for one in told["warnings"])


@pytest.mark.slow
def test_verification_by_votes_finds_false_flips(tmp_path):
    spoil = rarely(0.1)
    found = robustness.audit(
        noisy(spoil), IMAGES, labels=LABELS, attacks=[BIG], epsilons=[12], out=tmp_path / "run"
    )
    with Run.open(found.path) as run:
        # With exchanged classes no flip is confirmed and no original has its class.
        faults = verify(run, noisy(lambda z, seed: spoil(-z, seed))).faults
    classes = [f for f in faults if f.what == "class"]
    flipped = int((found.outcomes.status == "flipped").sum())
    assert len(classes) == len(IMAGES) + flipped


@pytest.mark.slow
def test_an_unstable_class_is_neither_flipped_nor_robust(tmp_path):
    found = robustness.audit(
        noisy(rarely(0.5)), IMAGES, attacks=[BIG], epsilons=[12], out=tmp_path / "run"
    )
    assert set(found.outcomes.status) == {"failed"}
    assert all("changes from draw to draw" in reason for reason in found.outcomes.reason)
    told = {d["id"]: d for d in found.manifest["diagnostics"]}
    assert told["D01"]["status"] == "fail"
    assert "12 of 12 images" in told["D01"]["sentence"]
    with Run.open(found.path) as run:
        assert list(check_rows(RunContents.of(run))) == []
        assert verify(run, noisy(rarely(0.5), seed=9)).faults == ()
        summary = summarise(run)
        verdict = verdict_of(summary)
    assert verdict.exit_code == 5
    assert not summary.skipped
    assert any("The class of 12 images changes" in one for one in summary.warnings)
    assert found.report().read_text().count("changes from draw to draw") > 1


@pytest.mark.slow
def test_a_resumed_run_keeps_its_number_of_draws(tmp_path):
    def stop(progress):
        if progress.stage not in ("checks", "clean"):
            raise InterruptedError

    settings = {"labels": LABELS, "attacks": [BIG], "epsilons": [12], "out": tmp_path / "run"}
    with pytest.raises(InterruptedError):
        robustness.audit(noisy(rarely(0.1)), IMAGES, progress=stop, **settings)
    found = robustness.audit(noisy(rarely(0.1), seed=2), IMAGES, resume=True, **settings)
    assert found.manifest["config"]["draws"] == votes.DRAWS
    assert (found.outcomes.status == "flipped").sum() >= 9
    # Each image was decided by votes: a single prediction would use fewer passes.
    assert (found.outcomes.forward >= votes.DRAWS).all()


@pytest.mark.slow
def test_eot_flips_randomised_models_and_is_judged_by_votes():
    found = robustness.audit(
        noisy(noise(3.0)), IMAGES, labels=LABELS, attacks=[make("eot", steps=4, samples=8)],
        epsilons=[16],
    )  # fmt: skip
    assert found.manifest["config"]["draws"] == votes.DRAWS
    kept = found.outcomes[found.outcomes.status != "failed"]
    assert (kept.status == "flipped").mean() > 0.7


@pytest.mark.slow
def test_a_thorough_audit_of_a_random_model_reports_no_false_failures():
    found = robustness.audit(
        noisy(rarely(0.1, shared=True)), IMAGES, labels=LABELS, attacks=[BIG], epsilons=[2, 12],
        thorough=True,
    )  # fmt: skip
    told = {d["id"]: d["status"] for d in found.manifest["diagnostics"]}
    assert told["D01"] == "warn"
    assert {told[n] for n in ("D07", "D16")} == {"skipped"}
    assert told["D20"] == "ok"
    assert "fail" not in {told[n] for n in ("D06", "D08", "D17", "D18", "D20")}
