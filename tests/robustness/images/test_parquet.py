"""Tests of Parquet files with a column of pictures, as Hugging Face writes them."""

from __future__ import annotations

import json
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustness.errors import ImagesError
from robustness.images import open_source, parquet, parquet_pages, picture_index
from robustness.images.cache import PictureCache
from robustness.images.spool import Spool
from tests.robustness.images.source_files import CLASSES, members, write_parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SHAPE = (4, 4, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (13, *SHAPE)).astype(np.uint8)
FILES = members(IMAGES, np.arange(13) % 2)


def _labels(source):
    return {entry.key: entry.label for entry in source.entries()}


def _write(tmp_path, columns, **options):
    pq.write_table(pa.table(columns), tmp_path / "data.parquet", **options)
    return tmp_path / "data.parquet"


def test_the_keys_labels_and_pixels_are_those_of_the_files(tmp_path):
    source = open_source(write_parquet(FILES, tmp_path / "data.parquet"))
    assert _labels(source) == {name: int(name.startswith("dog")) for name in FILES}
    assert source.class_names == CLASSES
    order = np.random.default_rng(1).permutation(13)
    entries = [source.entries()[n] for n in order]
    for number, picture in zip(order, PictureCache(source).stream(entries, SHAPE), strict=True):
        assert (picture.pixels == IMAGES[number]).all()
    assert next(iter(_labels(open_source(tmp_path / "data.parquet", ["dog", "cat"])).values())) == 1
    with pytest.raises(ImagesError, match="'cat' is not a class; expected dog, bird"):
        open_source(tmp_path / "data.parquet", ["dog", "bird"])


def test_a_row_group_is_decoded_once_where_there_is_room_and_each_time_where_not(
    tmp_path, monkeypatch
):
    path = write_parquet(FILES, tmp_path / "data.parquet", rows=4)
    decoded: list[int] = []
    rows = parquet._Pictures._rows
    monkeypatch.setattr(
        parquet._Pictures, "_rows", lambda self, group: decoded.append(group) or rows(self, group)
    )
    for most, times in ((1 << 20, 1), (10, 2)):
        source = open_source(path, cache_bytes=most)
        decoded.clear()
        for _ in range(2):
            pictures = [source.read(entry, SHAPE) for entry in source.entries()]
            assert all((p.pixels == image).all() for p, image in zip(pictures, IMAGES, strict=True))
        assert (len(decoded) == 4) if times == 1 else (len(decoded) > 26)


@dataclass(frozen=True)
class Copied:
    """A file that is copied as a whole at first use, as a remote one is."""

    path: Path
    whole: bool

    @property
    def name(self):
        return self.path.name

    @property
    def size(self):
        return self.path.stat().st_size

    version, chunk = "1", 1 << 16

    def read_at(self, offset, size):
        return self.path.read_bytes()[offset : offset + size]


def test_copies_of_remote_files_and_decoded_pictures_share_the_bound(tmp_path, monkeypatch):
    path = write_parquet(FILES, tmp_path / "data.parquet")
    bounds = []
    monkeypatch.setattr(
        parquet, "Spool", lambda what, most: bounds.append(most) or Spool(what, most)
    )
    size = path.stat().st_size
    for whole, most in ((True, size + 100), (False, size + 100), (True, size - 1)):
        source = parquet.open_parquet([Copied(path, whole)], "data", None, None, most)
        assert all(source.read(entry, SHAPE).pixels is not None for entry in source.entries())
    # A file that is read in parts takes no place.
    assert bounds == [100, size + 100, 0]


