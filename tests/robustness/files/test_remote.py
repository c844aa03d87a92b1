"""Tests of remote files: URLs, stores over HTTP and S3's protocol, the bounded cache, retries."""

from __future__ import annotations

import email.utils
import io
import os
import time
from pathlib import Path
from typing import ClassVar

import pytest

from robustness.errors import FetchError, SettingError, StorageError
from robustness.files.places import ChangedFileError
from robustness.files.remote import errors, fetched, is_remote, remote_place, urls
from robustness.files.remote.cache import Cache
from robustness.files.remote.stores import HttpStore, Info, store_of
from tests.robustness.files.object_server import ObjectServer, serving


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """No waiting between tries, and a cache of its own."""
    monkeypatch.setattr(errors, "PAUSE", 0.001)
    monkeypatch.setenv("ROBUSTNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def s3(server, monkeypatch):
    """The same server as S3; every value is one that only this server takes."""
    pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": server.url,
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    store_of.cache_clear()
    yield server
    store_of.cache_clear()


def _kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_urls_are_recognised_and_paths_are_not():
    assert all(map(is_remote, ("s3://a/b", "https://a/b", "HF://a", "gs://a", "az://a/b")))
    assert not any(
        map(is_remote, ("file:///a", "a/b", "C:\\a", "pets:3", "kaggle:a/b", Path("s3://a")))
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://me:secret@host/a.zip", "user name"),
        ("https://host/a.zip?X-Amz-Signature=secret", "query"),
        ("s3://a/../b", "no plain URL"),
        ("s3://a/b::file:///etc", "no plain URL"),
        ("http://example.org/a.zip", "not protected"),
        ("s3:///key", "names nothing"),
    ],
)
def test_urls_that_leak_or_lead_elsewhere_are_refused(url, words):
    with pytest.raises(SettingError, match=words) as caught:
        remote_place(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "/x", "http://evil/x", "C:/x", "a\\..\\..\\x", "x?y", "a::b", "x\0"],
)
def test_paths_in_data_that_lead_elsewhere_are_not_followed(path):
    assert urls.below("s3://bucket/folder", path) is None


def test_paths_below_are_followed():
    assert urls.below("s3://b/f/", "./a//b c.png") == "s3://b/f/a/b c.png"


def test_a_file_is_fetched_once_and_again_when_it_changes(server, tmp_path):
    server.objects["b/model.keras"] = b"one"
    path = fetched(f"{server.url}/b/model.keras")
    assert path.name == "model.keras" and path.read_bytes() == b"one"
    assert fetched(f"{server.url}/b/model.keras") == path
    assert server.count("GET") == 1
    server.objects["b/model.keras"] = b"two"
    assert fetched(f"{server.url}/b/model.keras").read_bytes() == b"two"
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def test_passing_errors_are_tried_again(server):
    server.objects["b/a.zip"] = bytes(1000)
    server.broken = 2
    assert fetched(f"{server.url}/b/a.zip").stat().st_size == 1000
    server.objects["b/c.zip"] = bytes(range(250)) * 100
    server.cut = 2
    assert fetched(f"{server.url}/b/c.zip").read_bytes() == server.objects["b/c.zip"]
    server.broken = 99
    with pytest.raises(FetchError, match=r"cannot be read after 5 tries.*503"):
        fetched(f"{server.url}/b/d.zip")


@pytest.mark.parametrize(
    ("status", "words"), [(403, "access is denied"), (401, "access is denied")]
)
def test_denied_access_is_said_at_once(server, status, words):
    server.broken, server.status = 99, status
    with pytest.raises(FetchError, match=words):
        fetched(f"{server.url}/b/d.zip")
    # Some servers deny HEAD alone.
    assert [method for method, _ in server.requests] == ["HEAD", "GET"][: 2 if status == 403 else 1]


@pytest.mark.parametrize("status", [403, 405, 501])
def test_servers_that_answer_no_head_are_asked_by_get(server, status):
    server.objects["b/a.zip"] = bytes(1000)
    server.refuse_head = status
    assert fetched(f"{server.url}/b/a.zip").stat().st_size == 1000
    with pytest.raises(FetchError, match="nothing at"):
        fetched(f"{server.url}/b/x.zip")


