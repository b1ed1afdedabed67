"""OpenAI's interface by its fields: what is asked for is what the engine gets, or refused."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pitool.engine.base import ChatPrompt, ModelInfo, Sampling, Token, TokenProbability
from pitool.engine.scripted import Scripted
from tests.serve.harness import CHAT, HELLO, Serving, ask, events, serving

pytestmark = pytest.mark.network

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'


class Able(Scripted):
    """Has a chat template that knows tools and thinking; remembers what it was asked."""

    def __init__(self, *answers: str, **named: Any) -> None:
        super().__init__(answers or ("Hi.",), **named)
        self.info: ModelInfo = dataclasses.replace(
            self.info,
            chat_format="hermes/think",
            template_names=("messages", "tools", "enable_thinking"),
        )
        self.prompts: list[Any] = []
        self.asked: list[Sampling] = []

    def tokenize(self, prompt: Any) -> list[int]:
        self.prompts.append(prompt)
        return super().tokenize(prompt)

    def stream(self, prompt: Any, sampling: Sampling) -> Iterator[Token]:
        self.asked.append(sampling)
        yield from super().stream(prompt, sampling)

    @property
    def chats(self) -> list[ChatPrompt]:
        return [prompt for prompt in self.prompts if isinstance(prompt, ChatPrompt)]


def said(server: Serving, body: dict[str, Any], path: str = CHAT) -> Any:
    status, reply = ask(server, path, body)
    assert status == 200, reply
    return reply


def test_every_field_of_sampling_arrives() -> None:
    fields: dict[str, Any] = {
        "temperature": 0.5, "top_p": 0.4, "top_k": 7, "min_p": 0.2, "repeat_penalty": 1.2,
        "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": 9, "max_completion_tokens": 3,
        "stop": ["x", "y"], "logit_bias": {"5": -100, "7": 2.5},
    }  # fmt: skip
    engine = Able()
    with serving(engine) as server:
        said(server, {**HELLO, **fields})
    assert engine.asked == [
        Sampling(
            temperature=0.5, top_p=0.4, top_k=7, min_p=0.2, repeat_penalty=1.2,
            presence_penalty=0.5, frequency_penalty=-0.5, seed=9, max_tokens=3,
            stop=("x", "y"), logit_bias=((5, -100.0), (7, 2.5)),
        )
    ]  # fmt: skip


def test_several_answers_have_seeds_of_their_own() -> None:
    engine = Able("One.", "Two.")
    with serving(engine) as server:
        reply = said(server, {**HELLO, "n": 2, "seed": 5})
        texts = said(server, {"prompt": ["a", "b"], "n": 2, "seed": 1}, "/v1/completions")
    assert [c["message"]["content"] for c in reply["choices"]] == ["One.", "Two."]
    assert [c["index"] for c in reply["choices"]] == [0, 1]
    assert reply["usage"]["completion_tokens"] == 2
    assert [sampling.seed for sampling in engine.asked] == [5, 6, 1, 2, 3, 4]
    assert [c["index"] for c in texts["choices"]] == [0, 1, 2, 3]


def test_token_ids_are_a_prompt() -> None:
    class Ids(Able):
        def stream(self, prompt: Any, sampling: Sampling) -> Iterator[Token]:
            given.append(prompt)
            yield from super().stream(prompt, sampling)

    given: list[Any] = []
    with serving(Ids()) as server:
        said(server, {"prompt": [72, 105]}, "/v1/completions")
        said(server, {"prompt": [[72], [105]]}, "/v1/completions")
        status, reply = ask(server, "/v1/completions", {"prompt": [72, 999]})
    assert given == [[72, 105], [72], [105]]
    assert status == 400
    assert "999 is not a token" in reply["error"]["message"]


def test_a_prompt_is_echoed() -> None:
    with serving(Able(" upon a time")) as server:
        reply = said(server, {"prompt": "Once", "echo": True}, "/v1/completions")
        assert reply["choices"][0]["text"] == "Once upon a time"
        ids = said(server, {"prompt": [79, 110], "echo": True}, "/v1/completions")
        assert ids["choices"][0]["text"] == "On upon a time"
        _, text = ask(server, "/v1/completions", {"prompt": "Once", "echo": True, "stream": True})
        assert "".join(e["choices"][0]["text"] for e in events(text)) == "Once upon a time"


def test_a_suffix_needs_a_model_with_tokens_for_it() -> None:
    class Middle(Able):
        """Has the tokens of Qwen."""

        words = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")

        def tokenize(self, prompt: Any) -> list[int]:
            if prompt in self.words:
                return [250 + self.words.index(prompt)]
            return super().tokenize(prompt)

        def stream(self, prompt: Any, sampling: Sampling) -> Iterator[Token]:
            given.append(prompt)
            yield from super().stream(prompt, sampling)

    given: list[Any] = []
    body = {"prompt": "a", "suffix": "z"}
    with serving(Middle()) as server:
        said(server, body, "/v1/completions")
    assert given == [[250, ord("a"), 251, ord("z"), 252]]
    with serving(Able()) as server:
        status, reply = ask(server, "/v1/completions", body)
    assert (status, "fill in the middle" in reply["error"]["message"]) == (400, True)


def test_the_last_message_of_an_assistant_is_continued() -> None:
    engine = Able(" there.")
    turns = [*HELLO["messages"], {"role": "assistant", "content": "Hi"}]
    with serving(engine) as server:
        said(server, {"messages": turns})
        said(server, HELLO)
    assert [chat.continue_last for chat in engine.chats] == [True, False]


def test_content_of_every_kind() -> None:
    engine = Able()
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm.",
            "tool_calls": [
                {
                    "id": "abc", "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Köln"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "abc", "content": "Rain."},
    ]  # fmt: skip
    with serving(engine) as server:
        said(server, {"messages": turns, "tools": [WEATHER]})
    (chat,) = engine.chats
    assert [(m.role, m.content) for m in chat.messages] == [
        ("system", "Be brief."), ("user", "Hello"), ("assistant", ""), ("tool", "Rain."),
    ]  # fmt: skip
    (call,) = chat.messages[2].calls
    assert (call.id, call.name, call.arguments) == ("abc", "weather", '{"city": "Köln"}')
    assert chat.messages[2].reasoning == "Hm."
    assert chat.messages[3].call_id == "abc"
    assert chat.tools == (WEATHER,)


def test_reasoning_is_told_apart() -> None:
    answer = "<think>Let me see. </think>It rains."
    with serving(Able(answer)) as server:
        whole = said(server, HELLO)["choices"][0]["message"]
        _, text = ask(server, CHAT, {**HELLO, "stream": True})
    assert whole == {
        "role": "assistant", "content": "It rains.", "reasoning_content": "Let me see.",
    }  # fmt: skip
    deltas = [event["choices"][0]["delta"] for event in events(text)]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == "Let me see."
    assert "".join(d.get("content", "") for d in deltas) == "It rains."


def test_a_tool_is_called() -> None:
    with serving(Able(CALL)) as server:
        choice = said(server, {**HELLO, "tools": [WEATHER]})["choices"][0]
        _, text = ask(server, CHAT, {**HELLO, "tools": [WEATHER], "stream": True})
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Köln"}
    assert call["id"] and choice["message"]["content"] is None
    found = events(text)
    pieces = [d for e in found for d in e["choices"][0]["delta"].get("tool_calls", [])]
    assert pieces[0]["function"]["name"] == "weather" and pieces[0]["id"]
    arguments = "".join(piece["function"]["arguments"] for piece in pieces)
    assert json.loads(arguments) == {"city": "Köln"}
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_whether_a_tool_is_called_is_chosen() -> None:
    engine = Able(CALL)
    named = {"type": "function", "function": {"name": "weather"}}
    with serving(engine) as server:
        for choice in ("auto", "none", "required", named):
            said(server, {**HELLO, "tools": [WEATHER], "tool_choice": choice})
        said(server, {**HELLO, "tools": [WEATHER], "parallel_tool_calls": False})
        other = {"type": "function", "function": {"name": "whether"}}
        wrong = ask(server, CHAT, {**HELLO, "tools": [WEATHER], "tool_choice": other})
    assert [bool(chat.tools) for chat in engine.chats] == [True, False, True, True, True]
    forced = [bool(asked.grammar) for asked in engine.asked]
    assert forced == [False, False, True, True, True]
    assert [bool(asked.triggers) for asked in engine.asked] == [False] * 4 + [True]
    assert "weather" in engine.asked[2].grammar
    assert wrong[0] == 400
    assert "did you mean 'weather'?" in wrong[1]["error"]["message"]


def test_tools_without_a_template_that_knows_them_are_refused() -> None:
    with serving(Scripted()) as server:
        status, reply = ask(server, CHAT, {**HELLO, "tools": [WEATHER]})
    assert (status, "does not support tools" in reply["error"]["message"]) == (400, True)


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": {"type": "json_object"}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "strict": True, "schema": {"type": "integer"}},
            }
        },
        {"json_schema": {"type": "integer"}},
        {"grammar": 'root ::= "yes"'},
    ],
    ids=["any object", "a schema", "llama.cpp's schema", "a grammar"],
)
def test_an_answer_has_a_shape(asked: dict[str, Any]) -> None:
    engine = Able()
    with serving(engine) as server:
        said(server, {**HELLO, **asked})
        said(server, {"prompt": "x", **asked}, "/v1/completions")
        status, _ = ask(server, CHAT, {**HELLO, **asked, "tools": [WEATHER]})
    assert all("root ::=" in sampling.grammar for sampling in engine.asked)
    assert status == 400


def test_thinking_is_switched() -> None:
    engine = Able()
    with serving(engine) as server:
        for effort in ("none", "high"):
            said(server, {**HELLO, "reasoning_effort": effort})
        said(server, {**HELLO, "chat_template_kwargs": {"enable_thinking": False}})
    assert [dict(chat.options) for chat in engine.chats] == [
        {"enable_thinking": False}, {"enable_thinking": True}, {"enable_thinking": False},
    ]  # fmt: skip
    with serving(Scripted()) as server:
        assert ask(server, CHAT, {**HELLO, "reasoning_effort": "none"})[0] == 200
        assert ask(server, CHAT, {**HELLO, "reasoning_effort": "high"})[0] == 400


class Likely(Able):
    """Says ``a`` and then ``ü`` in two halves, with probabilities."""

    pieces: Sequence[bytes] = (b"a", b"\xc3", b"\xbc")

    def stream(self, prompt: Any, sampling: Sampling) -> Iterator[Token]:
        self.asked.append(sampling)
        texts = ("a", "", "ü")
        if sampling.top_logprobs is None:
            yield from super().stream(prompt, sampling)
            return
        tokens = list(super().stream(prompt, Sampling(max_tokens=1)))
        for place, (piece, text) in enumerate(zip(self.pieces, texts, strict=True)):
            chosen = TokenProbability(place, piece, -0.5 - place)
            other = TokenProbability(9, b"z", -3.0)
            top = (chosen, other)[: sampling.top_logprobs]
            last = place == len(texts) - 1
            yield Token(text, place, tokens[-1].timings, "stop" if last else None, chosen, top)


def test_log_probabilities() -> None:
    engine = Likely()
    with serving(engine) as server:
        reply = said(server, {**HELLO, "logprobs": True, "top_logprobs": 2})
        content = reply["choices"][0]["logprobs"]["content"]
        assert [c["bytes"] for c in content] == [[97], [195], [188]]
        assert [c["logprob"] for c in content] == [-0.5, -1.5, -2.5]
        assert [len(c["top_logprobs"]) for c in content] == [2, 2, 2]
        _, text = ask(server, CHAT, {**HELLO, "logprobs": True, "stream": True})
        found = [e["choices"][0]["logprobs"] for e in events(text) if e["choices"]]
        assert sum(len(each["content"]) for each in found if each) == 3
        reply = said(server, {"prompt": "x", "logprobs": 1}, "/v1/completions")
        logprobs = reply["choices"][0]["logprobs"]
        assert logprobs["token_logprobs"] == [-0.5, -1.5, -2.5]
        assert logprobs["text_offset"][:2] == [0, 1]
        assert said(server, HELLO)["choices"][0]["logprobs"] is None
    asked = [sampling.top_logprobs for sampling in engine.asked]
    assert [top for top in asked if top is not None] == [2, 0, 1]


def test_embeddings() -> None:
    import base64

    with serving(Able()) as server:
        body = {"input": ["abc", [97, 98]], "model": "tiny"}
        reply = said(server, body, "/v1/embeddings")
        coded = said(server, {**body, "encoding_format": "base64"}, "/v1/embeddings")
        refused = ask(server, "/v1/embeddings", {"input": "a", "dimensions": 3})
    wanted = np.zeros((2, 256), np.float32)
    wanted[0, [97, 98, 99]] = 3**-0.5
    wanted[1, [97, 98]] = 2**-0.5
    found = np.array([row["embedding"] for row in reply["data"]], np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert reply["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    raw = base64.b64decode(coded["data"][1]["embedding"])
    np.testing.assert_allclose(np.frombuffer(raw, "<f4"), wanted[1], rtol=1e-6)
    assert refused[0] == 400
    assert "vectors have 256" in refused[1]["error"]["message"]


class Rates(Able):
    """Rates a document by the letters that it shares with the query."""

    def __init__(self) -> None:
        super().__init__()
        self.info = dataclasses.replace(self.info, task="rerank")

    def rerank(self, query: str, documents: Sequence[str]) -> Any:
        scores = [len(set(query) & set(document)) for document in documents]
        return SimpleNamespace(scores=scores, tokens=[len(document) for document in documents])


def test_documents_are_rated_by_a_model_that_does_it() -> None:
    body = {"query": "abc", "documents": ["x", {"text": "abcd"}, "ab"], "top_n": 2}
    with serving(Rates()) as server:
        reply = said(server, {**body, "return_documents": True}, "/v1/rerank")
    assert reply["results"] == [
        {"index": 1, "relevance_score": 3.0, "document": {"text": "abcd"}},
        {"index": 2, "relevance_score": 2.0, "document": {"text": "ab"}},
    ]
    assert reply["usage"]["total_tokens"] == 7
    with serving(Able()) as server:
        status, reply = ask(server, "/v1/rerank", body)
    assert (status, "cannot rank documents" in reply["error"]["message"]) == (400, True)


class Guessed(Able):
    """Says that of eight guessed tokens five were the answer's."""

    def stream(self, prompt: Any, sampling: Sampling) -> Iterator[Token]:
        for token in super().stream(prompt, sampling):
            counted = dataclasses.replace(token.timings, guessed_tokens=8, accepted_tokens=5)
            yield dataclasses.replace(token, timings=counted)


