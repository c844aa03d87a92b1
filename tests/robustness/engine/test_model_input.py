"""Pictures of several sizes behind an input pipeline, against closed forms and the named code itself."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robustness.attacks import DDN, PGD, Square
from robustness.contract.attack import Attack
from robustness.engine.jobs import Example
from robustness.engine.model_input import (
    by_canvas,
    canvas_of,
    example_on,
    model_input,
    on_canvas,
)
from robustness.engine.outcomes import EpsilonOutcome
from robustness.engine.search import run_attack
from robustness.models.classifier import Classifier
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.twin import images_of
from robustness.threat import norms
from robustness.threat.threat import Threat
from tests.robustness.helpers import linear, normal_of, small_cnn

SHAPE = (8, 8, 3)
SIZES = [(20, 31), (9, 8), (33, 17), (20, 31), (12, 40), (8, 8)]


def deployed(classifier: Classifier, text: str) -> Classifier:
    """The classifier behind a named pipeline."""
    convention = parse_pipeline(text).convention
    return classifier.deployed(Deployment(convention, classifier.input_shape))


def pictures(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        (rng.integers(90, 160, (1, 1, 3)) + rng.integers(-60, 61, (*size, 3))).astype(np.uint8)
        for size in SIZES
    ]


def examples(classifier: Classifier, some: list[np.ndarray]) -> list[Example]:
    labels = classifier.probabilities(some).argmax(axis=1)
    return [Example(str(n), x, int(y)) for n, (x, y) in enumerate(zip(some, labels, strict=True))]


def attacked(
    classifier: Classifier, attack: Attack, threat: Threat, some: list[Example], size: int = 12
) -> dict[str, list[EpsilonOutcome]]:
    results = run_attack(classifier, attack, threat, some, batch_size=size)
    return {example.key: outcomes for example, outcomes in results}


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_canvas_holds_its_picture_and_wastes_at_most_a_quarter_of_a_side(height, width):
    canvas = canvas_of((height, width), 3)
    for side, there in zip((height, width), canvas, strict=False):
        assert side <= there <= max(32, 1.25 * side + 8)
    assert canvas_of((height, width), 1, exact=True) == (height, width, 1)


def test_the_canvas_of_a_picture_depends_on_its_size_alone():
    classifier = deployed(small_cnn(3, SHAPE), "tf.image.resize")
    some = examples(classifier, pictures(0))
    groups = by_canvas(classifier, PGD(), some)
    alone = [by_canvas(classifier, PGD(), [one])[0][0] for one in some]
    assert {e.key: canvas for canvas, group in groups for e in group} == {
        e.key: canvas for e, canvas in zip(some, alone, strict=True)
    }


def test_an_example_on_a_canvas_keeps_its_picture():
    picture = pictures(1)[0]
    example = example_on((32, 40, 3), "a", picture, 1)
    np.testing.assert_array_equal(example.cropped(example.pixels), picture)
    assert example.inside is not None
    assert example.inside.sum() == picture.shape[0] * picture.shape[1]
    assert on_canvas(picture, picture.shape) is picture


def exact_distances(classifier: Classifier, some: list[Example]) -> list[float]:
    """The linf distance of each picture from the decision boundary of two linear classes.

    The pipeline is linear, so the gradient at the picture is that at the image, taken back by its matrices.
    """
    deployment = classifier.deployment
    assert isinstance(deployment, Deployment)
    normal = normal_of(classifier).reshape(SHAPE)
    far = []
    for example in some:
        geometry = deployment.geometry(example.pixels.shape[:2])
        slope = np.einsum("hH,hwc,wW->HWc", geometry.rows, normal, geometry.columns)
        logits = classifier.logits_of([example.pixels])[0]
        far.append(abs(float(logits[1] - logits[0])) / np.abs(slope).sum())
    return far


@pytest.fixture(scope="module")
def two_classes() -> tuple[Classifier, list[Example]]:
    rng = np.random.default_rng(7)
    normal = rng.normal(0, 0.004, int(np.prod(SHAPE)))
    plain = linear(np.stack([0 * normal, normal], axis=1), np.zeros(2), SHAPE)
    some = pictures(2)
    scores = deployed(plain, "tf.image.resize").logits_of(some)[:, 1]
    centred = linear(
        np.stack([0 * normal, normal], axis=1), np.array([0, -np.median(scores)]), SHAPE
    )
    classifier = deployed(centred, "tf.image.resize")
    return classifier, examples(classifier, some)


@pytest.mark.slow
def test_a_picture_flips_exactly_beyond_its_distance(two_classes):
    classifier, some = two_classes
    for example, far in zip(some, exact_distances(classifier, some), strict=True):
        below, above = np.floor(far), np.ceil(far * (1 + 1e-6))
        for epsilon, flips in ((below, False), (above, True)):
            if 1 <= epsilon <= 60:
                threat = Threat((float(epsilon),))
                found = attacked(classifier, PGD(steps=30), threat, [example])[example.key]
                assert (found[0].flip is not None) is flips


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["pillow:lanczos", "keras.load_img", "tf.image.resize:antialias=true"]
)
def test_a_flip_flips_the_named_code(text):
    classifier = deployed(small_cnn(4, SHAPE), text)
    some = examples(classifier, pictures(3))
    results = attacked(classifier, PGD(steps=10), Threat((40.0,)), some)
    flips = {key: found[0].flip for key, found in results.items() if found[0].flip}
    assert flips
    convention, plain = parse_pipeline(text).convention, classifier.at_model_size()
    for example in some:
        flip = flips.get(example.key)
        if flip is None:
            continue
        file = np.asarray(Image.open(io.BytesIO(flip.png)))
        assert file.shape == example.pixels.shape
        assert np.abs(file.astype(int) - example.pixels).max() == flip.distances.linf <= 40
        image = convention.image_of_file(flip.png, SHAPE)
        assert int(plain.probabilities(image[None]).argmax()) == flip.adversarial_class
        assert flip.adversarial_class != example.label


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "norm"),
    [(PGD(steps=6, random_start=True), "linf"), (DDN(steps=8), "l2"), (Square(steps=20), "linf")],
    ids=["pgd", "ddn", "square"],
)
def test_outcomes_do_not_depend_on_batch_or_order(attack, norm):
    classifier = deployed(small_cnn(5, SHAPE), "pillow:bilinear")
    some = examples(classifier, pictures(4))
    threat = Threat((80.0 if norm == "linf" else 300.0,), norms.parse(norm))
    reference = attacked(classifier, attack, threat, some)
    assert any(found[-1].flip for found in reference.values())
    # The reference ran in a batch with empty slots.
    for size, order in ((1, some[2:] + some[:2]), (7, some[::-1])):
        again = attacked(classifier, attack, threat, order, size)
        assert {k: again[k] for k in reference} == reference


@pytest.mark.slow
def test_the_nearest_file_has_the_size_of_the_picture(two_classes):
    classifier, some = two_classes
    found = attacked(classifier, DDN(steps=40), Threat((400.0,), norms.parse("l2")), some)
    flips = [found[e.key][0].flip for e in some]
    assert all(flips)
    for example, flip in zip(some, flips, strict=True):
        assert flip is not None
        file = np.asarray(Image.open(io.BytesIO(flip.png))).astype(float)
        assert file.shape == example.pixels.shape
        assert np.isclose(np.linalg.norm(file - example.pixels), flip.distances.l2)


def test_attacks_resize_rows_first_where_pillow_does():
    classifier = small_cnn(0, (10, 9, 3))
    convention = parse_pipeline("pillow:lanczos").convention
    sizes = [(40, 14), (38, 16), (33, 22)]
    orders = [convention.geometry(size, (10, 9, 3)).rows_first for size in sizes]
    if not any(orders):
        pytest.skip("this Pillow always begins with the columns")
    assert not all(orders)
    rng = np.random.default_rng(5)
    some = [(rng.random((*size, 3)) < 0.5).astype(np.uint8) * np.uint8(255) for size in sizes]
    canvas = (40, 32, 3)
    entering = model_input(deployed(classifier, "pillow:lanczos"), Threat((8.0,)), canvas)
    arrays = entering.arrays([example_on(canvas, str(n), x, 0) for n, x in enumerate(some)])
    points = np.stack([on_canvas(x, canvas) for x in some]).astype(np.float32)
    seen = images_of(points, arrays["rows"], arrays["columns"], convention, arrays["rows_first"])
    judged = np.stack([convention.image(x, (10, 9, 3)) for x in some]).astype(float)
    # The last rounding of the one may be up where that of the other is down.
    assert np.abs(np.asarray(seen) - judged).max() <= 1
    other = images_of(points, arrays["rows"], arrays["columns"], convention)
    assert np.abs(np.asarray(other) - judged).max() > 5


def test_both_orders_are_computed_only_where_a_picture_may_need_them():
    classifier = deployed(small_cnn(0, SHAPE), "pillow:lanczos")
    wide = model_input(classifier, Threat((8.0,)), (40, 160, 3))
    assert "rows_first" not in wide.arrays([example_on((40, 160, 3), "0", pictures(0)[0], 0)])
