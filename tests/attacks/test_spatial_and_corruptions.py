"""Tests of attacks without a norm: rotations, translations and common corruptions."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.ndimage
import skimage.color
from keras import ops
from PIL import Image

import robustness
from robustness.attacks.components.jpeg import compressed
from robustness.attacks.corruptions import KINDS, Corruptions
from robustness.attacks.pgd import PGD
from robustness.attacks.spatial import Spatial, moved
from robustness.engine import compiled_batch, jobs
from robustness.errors import SettingError
from robustness.runs.store import Run
from robustness.testing import parametrize_with_checks
from robustness.threat import norms
from robustness.threat.threat import Threat
from robustness.verification.verify import verify
from tests.robustness.helpers import small_cnn, subjects


def photo(height, width, seed=0):
    """A uint8 image of smooth colours with a few edges."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 235, (4, 4, 3))
    smooth = scipy.ndimage.zoom(coarse, (height / 4, width / 4, 1), order=1)
    smooth[height // 3 :, width // 2 :] = smooth[height // 3 :, width // 2 :] * 0.6 + 30
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.slow
@parametrize_with_checks([Spatial(steps=5, shifts=3), Corruptions()])
def test_the_contract_is_kept(check):
    check()


def turned(image, degrees, shifts):
    found = moved(
        image[None].astype("float32"),
        np.array([degrees], "float32"),
        np.array(shifts, "float32")[None],
    )
    return ops.convert_to_numpy(found)[0]


def test_quarter_rotations_and_integer_translations_move_pixels_exactly():
    image = photo(9, 9)
    np.testing.assert_allclose(turned(image, 90, [[0, 0]])[0], np.rot90(image), atol=0.05)
    np.testing.assert_allclose(turned(image, -180, [[0, 0]])[0], image[::-1, ::-1], atol=0.05)
    down, across = turned(image, 0, [[2, 0], [0, -3]])
    np.testing.assert_allclose(down[2:], image[:-2], atol=1e-3)
    np.testing.assert_allclose(down[:2], 0, atol=1e-3)
    np.testing.assert_allclose(across[:, :-3], image[:, 3:], atol=1e-3)
    np.testing.assert_allclose(across[:, -3:], 0, atol=1e-3)


def test_interpolated_rotations_match_scipy():
    image = photo(21, 21)
    ours = turned(image, 17, [[0, 0]])[0]
    theirs = scipy.ndimage.rotate(image.astype(float), 17, order=1, reshape=False)
    np.testing.assert_allclose(ours[4:-4, 4:-4], theirs[4:-4, 4:-4], atol=0.6)
    # The rotation about the centre comes first, then the translation.
    both = turned(image, 17, [[2, 1]])[0]
    np.testing.assert_allclose(both[6:-6, 6:-6], ours[4:-8, 5:-7], atol=0.05)


def looked_at(attack, epsilon, image, steps):
    """Every picture that the attack evaluates."""
    classifier = small_cnn(0, image.shape)
    threat = Threat((max(epsilon, 1.0),), norms.parse("free"))
    rows = compiled_batch.CompiledBatch(classifier, attack, threat, batch_size=1, seed=0)
    seen = []
    (some,) = subjects(classifier, image[None])
    state = rows.load(None, [0], [jobs.AttackJob(some, epsilon)])
    inner = classifier.logits

    def spy(points):
        import tensorflow as tf

        tf.py_function(lambda p: seen.append(p.numpy()), [points], [])
        return inner(points)

    classifier.logits = spy
    for _ in range(steps):
        state, _ = rows.step(state)
    return np.concatenate(seen), rows.passes


def test_the_grid_is_complete_and_starts_with_small_rotations():
    image = photo(20, 20)
    found, passes = looked_at(Spatial(steps=5, shifts=3), 30.0, image, 5)
    assert passes == (9, 0)
    assert len(found) == 45
    shifts = [[2.0 * i, 2.0 * j] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    expected = np.concatenate([turned(image, a, shifts) for a in (0, -15, 15, -30, 30)])
    np.testing.assert_allclose(found, expected, atol=1e-2)
    # The image itself is among them.
    np.testing.assert_allclose(found[4], image, atol=1e-3)


@pytest.mark.slow
def test_a_budget_of_zero_changes_nothing():
    image = photo(12, 12)
    for attack in (Spatial(steps=3, shifts=3), Corruptions()):
        found, _ = looked_at(attack, 0.0, image, 1)
        np.testing.assert_allclose(found, np.broadcast_to(image, found.shape), atol=1e-3)


def corrupted(kind, severity, image, rows=1):
    return corrupted_by(kind, [severity] * rows, image)


def corrupted_by(kind, severities, image):
    """The image after the corruption at each severity, in one batch."""
    classifier = small_cnn(0, image.shape)
    attack = Corruptions(kind=kind)
    threat, rows = Threat((max(severities),), norms.parse("free")), len(severities)
    compiled = compiled_batch.CompiledBatch(classifier, attack, threat, batch_size=rows, seed=0)
    label = int(classifier.probabilities(image[None]).argmax())
    places = [
        jobs.AttackJob(jobs.Example(str(i), image, label), float(severity))
        for i, severity in enumerate(severities)
    ]
    state = compiled.load(None, range(rows), places)
    state, _ = compiled.step(state)
    return ops.convert_to_numpy(state["own"]["point"]).astype("float64")


@pytest.mark.slow
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_blurs_brightness_and_contrast_match_reference_libraries(severity):
    image = photo(56, 40)
    one = image / 255
    index = severity - 1
    sigma = np.array([1, 2, 3, 4, 6])[index] / 224
    blurred = corrupted("gaussian-blur", severity, image)[0]
    expected = scipy.ndimage.gaussian_filter(
        image.astype(float), (sigma * 56, sigma * 40, 0), mode="nearest"
    )
    np.testing.assert_allclose(blurred, expected, atol=0.02)
    hsv = skimage.color.rgb2hsv(one)
    hsv[..., 2] = np.clip(hsv[..., 2] + [0.1, 0.2, 0.3, 0.4, 0.5][index], 0, 1)
    expected = 255 * skimage.color.hsv2rgb(hsv)
    np.testing.assert_allclose(corrupted("brightness", severity, image)[0], expected, atol=0.05)
    mean, share = one.mean((0, 1)), [0.4, 0.3, 0.2, 0.1, 0.05][index]
    expected = 255 * np.clip((one - mean) * share + mean, 0, 1)
    np.testing.assert_allclose(corrupted("contrast", severity, image)[0], expected, atol=0.05)
    share = [0.6, 0.5, 0.4, 0.3, 0.25][index]
    box = Image.Resampling.BOX
    small = Image.fromarray(image).resize((int(40 * share), int(56 * share)), box)
    expected = np.asarray(small.resize((40, 56), box)).astype(float)
    # Pillow rounds twice.
    np.testing.assert_allclose(corrupted("pixelate", severity, image)[0], expected, atol=1.6)


@pytest.mark.parametrize("quality", [25, 18, 15, 10, 7])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (37, 21)])
def test_jpeg_matches_pillow(quality, height, width):
    image = photo(height, width)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    theirs = np.asarray(Image.open(buffer)).astype(float)
    ours = ops.convert_to_numpy(
        compressed(image[None].astype("float32"), np.array([quality], "float32"))
    )[0]
    apart = np.abs(ours - theirs)
    # Pillow rounds chroma to integers in fixed-point arithmetic.
    assert apart.mean() < 1.0
    assert np.quantile(apart, 0.99) < 6
    assert np.abs(theirs - image).mean() > 3 * apart.mean()


