"""The server with llama.cpp: several answers at once, prefixes, memory, and a worker that dies."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog.model_argument import find_runnable
from pitool.engine.base import ChatPrompt, Message
from pitool.serve.context import Context
from pitool.serve.loading import WorkerLoader
from pitool.serve.models import Models
from pitool.serve.prefill import prefill
from pitool.serve.shelf import OneModel
from pitool.serve.times import FOREVER
from tests.engine.conftest import tiny_gguf  # noqa: F401 - a fixture
from tests.serve.harness import CHAT, HELLO, Serving, ask, events, serving_of, until

pytestmark = [pytest.mark.network, pytest.mark.engine]


@contextmanager
def real(
    path: Path, *, parallel: int = 4, keep: float = FOREVER, prepare: Any = lambda _: None
) -> Iterator[Serving]:
    loader = WorkerLoader(context=1024, parallel=parallel, force=True)
    models = Models(loader, waiting=8, places=parallel, keep=keep, prepare=prepare)
    with serving_of(Context(OneModel(find_runnable(path)), models)) as here:
        yield here


def chat(server: Serving, *texts: str, **more: Any) -> Any:
    turns = [{"role": "user", "content": text} for text in texts]
    body = {"messages": turns, "max_tokens": 8, "temperature": 0, **more}
    status, reply = ask(server, CHAT, body)
    assert status == 200, reply
    return reply


@pytest.mark.thorough
def test_answers_side_by_side_are_those_of_one_at_a_time(tiny_gguf: Path) -> None:  # noqa: F811
    questions = [f"question {number} about a fox" for number in range(8)]

    def answer(server: Serving, question: str) -> str:
        return str(chat(server, question, max_tokens=24)["choices"][0]["message"]["content"])

    with real(tiny_gguf) as server, ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda question: answer(server, question), questions))
    with real(tiny_gguf, parallel=1) as server:
        alone = [answer(server, question) for question in questions]
    assert len(set(alone)) > 1
    # A batch adds in another order: a tie may end otherwise, but most are the same.
    same = sum(a == b for a, b in zip(alone, together, strict=True))
    assert same >= len(questions) - 2


def test_conversations_that_alternate_keep_their_prefixes(tiny_gguf: Path) -> None:  # noqa: F811
    first, second = "The quick brown fox " * 8, "memory and dollars " * 8
    with real(tiny_gguf) as server:
        chat(server, first)
        chat(server, second)
        for text in (first, second):
            usage = chat(server, text)["usage"]
            assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1


def test_a_worker_that_is_killed_in_the_middle(tiny_gguf: Path) -> None:  # noqa: F811
    with real(tiny_gguf) as server:
        chat(server, "x")
        (model,) = server.models.loaded.values()
        text: list[Any] = []
        body = {**HELLO, "stream": True, "max_tokens": 900, "logit_bias": {"2": -100}}
        asking = threading.Thread(target=lambda: text.append(ask(server, CHAT, body)[1]))
        asking.start()
        until(lambda: model.users == 1)
        os.kill(model.engine.pid, signal.SIGKILL)
        asking.join()
        told = json.loads(str(text[0]).split("data: ")[-1]) if "data: " in str(text[0]) else text[0]
        assert "memory ran out" in told["error"]["message"]
        assert ask(server, "/health", method="GET")[1]["status"] == "dead"
        chat(server, "x")
        assert ask(server, "/health", method="GET")[1]["status"] == "ok"


def test_an_unused_model_frees_its_memory(tiny_gguf: Path) -> None:  # noqa: F811
    with real(tiny_gguf, keep=0.2) as server:
        chat(server, "x")
        (model,) = server.models.loaded.values()
        pid = model.engine.pid
        until(lambda: not Path(f"/proc/{pid}").exists())
        assert not server.models.loaded
        chat(server, "x")


def test_a_prefill_is_read_before_the_first_question(tiny_gguf: Path) -> None:  # noqa: F811
    system = "The quick brown fox jumps over the lazy dog. " * 4
    beginning = ChatPrompt((Message("system", system),))
    read: list[int] = []
    with real(tiny_gguf, prepare=lambda e: read.append(prefill(e, beginning))) as server:
        turns = [{"role": "system", "content": system}, *HELLO["messages"]]
        _, reply = ask(server, CHAT, {"messages": turns, "max_tokens": 1})
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == read[0] > 40


def test_a_client_that_leaves_frees_its_place_at_once(tiny_gguf: Path) -> None:  # noqa: F811
    import socket

    with real(tiny_gguf, parallel=1) as server:
        body = json.dumps({**HELLO, "stream": True, "logit_bias": {"2": -100}}).encode()
        with socket.create_connection(("127.0.0.1", server.port), 20) as raw:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            raw.sendall(head.encode() + body)
            assert raw.recv(100)
        until(lambda: server.models.running == 0)


def test_a_schema_is_followed(tiny_gguf: Path) -> None:  # noqa: F811
    schema = {
        "type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["n"], "additionalProperties": False,
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    with real(tiny_gguf) as server:
        reply = chat(server, "x", response_format=form, temperature=1, seed=3, max_tokens=64)
        answer = json.loads(reply["choices"][0]["message"]["content"])
        assert set(answer) == {"n"} and 0 <= answer["n"] <= 9


def test_a_stream_of_real_tokens(tiny_gguf: Path) -> None:  # noqa: F811
    with real(tiny_gguf) as server:
        whole = chat(server, "fox")["choices"][0]["message"]["content"]
        body = {
            "messages": [{"role": "user", "content": "fox"}], "max_tokens": 8, "temperature": 0,
            "stream": True, "logprobs": True, "top_logprobs": 2,
        }  # fmt: skip
        found = events(ask(server, CHAT, body)[1])
    deltas = [event["choices"][0]["delta"].get("content", "") for event in found]
    assert "".join(deltas) == whole
    told = [e["choices"][0]["logprobs"]["content"] for e in found if e["choices"][0]["logprobs"]]
    assert all(each["logprob"] <= 0 for content in told for each in content)
