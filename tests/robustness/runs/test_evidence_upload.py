"""Tests of pictures that are copied to a bucket while a run is written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import robustness
from robustness.configuration.audit_config import AuditConfig
from robustness.configuration.audit_file import expect_trust_given
from robustness.errors import FetchError, SettingError, StorageError
from robustness.files.remote import errors
from robustness.files.remote.stores import store_of
from robustness.runs import evidence_upload
from robustness.runs.records import png_name
from tests.robustness.files.object_server import serving

URL = "s3://bucket/runs/one"


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("s3fs")
    with serving() as server:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": server.url, "AWS_DEFAULT_REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(errors, "PAUSE", 0.001)
        monkeypatch.setattr(evidence_upload, "SECONDS", 0.05)
        store_of.cache_clear()
        yield server
        store_of.cache_clear()


def _picture(folder: Path, number: int) -> str:
    data = bytes([number]) * 100
    name = png_name(hashlib.sha256(data).hexdigest(), ".png")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return name


def _there(server) -> set[str]:
    return {key.removeprefix("bucket/runs/one/") for key in server.objects if "/images/" in key}


def test_pictures_are_uploaded_while_the_run_is_written_and_at_its_end(server, tmp_path):
    with evidence_upload.evidence_upload(tmp_path, URL):
        first = _picture(tmp_path, 1)
        for _ in range(200):
            if _there(server):
                break
            evidence_upload.threading.Event().wait(0.02)
        assert _there(server) == {first}
        last = _picture(tmp_path, 2)
    assert _there(server) == {first, last}
    assert server.objects[f"bucket/runs/one/{last}"] == b"\2" * 100


def test_only_what_is_missing_is_uploaded_again(server, tmp_path):
    names = [_picture(tmp_path, n) for n in range(3)]
    with evidence_upload.evidence_upload(tmp_path, URL):
        pass
    server.objects[f"bucket/runs/one/{names[0]}"] = b"half"
    del server.objects[f"bucket/runs/one/{names[1]}"]
    server.requests.clear()
    with evidence_upload.evidence_upload(tmp_path, URL):
        pass
    written = [path for method, path in server.requests if method == "PUT" and "/images/" in path]
    assert len(written) == 2
    assert all(len(server.objects[f"bucket/runs/one/{name}"]) == 100 for name in names)


def test_what_cannot_be_uploaded_is_said_and_the_run_is_kept(server, tmp_path):
    with (
        pytest.raises(StorageError, match=r"1 pictures could not be uploaded .* --resume"),
        evidence_upload.evidence_upload(tmp_path, URL),
    ):
        _picture(tmp_path, 1)
        server.broken, server.status = 10_000, 403
    server.broken = 10_000
    with (
        pytest.raises(FetchError, match="access is denied"),
        evidence_upload.evidence_upload(tmp_path, URL),
    ):
        pytest.fail("the audit must not begin")


def test_an_interrupted_run_ends_without_uploading_the_rest(server, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence_upload, "SECONDS", 60)
    with pytest.raises(KeyboardInterrupt), evidence_upload.evidence_upload(tmp_path, URL):
        _picture(tmp_path, 1)
        raise KeyboardInterrupt
    assert not _there(server)


def test_links_and_drafts_are_not_uploaded(server, tmp_path):
    name = _picture(tmp_path, 1)
    (tmp_path / "secret").write_text("secret")
    place = (tmp_path / name).parent
    (place / "link.png").symlink_to(tmp_path / "secret")
    (place / ".draft.part").write_text("half")
    with evidence_upload.evidence_upload(tmp_path, URL):
        pass
    assert _there(server) == {name}


@pytest.mark.parametrize(
    "url", ["https://host/x", "/folder/x", "s3://a/../b", "s3://me:secret@a/b"]
)
def test_places_that_cannot_be_written_are_refused(url, tmp_path):
    with (
        pytest.raises(SettingError, match="expected"),
        evidence_upload.evidence_upload(tmp_path, url),
    ):
        pytest.fail("the audit must not begin")


def test_a_configuration_cannot_send_pictures_elsewhere():
    config = AuditConfig(evidence_to=URL)
    with pytest.raises(SettingError, match="Type --evidence-to"):
        expect_trust_given(config, "audit.toml", {})
    expect_trust_given(config, "audit.toml", {"evidence_to": URL})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"evidence_to": ""}, "cannot go to an empty URL"),
        ({"evidence_to": "folder"}, "cannot go to folder"),
        ({"evidence_to": "s3://b/x?token=y"}, "no plain URL"),
        ({"evidence_to": URL, "evidence": "none"}, "nothing to send"),
        ({"evidence_to": "s3://b/photos/e", "images": "s3://b/photos/"}, "where the images lie"),
    ],
)
def test_a_place_that_is_not_usable_is_refused_before_a_run_begins(options, words, tmp_path):
    images = options.pop("images", np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(SettingError, match=words):
        robustness.audit("no-such-model.keras", images, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_evidence_beside_the_images_is_allowed():
    evidence_upload.expect_apart("s3://b/photos-e", "s3://b/photos")
    evidence_upload.expect_apart(URL, "photos")
    evidence_upload.expect_apart(None, "s3://b/photos")


def test_a_place_that_denies_access_is_said_not_to_be_writable(server, tmp_path):
    server.broken, server.status = 10_000, 403
    with (
        pytest.raises(FetchError, match=r"evidence\.txt cannot be written: access is denied"),
        evidence_upload.evidence_upload(tmp_path, URL),
    ):
        pytest.fail("the audit must not begin")
