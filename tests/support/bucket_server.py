"""A bucket on loopback: the part of Google Cloud Storage's JSON interface that programs here use, with
faults.

Objects lie in memory. `Faults` says which requests fail, and how. Each request draws its own random number,
so faults do not depend on the order of threads.
"""

import base64
import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import random
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from data_pipeline.common import buckets

_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)")
_OBJECTS = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)/o")
_UPLOAD = re.compile(r"(?:/resumable)?/upload/storage/v1/b/(?P<bucket>[^/]+)/o")
_COPY = re.compile(
    r"/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)/(?:rewriteTo|copyTo)/b/(?P<to>[^/]+)/o/(?P<target>[^/]+)"
)
_DELETE_IN_BATCH = re.compile(rb"DELETE (/storage/v1/b/[^ ?]+)")


@dataclasses.dataclass
class Faults:
    """Which requests fail.

    Attributes:
        unavailable: share of requests that are answered with 503.
        cut: share of downloads and uploads whose connection is lost in the middle.
        slow: share of requests that wait for `seconds` first.
        seconds: see `slow`.
        stale: seconds for which a listing does not show what has changed.
        refused: every request is answered with 503 while it is true.
        seed: of the random draws.
    """

    unavailable: float = 0.0
    cut: float = 0.0
    slow: float = 0.0
    seconds: float = 0.5
    stale: float = 0.0
    refused: bool = False
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Stored:
    """An object of a bucket."""

    data: bytes
    generation: int
    since: float


