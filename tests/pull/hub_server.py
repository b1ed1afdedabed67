"""A model hub on the loopback: it speaks the hub's protocol, and misbehaves where it is told to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40
ID = "someone/Tiny-GGUF"
PAGE = 3


@dataclass
class Asked:
    """A request that arrived: where, for what range, and with which token."""

    host: str
    path: str
    range: str
    token: str


@dataclass
class FakeHub:
    """Repositories by id, each files by path; ``asked``: every request, in order.

    ``cuts``: bytes after which each of the next answers with content is cut; ``storage``: the host
    that content is redirected to, which needs no token; ``lies``: by path, what is served instead;
    ``refusals``: by id, status and word of the hub's; ``moved``: old ids and their new ones.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    lies: dict[str, bytes] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    busy: list[dict[str, str]] = field(default_factory=list)
    token: str = ""
    etag: str = ""
    ranges: bool = True
    gated: bool = False
    lfs: bool = True
    storage: str = ""
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fetched(self, name: str) -> list[str]:
        """Return the ranges of the content that was asked for, without redirects."""
        return [a.range for a in self.asked if a.path.endswith(f"/{name}") and a.host]


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization", "")
        host = self.headers.get("Host", "")
        hub.asked.append(Asked(host, path, self.headers.get("Range", ""), token))
        if hub.busy:
            self.refuse(429, "", **hub.busy.pop(0))
            return
        name = "/".join(path.removeprefix("/api/models").strip("/").split("/")[:2])
        if name in hub.moved:
            to = self.path.replace(name, hub.moved[name])
            self.refuse(307, "", Location=to)
        elif name in hub.refusals:
            self.refuse(*hub.refusals[name])
        elif hub.token and token != f"Bearer {hub.token}" and "localhost" not in host:
            self.refuse(401, "GatedRepo")
        elif hub.gated and not path.startswith("/api/"):
            self.refuse(403 if token else 401, "GatedRepo")
        elif name not in hub.repositories:
            self.refuse(401 if not token else 404, "RepoNotFound")
        elif path.startswith("/api/models/"):
            self.api(name, path)
        else:
            self.content(name, path)

    def refuse(self, code: int, word: str, **headers: str) -> None:
        self.send_response(code)
        self.send_header("X-Error-Code", word)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def api(self, name: str, path: str) -> None:
        revision = path.rpartition("/")[2]
        if revision not in ("main", COMMIT):
            self.refuse(404, "RevisionNotFound")
        elif "/tree/" in path:
            self.tree(name)
        else:
            card = self.hub.cards.get(name, {})
            self.json({"id": name, "sha": COMMIT, "cardData": card, "tags": []})

    def tree(self, name: str) -> None:
        files = self.hub.repositories[name]
        query = urlsplit(self.path).query
        at = int(query.rpartition("cursor=")[2]) if "cursor=" in query else 0
        entries: list[dict[str, Any]] = [{"type": "directory", "path": "sub", "size": 0}]
        for path in sorted(files)[at : at + PAGE]:
            data = files[path]
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry: dict[str, Any] = {
                "type": "file", "path": path, "size": len(data), "oid": blob,
            }  # fmt: skip
            if self.hub.lfs and path.endswith((".gguf", ".onnx", ".data")):
                oid = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
            entries.append(entry)
        more = at + PAGE < len(files)
        base = self.path.partition("?")[0]
        link = f'<{self.hub.endpoint}{base}?recursive=true&cursor={at + PAGE}>; rel="next"'
        self.json(entries, link if more else "")

    def json(self, value: Any, link: str = "") -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        if link:
            self.send_header("Link", link)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def content(self, name: str, path: str) -> None:
        hub, inside = self.hub, path.partition(f"/resolve/{COMMIT}/")[2]
        data = hub.lies.get(inside, hub.repositories[name].get(inside, b""))
        if inside not in hub.repositories[name]:
            self.refuse(404, "EntryNotFound")
            return
        if hub.storage and "localhost" not in self.headers.get("Host", ""):
            self.refuse(302, "", Location=f"{hub.storage}{self.path}")
            return
        wanted = self.headers.get("Range", "") if hub.ranges else ""
        first, last = 0, len(data) - 1
        if wanted:
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
            if first > last:
                self.refuse(416, "")
                return
        part = data[first : last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        if hub.etag:
            self.send_header("ETag", f'"{hub.etag}"')
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        cut = hub.cuts.pop(0) if hub.cuts and self.is_download(wanted) else None
        self.wfile.write(part[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    @staticmethod
    def is_download(wanted: str) -> bool:
        """Tell a download from the look at a header, which names the end of its range."""
        return wanted.endswith("-") or not wanted


@contextmanager
def running(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve a hub on a free port, until the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