def test_bytes_that_were_packed_on_the_way_are_refused(server):
    server.objects["b/a.zip"] = bytes(1000)
    server.packed = True
    with pytest.raises(FetchError, match=r"is sent packed \(gzip\)"):
        fetched(f"{server.url}/b/a.zip")


def test_nothing_there_is_said(server):
    with pytest.raises(FetchError, match=r"nothing at http://127\.0\.0\.1:\d+/b/x\.zip"):
        fetched(f"{server.url}/b/x.zip")


def test_a_redirect_to_an_unprotected_address_is_not_followed(server, monkeypatch):
    server.objects["b/a.zip"] = b"x"
    server.redirect = f"http://localhost.localdomain:{server.server_address[1]}/b/a.zip"
    with pytest.raises(FetchError, match=r"leads to http://localhost.localdomain.*not https"):
        fetched(f"{server.url}/b/a.zip")
    server.redirect = "file:///etc/passwd"
    with pytest.raises(FetchError, match="leads to file:///etc/passwd, which is not https"):
        fetched(f"{server.url}/b/a.zip")
    assert len(server.requests) == 2  # nothing was asked at the other addresses, nor again
    server.redirect = "/b/a.zip"
    with pytest.raises(FetchError, match="more than 5 times"):
        fetched(f"{server.url}/b/a.zip")


def test_no_server_is_said_after_several_tries():
    with serving() as server:
        url = server.url
    with pytest.raises(FetchError, match="after 5 tries"):
        fetched(f"{url}/b/a.zip")


def test_a_file_larger_than_the_cache_is_refused(server):
    server.objects["b/a.zip"] = bytes(2000)
    with pytest.raises(FetchError, match=r"has 2,000 bytes; at most 1,000 .*--cache-bytes"):
        fetched(f"{server.url}/b/a.zip", most=1000)
    assert server.count("GET") == 0


def _download(data: bytes):
    def download(_, file):
        file.write(data)

    return download


def test_the_least_recently_used_copies_are_removed(tmp_path):
    cache = Cache(tmp_path, 1000)
    infos = [Info(f"s3://b/{n}.bin", 300, "v") for n in range(5)]
    held = cache.path(infos[0], _download(bytes(300)), hold=True)
    for number in (1, 2):
        path = cache.path(infos[number], _download(bytes(300)))
        os.utime(path, (number, number))
    os.utime(held, (0, 0))
    cache.path(infos[1], _download(b"never"))  # used again, so 2 is older
    cache.path(infos[3], _download(bytes(300)))
    assert [cache.has(info) for info in infos] == [True, True, False, True, False]
    assert sum(len(data) for data in _kept(tmp_path).values()) <= 1000
    # Another process sees the same copies, and removes them within the same bound.
    other = Cache(tmp_path, 1000)
    assert other.has(infos[3])
    other.path(infos[4], _download(bytes(300)))
    assert sum(len(data) for data in _kept(tmp_path).values()) <= 1000