def test_a_grey_jpeg_matches_pillow():
    image = photo(32, 40)[..., :1]
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0], "L").save(buffer, "JPEG", quality=15)
    theirs = np.asarray(Image.open(buffer)).astype(float)
    ours = ops.convert_to_numpy(compressed(image[None].astype("float32"), np.array([15.0], "f")))
    assert np.abs(ours[0, ..., 0] - theirs).mean() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("severity", [1, 5])
def test_noises_have_the_expected_moments(severity):
    image = np.full((40, 40, 3), 100, np.uint8)
    x, index = 100 / 255, severity - 1
    drawn = corrupted("shot-noise", severity, image, rows=4) / 255
    rate = [60, 25, 12, 5, 3][index]
    counts = np.round(drawn * rate)
    inside = drawn < 1 - 1e-6
    np.testing.assert_allclose((drawn * rate)[inside], counts[inside], atol=1e-3)
    # Poisson counts: their frequencies, up to clipping at white.
    from scipy.stats import poisson

    for number in range(int(x * rate) + 1):
        assert (counts == number).mean() == pytest.approx(poisson.pmf(number, x * rate), abs=0.012)
    drawn = corrupted("gaussian-noise", severity, image, rows=4) / 255
    sigma = [0.08, 0.38][severity > 1]
    inside = (drawn > 0) & (drawn < 1)
    from scipy.stats import norm

    assert inside.mean() == pytest.approx(
        norm.cdf((1 - x) / sigma) - norm.cdf(-x / sigma), abs=0.01
    )
    drawn = corrupted("impulse-noise", severity, image, rows=4)
    amount = [0.03, 0.27][severity > 1]
    for value in (0, 255):
        assert (drawn == value).mean() == pytest.approx(amount / 2, abs=0.008)
    assert (np.abs(drawn - 100) < 1e-3).mean() == pytest.approx(1 - amount, abs=0.01)
    drawn = corrupted("speckle-noise", severity, image, rows=4) / 255
    sigma = x * [0.15, 0.6][severity > 1]
    assert np.median(np.abs(drawn - x)) == pytest.approx(0.6745 * sigma, rel=0.05)


@pytest.mark.slow
def test_every_corruption_grows_with_severity():
    image = photo(32, 32)
    for kind in KINDS:
        changes = [np.abs(one - image).mean() for one in corrupted_by(kind, (1, 3, 5), image)]
        assert 0 < changes[0] < changes[1] < changes[2], kind


@pytest.mark.slow
def test_a_threat_without_a_norm_goes_through_audit_report_and_verification(tmp_path):
    classifier = small_cnn(5, (16, 16, 3))
    images = np.stack([photo(16, 16, seed) for seed in range(12)])
    result = robustness.audit(
        classifier, images, labels=classifier.probabilities(images).argmax(1),
        attacks=[Spatial(steps=7, shifts=3), Corruptions()], norm="free", epsilons=[1, 5],
        out=tmp_path / "run", batch_size=4, thorough=True,
    )  # fmt: skip
    frame = result.to_frame()
    assert (frame.status == "flipped").any()
    assert not frame[frame.status == "flipped"].linf.isna().any()
    page = result.report().read_text(encoding="utf-8")
    assert "degrees or severity" in page
    with Run.open(tmp_path / "run") as run:
        assert verify(run, classifier).exit_code == 0
        failed = [d for d in run.manifest.to_json()["diagnostics"] if d["status"] == "fail"]
        assert not failed


def test_attacks_of_a_norm_are_refused_without_a_norm():
    with pytest.raises(SettingError, match="has no free version"):
        PGD().expect_norm(norms.parse("free"))
    with pytest.raises(SettingError, match="works in free"):
        Spatial().expect_norm(norms.parse("linf"))
    with pytest.raises(SettingError, match="Did you mean free"):
        norms.parse("fre")
