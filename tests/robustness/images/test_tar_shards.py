"""Tests of tar files of pictures: WebDataset's samples, read at offsets, and untrusted headers."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robustness.errors import ImagesError
from robustness.images import open_source, tar_index, tar_shards

SHAPE = (4, 4, 3)


def _png(grey: int = 7) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (grey,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def _member(name: str, data: bytes = b"", layout: Any = tarfile.PAX_FORMAT, **fields) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = fields.pop("size", len(data))
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(layout) + data + bytes(-len(data) % 512)


END = bytes(1024)


def _tar(members: dict[str, bytes], layout: Any = tarfile.PAX_FORMAT) -> bytes:
    return b"".join(_member(name, data, layout) for name, data in members.items()) + END


@pytest.fixture
def open_tar(tmp_path):
    def open_tar(content: dict[str, bytes] | bytes, known=None, name="data.tar", column=None):
        data = content if isinstance(content, bytes) else _tar(content)
        (tmp_path / name).write_bytes(data)
        return open_source(tmp_path / name, known, column)

    return open_tar


def _labels(source) -> dict[str, int | None]:
    return {entry.key: entry.label for entry in source.entries()}


def _read(source) -> list[int | str]:
    """The grey value of each picture, or the reason why there is none."""
    pictures = [source.read(entry, SHAPE) for entry in source.entries()]
    return [p.reason if p.pixels is None else int(p.pixels[0, 0, 0]) for p in pictures]


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_have_the_class_of_their_cls_member(open_tar, layout):
    deep = "a" * 60 + "/" + "b" * 90 + "/x"
    source = open_tar(
        _tar(
            {"a.png": _png(1), "a.cls": b"3", "b.cls": b"0\n", "b.png": _png(2),
             f"{deep}.png": _png(3), f"{deep}.cls": b"1", "c.png": _png(4), "notes.txt": b""},
            layout,
        )
    )  # fmt: skip
    assert _labels(source) == {"a.png": 3, "b.png": 0, f"{deep}.png": 1, "c.png": None}
    assert _read(source) == [1, 2, 3, 4]
    assert source.description == (
        "tar file data.tar, 3 classes, 4 images (1 without label), labels of .cls, 1 other file skipped"
    )


def test_names_and_json_are_labels(open_tar):
    members = {"a.jpg": _png(1), "a.json": b'{"label": "dog", "id": 5}'}
    members |= {"b.jpg": _png(2), "b.json": b'{"label": "cat"}', "c.jpg": _png(3), "c.json": b"[1]"}
    source = open_tar(members)
    assert source.class_names == ("cat", "dog")
    assert list(_labels(source).values()) == [1, 0, None]
    assert "labels of label in .json" in source.description
    assert list(_labels(open_tar(members, column="id")).values()) == [5, None, None]
    assert list(_labels(open_tar(members, column="none")).values()) == [None] * 3
    with pytest.raises(ImagesError, match="no label called 'kind'"):
        open_tar(members, column="kind")
    with pytest.raises(ImagesError, match=r"category, class, each of which .* --label-column"):
        open_tar({"a.jpg": _png(), "a.json": b'{"class": 1, "category": 2}'})
    assert list(_labels(open_tar({"a.jpg": _png(), "a.txt": b"4"}, column="txt")).values()) == [4]
    with pytest.raises(
        ImagesError, match=r"data\.tar: Label 'bird' is not a class; expected cat, dog"
    ):
        open_tar({"a.jpg": _png(), "a.cls": b"bird"}, ("cat", "dog"))


def test_labels_that_are_not_read_are_said(open_tar):
    members = {
        "a.png": _png(), "a.cls": b"\xef\xbb\xbf1\r\n", "b.png": _png(), "b.cls": b"\x80\x04K\x01.",
        "c.png": _png(), "c.json": b'{"label": [0, 1]}', "d.png": _png(), "d.json": b"{",
        "e.png": _png(), "e.cls": b"", "f.png": _png(), "f.json": b'{"label": null}',
        "g.png": _png(), "g.cls": b"1\n0\n", "h.png": _png(), "h.cls": b"1 0",
        "i.png": _png(), "i.cls": (1).to_bytes(4, "little"),
    }  # fmt: skip
    source = open_tar(members)
    assert list(_labels(source).values()) == [1, *[None] * 8]
    assert "6 labels could not be read" in source.description
    assert "could not be read" not in open_tar({"a.png": _png(), "a.cls": b"1"}).description


def test_two_labels_of_one_sample_are_an_outcome(open_tar):
    members = {
        "a.png": _png(1), "a.cls": b"0", "a.CLS": b"1", "b.png": _png(2), "b.cls": b"1", "b.Cls": b"1",
        "c.png": _png(3), "c.cls": b"0", "d.png": _png(4), "d.json": b'{"label": 0}',
        "d.JSON": b'{"label": 1}', "e.png": _png(5), "e.cls": b"1", "e.json": b'{"label": 0}',
    }  # fmt: skip
    source = open_tar(members)
    found = dict(zip(_labels(source), _read(source), strict=True))
    for name in ("a.png", "d.png"):
        assert "several labels" in str(found[name])
    # Equal ones are clear, and a member of its own has precedence.
    assert [found[name] for name in ("b.png", "c.png", "e.png")] == [2, 3, 5]
    assert [_labels(source)[name] for name in ("b.png", "c.png", "e.png")] == [1, 0, 1]


def test_labels_of_names_with_dots_are_said_not_to_be_used(open_tar):
    source = open_tar({"a.1.png": _png(), "a.1.cls": b"0", "a.2.png": _png(), "a.2.cls": b"1"})
    assert list(_labels(source).values()) == [None, None]
    assert "files such as a.1.cls hold no label" in source.description


def test_one_picture_of_a_sample_is_the_image(open_tar):
    source = open_tar(
        {"a.png": _png(1), "a.seg.png": _png(9), "a.cls": b"0",
         "b.png": _png(2), "b.jpg": _png(3), "b.cls": b"1"}
    )  # fmt: skip
    assert list(_labels(source)) == ["a.png", "b.png", "b.jpg"]
    assert "1 other picture of the same samples skipped" in source.description
    assert _read(source)[0] == 1
    assert all("several pictures" in str(reason) for reason in _read(source)[1:])


def test_folders_are_classes_where_there_are_no_label_members(open_tar):
    source = open_tar({"./dog/b.png": _png(2), "./cat/a.png": _png(1), "./.x/c.png": b""})
    assert _labels(source) == {"dog/b.png": 1, "cat/a.png": 0}
    known = open_tar(
        {"t/Dog/b.png": _png(), "t/cat/a.png": _png(), "t/cow/c.png": _png()}, ("dog", "cat")
    )
    assert _labels(known) == {"t/Dog/b.png": 0, "t/cat/a.png": 1}
    assert known.description.endswith("1 image left out")
    # Kaggle's names: dots in a name make no sample where no member holds a label.
    kaggle = open_tar({"cat.0.jpg": _png(), "dog.0.jpg": _png(), "cat.1.jpg": _png()})
    assert _labels(kaggle) == {"cat.0.jpg": 0, "dog.0.jpg": 1, "cat.1.jpg": 0}


def test_shards_are_one_source_whose_keys_do_not_depend_on_how_they_are_cut(tmp_path):
    members = {f"{n:02}.png": _png(n) for n in range(12)}
    for shard in range(3):
        part = {k: v for n, (k, v) in enumerate(members.items()) if n // 4 == shard}
        (tmp_path / f"data-{shard:04}.tar").write_bytes(_tar(part))
    whole = open_source(tmp_path / "data-{0000..0002}.tar")
    assert list(_labels(whole)) == list(members)
    assert _read(whole) == list(range(12))
    assert "3 files" in whole.description
    folder = open_source(tmp_path)
    assert _labels(folder) == _labels(whole) == _labels(open_source(tmp_path / "data-*.tar"))
    with pytest.raises(ImagesError, match=r"data-0003\.tar is missing"):
        open_source(tmp_path / "data-{0000..0003}.tar")
    # A name in two shards: all keys have the name of the shard before them.
    (tmp_path / "data-0003.tar").write_bytes(_tar({"00.png": _png(30)}))
    keys = list(_labels(open_source(tmp_path)))
    assert keys[0] == "data-0000.tar/00.png" and keys[-1] == "data-0003.tar/00.png"
    assert _read(open_source(tmp_path))[-1] == 30


def test_lists_in_braces_and_joined_names_are_one_source(tmp_path):
    for folder, name, grey in (("a", "0", 1), ("a", "1", 2), ("b", "x", 3), ("b", "0", 4)):
        (tmp_path / folder).mkdir(exist_ok=True)
        picture = {f"{folder}{name}.png": _png(grey), f"{folder}{name}.cls": b"0"}
        (tmp_path / folder / f"{name}.tar").write_bytes(_tar(picture))
    a, b = tmp_path / "a", tmp_path / "b"
    assert _read(open_source(a / "{1,0}.tar")) == [2, 1]
    assert _read(open_source(f"{a}/{{0..1}}.tar::{b}/x.tar")) == [1, 2, 3]
    # A file of that very name has precedence.
    (a / "{0,1}.tar").write_bytes(_tar({"own.png": _png(9)}))
    assert _read(open_source(a / "{0,1}.tar")) == [9]
    for joined, words in (
        (f"{a}/0.tar::{b}/y.tar", "y.tar' is no file"),
        (f"{a}/0.tar::", "'' is no file"),
        (f"{a}/0.tar::{b}", "b' is no file"),
        (f"{a}/0.tar::{b}/0.tar", "are called '0.tar'"),
        (f"{a}/0.tar::zip://x", "'zip://x' is no file"),
    ):
        with pytest.raises(ImagesError, match=words):
            open_source(joined)


def test_a_folder_with_pictures_or_folders_beside_a_tar_is_a_folder_of_pictures(tmp_path):
    (tmp_path / "backup.tar").write_bytes(_tar({"x.png": _png()}))
    (tmp_path / "a.png").write_bytes(_png())
    assert open_source(tmp_path).description.startswith("folder ")
    assert list(_labels(open_source(tmp_path))) == ["a.png"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.png", "leads out"),
        ("a/../../evil.png", "leads out"),
        ("a\\..\\..\\evil.png", "leads out"),
        ("/etc/evil.png", "absolute"),
        ("C:/evil.png", "absolute"),
        ("evil\x1b.png", "control character"),
    ],
)
def test_a_name_outside_the_archive_is_one_unreadable_picture(open_tar, name, words):
    source = open_tar({"cat/a.png": _png(1), name: _png(2), "dog/b.png": _png(3)}, ("cat", "dog"))
    first, bad, last = _read(source)
    assert (first, last) == (1, 3)
    assert words in str(bad)
    assert [entry.label for entry in source.entries()] == [0, None, 1]


@pytest.mark.parametrize(
    "kind",
    [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"M"],
)
def test_links_and_devices_are_unreadable(open_tar, kind):
    linked = _member("a.png", type=kind, linkname="/etc/passwd")
    source = open_tar(linked + _member("b.png", _png(5)) + END)
    assert _read(source) == ["It is a link or a device in the archive, not a file.", 5]


def test_files_with_holes_are_unreadable(open_tar):
    pax = _member(
        "a.png", _png(), pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": "9"}
    )
    old = _member("b.png", _png(), type=tarfile.GNUTYPE_SPARSE)
    assert all("holes" in str(reason) for reason in _read(open_tar(pax + old + END)))


def test_a_duplicate_name_and_a_damaged_or_large_picture_are_outcomes(open_tar, monkeypatch):
    monkeypatch.setattr(tar_shards, "MAX_BYTES", 1 << 12)
    data = _member("a.png", _png(1)) + _member("a.png", _png(2)) + _member("b.png", b"x")
    source = open_tar(data + _member("c.png", bytes(5000)) + _member("d.png", _png(3)) + END)
    reasons = _read(source)
    assert list(_labels(source)) == ["a.png", "a.png (2)", "b.png", "c.png", "d.png"]
    assert reasons[0] == 1 and reasons[4] == 3
    assert "another file of this name" in str(reasons[1])
    assert "not a picture" in str(reasons[2]) and "larger than" in str(reasons[3])


def _with_size(header: bytes, digits: bytes) -> bytes:
    """The header with another size field, and the right checksum."""
    changed = header[:124] + digits.ljust(12, b"\0") + header[136:148] + b" " * 8 + header[156:]
    return changed[:148] + b"%06o\0 " % sum(changed) + changed[156:]


def _pax(records: bytes, kind: bytes = b"x") -> bytes:
    return _member("h", records, tarfile.USTAR_FORMAT, type=kind)


PLAIN = _member("a.png", _png(), tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ends within a header"),
        (b"garbage" * 200, "checksum is wrong"),
        (PLAIN[:-100] , "ends within a file"),
        (PLAIN + PLAIN[:512], "ends within a file"),
        (PLAIN + PLAIN[:300], "ends within a header"),
        (PLAIN + END + PLAIN + END, "more after its end mark"),
        (PLAIN + b"\x07" * 512 + END, "checksum is wrong"),
        (_with_size(PLAIN[:512], b"\x80" + b"\xff" * 11) + PLAIN[512:] + END, "ends within a file"),
        (_with_size(PLAIN[:512], b"\xff" * 12) + PLAIN[512:] + END, "no number"),
        (_with_size(PLAIN[:512], b"-1") + PLAIN[512:] + END, "no number"),
        (_pax(b"11 size=10\n") + PLAIN + END, "two sizes"),
        (_pax(b"12 path=b.x\n") + _pax(b"12 path=c.x\n") + PLAIN + END, "two headers"),
        (_pax(b"12 path=b.x\n12 path=c.x\n") + PLAIN + END, "two values"),
        (_pax(b"12 path=b.x\n", b"g") + PLAIN + END, "to all files"),
        (_pax(b"99 path=b.x\n") + PLAIN + END, "malformed"),
        (_pax(b"12 size=9e9\n") + PLAIN + END, "no number"),
        (_pax(b"0 path=b\n") + PLAIN + END, "malformed"),
        (_pax(b"12 path=b.x\n") + END, "after a header about"),
        (_pax(bytes(1 << 17)) + PLAIN + END, "more than 65,536 bytes"),
        (_member("h", b"c.png\0", tarfile.GNU_FORMAT, type=b"L") + _pax(b"12 path=b.x\n") + PLAIN + END,
         "two names"),
    ],
)  # fmt: skip
def test_a_tar_that_is_damaged_or_can_be_read_in_two_ways_is_refused(open_tar, data, words):
    with pytest.raises(ImagesError, match=words):
        open_tar(data)


def test_names_and_sizes_of_pax_headers_are_used(open_tar):
    empty = _with_size(PLAIN[:512], b"0")
    size = b"%d size=%d\n" % (len(b"11 size=100"), len(_png()))
    record = b"12 size=%03d\n" % len(_png())
    assert len(_png()) < 1000 and size
    source = open_tar(_pax(record + b"16 path=b/x.png\n") + empty + PLAIN[512:] + END)
    assert list(_labels(source)) == ["b/x.png"]
    assert _read(source) == [7]


@pytest.mark.parametrize(("mode", "pack"), [("gz", gzip), ("bz2", bz2), ("xz", lzma)])
def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path, mode, pack):
    (tmp_path / f"data.tar.{mode}").write_bytes(pack.compress(_tar({"a.png": _png()})))
    with pytest.raises(ImagesError, match=r"packed by .* as a whole.*Unpack it once"):
        open_source(tmp_path / f"data.tar.{mode}")


def test_too_many_members_are_refused(open_tar, monkeypatch):
    monkeypatch.setattr(tar_shards, "MAX_MEMBERS", 2)
    with pytest.raises(ImagesError, match="the most that are read"):
        open_tar({f"{n}.txt": b"" for n in range(3)})


def test_a_tar_without_pictures_is_refused(open_tar):
    with pytest.raises(ImagesError, match=r"holds no pictures \(1 other file skipped\)"):
        open_tar({"a.txt": b"x"})


def test_a_tar_that_changes_while_it_is_read_is_not_believed(open_tar, tmp_path):
    source = open_tar({"a.png": _png(1), "b.png": _png(2)})
    (tmp_path / "data.tar").write_bytes(_tar({"b.png": _png(3), "a.png": _png(4), "c.png": _png()}))
    assert all("has changed since it was listed" in str(reason) for reason in _read(source))


@given(st.lists(st.tuples(st.text("abc/.", max_size=12), st.integers(0, 3000)), max_size=8))
def test_headers_are_read_as_tarfile_reads_them(members):
    """The names, offsets and sizes are those of the standard library, whatever it has written."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, size in members:
            info = tarfile.TarInfo(f"{name}x")
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
    file = _Memory(buffer.getvalue())
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        expected = [(m.name, m.offset_data, m.size) for m in archive]
    read = tar_index.members(file, tar_index.Blocks(file))
    assert [(m.name, m.offset, m.size) for m in read] == expected


