"""Tests of sources behind URLs: the same entries and pixels as on this machine, and nothing else read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustness.errors import FetchError, ImagesError
from robustness.files.remote import errors
from robustness.files.remote.stores import store_of
from robustness.images import open_source
from robustness.images.cache import PictureCache
from tests.robustness.files.object_server import ObjectServer, serving
from tests.robustness.images import source_files

SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, *SHAPE)).astype(np.uint8)
FILES = source_files.members(IMAGES, np.arange(12) % 2)


@pytest.fixture
def s3(monkeypatch, tmp_path):
    pytest.importorskip("s3fs")
    with serving() as server:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": server.url, "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true", "ROBUSTNESS_CACHE": str(tmp_path / "cache"),
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(errors, "PAUSE", 0.001)
        store_of.cache_clear()
        yield server
        store_of.cache_clear()


def _uploaded(server: ObjectServer, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            server.objects[f"bucket/{path.relative_to(folder).as_posix()}"] = path.read_bytes()


def _contents(source) -> dict[str, tuple[int | None, str]]:
    entries = source.entries()
    return {
        p.entry.key: (p.entry.label, p.digest) for p in PictureCache(source).stream(entries, SHAPE)
    }


@pytest.fixture
def written(tmp_path):
    """Every kind, by the path below the folder `data`."""
    data = tmp_path / "data"
    data.mkdir()
    return data, [
        source_files.write_folder(FILES, data / "folder"),
        source_files.write_zip(FILES, data / "photos.zip"),
        source_files.write_list(FILES, data / "listed"),
        source_files.write_shards(FILES, data / "shards"),
        data / "shards",
        data / "listed" / "cat" / "0000.png",
    ]


@pytest.mark.slow
def test_every_kind_is_read_alike_behind_a_url(s3, written):
    data, places = written
    _uploaded(s3, data)
    for place in places:
        local = _contents(open_source(place, source_files.CLASSES))
        url = f"s3://bucket/{place.relative_to(data).as_posix()}"
        assert local and all(digest for _, digest in local.values())
        assert _contents(open_source(url, source_files.CLASSES)) == local


def test_remote_shards_may_be_joined(s3, written, tmp_path):
    _uploaded(s3, written[0])
    names = [f"s3://bucket/shards/data-00{n}.tar" for n in range(3)]
    whole = _contents(open_source("s3://bucket/shards/data-{000..002}.tar"))
    assert _contents(open_source("::".join(names))) == whole
    assert _contents(open_source("s3://bucket/shards/data-{000,002}.tar::" + names[1])) == whole
    # All together are larger than the bound, each alone is not.
    most = max(len(data) for key, data in s3.objects.items() if "shards" in key)
    assert _contents(open_source("::".join(names), cache_bytes=most)) == whole
    joined: Any = open_source("::".join(names), cache_bytes=most)
    assert not any(file.whole for file in joined._files)


@pytest.mark.slow
def test_a_second_pass_fetches_nothing(s3, written):
    data, _ = written
    _uploaded(s3, data)
    for place in ("folder", "shards"):
        first = _contents(open_source(f"s3://bucket/{place}"))
        fetched = s3.count()
        source = open_source(f"s3://bucket/{place}")
        listing = s3.count() - fetched
        assert _contents(source) == first
        assert s3.count() == fetched + listing


@pytest.mark.slow
def test_shards_larger_than_the_cache_are_read_in_parts(s3, written, tmp_path):
    data, _ = written
    _uploaded(s3, data)
    url = "s3://bucket/shards/data-{000..002}.tar"
    assert _contents(open_source(url, cache_bytes=1000)) == _contents(open_source(url))
    sizes = [p.stat().st_size for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert sum(sizes) == sum(len(v) for k, v in s3.objects.items() if "shards" in k)


def test_a_list_reads_only_what_lies_below_its_own_url(s3):
    png = next(iter(FILES.values()))
    s3.objects |= {"bucket/lists/in/a.png": png, "bucket/secret.png": png, "other/x.png": png}
    rows = ["in/a.png", "../secret.png", "s3://other/x.png", "/secret.png", "in/gone.png"]
    rows += [f"{s3.url}/other/x.png", "in/../../secret.png"]
    s3.objects["bucket/lists/list.csv"] = "\n".join(["path", *rows]).encode()
    source = open_source("s3://bucket/lists/list.csv")
    reasons = [source.read(entry, SHAPE).reason for entry in source.entries()]
    assert reasons[0] == "" and reasons[4] == "There is no such file."
    assert all("outside the folder" in reasons[n] for n in (1, 2, 3, 5, 6))
    assert not any("secret" in path or "/other" in path for _, path in s3.requests)


@pytest.mark.slow
def test_a_picture_that_vanishes_is_an_outcome_and_a_network_that_fails_is_none(s3):
    s3.objects |= {f"bucket/f/{n}.png": data for n, data in enumerate(FILES.values())}
    source = open_source("s3://bucket/f")
    entries = source.entries()
    del s3.objects["bucket/f/0.png"]
    assert "no such file" in source.read(entries[0], SHAPE).reason
    s3.broken = 10_000
    with pytest.raises(FetchError, match="cannot be read after 5 tries"):
        source.read(entries[1], SHAPE)
    s3.broken = 1
    assert source.read(entries[2], SHAPE).pixels is not None


def test_an_empty_remote_folder_and_damaged_archives_are_refused(s3):
    s3.objects |= {"bucket/e/a.txt": b"x", "bucket/a.zip": b"x", "bucket/a.7z": b"x"}
    with pytest.raises(ImagesError, match=r"Folder e holds no pictures \(1 other file skipped\)"):
        open_source("s3://bucket/e")
    with pytest.raises(ImagesError, match=r"a\.zip cannot be read"):
        open_source("s3://bucket/a.zip")
    with pytest.raises(ImagesError, match=r"a\.7z is not a source"):
        open_source("s3://bucket/a.7z")
