"""Tests of survival.py with classifiers whose answers are known for every file."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from robustness.errors import PipelineError
from robustness.numerics.intervals import wilson_interval
from robustness.pipeline.survival import MOST_FLIPS, QUALITIES, evenly_spread, survival
from robustness.pipeline.upload import Upload, parse_upload
from robustness.threat.goals import Targeted, Untargeted

RNG = np.random.default_rng(0)


def noisy(number: int, side: int = 16) -> list[np.ndarray]:
    return [RNG.integers(0, 256, (side, side + 3, 3)).astype(np.uint8) for _ in range(number)]


def through_pillow(pixels: np.ndarray, quality: int, subsampling: int = 2) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(io.BytesIO(buffer.getvalue())))


def is_bright(pictures: Sequence[np.ndarray], upload: Upload) -> np.ndarray:
    """Class 1 if the first pixel's red exceeds 127 in the file."""
    decoded = [upload.decode(upload.encode(picture)) for picture in pictures]
    return np.array([int(picture[0, 0, 0] > 127) for picture in decoded])


def received(pictures: list[np.ndarray]) -> int:
    """How many pictures are bright as they are."""
    return sum(int(picture[0, 0, 0] > 127) for picture in pictures)


@pytest.mark.parametrize(("text", "subsampling"), [("png", 2), ("jpeg:90,subsampling=4:4:4", 0)])
def test_counts_are_those_of_files_that_pillow_writes(text, subsampling):
    pictures = [p for p in noisy(80) if p[0, 0, 0] > 127]
    result = survival(
        pictures,
        np.zeros(len(pictures), int),
        Untargeted(),
        is_bright,
        upload=parse_upload(text),
        pipelines={"never": lambda some, upload: np.zeros(len(some), int), "same": is_bright},
    )
    assert (result.examined, result.found) == (len(pictures), len(pictures))
    assert [p.quality for p in result.points] == [*QUALITIES, None, None]
    counts = []
    for point, quality in zip(result.points, QUALITIES, strict=False):
        files = [through_pillow(p, quality, subsampling) for p in pictures]
        assert point.name == f"jpeg:{quality}"
        assert point.flips.count == received(files)
        assert (point.flips.low, point.flips.high) == wilson_interval(
            point.flips.count, len(pictures)
        )
        counts.append(point.flips.count)
    assert counts[0] < counts[-1] <= len(pictures)
    never, same = result.points[-2:]
    assert (never.name, never.flips.count) == ("never", 0)
    sent = pictures if text == "png" else [through_pillow(p, 90, 0) for p in pictures]
    assert same.flips.count == received(sent)


def test_a_target_is_judged_by_its_own_predicate():
    pictures = noisy(12)
    aims = np.full(12, 2)
    two = survival(pictures, aims, Targeted(2), lambda some, upload: np.full(len(some), 2))
    one = survival(pictures, aims, Targeted(2), lambda some, upload: np.full(len(some), 1))
    assert {p.flips.share for p in two.points} == {1.0}
    assert {p.flips.share for p in one.points} == {0.0}


def test_what_compression_alone_causes_is_told():
    pictures = noisy(10)
    result = survival(
        pictures,
        np.zeros(10, int),
        Untargeted(),
        lambda some, upload: np.ones(len(some), int),
        originals=pictures[::-1],
    )
    assert all(p.originals is not None and p.originals.count == 10 for p in result.points)
    assert (
        survival(pictures, np.zeros(10, int), Untargeted(), is_bright).points[0].originals is None
    )


def test_refused_pictures_are_in_no_total():
    pictures = [*noisy(5), *noisy(3, side=8)]

    def cropping(some: Sequence[np.ndarray], upload: Upload) -> np.ndarray:
        if any(len(picture) < 16 for picture in some):
            raise PipelineError("The picture is smaller than the crop.")
        return np.ones(len(some), int)

    result = survival(
        pictures, np.zeros(8, int), Untargeted(), is_bright, pipelines={"crop": cropping}
    )
    crop = result.points[-1]
    assert (crop.flips.count, crop.flips.total, crop.refused) == (5, 5, 3)
    assert result.points[0].refused == 0


def test_each_picture_is_read_once_and_at_most_a_hundred():
    reads = []

    class Files(list):
        def __getitem__(self, place):
            reads.append(place)
            return super().__getitem__(place)

    pictures = Files(noisy(1) * 250)
    result = survival(pictures, np.zeros(250, int), Untargeted(), is_bright)
    assert (result.examined, result.found) == (MOST_FLIPS, 250)
    assert reads == evenly_spread(250, MOST_FLIPS)
    assert result.points[0].flips.total == MOST_FLIPS


def test_progress_counts_flips_and_originals():
    shown = []
    pictures = noisy(5)
    survival(
        pictures,
        np.zeros(5, int),
        Untargeted(),
        is_bright,
        originals=pictures,
        most=3,
        progress=lambda done, total: shown.append((done, total)),
    )
    assert shown == [(3, 6), (6, 6)]


def test_places_are_spread_evenly():
    for count in (0, 1, 99, 100, 101, 250, 10_000):
        places = evenly_spread(count, 100)
        assert len(places) == len(set(places)) == min(count, 100)
        if count:
            assert (places[0], places[-1]) == (0, count - 1)
            assert np.ptp(np.diff(places)) <= 1 if count > 1 else True


def test_groups_do_not_change_counts(monkeypatch):
    pictures = noisy(9)
    whole = survival(pictures, np.zeros(9, int), Untargeted(), is_bright, originals=pictures)
    monkeypatch.setattr("robustness.pipeline.survival._PIXELS_AT_ONCE", 1)
    assert whole == survival(
        pictures, np.zeros(9, int), Untargeted(), is_bright, originals=pictures
    )


def test_no_flips_give_no_shares():
    result = survival([], np.zeros(0, int), Untargeted(), is_bright)
    assert result.points[0].flips.share is None


def test_numbers_that_do_not_agree():
    with pytest.raises(ValueError, match="3 pictures came with 2 aims"):
        survival(noisy(3), np.zeros(2, int), Untargeted(), is_bright)