@pytest.mark.parametrize("folder", ["/proc/nope", "file"])
def test_a_folder_of_copies_that_cannot_be_made_is_not_a_missing_file(folder, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cache, info = Cache(tmp_path / folder, 1000), Info("s3://b/a.bin", 300, "v")
    with pytest.raises(StorageError, match=r"cannot be copied\..*ROBUSTNESS_CACHE names another"):
        cache.path(info, _download(bytes(300)))


def test_a_full_disk_is_no_error_of_the_network(server, tmp_path):
    server.objects["b/a.bin"] = bytes(1 << 20)
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(StorageError, match="file is larger than the system allows"):
            fetched(f"{server.url}/b/a.bin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert server.count("GET") == 1
    assert not _kept(tmp_path)


def test_half_a_copy_is_never_used(tmp_path):
    cache, info = Cache(tmp_path, 1000), Info("s3://b/a.bin", 300, "v")
    with pytest.raises(ChangedFileError, match="another size"):
        cache.path(info, _download(bytes(200)))

    def interrupted(_, file):
        file.write(bytes(100))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.path(info, interrupted)
    assert not _kept(tmp_path) and not cache.has(info)


def test_a_file_without_version_is_not_taken_from_an_earlier_process(tmp_path, monkeypatch):
    info = Info("s3://b/a.bin", 3, "")
    Cache(tmp_path).path(info, _download(b"one"))
    monkeypatch.setattr("robustness.files.remote.cache._PROCESS", "another")
    assert Cache(tmp_path).path(info, _download(b"two")).read_bytes() == b"two"


def test_a_part_that_is_cut_is_asked_again(server):
    data = bytes(range(256)) * 40
    server.objects["b/a.tar"] = data
    store = HttpStore()
    info = store.stat(f"{server.url}/b/a.tar")
    server.cut = 2
    assert store.read(info, 100, 300) == data[100:300]
    server.cut = 99
    with pytest.raises(FetchError, match="after 5 tries"):
        store.read(info, 100, 300)


def test_parts_other_than_those_asked_for_are_refused(server):
    server.objects["b/a.tar"] = bytes(range(256)) * 40
    store = HttpStore()
    info = store.stat(f"{server.url}/b/a.tar")
    server.shift = 10
    with pytest.raises(FetchError, match="gives other bytes than it is asked for"):
        store.read(info, 100, 300)


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_without_tag_has_changed_if_its_time_or_size_has(server, whole):
    store = HttpStore()
    server.tagged = False
    for change in ("time", "size"):
        server.objects["b/a.tar"] = bytes(1000)
        info = store.stat(f"{server.url}/b/a.tar")
        if change == "time":
            server.time = "Mon, 30 Nov 2026 00:00:00 GMT"
        else:
            server.objects["b/a.tar"] = bytes(500)
        with pytest.raises(
            (ChangedFileError, FetchError), match=r"changed since|500 of 1,000 bytes"
        ):
            store.download(info, io.BytesIO()) if whole else store.read(info, 100, 300)


def test_the_scheme_may_be_written_in_capitals(s3):
    s3.objects["b/a.bin"] = b"content"
    path = fetched("S3://b/a.bin")
    assert path.read_bytes() == b"content" and fetched("s3://b/a.bin") == path
    assert remote_place("S3://b/").names() == (["a.bin"], [])


def test_a_part_of_an_object_that_has_changed_is_not_used(s3):
    s3.objects["b/a.tar"] = bytes(range(256)) * 40
    store = store_of("s3")
    info = store.stat("s3://b/a.tar")
    assert store.read(info, 100, 300) == s3.objects["b/a.tar"][100:300]
    assert store.read(info, 10_000, 99_999) == s3.objects["b/a.tar"][10_000:]
    s3.cut = 1
    assert store.read(info, 100, 300) == s3.objects["b/a.tar"][100:300]
    s3.cut = 1
    store.download(info, whole := io.BytesIO())
    assert whole.getvalue() == s3.objects["b/a.tar"]
    s3.objects["b/a.tar"] = bytes(range(256))[::-1] * 40
    for action in (lambda: store.read(info, 100, 300), lambda: store.download(info, io.BytesIO())):
        with pytest.raises(ChangedFileError, match="changed since"):
            action()
    del s3.objects["b/a.tar"]
    with pytest.raises(FileNotFoundError):
        store.read(info, 100, 300)


def test_parts_are_read_where_the_files_are_larger_than_the_cache(server):
    data = bytes(range(256)) * 40
    server.objects["b/a.tar"] = data
    store = HttpStore()
    info = store.stat(f"{server.url}/b/a.tar")
    assert store.read(info, 100, 300) == data[100:300]
    assert store.read(info, len(data) - 5, len(data) + 99) == data[-5:]
    server.objects["b/a.tar"] = data[::-1]
    with pytest.raises(ChangedFileError):
        store.read(info, 100, 300)
    server.ranges = False
    with pytest.raises(FetchError, match="knows no ranges"):
        store.read(store.stat(f"{server.url}/b/a.tar"), 100, 300)
    (file,) = remote_place(f"{server.url}/b/a.tar", most=1000).files()
    assert file.chunk == 8 << 20


@pytest.mark.slow
def test_folders_ranges_and_parts_of_s3(s3: ObjectServer):
    for n in range(3):
        s3.objects[f"bucket/data/part-{n}.tar"] = bytes([n]) * 100
    s3.objects["bucket/data/deep/x.png"] = b"x"
    folder = remote_place("s3://bucket/data/")
    assert folder.is_folder and not folder.is_file
    assert folder.names() == ([f"part-{n}.tar" for n in range(3)], ["deep"])
    assert sorted(path for path, _ in folder.below()) == ["deep/x.png", *folder.names()[0]]
    for pattern in ("s3://bucket/data/part-{0..2}.tar", "s3://bucket/data/part-*.tar"):
        files = remote_place(pattern).files()
        assert [file.read_at(98, 10) for file in files] == [bytes([n]) * 2 for n in range(3)]
    (part,) = remote_place("s3://bucket/data/part-1.tar", most=50).files()
    before = s3.count()
    assert part.read_at(10, 5) == b"\1" * 5
    assert s3.count() == before + 1
    with pytest.raises(FetchError, match="nothing at s3://bucket/none"):
        remote_place("s3://bucket/none")
    with pytest.raises(FetchError, match="nothing at"):
        remote_place("s3://bucket/none-*.tar")
    s3.broken, s3.status = 1000, 403
    with pytest.raises(FetchError, match=r"access is denied.*AWS_ACCESS_KEY_ID"):
        remote_place("s3://bucket/data")


@pytest.mark.parametrize(
    ("scheme", "package"), [("gs", "gcsfs"), ("hf", "huggingface_hub"), ("az", "adlfs")]
)
def test_a_missing_package_is_named(scheme, package, monkeypatch):
    fsspec = pytest.importorskip("fsspec")

    def absent(*_, **__):
        raise ImportError(f"Install {package}")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    store_of.cache_clear()
    with pytest.raises(SettingError, match=f"pip install {package}"):
        remote_place(f"{scheme}://a/b")


def test_missing_credentials_are_said():
    class NoCredentialsError(Exception):
        """As botocore names it."""

    def read():
        raise NoCredentialsError("Unable to locate credentials")

    with pytest.raises(FetchError, match=r"no credentials were found.*AWS_ACCESS_KEY_ID"):
        errors.retried(read, "s3://bucket/key")


def test_servers_are_asked_again_when_they_say(server, monkeypatch):
    server.objects["b/a.zip"] = bytes(1000)
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    for stated, least, most in (("7", 7, 7), (later, 25, 30), ("9999", 120, 120), ("soon", 0, 0.1)):
        pauses.clear()
        server.broken, server.status, server.retry_after = 1, 429, stated
        HttpStore().stat(f"{server.url}/b/a.zip")
        assert len(pauses) == 1 and least <= pauses[0] <= most + 0.1


def test_the_pause_of_an_error_of_aws_is_found():
    class ClientError(Exception):
        response: ClassVar = {"ResponseMetadata": {"HTTPHeaders": {"retry-after": "5"}}}

    assert errors._stated_pause(ClientError()) == 5
    wrapped = OSError("busy")
    wrapped.__cause__ = ClientError()
    assert errors._stated_pause(wrapped) == 5


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_a_dripping_server_is_not_waited_for_longer_than_the_deadline(server, monkeypatch, whole):
    """Each byte comes in time; all tries together are bounded."""
    monkeypatch.setattr(errors, "READ_SECONDS", 0.5)
    monkeypatch.setattr(errors, "LEAST_RATE", 1 << 30)
    server.objects["b/a.tar"] = bytes(1000)
    store = HttpStore()
    info = store.stat(f"{server.url}/b/a.tar")
    server.drip, before = 0.02, time.monotonic()
    with pytest.raises(FetchError, match="sends too slowly"):
        store.download(info, io.BytesIO()) if whole else store.read(info, 100, 900)
    assert time.monotonic() - before < 5
    monkeypatch.setattr(errors, "READ_SECONDS", 30)
    assert store.read(info, 100, 120) == bytes(20)


def test_no_try_begins_after_the_deadline(monkeypatch):
    now, asked = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def read():
        asked.append(now[0])
        now[0] += 50
        raise TimeoutError

    with pytest.raises(FetchError, match="after 3 tries"):
        errors.retried(read, "s3://bucket/key")
    assert asked == [0, 50, 100]


def test_pauses_grow(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(errors, "PAUSE", 1.0)
    monkeypatch.setattr(time, "sleep", pauses.append)

    def read():
        raise ConnectionResetError

    with pytest.raises(FetchError, match="after 5 tries"):
        errors.retried(read, "s3://bucket/key")
    assert [round(pause) for pause in pauses[:1]] == [1]
    assert len(pauses) == 4 and pauses[3] > 2 * pauses[1] > pauses[0]