def test_a_folder_of_one_split_is_read_and_of_two_refused(tmp_path):
    names = list(FILES)
    for n in range(2):
        part = {k: FILES[k] for k in names[n::2]}
        write_parquet(part, tmp_path / f"train-{n:05}-of-00002.parquet")
    assert sorted(_labels(open_source(tmp_path))) == sorted(FILES)
    write_parquet(FILES, tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(ImagesError, match=r"several splits \(test, train\).* test-\*"):
        open_source(tmp_path)
    assert len(_labels(open_source(tmp_path / "train-*.parquet"))) == 13
    assert len(_labels(open_source(tmp_path / "test-*.parquet"))) == 13


def test_paths_that_repeat_are_no_keys_and_all_pictures_are_read(tmp_path):
    # Hugging Face's data sets of folders keep the last part of the path alone.
    data = list(FILES.values())[:4]
    columns: dict[str, list[Any]] = {
        "image": [{"bytes": one, "path": f"{n % 2}.png"} for n, one in enumerate(data)],
        "label": [0, 1, 0, 1],
    }
    source = open_source(_write(tmp_path, columns, row_group_size=3))
    assert _labels(source) == {"row 0": 0, "row 1": 1, "row 2": 0, "row 3": 1}
    for number, entry in enumerate(source.entries()):
        assert (source.read(entry, SHAPE).pixels == IMAGES[number]).all()
    for part, first in (("a", 0), ("b", 2)):
        part_columns = {name: some[first : first + 2] for name, some in columns.items()}
        pq.write_table(pa.table(part_columns), tmp_path / f"part-{part}.parquet")
    assert list(_labels(open_source(tmp_path / "part-*.parquet"))) == [
        "part-a.parquet/0.png", "part-a.parquet/1.png", "part-b.parquet/0.png", "part-b.parquet/1.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())],
    ids=str,
)
@pytest.mark.parametrize("nested", [False, True])
def test_every_type_of_bytes_holds_pictures(tmp_path, kind, nested):
    data = [FILES[name] for name in list(FILES)[:3]] + [None]
    column = pa.array(data, pa.binary()).cast(kind)
    if nested:
        column = pa.StructArray.from_arrays(
            [column, pa.array(["a", "b", "c", "d"])], ["bytes", "path"]
        )
    source = open_source(_write(tmp_path, {"image": column, "label": [0, 1, 0, 1]}))
    assert list(_labels(source)) == (
        ["a", "b", "c", "d"] if nested else [f"row {n}" for n in range(4)]
    )
    *pictures, none = [source.read(entry, SHAPE) for entry in source.entries()]
    assert all((p.pixels == image).all() for p, image in zip(pictures, IMAGES[:3], strict=True))
    assert none.reason == "The row holds no picture."


def test_a_column_may_be_called_like_a_part_of_one(tmp_path):
    data = list(FILES.values())[:2]
    path = _write(tmp_path, {"image.bytes": data, "image.path": ["a", "b"], "label": [1, 0]})
    source = open_source(path)
    assert _labels(source) == {"row 0": 1, "row 1": 0}
    assert (source.read(source.entries()[1], SHAPE).pixels == IMAGES[1]).all()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([[0, 1], [1, 0]], "label holds list<"),
        ([{"a": 1}, {"a": 2}], "label holds struct<"),
        (pa.array([1, 2], pa.timestamp("s")), "label holds timestamp"),
    ],
)
def test_labels_that_are_no_single_number_or_name_are_refused(tmp_path, labels, words):
    path = _write(tmp_path, {"image": list(FILES.values())[:2], "label": labels})
    with pytest.raises(ImagesError, match=f"{words}.*--label-column"):
        open_source(path)
    assert set(_labels(open_source(path, label_column="none")).values()) == {None}


def test_columns_of_one_name_are_refused(tmp_path):
    columns = [pa.array(list(FILES.values())[:2]), pa.array([0, 1]), pa.array([1, 0])]
    table = pa.Table.from_arrays(columns, names=["image", "label", "label"])
    pq.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(ImagesError, match="expected a single column called label"):
        open_source(tmp_path / "data.parquet")


@pytest.mark.parametrize("labels", [["dog", "cat", None], [1.0, 0.0, None], [1, 0, -1]])
@pytest.mark.parametrize("names", [["cat", "dog"], {"1": "dog", "0": "cat"}])
def test_classes_of_the_schema_are_given_by_number_or_name(tmp_path, labels, names):
    table = pa.table({"image": list(FILES.values())[:3], "label": labels})
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    stated = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(stated), tmp_path / "data.parquet")
    source = open_source(tmp_path / "data.parquet")
    assert source.class_names == ("cat", "dog")
    assert list(_labels(source).values()) == [1, 0, None]


