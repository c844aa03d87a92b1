"""Tests of the Kaggle source: the real client against a local server that imitates Kaggle."""

import contextlib
import hashlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from robustness.errors import FetchError, SettingError
from robustness.model_zoo import fetch
from robustness.model_zoo.downloads import archive, download
from robustness.model_zoo.downloads.cache import Slot
from robustness.model_zoo.kaggle.source import KaggleSource
from robustness.models.suffixes import MODEL_SUFFIXES

PORT = 7777  # where the client looks when KAGGLE_API_ENVIRONMENT is TEST
BODY = bytes(range(256)) * 12_000  # 3 MB: several chunks
NOTEBOOK = "kaggle:uysimty/keras-cnn-dog-or-cat-classification"
MODEL = "kaggle-model:owner/pets/keras/small/3"
COMPETITION = "kaggle-competition:dogs-vs-cats"
SECRET = "not-a-real-key"
TOKEN = "KGAT_not-a-real-token"


@dataclass
class Kaggle:
    """The files of the imitated Kaggle, its faults, and the requests it received."""

    listed: list = field(default_factory=lambda: ["submission.csv", "model.h5"])
    body: bytes = BODY
    etag: str | None = '"one"'
    ranges: bool = True
    cuts: int = 0  # number of next answers that break off half-way
    piece: int | None = None  # largest number of bytes in a range answer
    length: bool = True  # whether to send the length of a body
    status: int = 200
    message: str = ""
    headers: dict = field(default_factory=dict)
    redirect: bool = True
    pages: int = 1
    asked: list = field(default_factory=list)

    def questions(self):
        return [path.rsplit("/", 1)[1] for method, path, *_ in self.asked if method == "POST"]


