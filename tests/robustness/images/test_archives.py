"""Tests of untrusted zip archives: read in place, within limits, without extraction."""

from __future__ import annotations

import gc
import io
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustness.errors import ImagesError
from robustness.images import archives, open_source, select

SHAPE = (4, 4, 3)


def _png(grey: int = 7) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (grey,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def _zip(members: dict[str, bytes], packing=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def open_zip(tmp_path):
    def open_zip(content: dict[str, bytes] | bytes, known=None, name="photos.zip"):
        data = content if isinstance(content, bytes) else _zip(content)
        (tmp_path / name).write_bytes(data)
        return open_source(tmp_path / name, known)

    return open_zip


def _labels(source) -> dict[str, int | None]:
    return {entry.key: entry.label for entry in source.entries()}


def _only(source):
    (entry,) = source.entries()
    return source.read(entry, SHAPE)


@pytest.mark.parametrize("around", ["", "data/", "data/2024/"])
def test_class_folders_are_found_inside_other_folders(open_zip, around):
    members = {f"{around}dog/b.png": _png(2), f"{around}cat/a.png": _png(1), f"{around}x.txt": b""}
    source = open_zip({"__MACOSX/cat/._a.png": b"", **members})
    assert source.class_names == ("cat", "dog")
    assert _labels(source) == {f"{around}cat/a.png": 0, f"{around}dog/b.png": 1}
    assert source.description == "archive photos.zip, 2 classes, 2 images, 1 other file skipped"
    assert [int(source.read(e, SHAPE).pixels.max()) for e in source.entries()] == [1, 2]


def test_a_folder_around_unlabelled_pictures_is_not_a_class(open_zip):
    source = open_zip({"holiday/1.png": _png(), "holiday/2.png": _png()}, ("cat", "dog"))
    assert set(_labels(source).values()) == {None}


def test_an_unknown_folder_is_named(open_zip):
    with pytest.raises(
        ImagesError, match=r"None of the 2 folders \(test, train\) is one of the classes"
    ):
        open_zip({"train/cat/1.png": _png(), "test/cat/2.png": _png()}, ("cat", "dog"))


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_archive_of_kaggle_is_labelled(open_zip, packing):
    train = _zip({f"train/{w}.{n}.jpg": _png(n) for w in ("cat", "dog") for n in range(5)})
    test = _zip({"test1/1.jpg": _png()})
    outer = _zip({"sampleSubmission.csv": b"id", "test1.zip": test, "train.zip": train}, packing)
    source = open_zip(b"something before the archive" + outer)
    assert source.class_names == ("cat", "dog")
    assert len(source.entries()) == 10
    assert source.entries()[0].key == "train/cat.0.jpg"
    for entry in select(source.entries()):
        pixels = source.read(entry, SHAPE).pixels
        assert (pixels == int(entry.name.split(".")[1])).all()


@pytest.mark.slow
def test_a_very_deep_path_is_accepted(open_zip):
    source = open_zip({"a/" * 30_000 + "x.png": _png()})
    assert _only(source).pixels is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.png", "leads out"),
        ("a/../../evil.png", "leads out"),
        ("a\\..\\..\\evil.png", "leads out"),
        ("/etc/evil.png", "absolute"),
        ("\\\\host\\evil.png", "absolute"),
        ("C:/evil.png", "absolute"),
        ("C:evil.png", "absolute"),
        ("evil\x1b.png", "control character"),
    ],
)
def test_a_name_outside_the_archive_is_one_unreadable_picture(open_zip, name, words):
    source = open_zip({"cat/a.png": _png(), "dog/b.png": _png(), name: _png()}, ("cat", "dog"))
    pictures = [source.read(entry, SHAPE) for entry in source.entries()]
    reasons = [p.reason for p in pictures if p.pixels is None]
    assert len(reasons) == 1
    assert words in reasons[0]
    assert {p.entry.label for p in pictures if p.pixels is not None} == {0, 1}
    assert [p.entry.label for p in pictures if p.pixels is None] == [None]


def test_a_link_is_unreadable(open_zip):
    info = zipfile.ZipInfo("a.png")
    info.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "is a link" in _only(open_zip(buffer.getvalue())).reason


def test_an_encrypted_picture_is_unreadable(open_zip):
    data = bytearray(_zip({"a.png": _png()}))
    data[6] |= 1  # the flags in the member's local header
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # and in the central directory
    assert _only(open_zip(bytes(data))).reason == "It is encrypted."