@pytest.mark.slow
def test_texts_that_repeat_take_memory_once(tmp_path):
    """A file of 10 KB whose labels and paths are 300 times the same megabytes."""
    long = pa.array([b"x" * (2 << 20)]).dictionary_encode().take(pa.array([0] * 300))
    parts = [
        pa.array([next(iter(FILES.values()))] * 300),
        long.dictionary_decode().cast(pa.string()),
    ]
    columns = {"image": pa.StructArray.from_arrays(parts, ["bytes", "path"]), "label": long}
    path = _write(tmp_path, columns, compression="zstd")
    del long, parts, columns
    assert path.stat().st_size < 100_000
    pool, before = pa.default_memory_pool(), pa.total_allocated_bytes()
    peak = pool.max_memory()
    tracemalloc.start()
    source = open_source(path)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()
    assert pool.max_memory() == peak or pool.max_memory() - before < 100 << 20
    assert len(source.entries()) == 300 and list(map(len, source.class_names or ())) == [1000]


def test_pages_that_unpack_to_far_more_than_they_are_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_pages, "MOST", 1 << 20)
    big = pa.array([b"\0" * (3 << 20)])
    columns = {"image": pa.array([next(iter(FILES.values()))]), "label": big}
    path = _write(tmp_path, columns, compression="zstd", use_dictionary=False)
    with pytest.raises(ImagesError, match="of it unpack to 3,145,"):
        open_source(path)
    path = _write(tmp_path, {"image": big, "label": [0]}, compression="zstd")
    source = open_source(path)
    assert "unpack to far more bytes" in source.read(source.entries()[0], SHAPE).reason


def test_names_and_labels_are_bounded(tmp_path, monkeypatch):
    data = [next(iter(FILES.values()))] * 8
    columns = {"image": [{"bytes": one, "path": f"{n}.png"} for n, one in enumerate(data)]}
    path = _write(tmp_path, columns | {"label": [f"a caption {n}" for n in range(8)]})
    assert len(open_source(path).entries()) == 8
    monkeypatch.setattr(picture_index, "MAX_WORDS", 5)
    with pytest.raises(ImagesError, match=r"more than 5 different labels.*--label-column"):
        open_source(path)
    monkeypatch.setattr(picture_index, "MAX_NAMES", 20)
    with pytest.raises(ImagesError, match="names of the pictures have more than"):
        open_source(path, label_column="none")


def test_a_web_page_in_place_of_a_file_is_said(tmp_path):
    for name in ("a.parquet", "a.tar", "a.tfrecord"):
        (tmp_path / name).write_bytes(b"\n<!DOCTYPE html><html>log in</html>")
        with pytest.raises(ImagesError, match=f"{name} is a web page"):
            open_source(tmp_path / name)


def test_more_rows_than_bytes_are_refused(tmp_path):
    path = _write(tmp_path, {"image": pa.nulls(1_000_000, pa.binary())})
    with pytest.raises(ImagesError, match="states 1,000,000 rows"):
        open_source(path)


@pytest.mark.slow
def test_changed_bytes_are_refused_or_outcomes(tmp_path):
    columns = {
        "image": [{"bytes": b, "path": n} for n, b in FILES.items()],
        "label": [0, 1] * 6 + [2],
    }
    path = _write(tmp_path, columns, row_group_size=5)
    sound, rng = path.read_bytes(), np.random.default_rng(0)
    end = len(sound) - 8
    footer = end - int.from_bytes(sound[-8:-4], "little")
    refused = 0
    for number in range(150):
        data = bytearray(sound)
        data[rng.integers(footer if number % 2 else 4, end)] = rng.integers(256)
        path.write_bytes(data)
        try:
            source = open_source(path)
            pictures = [source.read(entry, SHAPE) for entry in source.entries()]
            assert all(p.reason or p.pixels is not None for p in pictures)
        except ImagesError:
            refused += 1
    assert 0 < refused < 150


