"""Tests of the search: outcomes do not depend on the batch; passes, ladders, the judge."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from robustness.attacks import BIM, FGSM, FMN, PGD, Bisection, DeepFool, Square
from robustness.backend import _tensorflow
from robustness.engine import attempts, compiled_batch, jobs
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.judge import Candidate, Judge, distances
from robustness.engine.replay import Replay, evenly_spaced, replay_pictures
from robustness.engine.search import run_attack, search
from robustness.errors import AttackError, SettingError
from robustness.images.png import from_png
from robustness.models.classifier import Classifier
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import linear, small_cnn, subjects

LADDER = (1.0, 2.0, 4.0, 8.0)


def run(classifier, attack, threat, some, **kwargs):
    results = run_attack(classifier, attack, threat, some, **kwargs)
    return {example.key: outcomes for example, outcomes in results}


def essence(found):
    return {
        key: [
            (
                r.epsilon,
                r.flip and (r.flip.png, r.flip.adversarial_class),
                r.step,
                r.restart,
                r.forward,
                r.backward,
                r.carried,
            )
            for r in rungs
        ]
        for key, rungs in found.items()
    }


@pytest.fixture(scope="module")
def case():
    classifier = small_cnn(8)
    images = np.random.default_rng(3).integers(0, 256, (21, 12, 12, 3)).astype(np.uint8)
    return classifier, subjects(classifier, images)


@pytest.fixture(scope="module")
def reference(case):
    """The outcomes of each image alone, in one slot."""
    classifier, some = case
    attack, threat = PGD(steps=2, restarts=3), Threat(LADDER)
    # Compiled once; each search begins with an empty batch.
    batch = CompiledBatch(classifier, attack, threat, batch_size=1, seed=0)
    found: dict[str, Any] = {}
    for subject in some:
        found |= {example.key: outcomes for example, outcomes in search(batch, [subject])}
    return essence(found)


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 7, 64])
def test_batch_size_changes_nothing(case, reference, slots):
    classifier, some = case
    found = run(classifier, PGD(steps=2, restarts=3), Threat(LADDER), some, batch_size=slots)
    assert essence(found) == reference


@pytest.mark.slow
def test_order_and_other_images_change_nothing(case, reference):
    classifier, some = case
    found = run(classifier, PGD(steps=2, restarts=3), Threat(LADDER), some[::-2], batch_size=5)
    assert essence(found) == {k: reference[k] for k in found}


@pytest.mark.slow
def test_the_example_covers_early_late_and_restarted_flips(reference):
    """Without early flips, late flips and flips in the second restart the tests would prove little."""
    first = [next((i for i, r in enumerate(rungs) if r[1]), None) for rungs in reference.values()]
    assert len({f for f in first if f is not None}) >= 2
    assert any(r[3] and r[3] > 0 for rungs in reference.values() for r in rungs)


@pytest.mark.slow
def test_a_ladder_matches_separate_runs_and_settles_larger_rungs(case, reference):
    classifier, some = case
    for number, epsilon in enumerate(LADDER):
        alone = run(classifier, PGD(steps=2, restarts=3), Threat((epsilon,)), some)
        for key, rungs in reference.items():
            if not any(r[1] for r in rungs[:number]):
                assert bool(alone[key][0].flip) == bool(rungs[number][1])
            else:
                assert rungs[number][1] == rungs[number - 1][1]
                assert rungs[number][4:] == (0, 0, True)


@pytest.mark.slow
def test_shrinking_the_batch_keeps_the_outcomes(case, monkeypatch):
    classifier, some = case
    some = some[:14]
    attack, threat = Square(steps=150), Threat((1,))
    counts = []
    run_on = compiled_batch.CompiledBatch.step_until

    def counted(self, state, watched, most):
        counts.append(self.size(state))
        return run_on(self, state, watched, most)

    monkeypatch.setattr(compiled_batch.CompiledBatch, "step_until", counted)
    monkeypatch.setattr(compiled_batch, "TRACING", 0)
    # On any kernels: the outcomes of this small network do not depend on rounding.
    monkeypatch.setattr(
        compiled_batch.CompiledBatch, "_gives_same_bits", lambda self, state, smaller, slots: True
    )
    found = run(classifier, attack, threat, some, batch_size=12)
    assert counts[0] == 12
    assert counts[-1] == 6
    monkeypatch.setattr(compiled_batch, "TRACING", 1 << 60)
    counts.clear()
    assert essence(run(classifier, attack, threat, some, batch_size=12)) == essence(found)
    assert set(counts) == {12}


@pytest.mark.slow
@pytest.mark.parametrize("all_steps", [False, True])
@pytest.mark.parametrize(
    "attack", [Square(steps=40), PGD(steps=40), Bisection(of=BIM(steps=4), rounds=8)]
)
def test_several_steps_in_a_call_give_the_same_outcomes(case, monkeypatch, attack, all_steps):
    classifier, some = case
    found = []
    for long in (1 << 60, 1):
        monkeypatch.setattr(compiled_batch, "LONG", long)
        for slots in (5, 12):
            pictures = run(
                classifier, attack, Threat((1, 3)), some, batch_size=slots, all_steps=all_steps
            )
            found.append(essence(pictures))
    assert found[0] == found[1] == found[2] == found[3]


class Sums(keras.layers.Layer):
    """Two weighted sums of each row, independent of other rows.

    With `crowded` they depend on the size of the batch, as rounding does where it selects the kernel;
    `spared` rows do not, those whose first component is below this value.
    """

    def __init__(self, crowded, spared=-1.0):
        super().__init__()
        self.crowded, self.spared = crowded, spared

    def call(self, inputs):
        weights = np.cos(np.arange(32, dtype="float32")).reshape(2, 4, 4, 1)
        sums = ops.sum(inputs[:, None] * ops.convert_to_tensor(weights), axis=(2, 3, 4))
        size = ops.cast(ops.shape(inputs)[0], "float32")
        more = ops.where(inputs[:, 0, 0] < self.spared, 0.0, 1e-6 * size)
        return sums * (1 + more) if self.crowded else sums


MANY_STEPS = Square(steps=2000)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [PGD(steps=3), FMN(steps=3), MANY_STEPS], ids=lambda a: a.name)
def test_prepared_functions_are_not_traced_again(case, monkeypatch, attack):
    classifier, some = case
    made = []
    tracing = _tensorflow._graph

    def counted(fn, *rest):
        made.append(fn.__name__)
        return tracing(fn, *rest)

    threat = Threat((4.0,))
    plain = essence(run(classifier, attack, threat, some, batch_size=12))
    compiled = CompiledBatch(classifier, attack, threat, batch_size=12, seed=0)
    monkeypatch.setattr(_tensorflow, "_graph", counted)
    compiled.prepare()
    step = "_step_rows_until" if attack is MANY_STEPS else "_step_rows"
    assert made == ["_load_rows", step, "_round_rows"]
    again = {example.key: outcomes for example, outcomes in search(compiled, some)}
    assert essence(again) == plain
    assert [name for name in made[3:] if name in made[:3]] == []


def test_the_judge_gets_all_points_of_a_step_at_once(case, monkeypatch):
    classifier, some = case
    asked: list[int] = []
    hear = Judge.__call__
    monkeypatch.setattr(Judge, "__call__", lambda j, s: asked.append(len(s)) or hear(j, s))
    # The first step evaluates the images; the second has flips of the first and last points of other rows.
    run(classifier, BIM(steps=2), Threat((2.0,)), some, batch_size=21)
    assert [n for n in asked if n] == [21]


@pytest.mark.slow
@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("attack", [PGD(steps=20), Square(steps=20)])
def test_the_batch_keeps_its_size_if_shrinking_changes_bits(attack, crowded, monkeypatch):
    monkeypatch.setattr(compiled_batch, "TRACING", 0)
    model = keras.Sequential([keras.layers.Input((4, 4, 1)), Sums(crowded)])
    classifier = Classifier(model, scaling="0..1", head="logits")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
    together = CompiledBatch(classifier, attack, Threat((4,)), batch_size=12, seed=0)
    places = [jobs.AttackJob(s, 4.0) for s in subjects(classifier, pixels)]
    state = together.load(None, range(12), places)
    assert (together.shrink(state, [3, 7], 20) is None) == crowded


@pytest.mark.slow
@pytest.mark.parametrize("alike", [False, True])
def test_a_few_rows_do_not_prove_that_a_smaller_batch_has_the_same_bits(alike, monkeypatch):
    monkeypatch.setattr(compiled_batch, "TRACING", 0)
    model = keras.Sequential([keras.layers.Input((4, 4, 1)), Sums(not alike, spared=0.4)])
    classifier = Classifier(model, scaling="0..1", head="logits")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
    if alike:
        pixels[:] = pixels[:1]
    # The rows that are left have the same bits, and the others have not, or are no others.
    pixels[:, 0, 0] = 200
    pixels[[3, 7], 0, 0] = 40
    attack = BIM(steps=20)
    together = CompiledBatch(classifier, attack, Threat((4,)), batch_size=12, seed=0)
    places = [jobs.AttackJob(s, 4.0) for s in subjects(classifier, pixels)]
    state = together.load(None, range(12), places)
    assert together.shrink(state, [3, 7], 20) is None


class Crowded(BIM):
    """An attack whose own arithmetic depends on the size of the batch."""

    def step(self, task, state, look):
        after = super().step(task, state, look)
        return {**after, "point": after["point"] + 1e-3 * ops.shape(after["point"])[0]}


@pytest.mark.parametrize("attack", [BIM(steps=20), Crowded(steps=20)], ids=["alone", "crowded"])
def test_the_batch_keeps_its_size_if_the_attack_depends_on_it(attack, monkeypatch):
    monkeypatch.setattr(compiled_batch, "TRACING", 0)
    model = keras.Sequential([keras.layers.Input((4, 4, 1)), Sums(crowded=False)])
    classifier = Classifier(model, scaling="0..1", head="logits")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
    together = CompiledBatch(classifier, attack, Threat((4,)), batch_size=12, seed=0)
    places = [jobs.AttackJob(s, 4.0) for s in subjects(classifier, pixels)]
    state = together.load(None, range(12), places)
    assert (together.shrink(state, [3, 7], 20) is None) == isinstance(attack, Crowded)


TWO_SIZES = """
import numpy as np
from keras import ops
from robustness.attacks import APGD
from robustness.engine import jobs
from robustness.engine.compiled_batch import CompiledBatch
from robustness.model_zoo.dogs_vs_cats.zoo import load
from robustness.threat.threat import Threat