class Handler(BaseHTTPRequestHandler):
    server: "Server"
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        kaggle = self.server.kaggle
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kaggle.asked.append(("POST", self.path, dict(self.headers), body))
        allowed = ("Basic dGVzdGVyOm5vdC1hLXJlYWwta2V5", f"Bearer {TOKEN}")
        if self.headers.get("Authorization") not in allowed:
            said = f"no such key: {self.headers.get('Authorization', '').split()[-1:]}"
            return self.answer({"code": 401, "message": said}, 401)
        if kaggle.status != 200:
            return self.answer({"code": kaggle.status, "message": kaggle.message}, kaggle.status)
        if "/List" in self.path:
            page = int(body.get("pageToken") or 0)
            share = kaggle.listed[page :: kaggle.pages]
            files = [{"fileName": name, "url": "x", "name": name, "size": 1} for name in share]
            more = str(page + 1) if page + 1 < kaggle.pages else ""
            return self.answer({"files": files, "nextPageToken": more})
        if not kaggle.redirect:
            return self.give()
        self.send_response(302)
        self.send_header("Location", f"http://127.0.0.1:{PORT}/storage/file?signature=hush")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def do_GET(self):
        self.server.kaggle.asked.append(("GET", self.path, dict(self.headers), None))
        self.give()

    def answer(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        for name, text in self.server.kaggle.headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def give(self):
        kaggle = self.server.kaggle
        start, data = 0, kaggle.body
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and kaggle.ranges and self.headers.get("If-Range") == kaggle.etag:
            start = int(asked[1])
        end = min(start + kaggle.piece, len(data)) if start and kaggle.piece else len(data)
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/octet-stream")
        if kaggle.etag:
            self.send_header("ETag", kaggle.etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        if kaggle.length:
            self.send_header("Content-Length", str(end - start))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        data = data[start:end]
        if kaggle.cuts:
            kaggle.cuts -= 1
            data = data[: len(data) // 2]
        with contextlib.suppress(OSError):  # the client closed the connection
            self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    kaggle: Kaggle

    def handle_error(self, request, client_address):
        pass  # a client that closes the connection is part of the tests


@pytest.fixture(scope="module")
def server():
    try:
        server = Server(("127.0.0.1", PORT), Handler)
    except OSError as error:
        pytest.skip(f"port {PORT} is taken: {error}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def clean_home(monkeypatch, tmp_path):
    """An empty home folder and cache, without credentials."""
    for name in [name for name in os.environ if name.startswith(("KAGGLE_", "XDG_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    monkeypatch.setenv("ROBUSTNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setattr(download, "PAUSE", 0.01)
    return home


@pytest.fixture
def kaggle(server, clean_home, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "tester")
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    server.kaggle = Kaggle()
    return server.kaggle


def part(source):
    return Slot.of(source).part


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


# What is fetched, and from where


def test_a_model_of_a_notebook_is_listed_fetched_and_recorded(kaggle, tmp_path, capsys):
    seen: list[Any] = []
    path = fetch(NOTEBOOK, progress=seen.append)
    assert path.name == "model.h5"
    assert path.read_bytes() == BODY
    assert path.is_relative_to(tmp_path / "cache")
    assert kaggle.questions() == ["ListKernelSessionOutput", "DownloadKernelOutput"]
    listing, wanted = kaggle.asked[0][3], kaggle.asked[1][3]
    assert (listing["userName"], listing["kernelSlug"]) == tuple(NOTEBOOK[7:].split("/"))
    assert wanted["filePath"] == "model.h5"
    assert (seen[-1].done, seen[-1].total) == (len(BODY), len(BODY))
    record = json.loads((path.parent.parent / "record.json").read_text())
    assert record == {
        "source": NOTEBOOK,
        "file": "model.h5",
        "bytes": len(BODY),
        "sha256": hashlib.sha256(BODY).hexdigest(),
    }
    assert capsys.readouterr().out == ""


def test_the_redirect_does_not_carry_the_credentials_to_the_storage(kaggle):
    fetch(NOTEBOOK)
    (storage,) = [headers for method, _, headers, _ in kaggle.asked if method == "GET"]
    assert "Authorization" not in storage


def test_a_cached_file_needs_no_server_and_no_credentials(kaggle, monkeypatch):
    path = fetch(NOTEBOOK)
    kaggle.asked.clear()
    monkeypatch.delenv("KAGGLE_KEY")
    assert fetch(NOTEBOOK) == path
    assert kaggle.asked == []


def test_force_fetches_again(kaggle):
    fetch(NOTEBOOK)
    kaggle.body, kaggle.etag = b"second", '"two"'
    assert fetch(NOTEBOOK).read_bytes() == BODY
    assert fetch(NOTEBOOK, force=True).read_bytes() == b"second"


def test_a_cached_file_that_was_changed_is_refused_until_fetched_again(kaggle):
    path = fetch(NOTEBOOK)
    path.write_bytes(BODY[:-1] + b"x")
    with pytest.raises(FetchError, match="was changed since it was fetched"):
        fetch(NOTEBOOK)
    assert fetch(NOTEBOOK, force=True).read_bytes() == BODY


def test_one_file_of_a_models_version(kaggle):
    kaggle.listed = ["README.md", "nets/small.keras"]
    assert fetch(MODEL).name == "small.keras"
    assert kaggle.questions() == ["ListModelInstanceVersionFiles", "DownloadModelInstanceVersion"]
    wanted = kaggle.asked[1][3]
    assert wanted.pop("framework").upper().endswith("KERAS")
    assert wanted == {
        "ownerSlug": "owner",
        "modelSlug": "pets",
        "instanceSlug": "small",
        "versionNumber": 3,
        "path": "nets/small.keras",
    }


def test_all_files_are_listed_page_after_page(kaggle):
    kaggle.listed = [f"{number}.csv" for number in range(8)] + ["late.h5"]
    kaggle.pages = 3
    assert fetch(NOTEBOOK).name == "late.h5"
    assert kaggle.questions().count("ListKernelSessionOutput") == 3


def test_several_models_without_a_name_are_refused(kaggle):
    kaggle.listed = ["a.h5", "b.keras", "c.txt"]
    with pytest.raises(FetchError, match=r"2 files of .* match.*'a.h5', 'b.keras'.*#file"):
        fetch(NOTEBOOK)
    assert fetch(NOTEBOOK + "#b.keras").name == "b.keras"
    with pytest.raises(FetchError, match=r"0 files of .* match; expected 'd.h5'"):
        fetch(NOTEBOOK + "#d.h5")


def test_the_message_names_every_suffix_of_a_model(kaggle):
    kaggle.listed = ["c.txt"]
    with pytest.raises(FetchError) as caught:
        fetch(NOTEBOOK)
    assert f"exactly one {', '.join(MODEL_SUFFIXES[:-1])} or {MODEL_SUFFIXES[-1]} file" in str(
        caught.value
    )


def test_a_listed_name_cannot_leave_the_cache(kaggle, tmp_path):
    kaggle.listed = ["../../../../outside.h5"]
    assert fetch(NOTEBOOK).is_relative_to(tmp_path / "cache")
    assert not list(tmp_path.parent.rglob("outside.h5"))[1:]


def test_competition_data_as_one_zip(kaggle):
    kaggle.body = zipped(train__one="1", test__two="2")
    path = fetch(COMPETITION)
    assert path.name == "dogs-vs-cats.zip"
    assert path.read_bytes() == kaggle.body
    assert kaggle.questions() == ["DownloadDataFiles"]
    assert kaggle.asked[0][3] == {"competitionName": "dogs-vs-cats"}


def test_one_file_of_a_competition_that_comes_in_a_zip_is_unpacked(kaggle):
    kaggle.body = zipped(**{"labels.csv": "id,label\n1,0\n"})
    path = fetch(COMPETITION + "#labels.csv")
    assert path.name == "labels.csv"
    assert path.read_text() == "id,label\n1,0\n"
    assert kaggle.asked[0][3] == {"competitionName": "dogs-vs-cats", "fileName": "labels.csv"}


# Broken connections


def test_after_a_broken_connection_only_the_rest_is_requested(kaggle):
    kaggle.cuts = 1
    seen: list[Any] = []
    assert fetch(NOTEBOOK, progress=seen.append).read_bytes() == BODY
    rest = [h["Range"] for method, _, h, _ in kaggle.asked if method == "GET" and "Range" in h]
    assert len(rest) == 1
    kept = int(rest[0].removeprefix("bytes=").rstrip("-"))
    assert 0 < kept <= len(BODY) // 2
    assert [progress.note for progress in seen if progress.note] == [f"resuming at byte {kept:,}"]


def test_a_later_call_resumes_a_partial_download(kaggle, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    kaggle.cuts = 1
    with pytest.raises(FetchError, match="interrupted 1 times"):
        fetch(NOTEBOOK)
    kept = part(NOTEBOOK).stat().st_size
    assert kept > 0
    kaggle.asked.clear()
    assert fetch(NOTEBOOK).read_bytes() == BODY
    assert kaggle.asked[-1][2]["Range"] == f"bytes={kept}-"
    assert not part(NOTEBOOK).exists()


def test_a_request_that_is_not_redirected_is_repeated_with_its_body_and_key(kaggle):
    kaggle.redirect, kaggle.cuts = False, 1
    assert fetch(NOTEBOOK).read_bytes() == BODY
    _, path, headers, body = kaggle.asked[-1]
    assert path.endswith("DownloadKernelOutput")
    assert "Range" in headers
    assert body["filePath"] == "model.h5"


def test_short_range_answers_are_continued(kaggle):
    kaggle.cuts, kaggle.piece = 1, 800_000
    assert fetch(NOTEBOOK).read_bytes() == BODY


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"etag": '"two"', "body": BODY[::-1]}, "another version"),
        ({"etag": None}, "another version"),
        ({"etag": 'W/"one"'}, "another version"),
        ({"ranges": False}, "cannot resume"),
    ],
)
def test_a_download_that_cannot_resume_restarts_with_a_message(kaggle, monkeypatch, change, note):
    with monkeypatch.context() as once:
        once.setattr(download, "ATTEMPTS", 1)
        kaggle.cuts = 1
        with pytest.raises(FetchError):
            fetch(NOTEBOOK)
    for name, value in change.items():
        setattr(kaggle, name, value)
    seen: list[Any] = []
    assert fetch(NOTEBOOK, progress=seen.append).read_bytes() == kaggle.body
    assert note in " ".join(progress.note for progress in seen)


def test_a_connection_that_always_breaks_is_an_error(kaggle):
    kaggle.cuts, kaggle.ranges = 99, False
    with pytest.raises(
        FetchError, match=r"interrupted 5 times.* at [\d,]+ bytes.*resumes from there"
    ):
        fetch(NOTEBOOK)
    assert part(NOTEBOOK).exists()
    assert Slot.of(NOTEBOOK).cached() is None


def test_a_source_that_another_process_fetches_is_refused(kaggle):
    slot = Slot.of(NOTEBOOK)
    with slot.locked(), pytest.raises(FetchError, match="Another process is fetching"):
        fetch(NOTEBOOK)
    assert fetch(NOTEBOOK).exists()


# Too large, and hostile


def test_a_file_declared_too_large_is_not_downloaded(kaggle):
    with pytest.raises(FetchError, match=r"is 3,072,000 bytes; the limit is 1,000,000"):
        fetch(NOTEBOOK, max_bytes=1_000_000)
    assert not part(NOTEBOOK).exists()


def test_a_file_of_unknown_length_is_stopped_at_the_limit(kaggle):
    kaggle.length = False
    seen: list[Any] = []
    with pytest.raises(FetchError, match=r"is too large; the limit is 1,500,000"):
        fetch(NOTEBOOK, max_bytes=1_500_000, progress=seen.append)
    assert max(progress.done for progress in seen) <= 1_500_000
    assert not part(NOTEBOOK).exists()
    assert fetch(NOTEBOOK).read_bytes() == BODY


def hostile(name="ok", mode=stat.S_IFREG | 0o644, data=b"x"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        file.writestr(info, data)
    return buffer.getvalue()


HOSTILE = {
    "outside the folder": hostile("a/../../up.jpg"),
    "absolute path": hostile("/etc/up.jpg"),
    "an absolute path": hostile("C:up.jpg"),
    "backslash": hostile("a\\up.jpg"),
    "control character": hostile("a\nup.jpg"),
    "link or a device": hostile("link", stat.S_IFLNK | 0o777, b"/etc/passwd"),
    "a link or a device": hostile("fifo", stat.S_IFIFO | 0o666),
    "times its size": hostile(data=bytes(70 << 20)),
    "not a valid zip": b"PK\x03\x04 but no more",
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_archive_is_refused_and_not_kept(kaggle, fault):
    kaggle.body = HOSTILE[fault]
    with pytest.raises(FetchError, match=fault):
        fetch(COMPETITION)
    assert Slot.of(COMPETITION).cached() is None
    assert not part(COMPETITION).exists()


def test_an_archive_with_duplicate_or_encrypted_members_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(**{"a.jpg": "1", "A.jpg": "2"}))
    with pytest.raises(FetchError, match=r"'A.jpg' occurs twice"):
        archive.members(path)
    data = bytearray(zipped(**{"a.jpg": "1"}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(FetchError, match="is encrypted"):
        archive.members(path)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (archive.Limits(files=1), "holds 2 files; at most 1"),
        (archive.Limits(size=5), "unpack to 6 bytes; at most 5"),
    ],
)
def test_an_archive_beyond_a_limit_is_refused(tmp_path, limits, message):
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(a="123", b="456"))
    with pytest.raises(FetchError, match=message):
        archive.members(path, limits)
    assert len(archive.members(path)) == 2


def test_unpacking_is_all_or_nothing(tmp_path):
    path, folder = tmp_path / "a.zip", tmp_path / "out"
    good = zipped(sub__one="first", two="second")
    broken = bytearray(good)
    broken[good.index(b"two") + 3] ^= 0xFF  # the first byte of what is packed as "two"
    path.write_bytes(broken)
    with pytest.raises(FetchError, match="cannot be unpacked"):
        archive.extract(path, folder)
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(good)
    files = archive.extract(path, folder)
    assert {file.relative_to(folder).as_posix(): file.read_text() for file in files} == {
        "sub/one": "first",
        "two": "second",
    }
    with pytest.raises(FetchError, match="expected a new folder"):
        archive.extract(path, folder)


# Refusals


@pytest.mark.parametrize(
    ("source", "status", "message"),
    [
        (NOTEBOOK, 401, "does not accept the credentials.*create a token"),
        (NOTEBOOK, 403, "may be private"),
        (MODEL, 403, r"kaggle.com/models/owner/pets/keras/small.*licence"),
        (COMPETITION, 403, "competitions/dogs-vs-cats/rules signed in, accept the rules"),
        (NOTEBOOK, 404, "does not know the notebook.*check the spelling"),
        (NOTEBOOK, 429, "wait 17 seconds"),
        (NOTEBOOK, 503, "try again later.*by hand"),
        (NOTEBOOK, 418, r"refused.*\(HTTP 418\)"),
    ],
)
def test_each_http_error_explains_what_to_do(kaggle, source, status, message):
    kaggle.status, kaggle.message = status, f"because\x1b[31m of {SECRET} of course"
    kaggle.headers = {"Retry-After": "17"}
    with pytest.raises(FetchError, match=message) as caught:
        fetch(source)
    text = str(caught.value)
    assert "because" in text  # the server's message, with control characters escaped
    assert "\x1b" not in text
    assert SECRET not in text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("variable", "value"), [("KAGGLE_KEY", "wrong-key"), ("KAGGLE_API_TOKEN", "wrong-token")]
)
def test_wrong_credentials_do_not_appear_in_messages(kaggle, monkeypatch, variable, value, capfd):
    monkeypatch.setenv(variable, value)
    with pytest.raises(FetchError, match="does not accept the credentials") as caught:
        fetch(NOTEBOOK)
    assert value not in str(caught.value)
    assert value not in "".join(capfd.readouterr())


def test_credentials_are_not_stored(kaggle, tmp_path):
    fetch(NOTEBOOK)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not any(SECRET.encode() in data or b"hush" in data for data in kept)


def test_a_token_from_the_environment_or_a_file(kaggle, clean_home, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    fetch(NOTEBOOK)
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (clean_home / ".kaggle").mkdir()
    (clean_home / ".kaggle" / "access_token").write_text(TOKEN)
    fetch(NOTEBOOK, force=True)
    sent = [headers["Authorization"] for method, _, headers, _ in kaggle.asked if method == "POST"]
    assert set(sent) == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("folder", [".kaggle", ".config/kaggle", "elsewhere"])
def test_an_older_kaggle_json(kaggle, clean_home, monkeypatch, folder):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    if folder == "elsewhere":
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(clean_home / folder))
    (clean_home / folder).mkdir(parents=True)
    (clean_home / folder / "kaggle.json").write_text(
        json.dumps({"username": "tester", "key": SECRET})
    )
    assert fetch(NOTEBOOK).read_bytes() == BODY


def test_missing_credentials_are_explained(kaggle, monkeypatch):
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(FetchError) as caught:
        fetch(NOTEBOOK)
    for needed in ("KAGGLE_API_TOKEN", "~/.kaggle/access_token", "kaggle.json", "by hand"):
        assert needed in str(caught.value)
    assert kaggle.asked == []


def test_an_unreachable_server_is_an_error(clean_home, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")  # port 80 of this machine
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    with pytest.raises(FetchError, match=r"cannot be reached \(ConnectionError\)"):
        fetch(NOTEBOOK)


def test_an_answer_that_is_not_json_is_an_error(kaggle, monkeypatch):
    monkeypatch.setattr(Handler, "answer", lambda self, value: self.give())
    kaggle.body = b"<html>"
    with pytest.raises(FetchError, match="could not be read"):
        fetch(NOTEBOOK)


# Sources


@pytest.mark.parametrize(
    "text",
    [
        "kaggle:owner",
        "kaggle:owner/../up",
        "kaggle:owner/a/b",
        "kaggle:/etc/passwd",
        "kaggle:",
        "kaggle-model:owner/model/keras/variation",
        "kaggle-model:owner/model/keras/variation/latest",
        "kaggle-competition:a/b",
        "hub:owner/model",
        "https://example.com/model.h5",
    ],
)
def test_an_invalid_source_is_refused_with_the_expected_form(text):
    with pytest.raises(SettingError, match="form"):
        KaggleSource.parse(text)


def test_an_unknown_framework_is_refused_with_the_known_ones(kaggle):
    with pytest.raises(SettingError, match=r"'kears' is not a framework.*keras"):
        fetch("kaggle-model:owner/pets/kears/small/3")


def test_importing_loads_no_client_and_reads_no_home_folder(clean_home):
    code = "import sys, model_zoo; print({'kaggle', 'kagglesdk', 'tensorflow'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
    assert list(clean_home.iterdir()) == []


# Without the extra


def test_a_missing_kaggle_package_is_named_with_its_extra(clean_home, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglesdk", None)
    with pytest.raises(FetchError) as raised:
        fetch(NOTEBOOK)
    text = str(raised.value)
    assert "pip install 'robustness-toolkit[kaggle]'" in text and "not installed" in text
    assert "by hand from https://www.kaggle.com/code/uysimty" in text


def test_a_broken_kaggle_package_is_not_called_missing(clean_home, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglesdk", ModuleType("kagglesdk"))
    with pytest.raises(FetchError, match=r"installed but cannot be imported.*KaggleClient"):
        fetch(NOTEBOOK)


def test_a_cached_file_needs_no_kaggle_package(kaggle, monkeypatch):
    path = fetch(NOTEBOOK)
    monkeypatch.setitem(sys.modules, "kagglesdk", None)
    assert fetch(NOTEBOOK) == path
