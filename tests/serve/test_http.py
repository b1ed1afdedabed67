"""HTTP itself: connections, limits, origins, TLS, and the end of the server."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pitool.cli.serve import _certificate as files_for_https
from pitool.engine.scripted import Scripted
from pitool.errors import BadInput, DoesNotFit, UsageError, WorkerDied
from pitool.serve import guard, replies, server
from tests.serve.harness import CHAT, HELLO, Slow, ask, events, exchange, serving, until

pytestmark = pytest.mark.network


def test_a_connection_is_kept_for_the_next_request() -> None:
    with serving(Scripted()) as here:
        connection = http.client.HTTPConnection("127.0.0.1", here.port, timeout=20)
        local = set()
        for body in (HELLO, {**HELLO, "stream": True}, HELLO):
            connection.request("POST", CHAT, json.dumps(body))
            assert connection.sock
            local.add(connection.sock.getsockname())
            reply = connection.getresponse()
            assert reply.status == 200 and reply.read()
        connection.close()
    assert len(local) == 1


def test_the_head_of_what_can_be_got() -> None:
    with serving(Scripted()) as here:
        for path in ("/", "/health", "/v1/models"):
            status, headers, text = exchange(here, path, method="HEAD")
            assert (status, text) == (200, "")
            assert int(headers["content-length"]) > 0


@pytest.mark.parametrize("origin", ["https://chat.example", "null"])
def test_a_page_that_is_allowed_may_ask(origin: str) -> None:
    asked = {"Access-Control-Request-Method": "POST"}
    wanted = "authorization, content-type, x-stainless-os"
    with serving(Scripted(), key="secret", origins=(origin,)) as here:
        status, headers, _ = exchange(
            here, CHAT, method="OPTIONS", Origin=origin,
            **asked, **{"Access-Control-Request-Headers": wanted},
        )  # fmt: skip
        assert status == 200
        assert headers["access-control-allow-origin"] == origin
        assert headers["access-control-allow-headers"] == wanted
        assert "POST" in headers["access-control-allow-methods"]
        status, headers, _ = exchange(
            here, CHAT, HELLO, Origin=origin, Authorization="Bearer secret"
        )
        assert (status, headers["access-control-allow-origin"]) == (200, origin)
        # What is wrong can be read by the page, too.
        status, headers, _ = exchange(here, CHAT, HELLO, Origin=origin)
        assert (status, headers["access-control-allow-origin"]) == (401, origin)
        status, headers, _ = exchange(here, CHAT, HELLO, Origin="https://evil.example")
        assert status == 403 and "access-control-allow-origin" not in headers


def test_any_page_may_ask_where_that_is_wanted() -> None:
    with serving(Scripted(), origins=("*",)) as here:
        status, headers, _ = exchange(here, CHAT, HELLO, Origin="https://any.example")
    assert (status, headers["access-control-allow-origin"]) == (200, "*")


def begin(port: int, *headers: str, path: str = CHAT) -> socket.socket:
    """Send the head of a request."""
    raw = socket.create_connection(("127.0.0.1", port), 20)
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]
    raw.sendall("\r\n".join(lines).encode())
    return raw


def test_a_key_is_judged_before_the_body() -> None:
    with serving(Scripted(), key="secret") as here:
        with begin(here.port, "Content-Length: 1000000") as raw:
            assert raw.recv(100).startswith(b"HTTP/1.1 401")
        with begin(here.port, "Content-Length: 9999999999", "Authorization: Bearer secret") as raw:
            assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.2)
    with serving(Scripted()) as here, begin(here.port, "Content-Length: 100") as raw:
        raw.sendall(b"{")
        assert raw.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("sent", [b"", b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_is_given_up(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    with serving(Scripted()) as here:
        with socket.create_connection(("127.0.0.1", here.port), 20) as raw:
            raw.sendall(sent)
            with suppress(ConnectionResetError):
                assert raw.recv(100) == b""
        until(lambda: not here.server.server_state.connections)


def test_a_client_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    long = Scripted([" ".join(["word" * 500] * 5000)], decode_rate=1e9)
    with serving(long, Scripted()) as here:
        body = json.dumps({**HELLO, "stream": True}).encode()
        with begin(here.port, f"Content-Length: {len(body)}") as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(body)
            until(lambda: here.models.running == 0 and bool(here.models.loaded))
            until(lambda: not here.server.server_state.connections)
        assert ask(here, "/health", method="GET")[0] == 200


def test_the_page_and_its_files() -> None:
    with serving(Scripted(), key="secret") as here:
        status, headers, text = exchange(here, "/", method="GET")
        assert status == 200 and text.startswith("<!doctype html>")
        assert "script-src 'self'" in headers["content-security-policy"]
        status, headers, _ = exchange(here, "/assets/vendor/marked.esm.js", method="GET")
        assert status == 200 and "javascript" in headers["content-type"]
        for path in ("/assets/../__init__.py", "/assets/%2e%2e/__init__.py", "/assets/none"):
            assert ask(here, path, method="GET")[0] == 404


def test_metrics_count_what_was_done() -> None:
    with serving(Scripted(["One two three."])) as here:
        ask(here, CHAT, HELLO)
        ask(here, CHAT, HELLO)
        ask(here, CHAT, b"{")
        _, text = ask(here, "/metrics", method="GET")
    lines = dict(
        line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")
    )
    assert lines['pitool_requests_total{endpoint="/v1/chat/completions",status="200"}'] == "2"
    assert lines['pitool_requests_total{endpoint="/v1/chat/completions",status="400"}'] == "1"
    assert float(lines['pitool_answer_tokens_total{model="tiny"}']) == 6
    prompt = len("user: Hello\n")
    assert float(lines['pitool_prompt_tokens_total{model="tiny"}']) == 2 * prompt
    assert float(lines['pitool_reused_tokens_total{model="tiny"}']) == prompt - 1
    assert lines['pitool_ttft_seconds_count{model="tiny"}'] == "2"
    assert float(lines["pitool_available_bytes"]) > 0
    kinds = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))


class Dies(Scripted):
    """A model whose process has ended when it is asked."""

    alive = True

    def stream(self, prompt: Any, sampling: Any) -> Iterator[Any]:
        self.alive = False
        if prompt:
            raise WorkerDied("the model process was killed", "load it again")
        yield


def test_health_says_that_a_model_has_died() -> None:
    with serving(Dies(), Scripted()) as here:
        assert ask(here, CHAT, HELLO)[0] == 500
        status, found = ask(here, "/health", method="GET")
        assert (status, found["status"]) == (503, "dead")
        assert ask(here, CHAT, HELLO)[0] == 200
        assert ask(here, "/health", method="GET")[0] == 200


def test_a_model_that_died_while_nobody_asked_is_loaded_again() -> None:
    first = Dies()
    with serving(first, Scripted(["Back."])) as here:
        assert ask(here, "/api/chat", {"model": "tiny"})[0] == 200
        first.alive = False
        assert ask(here, "/health", method="GET")[1]["models"][0]["state"] == "dead"
        assert ask(here, CHAT, HELLO)[1]["choices"][0]["message"]["content"] == "Back."


def test_a_sign_of_life_while_a_prompt_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies give up a connection on which nothing comes."""
    monkeypatch.setattr(replies, "PING_SECONDS", 0.05)

    class Reads(Scripted):
        def stream(self, prompt: Any, sampling: Any) -> Iterator[Any]:
            time.sleep(0.4)
            if len(prompt.messages) > 1:
                raise DoesNotFit("the prompt is too long", "shorten it")
            yield from super().stream(prompt, sampling)

    body = {**HELLO, "stream": True}
    with serving(Reads(["Hi."])) as here:
        status, text = ask(here, CHAT, body)
        whole = ask(here, CHAT, HELLO)
        long = {**body, "messages": HELLO["messages"] * 2}
        late = ask(here, CHAT, long)
    assert status == 200 and text.count(": the model is at work\n\n") >= 2
    pieces = events(text.replace(": the model is at work\n\n", ""))
    assert "".join(p["choices"][0]["delta"].get("content", "") for p in pieces) == "Hi."
    assert whole[0] == 200
    # What is wrong is said in the stream then, for its status has been sent.
    assert late[0] == 200 and "the prompt is too long" in late[1].split("data: ")[-1]