def test_hostile_names_take_no_quadratic_time(tmp_path):
    paths = [f"{n}.png" for n in range(3000) for _ in range(2)] + [
        f"{n}.png (2)" for n in range(3000)
    ]
    columns = {"image": [{"bytes": b"x", "path": path} for path in paths]}
    begun = time.process_time()
    assert len(_labels(open_source(_write(tmp_path, columns)))) == 9000
    assert time.process_time() - begun < 5


def test_plain_columns_and_rows_without_names(tmp_path):
    data = list(FILES.values())[:3]
    path = _write(tmp_path, {"img": data, "label": ["b", "a", None]})
    source = open_source(path)
    assert _labels(source) == {"row 0": 1, "row 1": 0, "row 2": None}
    assert source.class_names == ("a", "b")
    assert source.read(source.entries()[0], SHAPE).note == ""  # nothing was converted
    assert set(_labels(open_source(path, label_column="none")).values()) == {None}
    assert set(_labels(open_source(_write(tmp_path, {"img": data}))).values()) == {None}
    with pytest.raises(ImagesError, match="expected the label column 'kind'"):
        open_source(path, label_column="kind")
    both = _write(
        tmp_path, {"img": data, "fine_label": [0, 1, 2], "class": [0, 0, 1], "target": [1, 1, 1]}
    )
    with pytest.raises(ImagesError, match=r"class, target may each be the label.*--label-column"):
        open_source(both)
    assert list(_labels(open_source(both, label_column="fine_label")).values()) == [0, 1, 2]


def test_bad_rows_are_outcomes(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_BYTES", 1000)
    good = next(iter(FILES.values()))
    source = open_source(_write(tmp_path, {"image": [good, None, b"x", bytes(2000), good]}))
    reasons = [source.read(entry, SHAPE).reason for entry in source.entries()]
    assert reasons[0] == reasons[4] == ""
    assert "holds no picture" in reasons[1] and "not a picture" in reasons[2]
    assert "larger than" in reasons[3]


def test_a_damaged_row_group_is_an_outcome_for_its_rows(tmp_path):
    path = write_parquet(FILES, tmp_path / "data.parquet", rows=5)
    where = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[where : where + 30] = b"\xff" * 30
    path.write_bytes(data)
    source = open_source(path)
    reasons = [source.read(entry, SHAPE).reason for entry in source.entries()]
    assert reasons[:5] == [""] * 5 and reasons[10:] == [""] * 3
    assert all("row group is damaged" in reason for reason in reasons[5:10])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-10], "does not end like a Parquet file"),
        (lambda data: b"", "does not end like a Parquet file"),
        (lambda data: data[:-8] + b"\xff\xff\xff\xffPAR1", "does not end like a Parquet file"),
        (lambda data: bytes(len(data) - 8) + data[-8:], "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path, change, words):
    path = write_parquet(FILES, tmp_path / "data.parquet")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ImagesError, match=words):
        open_source(path)


def test_labels_beyond_the_schema_are_refused_and_minus_one_is_none(tmp_path):
    path = write_parquet(FILES, tmp_path / "data.parquet")
    table = pq.read_table(path)
    for value, words in (
        (-1, None),
        (2, "label '2' is not a class; expected a number from 0 to 1"),
    ):
        labels = [*table["label"].to_pylist()[:-1], value]
        pq.write_table(table.set_column(1, table.schema.field(1), [labels]), path)
        if words:
            with pytest.raises(ImagesError, match=words):
                open_source(path)
        else:
            assert list(_labels(open_source(path)).values())[-1] is None


def test_a_file_without_pictures_is_refused(tmp_path):
    with pytest.raises(
        ImagesError, match="has the columns a, and none of them may hold the pictures"
    ):
        open_source(_write(tmp_path, {"a": [1, 2]}))
