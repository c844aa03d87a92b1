"""Tests of masks: attacks change only free pixels, judge and verification check it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import robustness
from robustness.attacks.apgd import APGD
from robustness.attacks.carlini_wagner import CarliniWagner
from robustness.attacks.ddn import DDN
from robustness.attacks.deepfool import DeepFool
from robustness.attacks.ead import EAD
from robustness.attacks.fab import FAB
from robustness.attacks.few_pixel import FewPixel
from robustness.attacks.fmn import FMN
from robustness.attacks.hopskipjump import HopSkipJump
from robustness.attacks.noise import UniformNoise
from robustness.attacks.pgd import PGD
from robustness.attacks.sigma_zero import SigmaZero
from robustness.attacks.simba import SimBA
from robustness.attacks.spsa import SPSA
from robustness.attacks.square import Square
from robustness.engine import compiled_batch, jobs
from robustness.engine.judge import Candidate, Judge
from robustness.engine.search import run_attack
from robustness.errors import SettingError
from robustness.images.png import from_png, to_png
from robustness.runs.schema import MaskEntry
from robustness.runs.store import Run
from robustness.threat.mask import Mask
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from robustness.verification.verify import verify
from tests.robustness.helpers import normal_of, small_cnn, subjects, two_sided

FREE = np.zeros((6, 6), bool)
FREE[1:4, 2:] = True
MASK = Mask.of(FREE, (6, 6, 3))

ATTACKS = [
    *((PGD(steps=30, loss="margin"), norm) for norm in ("linf", "l2", "l1")),
    *((APGD(steps=30, loss="margin"), norm) for norm in ("linf", "l2", "l1")),
    *((FAB(steps=20), norm) for norm in ("linf", "l2", "l1")),
    *((FMN(steps=60), norm) for norm in ("linf", "l2", "l1", "l0")),
    *((DeepFool(steps=10), norm) for norm in ("linf", "l2")),
    (DDN(steps=60), "l2"),
    (CarliniWagner(steps=270), "l2"),
    (EAD(steps=270), "l1"),
    (SigmaZero(steps=150), "l0"),
    (Square(steps=300), "linf"),
    (SPSA(steps=20, samples=32), "linf"),
    (SimBA(steps=500), "l2"),
    (FewPixel(steps=40, population=40), "l0"),
    (HopSkipJump(steps=150), "l2"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "norm"), ATTACKS, ids=lambda x: getattr(x, "label", x))
def test_attacks_flip_within_the_mask_as_the_closed_form(attack, norm):
    """Compared with the closed form for the free pixels, at three times its distance."""
    classifier, images, labels, margins = two_sided(np.random.default_rng(0), far=1.0)
    normal = normal_of(classifier).reshape(36, 3) * FREE.reshape(36, 1)
    least = [
        NORMS[norm].plane_distance(normal if label == 0 else -normal, margin, image.reshape(36, 3))
        for image, label, margin in zip(images, labels, margins, strict=True)
    ]
    assert all(distance is not None for distance in least)
    epsilon = float(np.ceil(3 * max(d for d in least if d is not None) + 2))
    threat = Threat((epsilon,), NORMS[norm], mask=MASK)
    examples = subjects(classifier, images, labels)
    found = list(run_attack(classifier, attack, threat, examples, batch_size=4))
    assert len(found) == len(images)
    for subject, (rung,) in found:
        assert rung.flip
        changed = (from_png(rung.flip.png) != subject.pixels).any(-1)
        assert changed.any()
        assert not changed[~FREE].any()


def test_noise_stays_within_the_mask():
    classifier, images, labels, _ = two_sided(np.random.default_rng(0))
    threat = Threat((9.0,), mask=MASK)
    rows = compiled_batch.CompiledBatch(classifier, UniformNoise(), threat, batch_size=2, seed=0)
    some = subjects(classifier, images[:2], labels[:2])
    state = rows.load(None, range(2), [jobs.AttackJob(s, 9.0) for s in some])
    state, _ = rows.step(state)
    grids, _ = rows.to_uint8(state, state["own"]["point"], [0, 1], [9.0, 9.0])
    changed = (grids != images[:2]).any(-1)
    assert changed[:, FREE].mean() > 0.9
    assert not changed[:, ~FREE].any()


def test_the_judge_refuses_changes_outside_the_mask():
    classifier = small_cnn(0, (6, 6, 3))
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    label = int(classifier.probabilities(image[None]).argmax())
    rng = np.random.default_rng(1)
    for _ in range(300):
        picture = np.where(FREE[..., None], rng.integers(0, 256, image.shape), image)
        if classifier.probabilities(picture[None].astype(np.uint8)).argmax() != label:
            break
    else:
        pytest.fail("no flip in the region")
    inside = picture.astype(np.uint8)
    outside = inside.copy()
    outside[5, 0, 0] ^= 1
    judge = Judge(classifier, Threat((255.0,), mask=MASK))
    suspect = Candidate(image, label, 255.0, inside)
    assert judge([suspect])[0] is not None
    if classifier.probabilities(outside[None]).argmax() != label:
        assert judge([replace(suspect, picture=outside)]) == [None]
        assert Judge(classifier, Threat((255.0,)))([replace(suspect, picture=outside)])[0]


def audited(tmp_path, **more):
    classifier, images, labels, _ = two_sided(np.random.default_rng(0), far=1.0)
    result = robustness.audit(
        classifier, images, labels=labels, attacks=[PGD(steps=10)], epsilons=[16],
        out=tmp_path / "run", batch_size=4, **more,
    )  # fmt: skip
    return classifier, result


@pytest.mark.slow
def test_a_run_stores_its_mask_and_verifies_against_it(tmp_path):
    picture = np.where(FREE, 255, 0).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    Image.fromarray(picture).save(tmp_path / "mask.png")
    classifier, result = audited(tmp_path, mask=tmp_path / "mask.png")
    assert result.flip_rate > 0
    with Run.open(tmp_path / "run") as run:
        card = run.manifest.to_json()["config"]["mask"]
        assert card["share"] == pytest.approx(12 / 36)
        kept = run.png(f"images/{card['sha256'][:2]}/{card['sha256']}.png")
        assert ((from_png(kept) > 0).all(-1) == FREE).all()
        found = verify(run, classifier)
        assert found.exit_code == 0
        assert found.strangers == 0
    assert "33.3 % of the pixels may change" in result.report().read_text(encoding="utf-8")


def test_verification_finds_changes_outside_the_mask(tmp_path):
    """The mask is replaced by one with fewer free pixels, so that flips leave it."""
    classifier, _ = audited(tmp_path, mask=FREE)
    small = FREE.copy()
    small[1, 2:] = False
    less = Mask.of(small, (6, 6, 3))
    with Run.resume(tmp_path / "run") as run:
        run.save_png(less.png(3))
        mask = MaskEntry(**less.card(3))
        config = run.manifest.config.with_changes(mask=mask)
        run.write_manifest(run.manifest.with_changes(config=config))
    with Run.open(tmp_path / "run") as run:
        found = verify(run, classifier)
    assert found.exit_code == 1
    assert any("the mask does not allow" in fault.sentence for fault in found.faults)


def test_a_run_is_not_resumed_with_another_mask(tmp_path):
    audited(tmp_path, mask=FREE)
    with pytest.raises(robustness.errors.RunError, match="setting mask"):
        audited(tmp_path, resume=True)
    _, again = audited(tmp_path, mask=FREE, resume=True)
    assert json.loads((again.path / "run.json").read_text())["finished"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.ones((3, 4)), r"shape \(3, 4\); expected \(6, 6\)"),
        (np.zeros((6, 6)), "lets no pixel change"),
        ("missing.png", "cannot be read"),
    ],
)
def test_invalid_masks_are_refused(given, said):
    with pytest.raises(SettingError, match=said):
        Mask.of(given, (6, 6, 3))


def test_a_mask_matches_its_picture():
    assert (from_png(MASK.png(1))[..., 0] == 255 * FREE).all()
    assert to_png(from_png(MASK.png(3))) == MASK.png(3)
    assert Mask.of(FREE.astype(float), (6, 6, 1)) == MASK
    assert MASK.share == pytest.approx(1 / 3)
