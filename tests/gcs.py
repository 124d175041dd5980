"""A stand-in for Google Cloud Storage: its JSON API over HTTP, as far as gcsfs, TensorStore and Google's client use it.

It is real where a store differs from a disk: objects appear whole, there are no folders, nothing is renamed or
appended to, writes may depend on the generation they replace. A request that it does not know is answered with 501 and
kept in `unknown`, so that a test notices.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import itertools
import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 40
"""Objects in an answer to a listing, so that the next page is asked for."""


@dataclasses.dataclass
class Object:
    """What is stored under a name."""

    data: bytes
    generation: int
    updated: str

    def resource(self, bucket: str, name: str) -> dict:
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(len(self.data)),
            "md5Hash": base64.b64encode(hashlib.md5(self.data).digest()).decode(),
            "generation": str(self.generation),
            "metageneration": "1",
            "updated": self.updated,
            "timeCreated": self.updated,
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
        }


class Refused(Exception):
    """A request that gets an error's status."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Store:
    """Buckets of objects, and what happened to them."""

    def __init__(self):
        self.buckets: dict[str, dict[str, Object]] = {}
        self.refuse: Callable[[str, str, str], int | None] = lambda method, bucket, name: None
        """The status of an error for a request's method, bucket and object, where it is to be refused."""
        self.requests: Counter[tuple[str, str]] = Counter()
        """How many there were of each method for each object (`bucket/name`)."""
        self.unknown: list[str] = []
        self.lock = threading.Lock()
        self._generations = itertools.count(1_700_000_000_000_000)
        self._sessions: dict[str, tuple[str, str, dict, bytearray]] = {}

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Names of the objects in a bucket that begin so."""
        with self.lock:
            return sorted(name for name in self.buckets[bucket] if name.startswith(prefix))

    def text(self, bucket: str, name: str) -> str:
        """Return the content of an object."""
        return self.buckets[bucket][name].data.decode()

    def download(self, bucket: str, prefix: str, folder: Path) -> Path:
        """Writes all objects below a folder of a bucket into one on a disk."""
        for name in self.names(bucket, f"{prefix}/"):
            file = folder / name.removeprefix(f"{prefix}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.buckets[bucket][name].data)
        return folder

    def upload(self, folder: Path, bucket: str, prefix: str) -> None:
        """Write all files of a folder on a disk into one of a bucket."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.put(bucket, f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def put(self, bucket: str, name: str, data: bytes) -> Object:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.buckets[bucket][name] = Object(data, next(self._generations), now)
        return self.buckets[bucket][name]

    def answer(self, method: str, path: str, query: dict[str, str], headers, body: bytes):
        """(status, headers, body) of a request; a dict as body is sent as JSON."""
        session = query.get("upload_id")
        if session in self._sessions:
            return self._continue(session, headers, body)
        route = re.fullmatch(r"/(?:(upload|download)/)?storage/v1/b/([^/]+)(?:/o(?:/([^/]+)(/.*)?)?)?", path)
        if not route:
            self.unknown.append(f"{method} {path} {query}")
            raise Refused(501, "not in this stand-in")
        kind, bucket, name, rest = (unquote(part) if part else "" for part in route.groups())
        name = name or query.get("name", "")
        self.requests[method, f"{bucket}/{name}"] += 1
        if status := self.refuse(method, bucket, name):
            raise Refused(status, f"someone does not have access to {bucket}/{name}, or it may not exist.")
        if bucket not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.")
        if method == "GET" and path.endswith(f"/b/{bucket}"):
            return 200, {}, {"kind": "storage#bucket", "name": bucket, "id": bucket}
        if kind == "upload":
            return self._upload(bucket, name, query, headers, body)
        if method == "GET" and not name:
            return self._list(bucket, query)
        if rest or method not in ("GET", "DELETE"):
            self.unknown.append(f"{method} {path} {query}")
            raise Refused(501, "not in this stand-in")
        found = self.buckets[bucket].get(name)
        if not found:
            raise Refused(404, f"No such object: {bucket}/{name}")
        if self._differs(bucket, name, query):
            return 412, {}, b""
        if query.get("ifGenerationNotMatch") == str(found.generation):
            return 304, {}, b""
        if method == "DELETE":
            del self.buckets[bucket][name]
            return 204, {}, b""
        if kind == "download" or query.get("alt") == "media":
            return self._media(found, headers)
        return 200, {}, found.resource(bucket, name)

    def _differs(self, bucket: str, name: str, query: dict[str, str]) -> bool:
        """Return whether a request is for another generation (0: no object)."""
        there = self.buckets[bucket].get(name)
        wanted = query.get("ifGenerationMatch")
        return wanted is not None and wanted != (str(there.generation) if there else "0")

    def _media(self, found: Object, headers):
        given = {"x-goog-generation": str(found.generation), "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range", ""))
        if not wanted:
            return 200, given, found.data
        size = len(found.data)
        if wanted[1]:
            begin, end = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
        else:
            begin, end = max(size - int(wanted[2]), 0), size - 1
        if begin >= size:
            return 416, {"Content-Range": f"bytes */{size}"}, b""
        given["Content-Range"] = f"bytes {begin}-{end}/{size}"
        return 206, given, found.data[begin : end + 1]

    def _list(self, bucket: str, query: dict[str, str]):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        begin, end = query.get("startOffset", ""), query.get("endOffset", "\uffff")
        objects, folders = [], []
        for name, one in sorted(self.buckets[bucket].items()):
            if not (name.startswith(prefix) and begin <= name < end):
                continue
            inside, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if cut:
                folders.append(f"{prefix}{inside}{cut}")
            else:
                objects.append(one.resource(bucket, name))
        at, size = int(query.get("pageToken", 0)), min(int(query.get("maxResults", PAGE)), PAGE)
        answer = {"kind": "storage#objects", "items": objects[at : at + size]}
        if not at:
            answer["prefixes"] = list(dict.fromkeys(folders))
        if at + size < len(objects):
            answer["nextPageToken"] = str(at + size)
        return 200, {}, answer

    def _upload(self, bucket: str, name: str, query: dict[str, str], headers, body: bytes):
        if query["uploadType"] == "multipart":
            boundary = re.search(r'boundary="?([^";]+)', headers["Content-Type"])[1].encode()
            _, metadata, content, _ = body.split(b"--" + boundary, 3)
            name = json.loads(re.split(rb"\r?\n\r?\n", metadata, maxsplit=1)[1])["name"]
            body = re.sub(rb"\r?\n\Z", b"", re.split(rb"\r?\n\r?\n", content, maxsplit=1)[1])
        elif query["uploadType"] == "resumable":
            name = name or json.loads(body)["name"]
            session = str(next(self._generations))
            self._sessions[session] = (bucket, name, query, bytearray())
            place = f"http://{headers['Host']}/upload/storage/v1/b/{bucket}/o?upload_id={session}"
            return 200, {"Location": place}, {}
        if status := self.refuse("POST", bucket, name):
            raise Refused(status, f"someone does not have storage.objects.create access to {bucket}/{name}.")
        if self._differs(bucket, name, query):
            return 412, {}, b""
        return 200, {}, self.put(bucket, name, body).resource(bucket, name)

    def _continue(self, session: str, headers, body: bytes):
        bucket, name, query, received = self._sessions[session]
        received += body
        if headers.get("Content-Range", "").endswith("/*"):
            return 308, {"Range": f"bytes=0-{len(received) - 1}"}, b""
        del self._sessions[session]
        if self._differs(bucket, name, query):
            return 412, {}, b""
        return 200, {}, self.put(bucket, name, bytes(received)).resource(bucket, name)


@contextmanager
def serve() -> Iterator[tuple[Store, dict[str, str]]]:
    """A store that is served on this machine, and the environment of processes that are to take it for Google's."""
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def _handle(self):
            where = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(where.query, keep_blank_values=True).items()}
            body = self._body()
            with store.lock:
                try:
                    status, headers, body = store.answer(self.command, where.path, query, self.headers, body)
                except Refused as error:
                    status, headers = error.status, {}
                    body = {"error": {"code": status, "message": str(error)}}
            if isinstance(body, dict):
                headers, body = {**headers, "Content-Type": "application/json"}, json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if status not in (204, 304):
                self.wfile.write(body)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_):
            if not isinstance(sys.exception(), ConnectionError):  # a client may leave at any time
                super().handle_error(*_)

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    here = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield (
            store,
            {
                "STORAGE_EMULATOR_HOST": here,  # gcsfs and Google's client
                "TENSORSTORE_GCS_HTTP_URL": here,
                "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",  # or else TensorStore looks for Google's machines
                "FSSPEC_GCS_TOKEN": "anon",  # and gcsfs for the user's account
                "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # which asks over gRPC what kind of bucket it is
            },
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
