"""Conversion from a hub: a server on the loopback that drops connections, lies, or has too much."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pitool.catalog import manifest
from pitool.checkpoint.weights import read_index
from tests.cli.conftest import Pitool, check_failure
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.network
COMMIT = "c" * 40
ID = "someone/tiny"
CUT = 11_000_000  # the client keeps what it got in pieces of 10 MiB


@dataclass
class Hub:
    """A model hub with one model; ``asked`` is every request as method, file and range."""

    folder: Path
    drops: int = 0
    etag: str = ""
    token: str = ""
    withheld: str = ""  # a file whose headers are served and whose weights are not
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    port: int = 0

    def bytes_of(self, name: str) -> list[tuple[str, str, str]]:
        return [a for a in self.asked if a[0] == "GET" and a[1] == name]


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        name = self.path.partition(f"/resolve/{COMMIT}/")[2] or self.path
        range_ = self.headers.get("Range", "")
        self.hub.asked.append((self.command, name, range_))
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.send_response(401)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.startswith("/api/models/"):
            self.send_api()
            return
        path = self.hub.folder / name
        if not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_file(path, range_, body=body)

    def send_api(self) -> None:
        revision = self.path.partition("?")[0].rpartition("/")[2]
        if revision not in ("main", COMMIT):
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        names = [p.name for p in sorted(self.hub.folder.iterdir())]
        about = {"id": ID, "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}
        data = json.dumps(about).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_file(self, path: Path, range_: str, *, body: bool) -> None:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        large = path.suffix == ".safetensors"
        first, last = 0, len(data) - 1
        if range_:
            begin, _, end = range_.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        part = data[first : last + 1]
        self.send_response(206 if range_ else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{(self.hub.etag or digest) if large else digest[:40]}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if range_:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        if not body:
            return
        header_only = range_ == "bytes=0-100000"
        if path.name == self.hub.withheld and not header_only:
            self.connection.close()
            return
        if large and not header_only and self.hub.drops and len(part) > CUT:
            self.hub.drops -= 1
            self.wfile.write(part[:CUT])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(part)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = write_checkpoint(tmp_path / "served", num_hidden_layers=2)
    (folder / "consolidated.safetensors").write_bytes(b"the same weights again")
    (folder / "pytorch_model.bin").write_bytes(b"and again")
    (folder / "modeling_tiny.py").write_bytes(b"raise SystemExit")
    made = Hub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"hub": made}))
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{made.port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


ORDER = ("convert", ID, "--ram", "1gb", "--quant", "F16")


@pytest.mark.thorough
@pytest.mark.engine
def test_a_download_that_breaks_off_goes_on_where_it_was(
    pitool: Pitool, hub: Hub, private_home: Path
) -> None:
    wide: dict[str, Any] = {"intermediate_size": 4096, "num_hidden_layers": 5}
    write_checkpoint(hub.folder, **wide)
    hub.drops = 2
    result = pitool(*ORDER)
    assert result.code == 0, result.err
    assert hub.drops == 0
    assert "downloading someone/tiny" in result.err
    (first, *ranges) = [r for _, _, r in hub.bytes_of("model.safetensors") if r != "bytes=0-100000"]
    assert first == ""
    begins = [int(r.removeprefix("bytes=").rstrip("-")) for r in ranges]
    assert begins == sorted(set(begins))
    assert begins[0] > 0
    made = manifest.read(private_home / "bundles" / "tiny-1gb")
    assert (made.source.id, made.source.revision) == (ID, COMMIT)
    (weights,) = [f for f in made.source.files if f.path == "model.safetensors"]
    served = (hub.folder / "model.safetensors").read_bytes()
    assert weights.sha256 == hashlib.sha256(served).hexdigest()
    names = {name for _, name, _ in hub.asked}
    assert not names & {"consolidated.safetensors", "pytorch_model.bin", "modeling_tiny.py"}


@pytest.mark.thorough
@pytest.mark.engine
def test_shards_that_are_here_already_are_not_fetched_again(
    pitool: Pitool, hub: Hub, private_home: Path
) -> None:
    (hub.folder / "model.safetensors").unlink()
    write_checkpoint(hub.folder, shards=3, num_hidden_layers=2)
    first, hub.withheld, third = (f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3))
    assert "cannot download" in check_failure(pitool(*ORDER), 4)
    hub.withheld = ""
    hub.asked.clear()
    result = pitool(*ORDER)
    assert result.code == 0, result.err
    assert not hub.bytes_of(first)
    assert not hub.bytes_of(third)
    made = manifest.read(private_home / "bundles" / "tiny-1gb")
    assert {f.path for f in made.source.files} >= {first, third}


def test_a_dry_run_fetches_no_weights(pitool: Pitool, hub: Hub) -> None:
    result = pitool(*ORDER, "--dry-run", "--json")
    assert json.loads(result.out)["source"] == ID
    assert not hub.bytes_of("model.safetensors")


def test_another_architecture_is_planned_by_the_headers_on_the_hub(
    pitool: Pitool, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    source = tmp_path / "sdist" / "vendor" / "llama.cpp"
    (source / "conversion").mkdir(parents=True)
    (source / "conversion" / "__init__.py").write_text('T = {\n    "BloomForCausalLM": "bloom",\n}')
    (source / "convert_hf_to_gguf.py").touch()
    monkeypatch.setenv("PITOOL_LLAMA_CPP_SDIST", str(tmp_path / "sdist"))
    settings = hub.folder / "config.json"
    values = json.loads(settings.read_text())
    values |= {"model_type": "bloom", "architectures": ["BloomForCausalLM"]}
    settings.write_text(json.dumps(values))
    result = pitool(*ORDER, "--dry-run", "--json")
    assert result.code == 0, result.err
    weights = sum(prod(t.shape) for t in read_index(hub.folder).values())
    assert json.loads(result.out)["parameters"] == weights
    assert {r for _, _, r in hub.bytes_of("model.safetensors")} == {"bytes=0-100000"}


@pytest.mark.thorough
def test_weights_of_another_shape_are_not_fetched(pitool: Pitool, hub: Hub) -> None:
    path = hub.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "intermediate_size": 1024}))
    sentence = check_failure(pitool(*ORDER), 4)
    assert "has shape" in sentence
    assert [r for _, _, r in hub.bytes_of("model.safetensors")] == ["bytes=0-100000"]


@pytest.mark.thorough
def test_the_single_file_of_the_hub_goes_before_its_index(pitool: Pitool, hub: Hub) -> None:
    write_checkpoint(hub.folder, shards=2, num_hidden_layers=2)
    single = hub.folder / "model.safetensors"
    save_file({"model.norm.weight": np.ones(3, np.float32)}, single)
    assert "has no tensor" in check_failure(pitool(*ORDER), 4)
    assert [r for _, _, r in hub.bytes_of(single.name)] == ["bytes=0-100000"]
    assert not hub.bytes_of("model-00001-of-00002.safetensors")


@pytest.mark.thorough
@pytest.mark.parametrize("data", [b"<!doctype html>" * 9, b"short", b"\2" + b"\0" * 7 + b"[]"])
def test_a_file_on_the_hub_that_is_no_safetensors(pitool: Pitool, hub: Hub, data: bytes) -> None:
    (hub.folder / "model.safetensors").write_bytes(data)
    sentence = check_failure(pitool(*ORDER), 4)
    assert "model.safetensors of someone/tiny on the hub is not a safetensors file" in sentence


def test_a_model_that_does_not_fit_is_not_fetched(pitool: Pitool, hub: Hub) -> None:
    path = hub.folder / "config.json"
    huge = {"hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28672}
    path.write_text(json.dumps({**json.loads(path.read_text()), **huge}))
    check_failure(pitool(*ORDER), 3)
    assert not hub.bytes_of("model.safetensors")


def test_content_that_is_not_what_the_hub_says(pitool: Pitool, hub: Hub, tmp_path: Path) -> None:
    hub.etag = "0" * 64
    sentence = check_failure(pitool(*ORDER), 4)
    damaged = "the download of model.safetensors was damaged; run the command again to download"
    assert damaged in sentence
    assert not list((tmp_path / "hf-home").rglob("0" * 64))


@pytest.mark.thorough
def test_another_revision(pitool: Pitool, hub: Hub) -> None:
    sentence = check_failure(pitool(*ORDER, "--revision", "v9"), 4)
    assert "someone/tiny has no revision 'v9'" in sentence
    assert pitool(*ORDER, "--revision", COMMIT, "--dry-run").code == 0


@pytest.mark.thorough
def test_the_token_of_the_environment(
    pitool: Pitool, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_word"
    assert "is a gated model; accept its licence" in check_failure(pitool(*ORDER, "--dry-run"), 4)
    monkeypatch.setenv("HF_TOKEN", "hf_word")
    assert pitool(*ORDER, "--dry-run").code == 0


def test_a_server_that_is_gone(pitool: Pitool, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot download" in check_failure(pitool(*ORDER), 4)
    assert os.environ["HF_ENDPOINT"].endswith(":9")
