"""The server as a client sees it: answers, streams, errors, turns, and going away."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pitool.cli.commands import cli
from pitool.engine.scripted import Scripted
from pitool.errors import DoesNotFit, UsageError, WorkerDied
from tests.engine.conftest import tiny_gguf  # noqa: F401 - a fixture
from tests.serve.harness import CHAT, HELLO, Slow, ask, events, exchange, serving, until

pytestmark = pytest.mark.network


def test_an_answer() -> None:
    with serving(Scripted(["Hi there."])) as server:
        status, reply = ask(server, "/v1/chat/completions", {**HELLO, "max_tokens": 8})
    assert status == 200
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "tiny"
    (choice,) = reply["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hi there."}
    assert choice["finish_reason"] == "stop"
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert reply["timings"]["predicted_n"] == usage["completion_tokens"]


def test_a_stream_says_the_same_in_pieces() -> None:
    body = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}
    with serving(Scripted(["One two three."])) as server:
        status, text = ask(server, "/v1/chat/completions", body)
    assert status == 200
    first, *pieces, last, count = events(text)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    said = "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
    assert said == "One two three."
    assert last["choices"][0]["finish_reason"] == "stop"
    assert count["choices"] == []
    assert count["usage"]["completion_tokens"] >= 3
    assert len({piece["id"] for piece in (first, *pieces, last, count)}) == 1


def test_a_text_is_continued() -> None:
    with serving(Scripted(["upon a time"])) as server:
        status, reply = ask(server, "/v1/completions", {"prompt": "Once", "max_tokens": 2})
    assert (status, reply["object"]) == (200, "text_completion")
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 2


def test_models_and_health() -> None:
    with serving(Scripted()) as server:
        status, found = ask(server, "/health", method="GET")
        assert status == 200
        idle = {"status": "ok", "busy": False, "running": 0, "waiting": 0, "models": []}
        assert {name: found[name] for name in idle} == idle
        assert set(found["board"]) >= {"temperature_c", "throttled", "available_bytes"}
        status, reply = ask(server, "/v1/models?limit=1", method="GET")
        assert status == 200
        assert [model["id"] for model in reply["data"]] == ["tiny"]
        assert ask(server, "/v1/models/tiny", method="GET") == (200, reply["data"][0])
        assert ask(server, "/v1/models/other", method="GET")[0] == 404


def test_a_key_is_asked_for() -> None:
    with serving(Scripted(), key="secret") as server:
        assert ask(server, "/v1/models", method="GET")[0] == 401
        assert ask(server, "/v1/chat/completions", HELLO, Authorization="Bearer no")[0] == 401
        allowed = ask(server, "/v1/chat/completions", HELLO, Authorization="Bearer secret")
        assert allowed[0] == 200
        assert ask(server, "/health", method="GET")[0] == 200


WRONG: dict[str, tuple[str, Any, int, str]] = {
    "no JSON": ("/v1/completions", b"{", 400, "not JSON"),
    "nested too deeply": ("/v1/completions", b"[" * 100_000, 400, "not JSON"),
    "no object": ("/v1/completions", [], 400, "not a JSON object"),
    "no prompt": ("/v1/completions", {}, 400, "'prompt' is not a string"),
    "no messages": ("/v1/chat/completions", {}, 400, "'messages' is not"),
    "no role": ("/v1/chat/completions", {"messages": [{"content": "x"}]}, 400, "role of message 0"),
    "an image": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "more than text",
    ),
    "a hot temperature": ("/v1/completions", {"prompt": "x", "temperature": 1e9}, 400, "use 0"),
    "a temperature in words": (
        "/v1/completions", {"prompt": "x", "temperature": "hot"}, 400, "is not a number",
    ),
    "no tokens": ("/v1/completions", {"prompt": "x", "max_tokens": 0}, 400, "1 or more"),
    "too many answers": ("/v1/completions", {"prompt": "x", "n": 99}, 400, "use 1 to 16"),
    "the best of many": ("/v1/completions", {"prompt": "x", "best_of": 3}, 400, "'best_of' is not"),
    "an unknown format": (
        "/v1/completions", {"prompt": "x", "response_format": {"type": "yaml"}}, 400,
        "'type' is 'yaml'",
    ),
    "a strong penalty": (
        "/v1/completions", {"prompt": "x", "presence_penalty": 5}, 400, "use -2 to 2",
    ),
    "a tool that is none": ("/v1/chat/completions", {**HELLO, "tools": [{}]}, 400, "no function"),
    "what nobody knows": ("/v1/completions", {"prompt": "x", "max_token": 5}, 400, "'max_tokens'?"),
    "storing": ("/v1/chat/completions", {**HELLO, "store": True}, 400, "'store' is not supported"),
    "no number": ("/v1/completions", b'{"prompt": "x", "temperature": NaN}', 400, "use 0 to 100"),
    "a stop that is none": ("/v1/completions", {"prompt": "x", "stop": [1]}, 400, "'stop' is no"),
    "many stops": (
        "/v1/completions", {"prompt": "x", "stop": ["a"] * 10_000}, 400, "'stop' is not valid",
    ),
    "another path": ("/v1/audio/speech", {}, 404, "unknown endpoint POST /v1/audio/speech"),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_and_the_server_goes_on(case: str) -> None:
    path, body, wanted, said = WRONG[case]
    with serving(Scripted()) as server:
        status, reply = ask(server, path, body)
        assert status == wanted
        assert said in reply["error"]["message"]
        assert reply["error"]["type"] == "invalid_request_error"
        assert ask(server, "/v1/chat/completions", HELLO)[0] == 200


def test_what_clients_send_by_default_is_taken() -> None:
    plain = {
        "n": 1, "presence_penalty": 0, "tools": [], "response_format": {"type": "text"},
        "user": "me", "store": False, "metadata": {"a": "b"}, "seed": None, "max_tokens": -1,
    }  # fmt: skip
    with serving(Scripted()) as server:
        assert ask(server, "/v1/chat/completions", {**HELLO, **plain, "model": "gpt"})[0] == 200


def test_a_conversation_beyond_the_context_has_its_own_code() -> None:
    class Full(Scripted):
        def stream(self, prompt: Any, sampling: Any) -> Iterator[Any]:
            if prompt:
                raise DoesNotFit("the prompt is longer than the context", "shorten it")
            yield

    with serving(Full()) as server:
        status, reply = ask(server, "/v1/chat/completions", HELLO)
    assert (status, reply["error"]["code"]) == (400, "context_length_exceeded")


def test_a_method_or_a_head_that_is_refused_is_json_too() -> None:
    with serving(Scripted()) as server:
        status, headers, reply = exchange(server, "/v1/models", method="DELETE")
        assert status == 405
        assert reply["error"]["type"] == "invalid_request_error"
        assert set(headers["allow"].split(", ")) == {"GET", "HEAD"}
        with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
            raw.sendall(b"nonsense\r\n\r\n")
            assert b'"error"' in raw.makefile("rb").read()


def test_a_body_that_is_too_long_or_none() -> None:
    with serving(Scripted()) as server:
        many = str(1 << 40)
        assert ask(server, "/v1/completions", b"x", **{"Content-Length": many})[0] == 413
        with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
            raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_a_body_in_chunks_is_read_and_bounded() -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = json.dumps(HELLO).encode()
    parts = [body[at : at + 7] for at in range(0, len(body), 7)]
    with serving(Scripted(["Hi."])) as server:
        with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
            raw.sendall(head + chunks + b"0\r\n\r\n")
            assert raw.recv(4096).startswith(b"HTTP/1.1 200")
        with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
            raw.sendall(head)
            for _ in range(5):
                raw.sendall(b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20)))
            assert raw.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_model_that_dies_is_loaded_again(caplog: pytest.LogCaptureFixture) -> None:
    class Dying(Scripted):
        def stream(self, prompt: Any, sampling: Any) -> Iterator[Any]:
            if prompt:
                raise WorkerDied("the model process was killed", "load it again")
            yield

    with serving(Dying(), Scripted(["Back."])) as server:
        status, reply = ask(server, "/v1/chat/completions", HELLO)
        assert (status, reply["error"]["type"]) == (500, "server_error")
        assert "killed" in reply["error"]["message"]
        again = ask(server, "/v1/chat/completions", HELLO)[1]
        assert again["choices"][0]["message"]["content"] == "Back."
    assert caplog.messages == ["the model process was killed; load it again\n"]


def test_dying_in_the_middle_of_a_stream_is_an_event() -> None:
    with serving(Scripted(["One two three four."], fail_after=2)) as server:
        _, text = ask(server, "/v1/chat/completions", {**HELLO, "stream": True})
    last = json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["type"] == "server_error"


@pytest.mark.thorough
def test_one_at_a_time_and_no_more_than_may_wait() -> None:
    with serving(Slow(40), waiting=1) as server:
        found: list[int] = []

        def one() -> None:
            found.append(ask(server, "/v1/chat/completions", HELLO)[0])

        threads = [threading.Thread(target=one) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == [200, 200, 503]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_answer(stream: bool) -> None:
    engine = Slow(500)
    with serving(engine) as server:
        body = json.dumps({**HELLO, "stream": stream}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
            raw.sendall(head.encode() + body)
            until(lambda: engine.given >= 3)
        assert ask(server, "/health", method="GET")[0] == 200
        assert ask(server, "/v1/chat/completions", {**HELLO, "max_tokens": 1})[0] == 200
    assert engine.given < 500


def test_what_cannot_be_listened_on_is_said_with_what_helps(
    tiny_gguf: Path,  # noqa: F811
) -> None:
    def refused(*words: str) -> UsageError:
        done = CliRunner().invoke(
            cli, ["serve", str(tiny_gguf), "--force", *words], standalone_mode=False
        )
        assert isinstance(done.exception, UsageError)
        return done.exception

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        taken = refused("--port", port).do
    assert taken == "stop the program that uses it, or choose another --port"
    # An address for documentation, which no machine has (RFC 5737).
    elsewhere = refused("--host", "192.0.2.1", "--port", "0")
    assert elsewhere.do == "set --host to an address of this machine"
    assert refused("--host", "a name", "--port", "0").do == elsewhere.do
    assert refused("--host", "", "--port", "0").what == "--host is empty"


def test_one_that_went_away_while_it_waited_never_reaches_the_model() -> None:
    engine = Slow(60)
    with serving(engine, waiting=1) as server:
        first = threading.Thread(target=ask, args=(server, "/v1/chat/completions", HELLO))
        first.start()
        until(lambda: server.models.running == 1)
        body = json.dumps(HELLO).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
            raw.sendall(head.encode() + body)
            until(lambda: server.models.waiting == 1)
        until(lambda: server.models.waiting == 0)
        assert server.models.running == 1  # the place was free before its turn came
        first.join()
    prefill, words = 1, 60
    assert engine.given == prefill + words