def test_one_too_many_is_told_when_to_come_again() -> None:
    with serving(Slow(5000), waiting=0) as here, stream_of(here.port):
        until(lambda: here.models.running == 1)
        status, headers, reply = exchange(here, CHAT, HELLO)
        assert (status, reply["error"]["code"]) == (503, "server_busy")
        assert int(headers["retry-after"]) > 0
        assert exchange(here, "/api/chat", {"messages": HELLO["messages"]})[0] == 503


# -- the end -------------------------------------------------------------------------------


def read_all(raw: socket.socket) -> bytes:
    data = b""
    while more := raw.recv(1 << 16):
        data += more
    return data


def stream_of(port: int) -> socket.socket:
    body = json.dumps({**HELLO, "stream": True})
    raw = begin(port, f"Content-Length: {len(body)}")
    raw.sendall(body.encode())
    return raw


def test_an_answer_that_is_nearly_done_ends_before_the_server() -> None:
    with serving(Slow(30)) as here, stream_of(here.port) as raw:
        until(lambda: here.models.running == 1)
        here.server.stop()
        text = read_all(raw).decode()
    assert text.count('"content": " word"') == 29
    assert "data: [DONE]" in text


def test_an_answer_that_would_take_long_ends_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 0.3)
    with serving(Slow(5000)) as here:
        waiting: list[int] = []
        with stream_of(here.port) as raw:
            until(lambda: here.models.running == 1)
            other = threading.Thread(target=lambda: waiting.append(ask(here, CHAT, HELLO)[0]))
            other.start()
            until(lambda: here.models.waiting == 1)
            here.server.stop()
            text = read_all(raw).decode()
            other.join()
    last = text.split("data: ")[-1]
    assert "the server is stopping" in last
    assert waiting == [503]


