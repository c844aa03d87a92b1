"""Tests of upload.py: spellings, and the files that Pillow itself writes and reads."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robustness.errors import PipelineError, SettingError
from robustness.pipeline.upload import PNG, SUBSAMPLINGS, Upload, parse_upload


def picture(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels)).astype(np.uint8)


@pytest.mark.parametrize(
    ("text", "canonical", "suffix", "seen"),
    [
        ("png", "png", ".png", None),
        (" PNG ", "png", ".png", None),
        ("jpeg:90", "jpeg:90", ".jpg", (90, 90)),
        ("jpg:90", "jpeg:90", ".jpg", (90, 90)),
        ("jpeg:90,seen=90", "jpeg:90", ".jpg", (90, 90)),
        ("jpeg:90,seen=90-90", "jpeg:90", ".jpg", (90, 90)),
        ("jpeg:90, seen=85-95", "jpeg:90,seen=85-95", ".jpg", (85, 95)),
        ("jpeg:90,seen=none", "jpeg:90,seen=none", ".jpg", None),
        ("jpeg:7,subsampling=4:2:0", "jpeg:7", ".jpg", (7, 7)),
        (
            "jpeg:100,seen=80,subsampling=4:4:4",
            "jpeg:100,subsampling=4:4:4,seen=80",
            ".jpg",
            (80, 80),
        ),
        ("webp:90", "webp:90", ".webp", None),
        ("webp:90,seen=85-95", "webp:90,seen=85-95", ".webp", (85, 95)),
        ("webp:lossless", "webp:lossless", ".webp", None),
    ],
)
def test_spellings(text, canonical, suffix, seen):
    upload = parse_upload(text)
    assert (upload.text, upload.suffix, upload.seen) == (canonical, suffix, seen)
    assert upload.lossless == (canonical in ("png", "webp:lossless"))
    assert parse_upload(canonical) == upload


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected png, jpeg:90"),
        ("gif", "expected png, jpeg:90"),
        ("png:90", "PNG has no quality. Write png"),
        ("png,seen=90", "options here: none"),
        ("jpeg", "without a quality; write jpeg:90"),
        ("jpeg:", "without a quality"),
        ("jpeg:0", "from 1 to 100"),
        ("jpeg:101", "from 1 to 100"),
        ("jpeg:-5", "from 1 to 100"),
        ("jpeg:90.5", "from 1 to 100"),
        ("jpeg:high", "from 1 to 100"),
        ("jpeg:\N{ARABIC-INDIC DIGIT FIVE}", "from 1 to 100"),
        ("jpeg:" + "9" * 9999, "from 1 to 100"),
        ("webp:0", "webp:90 or webp:lossless"),
        ("jpeg:75-95", "write jpeg:85,seen=75-95"),
        ("webp:75-95", "write webp:85,seen=75-95"),
        ("jpeg:90,seen=95-85", "from the lower to the higher"),
        ("jpeg:90,seen=0-85", "a quality from 1 to 100"),
        ("jpeg:90,seen=85-", "a quality from 1 to 100"),
        ("jpeg:90,seen=101", "a quality from 1 to 100"),
        ("jpeg:90,seen=80,seen=90", "second time"),
        ("jpeg:90,subsampling=4:1:1", "4:4:4, 4:2:2, 4:2:0"),
        ("jpeg:90,progressive=yes", "subsampling= and seen="),
        ("jpeg:90,", "options here"),
        ("webp:90,subsampling=4:2:0", "options here: seen="),
        ("webp:lossless,seen=90", "Write webp:lossless"),
    ],
)
def test_wrong_texts_are_refused(text, words):
    with pytest.raises(SettingError, match=r"upload|subsampling") as raised:
        parse_upload(text)
    assert words in str(raised.value)
    assert len(str(raised.value)) < 600


@given(st.text(alphabet="pngjewb:0159-=,seenlo ", max_size=24))
def test_any_text_is_read_or_refused(text):
    try:
        upload = parse_upload(text)
    except SettingError:
        return
    assert parse_upload(upload.text) == upload


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("quality", "subsampling"), [(1, "4:2:0"), (75, "4:2:2"), (100, "4:4:4")])
def test_a_jpeg_is_the_one_that_pillow_writes(quality, subsampling, channels):
    upload = parse_upload(f"jpeg:{quality},subsampling={subsampling}")
    pixels = picture(37, 53, channels)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(
        buffer, "JPEG", quality=quality, subsampling=SUBSAMPLINGS[subsampling]
    )
    data = upload.encode(pixels)
    assert data == buffer.getvalue() == upload.encode(pixels)
    decoded = np.asarray(Image.open(io.BytesIO(data))).reshape(pixels.shape)
    assert np.array_equal(upload.decode(data), decoded)
    assert not np.array_equal(decoded, pixels)


def test_the_default_subsampling_is_that_of_pillow():
    pixels = picture(32, 32, 3)
    for quality in (50, 90, 100):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        assert parse_upload(f"jpeg:{quality}").encode(pixels) == buffer.getvalue()


@pytest.mark.parametrize("text", ["png", "webp:lossless"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 18)])
def test_a_lossless_file_keeps_every_pixel(text, channels, size):
    upload = parse_upload(text)
    pixels = picture(size[0], size[1], channels)
    assert np.array_equal(upload.decode(upload.encode(pixels), channels), pixels)
    if channels == 4:
        pixels[..., 3] = 255
        assert np.array_equal(upload.decode(upload.encode(pixels), channels), pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_webp_is_lossy_and_keeps_the_shape(channels):
    upload = parse_upload("webp:90")
    rows, columns = np.mgrid[:40, :60]
    pixels = np.stack([rows * 5, columns * 4, rows + columns, 0 * rows + 255], -1)[..., :channels]
    pixels = pixels.astype(np.uint8)
    decoded = upload.decode(upload.encode(pixels), channels)
    assert decoded.shape == pixels.shape
    assert not np.array_equal(decoded, pixels)
    assert np.abs(decoded.astype(int) - pixels).mean() < 4


@pytest.mark.parametrize("text", ["png", "jpeg:90", "webp:90", "webp:lossless"])
def test_damaged_and_foreign_files_are_refused(text):
    upload = parse_upload(text)
    data = upload.encode(picture(64, 64, 3))
    other = (parse_upload("jpeg:90") if text == "png" else PNG).encode(picture(64, 64, 3))
    for bad in (b"", b"x", data[:20], data[: len(data) // 2], other):
        with pytest.raises(ValueError, match="it "):
            upload.decode(bad)
    with pytest.raises(ValueError, match="3 channels; expected 2"):
        upload.decode(data, 2)


@pytest.mark.parametrize("text", ["png", "jpeg:90", "webp:90"])
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_never_raises_another_error(text, place, value):
    upload = parse_upload(text)
    data = bytearray(upload.encode(picture(16, 16, 3)))
    data[place % len(data)] = value
    try:
        assert upload.decode(bytes(data)).dtype == np.uint8
    except ValueError as error:
        assert str(error)


def test_a_file_that_claims_to_be_huge_is_not_decoded():
    data = bytearray(parse_upload("jpeg:90").encode(picture(16, 16, 3)))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(ValueError, match="pixels"):
        parse_upload("jpeg:90").decode(bytes(data))


def test_several_frames_are_refused():
    buffer = io.BytesIO()
    frames = [Image.fromarray(picture(16, 16, 3, seed)) for seed in (0, 1)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="several frames"):
        parse_upload("webp:90").decode(buffer.getvalue())


def test_pictures_that_a_format_cannot_hold():
    with pytest.raises(
        SettingError, match="JPEG takes pictures with 1 or 3 channels; these have 4"
    ):
        parse_upload("jpeg:90").encode(picture(8, 8, 4))
    with pytest.raises(PipelineError, match="16,383 to a side"):
        parse_upload("webp:90").encode(np.zeros((1, 16_384, 3), np.uint8))
    with pytest.raises(PipelineError, match="65,500 to a side"):
        parse_upload("jpeg:90").encode(np.zeros((65_501, 1, 1), np.uint8))


def test_an_upload_is_a_value():
    upload = parse_upload("jpeg:90,seen=85-95")
    assert isinstance(upload, Upload)
    assert {upload: 1}[parse_upload("jpeg:90,seen=85-95")] == 1
    with pytest.raises(AttributeError):
        setattr(upload, "text", "png")  # noqa: B010 - mypy refuses the plain assignment


def test_reading_an_upload_imports_no_framework():
    code = (
        "import sys; from robustness.pipeline.upload import parse_upload; parse_upload('jpeg:90');"
        "assert not {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
