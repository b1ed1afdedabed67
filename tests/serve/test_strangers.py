"""What a stranger on the network, or a web page in the user's browser, can do to the server."""

from __future__ import annotations

import inspect
import json
import re
import socket
from contextlib import ExitStack, suppress

import pytest

from pitool.cli.serve import command
from pitool.engine.scripted import Scripted
from pitool.serve import context, pages, server
from tests.serve.harness import CHAT, HELLO, Slow, ask, exchange, serving, until

pytestmark = pytest.mark.network


def test_only_this_machine_is_listened_to_unless_asked() -> None:
    (option,) = (each for each in command.params if each.name == "host")
    assert option.default == "127.0.0.1"
    parameter = inspect.signature(context.Context).parameters["key"]
    assert parameter.default is None


LOCAL = (
    "localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "192.168.1.7:8080",
    "[fe80::1%25eth0]:8080", "raspberrypi:8080", "RaspberryPi.local", "pi.home.arpa", "pi.lan:80",
)  # fmt: skip
PUBLIC = (
    "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "evil.local.example",
    "xlocalhost.com", "lan.com", "evil.example.", "1.2.3.4.5", "[::1].evil.example",
)  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("host", [*LOCAL, *PUBLIC])
def test_a_page_whose_name_is_given_our_address_is_refused(host: str) -> None:
    """DNS rebinding: the browser sends the page's own name as Host, and no foreign Origin."""
    with serving(Scripted()) as here:
        for path, method in ((CHAT, "POST"), ("/v1/models", "GET"), ("/health", "GET")):
            status, reply = ask(here, path, HELLO if method == "POST" else None, method=method,
                                Host=host, Origin=f"http://{host}")  # fmt: skip
            assert status == (200 if host in LOCAL else 403), path
            assert (status == 403) == ("error" in reply)


def test_with_a_key_any_name_will_do() -> None:
    with serving(Scripted(), key="secret") as here:
        for key, wanted in (("secret", 200), ("guess", 401)):
            headers = {"Host": "chat.example.com", "Authorization": f"Bearer {key}"}
            assert ask(here, CHAT, HELLO, **headers)[0] == wanted


@pytest.mark.thorough
@pytest.mark.parametrize("key", [None, "secret"])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:3000", "null", "file://", "http://["]
)
def test_a_page_of_another_site_is_refused(origin: str, key: str | None) -> None:
    """Also as plain text, which a browser sends without asking first."""
    engine = Slow(3)
    with serving(engine, key=key) as here:
        headers = {"Origin": origin, "Content-Type": "text/plain"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        status, reply = ask(here, CHAT, HELLO, **headers)
        assert (status, reply["error"]["code"]) == (403, "forbidden_origin")
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        status, headers, _ = exchange(here, CHAT, method="OPTIONS", **asked)
        assert status in (204, 403)
        assert not any(name.startswith("access-control") for name in headers)
    assert engine.given == 0


def test_no_answer_lets_a_page_of_another_site_read_it() -> None:
    with (
        serving(Scripted()) as here,
        socket.create_connection(("127.0.0.1", here.port), 10) as raw,
    ):
        raw.sendall(b"GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n")
        head = raw.makefile("rb").read().partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"http/1.1 200")
        assert b"access-control" not in head
        assert b"server: pitool\r\n" in head  # and no version of Python


def sent(port: int, data: bytes, until: bytes = b"\r\n\r\n") -> bytes:
    """Return what is answered to some bytes, at least as far as ``until``."""
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        raw.sendall(data)
        answer = b""
        while until not in answer and (more := raw.recv(4096)):
            answer += more
        return answer


GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
MALFORMED: dict[str, tuple[bytes, bytes]] = {
    "a length of many digits": (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"400"),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
    "two ways to say a length": (
        HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400",
    ),
    "a path that is none": (b"GET //[ HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
    "a host that is none": (b"GET /health HTTP/1.1\r\nHost: [\r\n\r\n", b"403"),
    "many headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000 + b"\r\n", b"431"),
    "a long line": (b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n", b"414"),
    "escapes": (b"GET /\x1b]0;owned\x07 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_answered_without_a_traceback(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, status = MALFORMED[case]
    with serving(Scripted()) as here:
        assert sent(here.port, data).startswith(b"HTTP/1.1 " + status)
        assert ask(here, CHAT, HELLO)[0] == 200
    assert capsys.readouterr() == ("", "")


def test_one_that_goes_away_leaves_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    reset = b"\1\0\0\0\0\0\0\0"  # struct linger: close at once, by a reset
    with serving(Scripted()) as here:
        for data in (GET, HEAD + b"Content-Length: 9\r\n\r\n"):
            raw = socket.create_connection(("127.0.0.1", here.port), 10)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            raw.sendall(data)
            raw.close()
        assert ask(here, CHAT, HELLO)[0] == 200
    assert capsys.readouterr() == ("", "")


def test_connections_beyond_a_number_are_closed_and_take_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    with serving(Scripted()) as here, ExitStack() as open_:
        address = ("127.0.0.1", here.port)
        idle = [open_.enter_context(socket.create_connection(address, 10)) for _ in range(3)]
        until(lambda: len(here.server.server_state.connections) == 3)
        with suppress(ConnectionError), socket.create_connection(address, 10) as raw:
            raw.sendall(GET)
            assert raw.recv(1) == b""
        idle.pop().close()
        until(lambda: len(here.server.server_state.connections) == 2)
        assert ask(here, "/health", method="GET")[0] == 200


def test_a_prompt_never_reaches_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with serving(Scripted(["An ANSWER."]), log=said.append) as here:
        for stream, end in ((False, b'"timings"'), (True, b"[DONE]")):
            body = {"messages": [{"role": "user", "content": "A SECRET"}], "stream": stream}
            data = json.dumps(body).encode()
            head = f"POST {CHAT}?q=SECRET HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
            request = head.encode() + b"\r\n" + data
            assert b"ANSWER" in sent(here.port, request, end)
        assert ask(here, CHAT, HELLO)[0] == 200  # its turn comes when the others are logged
        assert ask(here, CHAT, {"messages": [{"role": "SECRET"}]})[0] == 400
    text = "\n".join(said) + "".join(capsys.readouterr())
    assert len(said) >= 2
    assert not re.search(r"SECRET|ANSWER|[\x00-\x09\x0b-\x1f\x7f]", text)


def test_a_page_is_told_by_its_headers_alone() -> None:
    assert pages.refusal("", None, key=False) is None
    assert pages.refusal("localhost:80", "http://localhost:80", key=False) is None
    assert pages.refusal("a.example", None, key=False)
    assert pages.refusal("a.example", None, key=True) is None
