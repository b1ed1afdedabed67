"""The look-up of known holes: what counts, and that an unreachable source is no verdict."""

from __future__ import annotations

import http.server
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit.py"


@pytest.fixture
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_users_install_is_told_from_what_tests_need(audit: Any) -> None:
    users = audit.needed("pitool", audit.EXTRAS)
    assert {"pitool", "click", "numpy", "markdown-it-py", "mdurl", "huggingface-hub"} <= users
    assert not {"torch", "transformers", "pytest", "ruff", "optimum"} & users
    hole = {"id": "PYSEC-2026-1", "fix_versions": ["9.9"]}
    document = {
        "dependencies": [
            {"name": "click", "version": "8.1", "vulns": [hole, hole | {"fix_versions": []}]},
            {"name": "Markdown_It.Py", "version": "1.0", "vulns": [hole]},
            {"name": "torch", "version": "2.0", "vulns": [hole]},
            {"name": "rich", "version": "1.0", "vulns": []},
            {"name": "pitool", "skip_reason": "not found"},
        ]
    }
    bad, others = audit.holes(document, users)
    assert bad == [
        "click 8.1: PYSEC-2026-1, mended in 9.9",
        "click 8.1: PYSEC-2026-1, mended in no version yet",
        "Markdown_It.Py 1.0: PYSEC-2026-1, mended in 9.9",
    ]
    assert others == ["torch 2.0: PYSEC-2026-1, mended in 9.9"]


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if body else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.thorough
@pytest.mark.network
@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"vulnerabilities": [{"id": "x"}]}', ""),
        (b'{"vulnerabilities": []}', "knows of no holes"),
        (b'{"info": {}}', "does not answer"),
        (b"[]", "does not answer"),
        (b"<html>", "does not answer"),
        (b"", "does not answer"),
    ],
)
def test_a_source_that_knows_nothing_is_none(audit: Any, body: bytes, word: str) -> None:
    with answering(body) as address:
        why = audit.unreachable(address)
    assert word in why
    assert bool(word) == bool(why)


@pytest.mark.network
def test_without_a_network_nothing_fails(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "KNOWN", "http://127.0.0.1:9/")
    assert audit.main() == 0
    assert capsys.readouterr().out.startswith("known holes: skipped, http://127.0.0.1:9/ does not")


def test_a_tool_that_fails_fails_nothing(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise FileNotFoundError("no report")

    monkeypatch.setattr(audit, "unreachable", lambda _: "")
    monkeypatch.setattr(audit, "audit", fail)
    assert audit.main() == 0
    assert "skipped, pip-audit did not come to an end" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "code"), [("click", 1), ("torch", 0)])
def test_a_hole_that_users_have_fails(
    audit: Any, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    hole = {"id": "X", "fix_versions": []}
    found = {"dependencies": [{"name": name, "version": "1", "vulns": [hole]}]}
    monkeypatch.setattr(audit, "unreachable", lambda _: "")
    monkeypatch.setattr(audit, "audit", lambda: found)
    assert audit.main() == code