class Stuck(Scripted):
    """Never says anything, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = threading.Event()

    def stream(self, prompt: Any, sampling: Any) -> Iterator[Any]:
        if self.closed.wait():
            raise WorkerDied("the model process was closed", "load it again")
        yield

    def close(self) -> None:
        self.closed.set()


def test_a_stuck_model_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 0.3)
    engine = Stuck()
    with serving(engine) as here, stream_of(here.port) as raw:
        until(lambda: here.models.running == 1)
        here.server.stop()
        assert read_all(raw).startswith(b"HTTP/1.1 503")
    assert engine.closed.is_set()


def test_a_client_that_leaves_a_stuck_model_is_let_go() -> None:
    engine = Stuck()
    with serving(engine) as here:
        with stream_of(here.port):
            until(lambda: here.models.running == 1)
        until(lambda: not here.server.server_state.connections)
        # Its place is not free: the model still works at it.
        assert here.models.running == 1
        engine.close()
        until(lambda: here.models.running == 0)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for localhost, made for this test."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    cert, private = folder / "cert.pem", folder / "key.pem"
    words = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", str(private), "-out", str(cert),
    ]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)
    return cert, private


def test_https(tmp_path: Path) -> None:
    cert, private = certificate(tmp_path)
    with serving(Scripted(["Hi."]), certificate=(str(cert), str(private))) as here:
        trust = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("localhost", here.port, context=trust, timeout=20)
        connection.request("POST", CHAT, json.dumps({**HELLO, "stream": True}))
        text = connection.getresponse().read().decode()
        connection.close()
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events(text)) == "Hi."


def test_the_end_waits_for_no_idle_connection() -> None:
    with serving(Scripted()) as here:
        idle = http.client.HTTPConnection("127.0.0.1", here.port, timeout=20)
        idle.request("GET", "/health")
        assert idle.getresponse().read()
        start = time.monotonic()
        here.server.stop()
        until(lambda: not here.server.server_state.connections)
        assert time.monotonic() - start < server.PATIENCE
        idle.close()


def test_certificates_that_do_not_serve(tmp_path: Path) -> None:
    cert, private = certificate(tmp_path)
    locked = tmp_path / "locked.pem"
    words = ["openssl", "pkey", "-in", str(private), "-aes256", "-passout", "pass:x"]
    subprocess.run([*words, "-out", str(locked)], check=True, capture_output=True)
    assert files_for_https(cert, private) == (str(cert), str(private))
    assert files_for_https(None, None) is None
    for wrong in (locked, cert, tmp_path / "none"):
        with pytest.raises(BadInput, match="cannot use"):
            files_for_https(cert, wrong)
    with pytest.raises(UsageError, match="needs a certificate and its key"):
        files_for_https(cert, None)
