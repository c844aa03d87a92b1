"""Multi-label models: a flip is any label whose decision changes, in closed form."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import robustness
from robustness.errors import ModelError
from robustness.models import label_sets
from robustness.models.classifier import Classifier
from robustness.models.label_sets import NONE, OTHER, LabelSets
from robustness.runs.store import Run
from robustness.verification.verify import verify

SIDE, LABELS = 6, ("cat", "dog", "bird")
RNG = np.random.default_rng(3)


def weights() -> np.ndarray:
    """Unit k is 40 times the mean of stripe k minus 128.5, so that its sigmoid is 0 or 1 mostly."""
    w = np.zeros((SIDE, SIDE, 1, len(LABELS)))
    for k in range(len(LABELS)):
        w[:, 2 * k : 2 * k + 2, :, k] = 40 / (2 * SIDE)
    return w.reshape(-1, len(LABELS))


def model(activation: str | None) -> keras.Model:
    entry = keras.Input((SIDE, SIDE, 1))
    last = layers.Dense(len(LABELS), activation=activation)
    made = keras.Model(entry, last(layers.Flatten()(entry)))
    last.set_weights([weights(), np.full(len(LABELS), -40.0 * 128.5)])
    return made


def pictures(count: int = 40) -> np.ndarray:
    """Stripes of flat brightness around 128.5."""
    levels = RNG.integers(121, 137, (count, len(LABELS)))
    return np.repeat(levels[:, None, :], SIDE, 1).repeat(2, axis=2)[..., None].astype("uint8")


def flips_of(x: np.ndarray, epsilon: int) -> np.ndarray:
    """Whether the nearest stripe can cross 128.5."""
    return np.abs(x[:, 0, ::2, 0] - 128.5).min(axis=1) < epsilon


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_any_label_that_changes_is_a_flip(activation, tmp_path):
    x = pictures()
    result = robustness.audit(
        model(activation),
        x,
        attacks=["pgd"],
        epsilons=[2, 4],
        scaling="0..255",
        head="multi-label",
        classes=LABELS,
        out=tmp_path / "run",
    )
    frame = result.to_frame()
    before = x[:, 0, ::2, 0] > 128
    for epsilon in (2, 4):
        rows = frame[frame.epsilon == epsilon].set_index("image")
        expected = ["flipped" if f else "robust" for f in flips_of(x, epsilon)]
        assert {"flipped", "robust"} <= set(expected)
        assert [rows.status[f"row {n}"] for n in range(len(x))] == expected
        for n, holds in enumerate(before):
            named = " + ".join(np.array(LABELS)[holds]) or NONE
            assert rows.clean_class[f"row {n}"] == named
            if expected[n] == "flipped":
                assert rows.adversarial_class[f"row {n}"] != named
    assert any("any that changes is a flip" in note for note in result.manifest["notes"])
    with Run.open(tmp_path / "run") as run:
        entry = run.manifest.model
        again = Classifier(
            model(activation),
            scaling="0..255",
            head="multi-label",
            class_names=entry.label_names,
            label_sets=LabelSets(entry.label_names, entry.label_sets),
        )
        assert verify(run, again).exit_code == 0


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_the_class_is_the_set_of_labels_whose_logit_is_positive(activation):
    x = pictures(30)
    draft = Classifier(model(activation), scaling="0..255", head="multi-label", class_names=LABELS)
    z = draft.logits_of(x)
    np.testing.assert_allclose(z, x.reshape(30, -1) @ weights() - 40 * 128.5, rtol=1e-4, atol=1e-2)
    sets = LabelSets.seen(LABELS, z)
    classes = draft.with_label_sets(sets).probabilities(x).argmax(axis=1)
    own = [" + ".join(np.array(LABELS)[row > 0]) or NONE for row in z]
    assert [sets.names[c] for c in classes] == own


values = st.lists(
    st.lists(st.floats(-30, 30).filter(lambda v: abs(v) > 1e-3), min_size=3, max_size=3),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@given(values, values)
def test_logits_of_sets_decide_as_the_labels_do(seen, asked):
    sets = LabelSets.seen(LABELS, np.array(seen))
    z = np.array(asked, "float32")
    logits = np.asarray(sets.logits(z))
    for row, given_ in zip(logits, z, strict=True):
        bits = "".join("1" if v > 0 else "0" for v in given_)
        name = sets.names[int(row.argmax())]
        assert name == (sets.names[sets.sets.index(bits)] if bits in sets.sets else OTHER)
        # The lead of the set over any other one is the margin of the label that changes first.
        if bits in sets.sets:
            others = np.delete(row, sets.sets.index(bits))
            assert row.max() - max(others.max(), 0) == pytest.approx(np.abs(given_).min(), rel=1e-5)


def test_labels_do_not_decide_the_scaling():
    x = pictures(4)
    with pytest.raises(ModelError, match=r"multi-label.*--scaling"):
        robustness.audit(model("sigmoid"), x, labels=np.arange(4) % 2, head="multi-label")


def test_too_many_sets_are_refused(monkeypatch):
    z = np.array([[1, 1, 1], [1, 1, -1], [-1, 1, 1], [-1, -1, -1.0]])
    assert len(LabelSets.seen(LABELS, z).sets) == 8
    monkeypatch.setattr(label_sets, "MOST_SETS", 5)
    assert LabelSets.seen(LABELS, z).sets == ("000", "011", "110", "111")
    monkeypatch.setattr(label_sets, "MOST_SETS", 3)
    with pytest.raises(ModelError, match=r"4 different sets.*--limit"):
        LabelSets.seen(LABELS, z)


@pytest.mark.parametrize("sets", [(), ("01",), ("01x",), ("011", "011")])
def test_sets_of_a_damaged_run(sets):
    with pytest.raises(ModelError, match="texts of 0 and 1"):
        LabelSets(LABELS, sets)