pixels = np.random.default_rng(0).integers(0, 256, (42, 128, 128, 3)).astype(np.uint8)
places = [jobs.AttackJob(jobs.Example(str(n), x, n % 2), 1.0) for n, x in enumerate(pixels)]
points = {}
for size in (42, 24):
    batch = CompiledBatch(load(), APGD(steps=10), Threat((1,)), batch_size=size, seed=0)
    state = batch.load(None, range(size), places[:size])
    for _ in range(2):
        state, _ = batch.step(state)
    points[size] = ops.convert_to_numpy(state["own"]["point"])
np.testing.assert_array_equal(points[24], points[42][:24])
"""


@pytest.mark.slow
def test_large_batches_have_the_bits_of_small_ones():
    """TensorFlow's optimizer of graphs reorders sums of large arrays, unless it is stopped.

    It does so on two threads, and a process has one number of threads.
    """
    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "2")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TWO_SIZES],
        env=os.environ | threads | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("attack", [DeepFool(steps=40), BIM(steps=40)], ids=lambda a: a.name)
def test_expected_steps_respect_rows_that_may_end_early(case, monkeypatch, attack):
    classifier, some = case
    expected = []
    monkeypatch.setattr(attempts, "MIN_STEPS_TO_SHRINK", 1)
    monkeypatch.setattr(
        CompiledBatch, "shrink", lambda batch, state, slots, steps: expected.append(steps)
    )
    run(classifier, attack, Threat((4,)), some[:7], batch_size=7)
    if attack.seeks == "closest":
        assert expected and expected[0] <= 2
    else:
        assert expected and max(expected) > 30


def test_a_fingerprint_detects_a_single_bit(case, monkeypatch):
    classifier, some = case
    monkeypatch.setattr(compiled_batch, "TRACING", 0)
    attack, places = PGD(steps=2), [jobs.AttackJob(s, 4.0) for s in some[:6]]
    together = CompiledBatch(classifier, attack, Threat((4,)), batch_size=6, seed=0)
    state = together.load(None, range(6), places)
    first, again = (together._after_a_step(state)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (6,)
    point = ops.convert_to_numpy(state["own"]["point"]).copy()
    point[4, 0, 0, 0] = np.nextafter(point[4, 0, 0, 0], np.float32(999)) + 0.01
    state["own"]["point"] = ops.convert_to_tensor(point)
    moved = together._after_a_step(state)[0]
    assert (moved != first).tolist() == [False] * 4 + [True, False]


def test_passes_are_counted_by_row(case, monkeypatch):
    classifier, some = case
    monkeypatch.setattr(compiled_batch, "HEAVY", 0)
    found = run(classifier, BIM(steps=3), Threat((1,)), some)
    for (rung,) in found.values():
        if rung.flip is None:
            # Three evaluations, and one of the judge for each point: two early ones and the last.
            assert rung.backward == 3
            assert rung.forward >= 6
        else:
            # The judge finds the flip before the next step would.
            assert rung.backward == rung.step
            assert rung.forward == 2 * rung.step
        assert rung.step is None or 1 <= rung.step <= 3


def test_for_a_small_network_only_flips_and_the_last_point_are_judged(case):
    classifier, some = case
    found = run(classifier, BIM(steps=3), Threat((1,)), some)
    steps = {rung.step for (rung,) in found.values()}
    assert {1, None} <= steps
    for (rung,) in found.values():
        # The next step notices that a point flips; the last point has no next step.
        seen = 3 if rung.step is None else min(rung.step + 1, 3)
        assert rung.backward == seen
        assert rung.forward >= seen + 1


def test_every_flip_is_confirmed_from_its_bytes(case):
    classifier, some = case
    images = {s.key: s for s in some}
    found = run(classifier, PGD(steps=10), Threat((2, 6)), some)
    flips = [(images[k], r) for k, rungs in found.items() for r in rungs if r.flip]
    assert flips
    for subject, rung in flips:
        picture = from_png(rung.flip.png)
        assert picture.dtype == np.uint8
        assert np.abs(picture.astype(int) - subject.pixels.astype(int)).max() <= rung.epsilon
        probabilities = classifier.probabilities(picture[None])[0]
        assert probabilities.argmax() == rung.flip.adversarial_class != subject.label
        assert probabilities.max() == pytest.approx(rung.flip.confidence, abs=1e-6)
        assert rung.flip.distances == distances(subject.pixels, picture)


def test_all_steps_reports_the_last_point(case):
    classifier, some = case
    early = run(classifier, BIM(steps=6), Threat((8,)), some)
    late = run(classifier, BIM(steps=6), Threat((8,)), some, all_steps=True)
    assert {k for k, r in early.items() if r[0].flip} == {k for k, r in late.items() if r[0].flip}
    flips = [(early[k][0], late[k][0]) for k in early if early[k][0].flip]
    assert flips
    assert all(r.backward == 6 for _, r in flips)
    assert sum(b.step == 6 for _, b in flips) > 0.8 * len(flips)
    assert (
        np.mean([b.flip.confidence > a.flip.confidence for a, b in flips if b.step > a.step]) > 0.8
    )


@pytest.mark.slow
def test_seeds_affect_only_random_attacks(case):
    classifier, some = case
    threat = Threat((4,))
    assert essence(run(classifier, BIM(), threat, some, seed=1)) == essence(
        run(classifier, BIM(), threat, some, seed=2)
    )
    assert essence(run(classifier, PGD(steps=2), threat, some, seed=1)) != essence(
        run(classifier, PGD(steps=2), threat, some, seed=2)
    )


def test_a_norm_the_attack_lacks_is_refused(case):
    classifier, some = case
    with pytest.raises(SettingError, match="bim has no l2 version"):
        run(classifier, BIM(), Threat((4,), NORMS["l2"]), some)


def test_a_black_box_attack_cannot_read_the_gradient(case):
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class Peek(FGSM):
        knowledge = "decision"

    classifier, some = case
    with pytest.raises(AttackError, match="read the gradient"):
        run(classifier, Peek(), Threat((4,)), some[:1])


def test_non_finite_numbers_fail_only_their_image(case):
    from dataclasses import dataclass

    from keras import ops

    @dataclass(frozen=True, kw_only=True)
    class Breaks(BIM):
        """Divides by zero where the first pixel is dark."""

        def step(self, task, state, look):
            out = super().step(task, state, look)
            dark = task.images[:, :1, :1, :1] < 128
            return {"point": ops.where(dark, float("nan"), out["point"])}

    classifier, some = case
    found = run(classifier, Breaks(steps=2), Threat((1, 2)), some)
    for subject in some:
        dark = subject.pixels[0, 0, 0] < 128
        reasons = [r.reason for r in found[subject.key]]
        assert all("not finite" in r for r in reasons) if dark else not any(reasons)


def test_the_judge_refuses_points_over_budget_or_without_flip(case):
    classifier, some = case
    judge = Judge(classifier, Threat((2,)))
    found = run(classifier, PGD(steps=10), Threat((8,)), some)
    subject = next(s for s in some if found[s.key][0].flip)
    picture = from_png(found[subject.key][0].flip.png)
    far = float(np.abs(picture.astype(int) - subject.pixels.astype(int)).max())
    good, tight, same = judge(
        [
            Candidate(subject.pixels, subject.label, far, picture),
            Candidate(subject.pixels, subject.label, far - 1, picture),
            Candidate(subject.pixels, subject.label, far, subject.pixels),
        ]
    )
    assert good is not None
    assert tight is None
    assert same is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step_size", "edge", "floated", "flipped"),
    [
        (0.4, 100.2, True, False),  # 100.4 is beyond the edge, its file of 100 is not
        (0.4, 100.9, False, False),
        (0.6, 100.8, False, True),  # 100.6 is not, its file of 101 is
        (1.0, 101.5, False, False),  # whole counts: the point is its file
    ],
)
def test_a_float_only_flip_at_the_last_point_is_reported_not_counted(
    step_size, edge, floated, flipped
):
    """No evaluation follows the last step, so that a goal reached there is not noticed."""
    size = 4 * 4 * 3
    weights = np.stack([np.zeros(size), np.full(size, 1 / size)], axis=1)
    classifier = linear(weights, np.array([0.0, -edge]), (4, 4, 3))
    some = subjects(classifier, np.full((3, 4, 4, 3), 100, np.uint8))
    for attack in (
        BIM(steps=1, step_size=step_size),
        PGD(steps=1, step_size=step_size, random_start=False, restarts=2),
    ):
        for rungs in run(classifier, attack, Threat((2,)), some).values():
            assert rungs[0].flips_in_float_only == floated
            assert (rungs[0].flip is not None) == flipped


def test_flips_in_float_evaluates_points_that_are_not_files():
    size = 4 * 4 * 3
    weights = np.stack([np.zeros(size), np.full(size, 1 / size)], axis=1)
    classifier = linear(weights, np.array([0.0, -100.5]), (4, 4, 3))
    points = np.stack([np.full((4, 4, 3), x, np.float32) for x in (100.4, 100.6, 101.0)])
    judge = Judge(classifier, Threat((2,)))
    assert judge.flips_in_float(points, [0, 0, 0]) == [False, True, False]
    assert judge.flips_in_float(points, [1, 1, 1]) == [True, False, False]
    assert judge.flips_in_float(points + np.nan, [0, 0, 0]) == [False, False, False]


def test_distances_match_numpy():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (7, 6, 3)).astype(np.uint8) for _ in range(2))
    b[:3] = a[:3]
    delta = b.astype(float) - a
    got = distances(a, b)
    assert got.l0 == (delta != 0).any(-1).sum()
    assert got.components == (delta != 0).sum()
    for name, order in (("l1", 1), ("l2", 2), ("linf", np.inf)):
        assert got.of(name) == pytest.approx(np.linalg.norm(delta.ravel(), order))


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "tracing"), [(3, 1 << 60), (12, 0)])
def test_a_replay_ends_at_the_flip(case, monkeypatch, slots, tracing):
    classifier, some = case
    # With the second value the batch shrinks as early as possible.
    monkeypatch.setattr(compiled_batch, "TRACING", tracing)
    threat = Threat((6,))
    found = run(classifier, PGD(steps=10), threat, some)
    flips = [(s, found[s.key][0]) for s in some if found[s.key][0].flip][:5]
    seen: dict[int, list] = {}
    batch = CompiledBatch(classifier, PGD(steps=10), threat, batch_size=slots, seed=0)
    replays = [Replay(jobs.AttackJob(s, 6.0, r.restart), r.step, 6.0) for s, r in flips]
    for number, step, picture, row in replay_pictures(batch, classifier, replays):
        seen.setdefault(number, []).append((step, picture, row))
    for number, (subject, rung) in enumerate(flips):
        steps = seen[number]
        assert [s for s, _, _ in steps] == list(range(1, rung.step + 1))
        np.testing.assert_array_equal(steps[-1][1], from_png(rung.flip.png))
        assert steps[-1][2].argmax() == rung.flip.adversarial_class
        assert subject.label != rung.flip.adversarial_class
    few: dict[int, dict] = {}
    for number, step, picture, _ in replay_pictures(batch, classifier, replays, 2):
        few.setdefault(number, {})[step] = picture
    for number, (_, rung) in enumerate(flips):
        assert set(few[number]) == {1, rung.step}
        for step, picture, _ in (seen[number][0], seen[number][-1]):
            np.testing.assert_array_equal(few[number][step], picture)


@pytest.mark.parametrize("steps", [1, 2, 9, 64, 65, 1000, 100_000])
def test_spaced_steps_are_few_and_begin_and_end_with_the_attempt(steps):
    assert evenly_spaced(steps, None) == set(range(1, steps + 1))
    spaced = sorted(evenly_spaced(steps, 64))
    assert (spaced[0], spaced[-1], len(spaced)) == (1, steps, min(steps, 64))
    gaps = np.diff(spaced)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


@pytest.mark.slow
def test_a_search_closed_early_has_yielded_its_settled_images(case, reference):
    classifier, some = case
    read = []

    def examples():
        try:
            for example in some:
                read.append(example.key)
                yield example
        finally:
            read.append("closed")

    stream = examples()
    results = run_attack(classifier, PGD(steps=2, restarts=3), Threat(LADDER), stream, batch_size=4)
    found = dict(essence({e.key: o for e, o in islice(results, 3)}))
    results.close()
    stream.close()
    assert len(found) == 3
    assert found == {key: reference[key] for key in found}
    # Read lazily: only a few ahead of the yielded ones.
    assert read[-1] == "closed"
    assert len(read) - 1 < len(some)


def test_an_error_in_the_examples_loses_nothing_that_was_settled(case, reference):
    classifier, some = case

    def examples():
        yield from some[:6]
        raise KeyboardInterrupt

    found = {}
    with pytest.raises(KeyboardInterrupt):
        for example, outcomes in run_attack(
            classifier, PGD(steps=2, restarts=3), Threat(LADDER), examples(), batch_size=2
        ):
            found[example.key] = outcomes
    assert found
    assert essence(found) == {key: reference[key] for key in found}


def test_the_judging_model_may_differ_from_the_attacked_one(case):
    classifier, some = case
    batch = CompiledBatch(small_cnn(9), PGD(steps=5), Threat((8,)), batch_size=8, seed=0)
    for example, (outcome,) in search(batch, some, judged_by=classifier):
        if outcome.flip:
            probabilities = classifier.probabilities(from_png(outcome.flip.png)[None])[0]
            assert probabilities.argmax() == outcome.flip.adversarial_class != example.label
