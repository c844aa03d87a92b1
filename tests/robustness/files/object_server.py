"""A small server on this machine for tests: objects by S3's protocol, and files by HTTP with ranges."""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class ObjectServer(ThreadingHTTPServer):
    """Serves `objects`, by "bucket/key".

    Attributes
    ----------
    requests : the method and the path of every request.
    broken : how many of the next requests fail with the status `status`.
    cut : whether bodies end too early.
    ranges : whether parts of files are served.
    redirect : where every request is sent instead; "" for nowhere.
    tagged : whether answers state a version (ETag).
    time : when every object was changed last.
    refuse_head : the status of requests by HEAD; 0 for their answer.
    shift : by how many bytes parts begin too early.
    packed : whether bodies are stated to be packed by gzip.
    retry_after : the header of that name in answers that fail; "" for none.
    drip : seconds between two bytes of a body; 0 to send it at once.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.broken, self.status, self.cut, self.ranges, self.redirect = 0, 503, 0, True, ""
        self.tagged, self.time = True, "Sun, 29 Nov 2026 00:00:00 GMT"
        self.refuse_head, self.shift, self.packed = 0, 0, False
        self.retry_after, self.drip = "", 0.0
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that close before they have read everything."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, method: str = "GET") -> int:
        """The number of requests."""
        return sum(one == method for one, _ in self.requests)


@contextmanager
def serving() -> Iterator[ObjectServer]:
    """Run a server in a thread."""
    server = ObjectServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ObjectServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self._stopped():
            return
        parts = urlsplit(self.path)
        name, query = unquote(parts.path.lstrip("/")), parse_qs(parts.query, keep_blank_values=True)
        if "list-type" in query or "prefix" in query:
            self._list(name.rstrip("/"), query)
            return
        data = self.server.objects.get(name)
        if self.command == "HEAD" and "/" not in name.strip("/"):  # a bucket
            there = any(key.startswith(f"{name.strip('/')}/") for key in self.server.objects)
            self._xml(200 if there else 404, "")
            return
        if data is None:
            self._xml(404, "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")
            return
        if self.headers.get("If-Match", tag_of(data)) != tag_of(data):
            self._xml(
                412, "<Error><Code>PreconditionFailed</Code><Message>changed</Message></Error>"
            )
            return
        status, extra, body = 200, {}, data
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and self.server.ranges:
            start, end = int(match[1]) - self.server.shift, int(match[2] or len(data) - 1)
            body, status = data[start : end + 1], 206
            extra = {"Content-Range": f"bytes {start}-{start + len(body) - 1}/{len(data)}"}
        self.send_response(status)
        extra |= {"ETag": tag_of(data)} if self.server.tagged else {}
        extra |= {"Content-Encoding": "gzip"} if self.server.packed else {}
        for key, value in {**extra, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.send_header("Last-Modified", self.server.time)
        self.end_headers()
        if self.command == "GET":
            with self.server.lock:
                cut, self.server.cut = self.server.cut, max(0, self.server.cut - 1)
            if self.server.drip:
                self._drip(body)
                return
            self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self.close_connection = True
                self.connection.close()

    def _drip(self, body: bytes) -> None:
        for byte in body:
            try:
                self.wfile.write(bytes([byte]))
            except OSError:  # the client has given up
                self.close_connection = True
                return
            time.sleep(self.server.drip)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._stopped():
            return
        if self.headers.get("x-amz-decoded-content-length") or "aws-chunked" in self.headers.get(
            "Content-Encoding", ""
        ):
            data = _unchunked(data)
        self.server.objects[unquote(urlsplit(self.path).path.lstrip("/"))] = data
        self.send_response(200)
        self.send_header("ETag", tag_of(data))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _stopped(self) -> bool:
        with self.server.lock:
            self.server.requests.append((self.command, self.path))
            fails = self.server.broken > 0
            self.server.broken -= fails
        if self.command == "HEAD" and self.server.refuse_head:
            self._xml(self.server.refuse_head, "<Error/>")
            return True
        if fails:
            self._xml(self.server.status, "<Error><Code>SlowDown</Code></Error>")
            return True
        if self.server.redirect:
            self.send_response(302)
            self.send_header("Location", self.server.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True
        return False

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        most = int(query.get("max-keys", ["1000"])[0])
        start = query.get("continuation-token", [""])[0]
        keys = sorted(
            k[len(bucket) + 1 :] for k in self.server.objects if k.startswith(f"{bucket}/")
        )
        files, folders = [], []
        for key in keys:
            if not key.startswith(prefix) or key <= start:
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folder = prefix + rest.split(delimiter)[0] + delimiter
                if folder not in folders:
                    folders.append(folder)
            else:
                files.append(key)
        more, files = files[most:], files[:most]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><ETag>{escape(tag_of(data))}</ETag><Size>{len(data)}</Size>"
            "<LastModified>2026-11-29T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass>"
            "</Contents>"
            for key in files
            for data in [self.server.objects[f"{bucket}/{key}"]]
        )
        rows += "".join(
            f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in folders
        )
        token = (
            f"<NextContinuationToken>{escape(files[-1])}</NextContinuationToken>" if more else ""
        )
        self._xml(
            200,
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(files)}</KeyCount>"
            f"<MaxKeys>{most}</MaxKeys><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{token}{rows}"
            "</ListBucketResult>",
        )

    def _xml(self, status: int, text: str) -> None:
        body = f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        if self.server.retry_after and status == self.server.status:
            self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@functools.cache
def tag_of(data: bytes) -> str:
    """The version of an object, kept: that of a gigabyte takes seconds."""
    return f'"{hashlib.md5(data).hexdigest()}"'


def _unchunked(data: bytes) -> bytes:
    """The body of an upload in chunks, each after a line with its size."""
    out = b""
    while data:
        line, _, data = data.partition(b"\r\n")
        size = int(line.split(b";")[0] or b"0", 16)
        if not size:
            break
        out, data = out + data[:size], data[size + 2 :]
    return out
