"""Tests of `plan`: with a sample of all images, its counts are those of the audit; machines divide them."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import robustness
from robustness.attacks import PGD
from robustness.auditing.cost_estimate import AttackCost
from robustness.auditing.plan import PRESETS
from robustness.auditing.probe import AttackProbe, ImageSteps, Seconds
from robustness.cli.plan import show
from robustness.contract.cost import passes
from robustness.errors import ImagesError, SettingError
from robustness.images.png import to_png
from robustness.runs.store import Run
from tests import forked
from tests.robustness.helpers import normal_of, small_cnn, two_sided

ATTACK = PGD(steps=3, restarts=2)
EPSILONS = [1, 2]


@pytest.fixture(scope="module")
def material():
    classifier = small_cnn(9)
    images = np.random.default_rng(4).integers(0, 256, (30, 12, 12, 3)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    labels[::10] = (labels[::10] + 1) % 3
    return classifier, images, labels


@pytest.fixture(scope="module")
def estimate(material):
    classifier, images, labels = material
    return robustness.plan(
        classifier,
        images,
        labels=labels,
        attacks=[ATTACK],
        epsilons=EPSILONS,
        sample=100,
        presets=["quick", "standard"],
    )


@pytest.mark.slow
def test_a_sample_of_all_images_gives_the_counts_of_the_audit(material, estimate, tmp_path):
    classifier, images, labels = material
    result = robustness.audit(
        classifier, images, labels=labels, attacks=[ATTACK], epsilons=EPSILONS, out=tmp_path / "run"
    )
    (cost,) = estimate.audit.attacks
    rows = result.outcomes
    assert estimate.images == estimate.sample == 30
    assert estimate.wrong == 3
    assert cost.images.expected == 27
    assert cost.forward == rows.forward.sum()
    assert cost.backward == rows.backward.sum()
    top = rows[rows.epsilon == 2]
    assert 0 < cost.never_flip.expected == (top.status == "robust").sum() < 27
    # Three steps, two starts, two budgets; one pass of each kind in a step.
    assert (cost.most_forward, cost.most_backward) == (12, 12)
    assert tuple(2 * n for n in passes(ATTACK, 3)) == (12, 12)
    assert rows.groupby("image").backward.sum().max() == cost.most_backward
    with Run.open(tmp_path / "run") as run:
        originals = {row.png for row in run.image_rows() if row.png}
        strips = set(run.strips().png) - originals - set(rows.png.dropna())
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "run" / "images").glob("*/*")}
    kept = sum(sizes.values()) - sum(sizes[name.split("/")[-1]] for name in strips)
    assert estimate.originals + estimate.audit.pictures == kept


@pytest.mark.slow
def test_a_cascade_gives_each_attack_the_images_that_are_left(material, estimate, tmp_path):
    classifier, images, labels = material
    result = robustness.audit(
        classifier, images, labels=labels, attacks="quick", epsilons=EPSILONS, out=tmp_path / "run"
    )
    quick, standard = estimate.presets
    assert PRESETS == ("quick", "standard", "thorough")
    rows = result.outcomes
    assert [one.attack for one in quick.attacks] == list(dict.fromkeys(
        attack["label"] for attack in result.manifest["config"]["attacks"]
    ))  # fmt: skip
    for cost in quick.attacks:
        mine = rows[rows.attack == cost.attack]
        ran = mine[mine.status.isin(["flipped", "robust"])]
        assert cost.images.expected == ran.image.nunique()
        assert cost.forward == mine.forward.sum()
        assert cost.backward == mine.backward.sum()
    assert quick.cascade and standard.cascade
    most = [sum(a.most_forward for a in one.attacks) for one in estimate.presets]
    assert most == sorted(most)


def probe_of(images: dict[str, ImageSteps]) -> AttackProbe:
    return AttackProbe(
        ATTACK, 4, most_steps=40, each_steps=20, passes=(2, 1), compiling=Seconds(3, 5),
        step=Seconds(0.1, 0.2), call=Seconds(0.25, 0.5), per_image=Seconds(0.3, 0.4), images=images,
    )  # fmt: skip


def test_machines_divide_what_images_take_and_repeat_the_rest():
    images = {"a": ImageSteps(10, 0, flipped=True), "b": ImageSteps(40, 2, flipped=False)}
    many = AttackCost.of(probe_of(images), 3000, 3)
    assert many.steps.expected == 50_000
    # Compiling, steps at 0.1 s, and 0.3 s of each of 2000 images.
    assert many.seconds(1).expected == pytest.approx(3 + 5000 + 600)
    assert many.seconds(4).expected == pytest.approx(3 + (5000 + 600) / 4)
    assert many.processor_seconds(4).expected == pytest.approx(4 * 5 + 10_000 + 800)
    # The image that takes most is on one machine, in a batch that is almost empty: 40 steps at 0.25 s.
    few = AttackCost.of(probe_of(images), 3, 3)
    assert few.seconds(1).expected == pytest.approx(3 + 40 * 0.25 + 0.6)
    assert few.seconds(4).expected == pytest.approx(3 + 40 * 0.25 + 0.6 / 4)


@pytest.mark.slow
def test_an_estimate_adds_what_comes_before_the_attacks(estimate):
    (cost,) = estimate.audit.attacks
    before = estimate.loading.wall + estimate.checks.wall
    for workers in (1, 4):
        expected = before + estimate.clean.wall / workers + cost.seconds(workers).expected
        assert estimate.seconds(workers=workers).expected == pytest.approx(expected)
    assert cost.memory > 100 << 20  # that of the process, with TensorFlow
    plain = json.loads(json.dumps(estimate.to_dict()))
    assert plain["audit"]["seconds"]["expected"] == estimate.seconds().expected
    assert [one["name"] for one in plain["presets"]] == ["quick", "standard"]


@pytest.mark.slow
def test_images_that_take_longer_than_the_probe_are_counted_and_bounded(material):
    classifier, images, labels = material
    estimate = robustness.plan(
        classifier, images, labels=labels, attacks=[ATTACK], epsilons=EPSILONS, seconds=1e-9,
        presets=(), sample=10,
    )  # fmt: skip
    (cost,) = estimate.audit.attacks
    assert estimate.sample == 10
    assert cost.unfinished == cost.sampled
    # Not a step was made: at least all steps of one epsilon, at most those of both.
    assert cost.steps.expected == pytest.approx(cost.images.expected * 6)
    assert cost.steps.high <= 30 * 12
    assert cost.steps.low == 0


@pytest.mark.slow
def test_a_preset_that_the_norm_lacks_is_named_and_wrong_images_are_refused(material):
    classifier, images, labels = material
    estimate = robustness.plan(
        classifier, images, labels=labels, attacks=["sigma-zero:steps=5"], norm="l0", epsilons=[5],
        presets=["quick"], sample=6,
    )  # fmt: skip
    (quick,) = estimate.presets
    assert not quick.attacks
    assert "no l0 version" in quick.reason
    with pytest.raises(ImagesError, match="None of the 6 images of the sample"):
        robustness.plan(classifier, images, labels=(labels * 0 + 1) % 3, sample=6, only=lambda e: (
            labels[int(e.key.removeprefix("row "))] != 1
        ) and int(e.key.removeprefix("row ")) % 10 != 0)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"workers": 0}, "0 workers"),
        ({"sample": 0}, "sample of 0 images"),
        ({"seconds": 0.0}, "0.0 seconds"),
    ],
)
def test_settings_that_are_not_usable_are_refused(options, reason):
    with pytest.raises(SettingError, match=reason):
        robustness.plan("dogs-vs-cats", "pets:1", **options)


steps_of_an_image = st.builds(
    ImageSteps,
    steps=st.integers(0, 42),  # some attacks begin with steps of their own
    epsilons=st.integers(0, 2),
    flipped=st.booleans(),
    finished=st.booleans(),
    passes=st.tuples(st.integers(0, 90), st.integers(0, 90)),
).map(
    lambda one: one if one.finished or not one.flipped else ImageSteps(one.steps, 0, flipped=True)
)


def test_what_the_probe_did_not_finish_is_not_called_robust():
    late = {str(n): ImageSteps(3, 2, flipped=False, finished=False) for n in range(40)}
    cost = AttackCost.of(probe_of(late), 4000, 40)
    assert cost.never_flip.low == 0 and cost.never_flip.high == 4000
    assert cost.images.low > 3600
    # An attack after it may have no image at all.
    robust = {str(n): ImageSteps(40, 2, flipped=False) for n in range(40)}
    later = AttackCost.of(probe_of(robust), 4000, 40, late.keys())
    assert (later.images.low, later.images.expected, later.never_flip.low) == (0, 4000, 0)
    assert later.seconds(1).low == 0


@pytest.mark.slow
def test_the_workers_of_a_cluster_are_said_not_to_be_counted(material):
    classifier, images, labels = material
    estimate = robustness.plan(
        classifier, images, labels=labels, attacks=["fgsm"], epsilons=[1], presets=(), sample=6,
        cluster="local:2",
    )  # fmt: skip
    assert "cluster local:2 are not measured" in estimate.notes[0]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(steps_of_an_image, max_size=30),
    st.integers(0, 20),
    st.integers(1, 1000),
    st.integers(0, 30),
)
def test_the_expected_cost_lies_in_its_interval(images, others, scale, doubtful):
    sample = max(1, len(images) + others)
    probe = probe_of({str(n): image for n, image in enumerate(images)})
    cost = AttackCost.of(probe, sample * scale, sample, set(map(str, range(doubtful))))
    for figure in (cost.images, cost.never_flip, cost.steps, cost.longest, cost.seconds(3)):
        assert -1e-6 <= figure.low <= figure.expected + 1e-6
        assert figure.expected <= figure.high + 1e-6
    assert cost.images.expected == pytest.approx(len(images) * scale)
    assert cost.steps.expected <= 42 * len(images) * scale + 1e-6


def test_a_linear_model_far_from_its_boundary_takes_all_steps():
    classifier, images, labels, margins = two_sided(np.random.default_rng(0), rows=40)
    # The linf distance to the boundary, in counts.
    far = margins / np.abs(normal_of(classifier)).sum() > 1.5
    images, labels = images[far], labels[far]
    assert len(images) > 5
    estimate = robustness.plan(
        classifier, images, labels=labels, attacks=[ATTACK], epsilons=[1], presets=()
    )
    (cost,) = estimate.audit.attacks
    assert cost.never_flip.expected == cost.images.expected == len(images)
    assert cost.backward == len(images) * 6 == len(images) * cost.most_backward


@pytest.mark.slow
def test_the_command_prints_json_and_stores_nothing(material, tmp_path):
    classifier, images, labels = material
    classifier.model.save(tmp_path / "model.keras")
    for number, (image, label) in enumerate(zip(images[:8], labels[:8], strict=True)):
        (tmp_path / "photos" / str(label)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / str(label) / f"{number}.png").write_bytes(to_png(image))
    words = ["plan", "model.keras", "photos", "--scaling", "0..1", "-a", "fgsm", "-e", "2"]
    words += ["--workers", "3", "--json", "--no-presets", "--quiet"]
    environment = {**os.environ, "CI": "1", "COLUMNS": "160"}
    done = forked.robustness(words, tmp_path, environment)
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert plain["workers"] == 3
    assert plain["audit"]["attacks"][0]["most_forward"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.keras", "photos"]


@pytest.mark.slow
def test_the_table_names_attacks_presets_and_the_sample(estimate, capsys):
    show(replace(estimate, workers=4))
    printed = " ".join(capsys.readouterr().out.split())
    for word in ("pgd(steps=3, restarts=2)", "12 + 12", "audit", "quick", "standard"):
        assert word in printed, word
    assert "30 images on 4 machines like this one; measured on 30 of them" in printed
