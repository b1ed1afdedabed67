"""Ollama's interface by the requests of its clients, as they send them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pitool.engine.base import Sampling
from tests.serve.harness import Serving, ask, serving
from tests.serve.test_openai import CALL, WEATHER, Able

pytestmark = pytest.mark.network


def lines(server: Serving, path: str, body: dict[str, Any]) -> list[Any]:
    status, text = ask(server, path, body)
    assert status == 200, text
    return [json.loads(line) for line in text.splitlines()]


def test_what_home_assistant_asks() -> None:
    """Its conversation agent: a stream with tools, num_ctx, keep_alive for ever, think."""
    engine = Able(CALL, "It is done.")
    turns: list[Any] = [
        {"role": "system", "content": "You control a house."},
        {"role": "user", "content": "Light on", "images": None},
    ]
    body = {
        "model": "tiny:F32", "messages": turns, "tools": [WEATHER], "stream": True, "format": "",
        "options": {"num_ctx": 8192}, "keep_alive": "-1s", "think": False,
    }  # fmt: skip
    with serving(engine) as server:
        found = lines(server, "/api/chat", body)
        (call,) = [c for line in found for c in line["message"].get("tool_calls", [])]
        turns += [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": '{"ok": true}', "tool_name": "weather"},
        ]
        last = lines(server, "/api/chat", body)
        (loaded,) = ask(server, "/api/ps", method="GET")[1]["models"]
    assert call["function"] == {"name": "weather", "arguments": {"city": "Köln"}}
    assert "".join(line["message"]["content"] for line in last) == "It is done."
    assert [line["done"] for line in last] == [False] * (len(last) - 1) + [True]
    assert last[-1]["done_reason"] == "stop"
    assert last[-1]["eval_count"] == 3
    assert loaded["name"] == "tiny:F32"
    assert dict(engine.chats[0].options) == {"enable_thinking": False}
    assert engine.chats[1].messages[2].calls[0].name == "weather"
    assert engine.chats[1].messages[3].name == "weather"


def test_every_option_arrives() -> None:
    engine = Able()
    options = {
        "temperature": 0.1, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "seed": 4, "stop": ["\n"],
        "repeat_penalty": 1.1, "repeat_last_n": 32, "presence_penalty": 0.2,
        "frequency_penalty": 0.3, "num_predict": 7, "num_ctx": 512, "num_thread": 2, "mirostat": 0,
    }  # fmt: skip
    with serving(engine) as server:
        lines(server, "/api/generate", {"prompt": "x", "options": options})
        lines(server, "/api/generate", {"prompt": "x", "options": {"num_predict": -1}})
        status, reply = ask(server, "/api/generate", {"prompt": "x", "options": {"mirostat": 2}})
    assert engine.asked == [
        Sampling(
            temperature=0.1, top_k=3, top_p=0.5, min_p=0.1, seed=4, stop=("\n",),
            repeat_penalty=1.1, repeat_window=32, presence_penalty=0.2, frequency_penalty=0.3,
            max_tokens=7,
        ),
        Sampling(),
    ]  # fmt: skip
    assert (status, "'mirostat' is not supported" in reply["error"]) == (400, True)


def test_a_generation_whole_and_with_a_system_prompt() -> None:
    engine = Able("<think>Hm.</think>Yes.")
    with serving(engine) as server:
        body = {"prompt": "Is it?", "system": "Be brief.", "stream": False}
        status, reply = ask(server, "/api/generate", body)
    assert status == 200
    assert (reply["response"], reply["thinking"], reply["done"]) == ("Yes.", "Hm.", True)
    assert reply["total_duration"] > 0
    (chat,) = engine.chats
    assert [(m.role, m.content) for m in chat.messages] == [
        ("system", "Be brief."), ("user", "Is it?"),
    ]  # fmt: skip


def test_what_oterm_asks_at_its_start() -> None:
    with serving(Able()) as server:
        assert ask(server, "/api/version", method="GET")[1]["version"].count(".") == 2
        (model,) = ask(server, "/api/tags", method="GET")[1]["models"]
        assert set(model) == {"name", "model", "modified_at", "size", "digest", "details"}
        assert ask(server, "/", method="HEAD")[0] == 200


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "a role": ("/api/chat", {"messages": [{"role": "bot", "content": "x"}]}, "'role' is 'bot'"),
    "an image": (
        "/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]},
        "'images' is not supported",
    ),
    "a template": ("/api/generate", {"prompt": "x", "template": "{{ x }}"}, "'template' is not"),
    "a context": ("/api/generate", {"prompt": "x", "context": [1]}, "'context' is not"),
    "a format": ("/api/generate", {"prompt": "x", "format": "xml"}, "'format' is not valid"),
    "a time": ("/api/chat", {"messages": [], "keep_alive": "soon"}, "is not a time"),
    "a field": ("/api/chat", {"messages": [], "temperature": 1}, "'temperature' is not supported"),
    "no name": ("/api/pull", {}, "'model' is missing"),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_as_ollama_does(case: str) -> None:
    path, body, said = WRONG[case]
    with serving(Able()) as server:
        status, reply = ask(server, path, body)
    assert status == 400
    assert set(reply) == {"error"} and said in reply["error"]


def test_an_error_in_the_middle_is_a_line() -> None:
    with serving(Able("One two three four.", fail_after=2)) as server:
        found = lines(server, "/api/generate", {"prompt": "x"})
    assert found[-1] == {"error": "the script was told to fail; ask again"}
