"""Tests of TFRecord files, read without TensorFlow: checksums, Examples, labels, damage."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.errors import ImagesError
from robustness.images import open_source
from robustness.images.crc32c import crc32c, masked
from robustness.images.examples import Several, single_values
from tests.robustness.images.source_files import example, framed, members, write_records

SHAPE = (4, 4, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.uint8)
FILES = members(IMAGES, np.arange(6) % 2)


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        # RFC 3720, B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_checksums_are_the_published_ones(data, checksum):
    assert crc32c(data) == checksum


@given(st.binary(max_size=300), st.integers(0, 5000))
def test_long_texts_have_the_checksum_of_the_plain_loop(data, zeros):
    text = data * 8 + bytes(zeros) + data[::-1]
    state = 0xFFFFFFFF
    for byte in text:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(text) == state ^ 0xFFFFFFFF


def _open(tmp_path, *records: bytes, known=None, column=None):
    (tmp_path / "data.tfrecord").write_bytes(b"".join(records))
    return open_source(tmp_path / "data.tfrecord", known, column)


def _labels(source):
    return {entry.key: entry.label for entry in source.entries()}


def test_the_keys_and_pixels_are_those_of_the_files(tmp_path):
    source = open_source(write_records(FILES, tmp_path / "data.tfrecords"))
    assert _labels(source) == {name: int(name.startswith("dog")) for name in FILES}
    assert source.class_names == ("cat", "dog")
    for entry, image in zip(source.entries(), IMAGES, strict=True):
        assert (source.read(entry, SHAPE).pixels == image).all()
    assert "labels of image/class/text" in source.description
    assert open_source(tmp_path / "data.tfrecords", ["dog", "cat"]).entries()[0].label == 1


@pytest.mark.slow
def test_records_that_tensorflow_writes_are_read(tmp_path):
    tf = pytest.importorskip("tensorflow")
    png = next(iter(FILES.values()))
    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png, b"second"])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[5])),
        "size": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5])),
        "sizes": tf.train.Feature(int64_list=tf.train.Int64List(value=[0, 1])),
        "none": tf.train.Feature(),
        "minus": tf.train.Feature(int64_list=tf.train.Int64List(value=[-3])),
    }
    record = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    assert single_values(record) == {
        "image/encoded": Several.VALUES, "image/class/label": 5, "sizes": Several.VALUES, "size": 1.5,
        "none": None, "minus": -3,
    }  # fmt: skip
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        writer.write(record)
        writer.write(record)
    assert (tmp_path / "a.tfrecord").read_bytes() == 2 * framed(record)
    source = open_source(tmp_path / "a.tfrecord")
    assert _labels(source) == {"row 0": 5, "row 1": 5}
    assert "several pictures" in source.read(source.entries()[1], SHAPE).reason


def test_labels_are_numbers_texts_or_those_that_are_named(tmp_path):
    png = next(iter(FILES.values()))
    records = [framed(example({"image": png, "label": n, "kind": b"x%d" % n})) for n in (2, 0)]
    assert list(_labels(_open(tmp_path, *records)).values()) == [2, 0]
    assert list(_labels(_open(tmp_path, *records, column="kind")).values()) == [1, 0]
    assert list(_labels(_open(tmp_path, *records, column="none")).values()) == [None, None]
    with pytest.raises(ImagesError, match=r"image, kind, label; expected the labels 'x'"):
        _open(tmp_path, *records, column="x")
    with pytest.raises(ImagesError, match="2 is not a class"):
        _open(tmp_path, *records, known=["a", "b"])
    # ImageNet's records count from 1: the texts are the names, in the order of the numbers.
    one = [
        framed(example({"image": png, "image/class/label": n, "image/class/text": text}))
        for n, text in ((2, b"ant"), (1, b"zebra"))
    ]
    source = _open(tmp_path, *one)
    assert source.class_names == ("zebra", "ant")
    assert list(_labels(source).values()) == [1, 0]


def test_a_label_is_one_whole_number(tmp_path):
    png = next(iter(FILES.values()))
    floats = [framed(example({"image": png, "label": value})) for value in (2.0, float("nan"))]
    assert list(_labels(_open(tmp_path, *floats)).values()) == [2, None]
    for value, words in (
        ([0, 1], "several values"),
        ([0.0, 1.0], "several values"),
        (0.5, "0.5"),
        ([b"a", b"b"], "several values"),
    ):
        with pytest.raises(ImagesError, match=f"{words} as its label.*--label-column"):
            _open(tmp_path, framed(example({"image": png, "label": value})))
        assert _open(tmp_path, framed(example({"image": png, "label": value})), column="None")


def test_names_of_classes_that_do_not_tell_numbers_apart(tmp_path):
    png = next(iter(FILES.values()))

    def labelled(*pairs):
        return [
            framed(example({"image": png, "image/class/label": n, "image/class/text": text}))
            for n, text in pairs
        ]

    cranes = labelled((517, b"crane"), (3, b"dog"), (134, b"crane"))
    source = _open(tmp_path, *cranes)
    assert source.class_names == ("dog", "crane (134)", "crane (517)")
    assert list(_labels(source).values()) == [2, 0, 1]
    known = _open(tmp_path, *cranes, known=["dog", "bird", "machine"])
    assert list(_labels(known).values()) == [2, 0, 1]
    for classes in (["dog", "crane"], ["bird", "dog", "machine"]):
        with pytest.raises(ImagesError, match="have the same name"):
            _open(tmp_path, *cranes, known=classes)
    with pytest.raises(ImagesError, match="label 1 is called 'cat', 'dog'"):
        _open(tmp_path, *labelled((1, b"cat"), (1, b"dog")))


def test_texts_that_some_records_lack_are_completed_or_said_to_be_left_out(tmp_path):
    png = next(iter(FILES.values()))

    def labelled(*pairs):
        return [
            framed(
                example(
                    {"image": png, "image/class/label": n}
                    | ({"image/class/text": text} if text else {})
                )
            )
            for n, text in pairs
        ]

    source = _open(tmp_path, *labelled((2, b"ant"), (1, b"zebra"), (2, None), (1, b"")))
    assert source.class_names == ("zebra", "ant")
    assert list(_labels(source).values()) == [1, 0, 1, 0]
    # Nothing names the label 0.
    source = _open(tmp_path, *labelled((1, b"ant"), (0, None), (0, None)))
    assert source.class_names is None
    assert list(_labels(source).values()) == [1, 0, 0]
    assert "image/class/text is left out: 2 records of labels without a text" in source.description
    assert "left out" not in _open(tmp_path, *labelled((1, None), (0, None))).description


def test_minus_one_is_no_label_beside_zero(tmp_path):
    png = next(iter(FILES.values()))

    def labelled(*numbers):
        return [framed(example({"image": png, "label": n})) for n in numbers]

    assert list(_labels(_open(tmp_path, *labelled(0, -1, 1, -1))).values()) == [0, None, 1, None]
    known = _open(tmp_path, *labelled(0, -1, 1), known=["a", "b"])
    assert list(_labels(known).values()) == [0, None, 1]
    assert list(_labels(_open(tmp_path, *labelled(-1, -1))).values()) == [None, None]
    with pytest.raises(
        ImagesError, match=r"3 images of 4 with such a label\. If they mean two classes"
    ):
        _open(tmp_path, *labelled(-1, 1, -1, -1))
    with pytest.raises(ImagesError, match="Label -2, -1 is not a class"):
        _open(tmp_path, *labelled(-1, 0, -2))


def test_a_damaged_record_makes_no_class(tmp_path):
    png = next(iter(FILES.values()))
    good = [framed(example({"image": png, "label": n})) for n in (0, 1)]
    bad = bytearray(framed(example({"image": png, "label": 77})))
    bad[-1] ^= 1
    for known in (None, ["a", "b"]):
        source = _open(tmp_path, *good, bytes(bad), known=known)
        assert list(_labels(source).values()) == [0, 1, None]
        assert "checksum is wrong" in source.read(source.entries()[2], SHAPE).reason


def test_names_that_repeat_are_no_keys_and_all_pictures_are_read(tmp_path):
    pictures = list(FILES.values())[:3]
    records = [
        framed(example({"image": one, "label": n, "image/filename": b"0001.png"}))
        for n, one in enumerate(pictures)
    ]
    source = _open(tmp_path, *records)
    assert _labels(source) == {"row 0": 0, "row 1": 1, "row 2": 2}
    for number, entry in enumerate(source.entries()):
        assert (source.read(entry, SHAPE).pixels == IMAGES[number]).all()


def test_shards_are_one_source(tmp_path):
    names = list(FILES)
    for n in range(2):
        write_records({k: FILES[k] for k in names[n::2]}, tmp_path / f"train-{n:05}-of-00002")
    assert sorted(_labels(open_source(tmp_path))) == sorted(FILES)
    (tmp_path / "train-00001-of-00002").unlink()
    with pytest.raises(ImagesError, match="train-00001-of-00002 is missing"):
        open_source(tmp_path)


def test_damaged_records_are_outcomes(tmp_path):
    good = framed(example({"image": next(iter(FILES.values())), "label": 0}))
    changed = bytearray(good)
    changed[40] ^= 1
    source = _open(
        tmp_path, good, bytes(changed), framed(b"\xff\xff"), framed(example({"label": 1})),
        framed(example({"image": b"no picture", "label": 1})),
    )  # fmt: skip
    reasons = [source.read(entry, SHAPE).reason for entry in source.entries()]
    assert reasons[0] == ""
    assert "checksum is wrong" in reasons[1]
    assert "no tf.train.Example" in reasons[2]
    assert "holds no picture" in reasons[3]
    assert "not a picture" in reasons[4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-5], "half a download"),
        (lambda data: data[:6], "length of a record is damaged"),
        (lambda data: b"\x01" + data[1:], "length of a record is damaged"),
        (lambda data: data + b"x" * 20, "length of a record is damaged"),
        (lambda data: b"", "holds no records"),
        (gzip.compress, "packed by gzip"),
        (
            lambda data: framed(example({"x": 1})),
            "holds records with x; expected tf.train.Example with",
        ),
        (
            lambda data: framed(b"hello"),
            "records that are no tf.train.Example, or have no features; expected",
        ),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path, change, words):
    good = framed(example({"image": next(iter(FILES.values()))}))
    with pytest.raises(ImagesError, match=words):
        _open(tmp_path, change(good))


def test_a_length_that_claims_gigabytes_allocates_nothing(tmp_path):
    length = (1 << 62).to_bytes(8, "little")
    with pytest.raises(ImagesError, match="half a download"):
        _open(tmp_path, length + masked(length).to_bytes(4, "little") + bytes(100))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(data):
    try:
        single_values(data)
    except ValueError:
        return


def test_features_are_read_once():
    with pytest.raises(ValueError, match="twice"):
        single_values(example({"a": 1}) + example({"a": 2}))


def test_no_framework_is_imported():
    import subprocess

    code = (
        "import sys, robustness.images.kinds; "
        "sys.exit(bool({'tensorflow', 'keras', 'torch', 'pyarrow', 'fsspec'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
