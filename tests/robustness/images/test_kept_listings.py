"""Tests of listings that are kept: the same pictures without a pass over the files."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robustness.files.places import FRESH_NS, LocalFile
from robustness.images import kept_listings, open_source, tar_shards, tfrecords
from tests.robustness.images.source_files import members, write_records, write_shards

SHAPE = (4, 4, 3)
CLASSES = ("cat", "dog")
IMAGES = np.random.default_rng(0).integers(0, 256, (12, *SHAPE)).astype(np.uint8)
FILES = members(IMAGES, np.arange(12) % 2)


@pytest.fixture(autouse=True)
def listings(tmp_path, monkeypatch) -> Path:
    """Keep listings of small sources too, in a folder of the test."""
    monkeypatch.setenv("ROBUSTNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_listings, "LARGE", 2)
    return tmp_path / "cache" / "listings"


@pytest.fixture
def passes(monkeypatch) -> list[str]:
    """The names of the files whose headers were read."""
    seen: list[str] = []

    def noted(module: object, name: str, which: int) -> None:
        real: Callable = getattr(module, name)

        def call(*arguments):
            seen.append(arguments[which].name)
            return real(*arguments)

        monkeypatch.setattr(module, name, call)

    noted(tar_shards, "members", 0)
    noted(tfrecords, "_index", 2)
    return seen


def _old(place: Path, seconds: int = 60) -> Path:
    """Make the files at a place older than the ticks of a clock."""
    folder = place if place.is_dir() else place.parent
    for path in folder.iterdir():
        written = path.stat().st_mtime_ns - max(seconds * 10**9, FRESH_NS)
        os.utime(path, ns=(written, written))
    return place


def _found(source) -> list[tuple]:
    read = [source.read(entry, SHAPE) for entry in source.entries()]
    return [(p.entry, p.digest, p.reason) for p in read]


def _told(source) -> tuple:
    return source.description, source.class_names, source.table


def _shards(tmp_path: Path) -> Path:
    return _old(write_shards(FILES, tmp_path / "shards").parent)


def _folders_in_tar(tmp_path: Path) -> Path:
    """A tar with a class in every folder, one folder of no class, and a link."""
    (tmp_path / "one").mkdir()
    with tarfile.open(tmp_path / "one" / "data.tar", "w") as archive:
        for name, data in {**FILES, "other/0.png": b"no picture"}.items():
            (tmp_path / "part").write_bytes(data)
            archive.add(tmp_path / "part", name)
        link = tarfile.TarInfo("dog/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "0001.png"
        archive.addfile(link)
    return _old(tmp_path / "one" / "data.tar")


def _records(tmp_path: Path) -> Path:
    (tmp_path / "records").mkdir()
    return _old(write_records(FILES, tmp_path / "records" / "data.tfrecord"))


@pytest.mark.parametrize("written", [_shards, _folders_in_tar, _records])
@pytest.mark.parametrize("known", [None, CLASSES])
def test_a_kept_listing_gives_the_same_pictures_without_a_pass(tmp_path, passes, written, known):
    place = written(tmp_path)
    first = open_source(place, known)
    assert passes and _found(first)
    passes.clear()
    again = open_source(place, known)
    assert not passes
    assert _found(again) == _found(first)
    assert _told(again) == _told(first)


def test_other_files_and_other_options_have_other_listings(tmp_path, passes):
    place = _shards(tmp_path)
    first = _found(open_source(place, CLASSES))
    passes.clear()
    assert {e.label for e, _, _ in _found(open_source(place, CLASSES, "none"))} == {None}
    assert passes
    # A file of the same size, written later.
    path = place / "data-000.tar"
    path.write_bytes(path.read_bytes().replace(b"0001.png", b"9001.png"))
    with pytest.raises(Exception, match="checksum"):
        open_source(place, CLASSES)
    (place / "data-000.tar").unlink()
    assert len(_found(open_source(place, CLASSES))) < len(first)


def test_a_file_written_just_now_has_no_kept_listing(tmp_path, listings, passes):
    place = write_shards(FILES, tmp_path / "shards").parent
    open_source(place, CLASSES)
    passes.clear()
    open_source(place, CLASSES)
    assert passes
    assert not listings.exists()


def test_a_file_that_ages_while_it_is_opened_has_no_kept_listing(tmp_path, listings, monkeypatch):
    """Its version must not be "" in the name of a listing: other content would have the same name."""
    answers = iter(["", "", ""])
    monkeypatch.setattr(LocalFile, "version", property(lambda file: next(answers, file.name)))
    open_source(_shards(tmp_path), CLASSES)
    assert not listings.exists()


def test_a_small_source_is_listed_again(tmp_path, listings, monkeypatch):
    monkeypatch.setattr(kept_listings, "LARGE", 13)
    open_source(_shards(tmp_path), CLASSES)
    assert not listings.exists()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with np.load(path) as arrays:
            found = dict(arrays)
        found[name] = change(found[name])
        np.savez(path, **found)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _truncated,
        _emptied,
        _changed("offsets", lambda x: x + np.uint64(1 << 40)),
        _changed("sizes", lambda x: x + np.uint64(2**63)),
        _changed("files", lambda x: x + np.uint32(7)),
        _changed("faults", lambda x: x + np.uint8(1)),
        _changed("ends", lambda x: x[::-1].copy()),
        _changed("ends", lambda x: x[:-1]),
        _changed("names", lambda x: x[:-1]),
        _changed("labels", lambda x: x[:-1]),
        _changed("sizes", lambda x: x.astype(np.float64)),
        _changed("about", lambda x: np.frombuffer(b"[]", np.uint8)),
    ],
)
def test_a_damaged_listing_is_made_again(tmp_path, listings, passes, damage):
    place = _shards(tmp_path)
    first = _found(open_source(place, CLASSES))
    (path,) = listings.iterdir()
    damage(path)
    passes.clear()
    assert _found(open_source(place, CLASSES)) == first
    assert passes
    passes.clear()
    assert _found(open_source(place, CLASSES)) == first
    assert not passes


def test_few_listings_are_kept(tmp_path, listings, monkeypatch):
    monkeypatch.setattr(kept_listings, "MOST", 3)
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        open_source(_shards(tmp_path / str(number)), CLASSES)
        for path in listings.iterdir():
            os.utime(path, (path.stat().st_mtime - 1,) * 2)
    assert len(list(listings.iterdir())) == 3


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path, passes):
    (tmp_path / "cache").write_bytes(b"a file")
    place = _shards(tmp_path)
    assert _found(open_source(place, CLASSES)) == _found(open_source(place, CLASSES))
    assert passes