def test_a_duplicate_name_is_unreadable(open_zip):
    with pytest.warns(UserWarning, match="Duplicate name"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.png", _png(1))
            archive.writestr("a.png", _png(2))
    source = open_zip(buffer.getvalue())
    first, second = [source.read(entry, SHAPE) for entry in source.entries()]
    assert first.pixels is not None
    assert "another file of this name" in second.reason
    assert first.entry.key != second.entry.key


def test_a_high_compression_ratio_is_unreadable(open_zip):
    bomb = _zip({"a.bmp": b"BM" + bytes(8 << 20)})
    tracemalloc.start()
    picture = _only(open_zip(bomb))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "more than 100 times" in picture.reason
    assert peak < 5 << 20  # stopped during decompression, not afterwards


def test_decompressed_bytes_are_counted_whatever_the_header_claims(open_zip, monkeypatch):
    """The directory claims 10 bytes: reading stops there or the checksum fails, before 4 MiB are read."""
    data = bytearray(_zip({"a.png": np.random.default_rng(0).bytes(4 << 20)}))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    picture = _only(open_zip(bytes(data)))
    assert picture.reason.startswith("The archive is damaged here")
    monkeypatch.setattr(archives, "MAX_BYTES", 1 << 20)
    honest = _zip({"a.png": np.random.default_rng(0).bytes(4 << 20)})
    assert "larger than 1 MiB" in _only(open_zip(honest)).reason


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_methods_without_limits_are_not_read(open_zip, packing):
    reason = _only(open_zip(_zip({"a.png": _png()}, packing))).reason
    assert "packed otherwise than by deflate" in reason


def test_a_damaged_member_is_one_unreadable_picture(open_zip):
    data = _zip({"a.png": _png(1), "b.png": _png(2)}, zipfile.ZIP_STORED)
    where = data.index(_png(1)) + 20
    source = open_zip(data[:where] + b"\xaa\xbb" + data[where + 2 :])
    first, second = [source.read(entry, SHAPE) for entry in source.entries()]
    assert "CRC" in first.reason
    assert second.pixels is not None


def test_too_many_files_are_refused(open_zip, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 2)
    with pytest.raises(ImagesError, match="holds 3 files; at most 2"):
        open_zip({f"{n}.png": _png() for n in range(3)})


def test_a_nested_archive_that_is_a_bomb_is_refused(open_zip, monkeypatch):
    monkeypatch.setattr(archives, "SPOOL_FLOOR", 1 << 20)
    with pytest.raises(ImagesError, match="made to do harm"):
        open_zip({"train.zip": bytes(8 << 20)})


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + b"x" * 100])
def test_a_file_that_is_not_a_zip_is_refused(open_zip, content):
    with pytest.raises(ImagesError, match=r"photos\.zip cannot be read .*expected a sound zip"):
        open_zip(content)


def test_a_truncated_zip_is_refused(open_zip):
    with pytest.raises(ImagesError, match="cannot be read"):
        open_zip(_zip({"a.png": _png()})[:-30])


def test_a_nested_archive_that_is_not_a_zip_is_refused(open_zip):
    with pytest.raises(ImagesError, match=r"train\.zip in photos\.zip cannot be read"):
        open_zip({"train.zip": b"garbage"})


def test_an_archive_without_pictures_is_refused(open_zip):
    with pytest.raises(ImagesError, match=r"holds no pictures \(2 other files skipped\)"):
        open_zip({"a.txt": b"", "test1.zip": b""})


def test_threads_share_one_open_archive(open_zip):
    source = open_zip({f"{n:03}.png": _png(n) for n in range(100)})
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            pictures = list(pool.map(lambda entry: source.read(entry, SHAPE), source.entries()))
            assert [int(p.pixels[0, 0, 0]) for p in pictures] == list(range(100))


@pytest.fixture
def earlier_objects_kept():
    """Leave the objects of earlier tests out of collections: there are millions, of TensorFlow's graphs."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("earlier_objects_kept")
@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_are_closed(open_zip, packing):
    """Warnings are errors here: a file handle that is not closed fails this test."""
    train = _zip({"train/cat.1.png": _png()})
    source = open_zip(_zip({"train.zip": train}, packing))
    assert _only(source).pixels is not None
    del source
    with pytest.raises(ImagesError):
        open_zip({"train.zip": b"garbage"})
    gc.collect()


def test_windows_of_files_seek_like_files():
    data = bytes(range(100))
    with archives.Window(io.BytesIO(data), 10, 50) as window:
        assert window.read() == data[10:60]
        assert window.seek(-5, io.SEEK_END) == 45
        assert window.read(100) == data[55:60]
        assert window.read(1) == b""
        window.seek(3)
        assert window.seek(2, io.SEEK_CUR) == 5
        assert window.read(2) == data[15:17]
        with pytest.raises(ValueError, match="before the beginning"):
            window.seek(-1)


@pytest.mark.slow
@pytest.mark.photos
def test_photographs_stream_from_kaggles_archive(photos_archive: Path):
    """Memory does not grow with the number of photos, nor time with the position in the archive."""
    source = open_source(photos_archive, ("cat", "dog"))
    chosen = select(source.entries(), limit=500)
    assert [sum(e.label == n for e in chosen) for n in (0, 1)] == [250, 250]
    assert all(e.name.startswith(("cat", "dog")[int(e.label or 0)]) for e in chosen)
    assert source.read(chosen[0], (128, 128, 3)).pixels.shape == (128, 128, 3)
    tracemalloc.start()
    peaks = []
    for part in (chosen[:50], chosen[50:]):
        tracemalloc.reset_peak()
        assert all(source.read(entry, (128, 128, 3)).pixels is not None for entry in part)
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 20)
    assert max(peaks) < 4 << 20


@pytest.mark.usefixtures("earlier_objects_kept")
def test_a_member_in_a_reference_cycle_is_closed_without_a_warning(tmp_path, recwarn):
    path = tmp_path / "data.npz"
    np.savez(path, images=np.zeros((1, 2, 2, 3), np.uint8))
    cycle: list[object] = []
    with zipfile.ZipFile(path) as archive:
        cycle += [archives.member(path, archive, archive.infolist()[0]), cycle]
    del cycle
    gc.collect()
    assert not [one for one in recwarn if one.category is ResourceWarning]