def test_guessed_tokens_are_counted() -> None:
    with serving(Guessed()) as server:
        reply = said(server, HELLO)
        asked = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}
        pieces = events(ask(server, CHAT, asked)[1])
        _, figures = ask(server, "/metrics", method="GET")
    details = {"accepted_prediction_tokens": 5, "rejected_prediction_tokens": 3}
    assert reply["usage"]["completion_tokens_details"] == details
    assert pieces[-1]["usage"]["completion_tokens_details"] == details
    assert (reply["timings"]["draft_n"], reply["timings"]["draft_n_accepted"]) == (8, 5)
    assert re.search(r"^pitool_guessed_tokens_total\{.*\} 16\.0$", figures, re.MULTILINE)
    assert re.search(r"^pitool_accepted_tokens_total\{.*\} 10\.0$", figures, re.MULTILINE)


@pytest.mark.parametrize(
    "content",
    ["def f(): ...", [{"type": "text", "text": "def f(): "}, {"type": "text", "text": "..."}]],
)
def test_a_predicted_output_arrives(content: Any) -> None:
    engine = Able()
    with serving(engine) as server:
        said(server, {**HELLO, "prediction": {"type": "content", "content": content}})
    assert engine.asked[0].prediction == "def f(): ..."


@pytest.mark.parametrize(
    ("prediction", "word"),
    [
        ("text", "not a JSON object"), ({"type": "image", "content": "x"}, "not of type"),
        ({"content": "x", "more": 1}, "more"), ({"content": "x" * 200_000}, "200000 characters"),
    ],
)  # fmt: skip
def test_a_wrong_prediction_is_refused(prediction: Any, word: str) -> None:
    with serving(Able()) as server:
        status, reply = ask(server, CHAT, {**HELLO, "prediction": prediction})
    assert status == 400
    assert word in reply["error"]["message"]