class BucketServer:
    """Serves buckets as long as the context lasts.

    Attributes:
        objects: `bucket/name` → object.
        faults: may be changed at any time.
        met: kind of fault → how often a request has met it.
        requests: number of requests.
    """

    def __init__(self, faults: Faults | None = None) -> None:
        self.objects: dict[str, Stored] = {}
        self.faults = faults or Faults()
        self.met = {"503": 0, "cut": 0, "slow": 0, "stale": 0}
        self.requests = 0
        self.lock = threading.RLock()
        self._removed: dict[str, Stored] = {}
        self._removed_at: dict[str, float] = {}
        self._generation = 0
        self._uploads: dict[str, tuple[str, bytearray, str | None]] = {}
        self._draw = random.Random(self.faults.seed)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.bucket_server = self

    def __enter__(self) -> "BucketServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which programs use this server instead of the real one."""
        return {
            "STORAGE_EMULATOR_HOST": self.address,
            "TENSORSTORE_GCS_HTTP_URL": self.address,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "FSSPEC_GCS_TOKEN": "anon",
            # The storage-control service, which tells kinds of buckets, is not served.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    # --- Objects --------------------------------------------------------------------------------------------

    def put(self, path: str, data: bytes) -> Stored:
        with self.lock:
            self._generation += 1
            self.objects[path] = Stored(bytes(data), self._generation, time.monotonic())
            return self.objects[path]

    def remove(self, path: str) -> bool:
        with self.lock:
            stored = self.objects.pop(path, None)
            if stored is not None:
                self._removed[path], self._removed_at[path] = stored, time.monotonic()
            return stored is not None

    def listed(self, bucket: str, prefix: str) -> dict[str, Stored]:
        """Name → object under a prefix, as a listing shows them."""
        with self.lock:
            then = time.monotonic() - self.faults.stale
            found = {path: one for path, one in self.objects.items() if one.since <= then}
            if self.faults.stale:
                gone = {path: one for path, one in self._removed.items() if self._removed_at[path] > then}
                if gone or len(found) < len(self.objects):
                    self.met["stale"] += 1
                found |= {path: one for path, one in gone.items() if path not in self.objects}
        start = f"{bucket}/{prefix}"
        return {path[len(bucket) + 1 :]: one for path, one in sorted(found.items()) if path.startswith(start)}

    def under(self, url: str) -> dict[str, bytes]:
        """Name below a `gs://` URL → content of each object there is."""
        start = f"{url.removeprefix('gs://')}/"
        with self.lock:
            return {p[len(start) :]: one.data for p, one in self.objects.items() if p.startswith(start)}

    # --- Uploads in pieces ----------------------------------------------------------------------------------

    def begin_upload(self, path: str, condition: str | None) -> str:
        with self.lock:
            number = f"upload-{len(self._uploads)}-{self._draw.getrandbits(32):x}"
            self._uploads[number] = (path, bytearray(), condition)
        return number

    def upload(self, number: str) -> tuple[str, bytearray, str | None]:
        return self._uploads[number]

    def draws(self, kind: str, share: float) -> bool:
        """Whether a request meets a fault of which it has this share."""
        with self.lock:
            meets = share > 0 and self._draw.random() < share
            self.met[kind] += meets
        return meets


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    bucket_server: BucketServer

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PUT(self) -> None:
        self._answer(self._post)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    # --- Faults ---------------------------------------------------------------------------------------------

    def _answer(self, act: Callable[[], None]) -> None:
        assert isinstance(self.server, _Server)
        self.bucket_server = self.server.bucket_server
        faults = self.bucket_server.faults
        self.bucket_server.requests += 1
        parts = urllib.parse.urlsplit(self.path)
        self.at, self.given = parts.path, dict(urllib.parse.parse_qsl(parts.query))
        if self.bucket_server.draws("slow", faults.slow):
            time.sleep(faults.seconds)
        length = int(self.headers.get("Content-Length") or 0)
        cut = self.bucket_server.draws("cut", faults.cut)
        if cut and length:
            self.rfile.read(length // 2)
            return self._lose()
        self.body = self._chunked() if self.headers.get("Transfer-Encoding") else self.rfile.read(length)
        if faults.refused or self.bucket_server.draws("503", faults.unavailable):
            return self._send(503, {"error": {"code": 503, "message": "try again"}})
        self.cut = cut
        act()

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _lose(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    # --- Requests -------------------------------------------------------------------------------------------

    def _get(self) -> None:
        if found := _OBJECT.fullmatch(self.at):
            path = _path(found["bucket"], found["name"])
            stored = self.bucket_server.objects.get(path)
            if stored is None:
                self._missing(path)
            elif self.given.get("alt") == "media" or self.at.startswith("/download"):
                self._send_media(stored)
            else:
                self._send(200, _about(path, stored))
        elif found := _OBJECTS.fullmatch(self.at):
            self._list(found["bucket"])
        else:
            self._missing(self.at)

    def _list(self, bucket: str) -> None:
        prefix, delimiter = self.given.get("prefix", ""), self.given.get("delimiter")
        found = self.bucket_server.listed(bucket, prefix)
        items, prefixes = [], dict[str, None]()
        for name, stored in found.items():
            if delimiter and delimiter in name[len(prefix) :]:
                prefixes[prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter] = None
            else:
                items.append(_about(f"{bucket}/{name}", stored))
        begin = int(self.given.get("pageToken") or 0)
        size = int(self.given.get("maxResults") or 1000)
        everything = [("prefixes", one) for one in prefixes] + [("items", one) for one in items]
        page: dict = {"kind": "storage#objects"}
        for kind, one in everything[begin : begin + size]:
            page.setdefault(kind, []).append(one)
        if begin + size < len(everything):
            page["nextPageToken"] = str(begin + size)
        self._send(200, page)

    def _post(self) -> None:
        if found := _COPY.fullmatch(self.at):
            self._copy(_path(found["bucket"], found["name"]), _path(found["to"], found["target"]))
        elif self.at == "/batch/storage/v1":
            self._delete_many()
        elif found := _UPLOAD.fullmatch(self.at):
            self._upload(found["bucket"])
        else:
            self._missing(self.at)

    def _upload(self, bucket: str) -> None:
        condition = self.given.get("ifGenerationMatch")
        kind = self.given.get("uploadType")
        if "upload_id" in self.given:
            self._continue_upload(self.given["upload_id"])
        elif kind == "resumable":
            name = self.given.get("name") or json.loads(self.body)["name"]
            number = self.bucket_server.begin_upload(f"{bucket}/{name}", condition)
            where = f"{self.bucket_server.address}{self.at}?uploadType=resumable&upload_id={number}"
            self._send(200, {}, {"Location": where})
        elif kind == "multipart":
            about, data = _two_parts(self.body, self.headers["Content-Type"])
            self._store(f"{bucket}/{json.loads(about)['name']}", data, condition)
        else:
            self._store(f"{bucket}/{self.given['name']}", self.body, condition)

    def _continue_upload(self, number: str) -> None:
        path, so_far, condition = self.bucket_server.upload(number)
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers["Content-Range"])
        assert found, self.headers["Content-Range"]
        if found[1] is not None:
            so_far[int(found[1]) :] = self.body
        if found[3] != "*" and len(so_far) == int(found[3]):
            self._store(path, bytes(so_far), condition)
        else:
            self._send(308, None, {"Range": f"bytes=0-{len(so_far) - 1}"} if so_far else {})

    def _store(self, path: str, data: bytes, condition: str | None) -> None:
        with self.bucket_server.lock:
            stored = self.bucket_server.objects.get(path)
            if condition is not None and int(condition) != (stored.generation if stored else 0):
                return self._send(412, {"error": {"code": 412, "message": "conditionNotMet"}})
            stored = self.bucket_server.put(path, data)
        self._send(200, _about(path, stored))

    def _copy(self, source: str, target: str) -> None:
        stored = self.bucket_server.objects.get(source)
        if stored is None:
            return self._missing(source)
        made = self.bucket_server.put(target, stored.data)
        self._send(200, {"done": True, "resource": _about(target, made)})

    def _delete(self) -> None:
        found = _OBJECT.fullmatch(self.at)
        if found and self.bucket_server.remove(_path(found["bucket"], found["name"])):
            self._send(204, None)
        else:
            self._missing(self.at)

    def _delete_many(self) -> None:
        boundary, answers = "answers", []
        for number, at in enumerate(_DELETE_IN_BATCH.findall(self.body), 1):
            found = _OBJECT.fullmatch(at.decode())
            done = found and self.bucket_server.remove(_path(found["bucket"], found["name"]))
            code = "204 No Content" if done else "404 Not Found"
            answers.append(
                f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <response-{number}>\r\n\r\n"
                f"HTTP/1.1 {code}\r\nContent-Length: 0\r\n\r\n"
            )
        body = "".join([*answers, f"--{boundary}--"]).encode()
        self._send_bytes(200, body, {"Content-Type": f"multipart/mixed; boundary={boundary}"})

    # --- Answers --------------------------------------------------------------------------------------------

    def _missing(self, what: str) -> None:
        self._send(404, {"error": {"code": 404, "message": f"no such object: {what}"}})

    def _send_media(self, stored: Stored) -> None:
        data, code, head = stored.data, 200, {"X-Goog-Generation": str(stored.generation)}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if asked and (asked[1] or asked[2]):
            begin = int(asked[1]) if asked[1] else max(len(data) - int(asked[2]), 0)
            end = min(int(asked[2]) + 1, len(data)) if asked[1] and asked[2] else len(data)
            if begin >= len(data):
                return self._send_bytes(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            head["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
            data, code = data[begin:end], 206
        head["X-Goog-Hash"] = f"md5={_md5(stored.data)}"
        self._send_bytes(code, data, head)

    def _send(self, code: int, answer: dict | None, head: dict[str, str] | None = None) -> None:
        body = b"" if answer is None else json.dumps(answer).encode()
        self._send_bytes(code, body, {"Content-Type": "application/json", **(head or {})})

    def _send_bytes(self, code: int, body: bytes, head: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in head.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if getattr(self, "cut", False) and body and code < 400:
            self.wfile.write(body[: len(body) // 2])
            self.cut = False
            return self._lose()
        self.wfile.write(body)


def _path(bucket: str, name: str) -> str:
    return f"{bucket}/{urllib.parse.unquote(name)}"


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def _about(path: str, stored: Stored) -> dict:
    bucket, _, name = path.partition("/")
    written = time.time() - (time.monotonic() - stored.since)
    updated = datetime.datetime.fromtimestamp(written, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "generation": str(stored.generation),
        "metageneration": "1",
        "size": str(len(stored.data)),
        "md5Hash": _md5(stored.data),
        "updated": updated,
        "timeCreated": updated,
    }


def _two_parts(body: bytes, kind: str) -> tuple[bytes, bytes]:
    """The two parts of a multipart upload: description and content."""
    found = re.search(r'boundary="?([^";]+)"?', kind)
    assert found, kind
    mark = b"--" + found[1].encode()
    begin = body.index(mark) + len(mark)
    middle = body.index(mark, begin)
    end = body.rindex(mark)
    about, data = (
        # As servers may: a carriage return at the end of the content counts as one of the line break.
        re.sub(rb"\r?\n\Z", b"", re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1])
        for part in (body[begin:middle], body[middle + len(mark) : end])
    )
    return about, data


@contextlib.contextmanager
def served(faults: Faults | None = None) -> Iterator[BucketServer]:
    """A server of buckets, which this process and those that inherit its environment use."""
    from unittest import mock

    import fsspec

    fsspec.config.conf.setdefault("gcs", {})  # read from the environment at import, so perhaps too early
    with (
        BucketServer(faults) as server,
        mock.patch.dict(os.environ, server.environment),
        # A test must not wait for ten minutes to fail.
        mock.patch.object(buckets, "PATIENCE", 60.0),
        mock.patch.dict(fsspec.config.conf["gcs"], {"token": "anon", "use_listings_cache": False}),
    ):
        # File systems are kept, and those of an earlier server would ask there.
        fsspec.get_filesystem_class("gs").clear_instance_cache()
        yield server