class _Memory:
    name, chunk, version = "memory.tar", 1 << 12, ""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


@pytest.mark.slow
def test_random_bytes_raise_nothing_else(open_tar):
    rng = np.random.default_rng(0)
    sound = _tar({"a.png": _png(), "b" * 120 + ".png": _png(), "a.cls": b"1"})
    for _ in range(300):
        data = bytearray(sound)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        try:
            source = open_tar(bytes(data))
        except ImagesError:
            continue
        _read(source)


@pytest.mark.slow
def test_memory_per_picture_is_a_few_bytes_beside_its_name(tmp_path):
    """The index of 20,000 pictures with labels takes less than 100 bytes each; objects would take 500."""
    count, picture = 20_000, _png()
    header = tarfile.TarInfo()
    with Path(tmp_path / "data.tar").open("wb") as file:
        for n in range(count):
            for suffix, data in (("png", picture), ("cls", b"1")):
                header.name, header.size = f"{n:08}.{suffix}", len(data)
                file.write(header.tobuf() + data + bytes(-len(data) % 512))
        file.write(END)
    open_source(tmp_path / "data.tar")  # imports, and the survey of plug-ins
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    source = open_source(tmp_path / "data.tar")
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.entries()) == count
    assert (after - before) / count < 100
    assert (peak - before) / count < 400
