"""Tests of decoding one file: conversions are noted, bad files give a reason, nothing is raised."""

from __future__ import annotations

import hashlib
import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustness.errors import SettingError
from robustness.images import Picture, open_source

RGB = (8, 8, 3)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(
    width: int, height: int, bits: int, colour: int, rows: bytes = b"", *, extra: bytes = b""
) -> bytes:
    """A PNG built by hand, for variants that Pillow cannot write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = _png_chunk(b"IHDR", header) + extra + _png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + _png_chunk(b"IEND", b"")


def _bytes(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _noise(height=8, width=8, channels=3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


@pytest.fixture
def read(tmp_path):
    def read(data: bytes, name: str = "a.png", shape=RGB) -> Picture:
        (tmp_path / name).write_bytes(data)
        source = open_source(tmp_path / name)
        return source.read(source.entries()[0], shape)

    return read


def test_a_valid_picture_is_unchanged(read):
    pixels = _noise()
    picture = read(_bytes(Image.fromarray(pixels)))
    assert picture.pixels.dtype == np.uint8
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.digest == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert (picture.note, picture.reason) == ("", "")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "TIFF"])
def test_every_lossless_format_gives_the_same_pixels(read, kind):
    pixels = _noise()
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read(_bytes(Image.fromarray(pixels), kind, **options), f"a.{kind.lower()}")
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.note == ""


def test_a_jpeg_is_read(read):
    picture = read(_bytes(Image.new("RGB", (8, 8), (200, 10, 30)), "JPEG", quality=95), "a.jpg")
    assert np.abs(picture.pixels.astype(int) - (200, 10, 30)).max() <= 3


def test_resizing_is_bilinear_with_half_pixel_centres(read):
    """Twice as wide: the new centres are at one and three quarters between the old ones."""
    two = np.repeat(np.array([[[0], [200]]], np.uint8), 3, axis=2)
    picture = read(_bytes(Image.fromarray(two)), shape=(1, 4, 3))
    assert picture.pixels[0, :, 0].tolist() == [0, 50, 150, 200]
    assert picture.note == "resized from 2x1, aspect not kept"


def test_resizing_is_antialiased(read):
    """A checkerboard reduced eightfold is grey; without antialiasing it would not be."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    picture = read(_bytes(Image.fromarray(np.dstack([board] * 3))))
    assert np.abs(picture.pixels.astype(int) - 127).max() <= 2
    assert picture.note == "resized from 64x64"


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png", "tif", "gif"])
def test_a_truncated_file_has_a_reason(read, suffix):
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    data = _bytes(Image.fromarray(_noise(64, 64)), kind, **options)
    picture = read(data[: len(data) * 2 // 3], f"a.{suffix}")
    assert picture.pixels is None
    assert picture.digest == ""
    assert picture.reason.endswith(".")
    if suffix == "jpg":
        assert picture.reason == "The JPEG file is truncated: it ends before the picture does."


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(read, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = _bytes(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    picture = read(data, f"a.{kind.lower()}")
    assert (picture.pixels == (255, 0, 0)).all()
    assert "the first of several frames" in picture.note


def test_16_bit_grey_is_scaled(read):
    values = np.array([[0, 256, 32768, 65535]], ">u2")
    picture = read(_png(4, 1, 16, 0, b"\0" + values.tobytes()), shape=(1, 4, 3))
    assert picture.pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    assert picture.note == "16 bits a channel cut to 8; grey converted to RGB"


def test_16_bit_rgb_is_scaled_with_a_note(read):
    values = np.array([[256, 32768, 65535]], ">u2")
    picture = read(_png(1, 1, 16, 2, b"\0" + values.tobytes()), shape=(1, 1, 3))
    assert picture.pixels.ravel().tolist() == [1, 128, 255]
    assert picture.note == "16 bits a channel cut to 8"


def test_32_bit_values_are_refused(read):
    picture = read(_bytes(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"), "a.tif")
    assert picture.pixels is None
    assert "range is not known" in picture.reason


def test_cmyk_is_converted(read):
    data = _bytes(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")
    picture = read(data, "a.tif")
    assert (picture.pixels == (255, 0, 0)).all()
    assert picture.note == "CMYK converted to RGB"


def test_a_palette_is_converted(read):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    picture = read(_bytes(image))
    assert (picture.pixels == (10, 20, 30)).all()
    assert picture.note == "palette converted to RGB"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_blended_onto_white(read, mode):
    if mode == "P":
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        data = _bytes(image, transparency=1)
    else:
        data = _bytes(Image.new(mode, (8, 8), (0,) * len(mode)))
    picture = read(data)
    assert (picture.pixels == 255).all()
    assert "transparency put on white" in picture.note


def test_half_transparent_black_is_grey(read):
    picture = read(_bytes(Image.new("RGBA", (8, 8), (0, 0, 0, 128))))
    assert np.abs(picture.pixels.astype(int) - 127).max() <= 1


def test_an_opaque_alpha_channel_changes_nothing(read):
    picture = read(_bytes(Image.new("RGBA", (8, 8), (1, 2, 3, 255))))
    assert (picture.pixels == (1, 2, 3)).all()
    assert picture.note == "opaque alpha channel dropped"


def test_grey_becomes_rgb_and_rgb_grey(read):
    picture = read(_bytes(Image.new("L", (8, 8), 77)))
    assert (picture.pixels == 77).all()
    assert picture.pixels.shape == RGB
    assert picture.note == "grey converted to RGB"
    picture = read(_bytes(Image.new("RGB", (8, 8), (77, 77, 77))), shape=(8, 8, 1))
    assert (picture.pixels == 77).all()
    assert picture.pixels.shape == (8, 8, 1)
    assert picture.note == "RGB converted to grey"
    assert read(_bytes(Image.new("1", (8, 8), 1)), shape=(8, 8, 1)).pixels.min() == 255


def _upright() -> np.ndarray:
    """Six areas of one colour each, not symmetric under any rotation or reflection, (16, 24, 3)."""
    small = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)
    return np.dstack([small.repeat(8, 0).repeat(8, 1)] * 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(read, kind, orientation):
    """The file has the picture in sensor orientation; the reader must return it upright."""
    upright = _upright()
    seen = {  # EXIF: the sides of the picture that hold the first row and the first column
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    ways: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}
    options = ways.get(kind, {})
    data = _bytes(Image.fromarray(np.ascontiguousarray(seen)), kind, exif=exif, **options)
    picture = read(data, f"a.{kind.lower()}", shape=(16, 24, 3))
    assert np.abs(picture.pixels.astype(int) - upright).max() <= 3
    assert picture.note == ("turned as its EXIF orientation says" if orientation > 1 else "")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_is_ignored(read, exif):
    data = _bytes(Image.new("RGB", (8, 8), "white"), "JPEG", exif=exif)
    assert read(data, "a.jpg").pixels.min() > 250


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_a_decompression_bomb_is_not_decoded(read, side):
    """8,000: over our limit; 12,000: Pillow warns; 60,000: Pillow refuses."""
    tracemalloc.start()
    picture = read(_png(side, side, 8, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picture.pixels is None
    assert "pixels" in picture.reason
    assert "50,000,000" in picture.reason
    assert peak < 5 << 20


def test_text_chunks_that_decompress_to_too_much_are_refused(read):
    bomb = _png_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * (16 << 20)))
    picture = read(_png(8, 8, 8, 0, (b"\0" + b"\x07" * 8) * 8, extra=bomb))
    assert picture.pixels is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello, I am not a picture", "not a picture"),
        (b"%PDF-1.7", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"\xff\xd8\xff\xe0", "not a picture"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
    ],
)
def test_a_file_that_is_not_a_picture_has_a_reason(read, data, words):
    picture = read(data, "a.jpg")
    assert picture.pixels is None
    assert words in picture.reason
    assert (
        "0x" not in picture.reason
    )  # no addresses of objects, so that the message is reproducible


def test_a_format_not_on_the_list_is_not_decoded(read):
    picture = read(_bytes(Image.new("RGB", (8, 8)), "PPM"), "a.png")
    assert "not a picture in a format that is read" in picture.reason


def test_a_wrong_suffix_is_read_with_a_note(read):
    picture = read(_bytes(Image.new("RGB", (8, 8), "red")), "a.jpg")
    assert (picture.pixels == (255, 0, 0)).all()
    assert picture.note == "PNG data in a file named .jpg"


@pytest.mark.slow
def test_any_damage_gives_a_picture_or_a_reason(read):
    """`read` returns for every changed byte."""
    random = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        whole = np.frombuffer(_bytes(Image.fromarray(_noise()), kind, exif=exif), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole), 4)] = random.integers(0, 256, 4)
            picture = read(damaged.tobytes(), f"a.{kind.lower()}")
            assert (picture.pixels is None) == bool(picture.reason)


def test_a_model_with_unusual_channels_needs_arrays(read):
    with pytest.raises(SettingError, match="5 channels"):
        read(_bytes(Image.new("RGB", (8, 8))), shape=(8, 8, 5))
