"""The clients that people have: what they send is taken, and what they read is right.

Each is skipped where it is not installed: ``pip install 'pitool[clients]'`` has them all.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pitool.engine.scripted import Scripted
from tests.serve.harness import Serving, serving
from tests.serve.test_openai import CALL, WEATHER, Able

pytestmark = [pytest.mark.network, pytest.mark.filterwarnings("ignore")]

KEY = "secret"
HELLO: Any = [{"role": "user", "content": "Hello"}]
ANSWER = "<think>Hm.</think>One two three."


@pytest.fixture
def server() -> Iterator[Serving]:
    with serving(Able(ANSWER), key=KEY) as here:
        yield here


@pytest.fixture
def caller() -> Iterator[Serving]:
    """A model that calls a tool, and then answers."""
    with serving(Able(CALL, "It rains in Köln."), key=KEY) as here:
        yield here


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Have the connections that clients leave open closed here, where nobody warns of them."""
    yield
    gc.collect()


def base(server: Serving) -> str:
    return f"http://127.0.0.1:{server.port}"


class TestOpenAI:
    """The openai package."""

    @pytest.fixture
    def openai(self) -> Any:
        return pytest.importorskip("openai")

    @pytest.fixture
    def client(self, openai: Any, server: Serving) -> Iterator[Any]:
        with openai.OpenAI(base_url=f"{base(server)}/v1", api_key=KEY, max_retries=0) as client:
            yield client

    def test_an_answer(self, client: Any) -> None:
        reply = client.chat.completions.create(model="tiny", messages=HELLO)
        assert reply.choices[0].message.content == "One two three."
        assert reply.choices[0].message.reasoning_content == "Hm."
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + 3

    def test_a_stream(self, client: Any) -> None:
        options = {"include_usage": True}
        stream = client.chat.completions.create(
            model="tiny", messages=HELLO, stream=True, stream_options=options
        )
        chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "One two three."
        assert chunks[-1].usage.completion_tokens == 3

    async def test_many_at_once(self, openai: Any, server: Serving) -> None:
        import asyncio

        async with openai.AsyncOpenAI(base_url=f"{base(server)}/v1", api_key=KEY) as client:
            asked = [client.chat.completions.create(model="tiny", messages=HELLO) for _ in range(4)]
            replies = await asyncio.gather(*asked)
            stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
            pieces = [c.choices[0].delta.content or "" async for c in stream]
        assert {r.choices[0].message.content for r in replies} == {"One two three."}
        assert "".join(pieces) == "One two three."

    def test_a_tool_is_called_and_its_result_answered(self, openai: Any, caller: Serving) -> None:
        messages: Any = list(HELLO)
        with openai.OpenAI(base_url=f"{base(caller)}/v1", api_key=KEY) as client:
            reply = client.chat.completions.create(model="tiny", messages=messages, tools=[WEATHER])
            (call,) = reply.choices[0].message.tool_calls
            assert call.function.name == "weather"
            messages += [
                reply.choices[0].message,
                {"role": "tool", "tool_call_id": call.id, "content": "rain"},
            ]
            last = client.chat.completions.create(model="tiny", messages=messages, tools=[WEATHER])
        assert last.choices[0].message.content == "It rains in Köln."

    def test_a_stream_of_a_tool_call(self, openai: Any, caller: Serving) -> None:
        with (
            openai.OpenAI(base_url=f"{base(caller)}/v1", api_key=KEY) as client,
            client.chat.completions.stream(model="tiny", messages=HELLO, tools=[WEATHER]) as stream,
        ):
            final = stream.get_final_completion()
        (call,) = final.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Köln"}

    def test_a_structured_answer(self, openai: Any) -> None:
        pydantic = pytest.importorskip("pydantic")
        board = pydantic.create_model("Board", name=str, ram=int)
        engine = Able('{"name": "Pi 5", "ram": 8}')
        with (
            serving(engine) as here,
            openai.OpenAI(base_url=f"{base(here)}/v1", api_key="none") as client,
        ):
            reply = client.chat.completions.parse(
                model="tiny", messages=HELLO, response_format=board
            )
        assert reply.choices[0].message.parsed == board(name="Pi 5", ram=8)
        assert "ram" in engine.asked[0].grammar

    def test_completions_and_embeddings(self, client: Any) -> None:
        reply = client.completions.create(model="tiny", prompt="Once", max_tokens=2)
        assert reply.choices[0].finish_reason == "length"
        found = client.embeddings.create(model="tiny", input=["ab", "cd"])
        first, second = (np.array(row.embedding) for row in found.data)
        assert first @ first == pytest.approx(1, abs=1e-6)
        assert first @ second == pytest.approx(0, abs=1e-6)

    def test_models(self, client: Any) -> None:
        assert [model.id for model in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").owned_by == "pitool"

    def test_errors_have_their_classes(self, openai: Any, server: Serving) -> None:
        url = f"{base(server)}/v1"
        with (
            openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as other,
            pytest.raises(openai.AuthenticationError),
        ):
            other.models.list()
        with openai.OpenAI(base_url=f"{base(server)}/v1", api_key=KEY, max_retries=0) as client:
            with pytest.raises(openai.BadRequestError, match="temperature"):
                client.chat.completions.create(model="tiny", messages=HELLO, temperature=-1)
            with pytest.raises(openai.NotFoundError):
                client.audio.speech.create(model="x", voice="y", input="z")

    def test_a_response(self, client: Any) -> None:
        reply = client.responses.create(model="tiny", input="Hello", instructions="Be brief.")
        assert reply.output_text == "One two three."
        assert [item.type for item in reply.output] == ["reasoning", "message"]
        assert reply.status == "completed"
        assert reply.usage.input_tokens > 0

    def test_a_response_in_events(self, client: Any) -> None:
        with client.responses.stream(model="tiny", input=[*HELLO]) as stream:
            found = list(stream)
            final = stream.get_final_response()
        assert final.output_text == "One two three."
        assert [event.sequence_number for event in found][:3] == [0, 1, 2]
        assert found[0].type == "response.created"
        assert found[-1].type == "response.completed"
        assert [event.type for event in found].count("response.output_item.done") == 2

    def test_a_response_calls_a_function(self, openai: Any, caller: Serving) -> None:
        tool = {"type": "function", **WEATHER["function"]}  # type: ignore[dict-item]
        turns: Any = list(HELLO)
        with openai.OpenAI(base_url=f"{base(caller)}/v1", api_key=KEY) as client:
            with client.responses.stream(model="tiny", input=turns, tools=[tool]) as stream:
                for event in stream:
                    last = event
            (call,) = last.response.output
            assert (call.type, json.loads(call.arguments)) == ("function_call", {"city": "Köln"})
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
            given = {"type": "function_call", "call_id": call.call_id, "name": call.name}
            turns += [{**given, "arguments": call.arguments}, output]
            reply = client.responses.create(model="tiny", input=turns, tools=[tool])
        assert reply.output_text == "It rains in Köln."


class TestOllama:
    """The ollama package."""

    @pytest.fixture
    def ollama(self) -> Any:
        return pytest.importorskip("ollama")

    def client(self, ollama: Any, server: Serving) -> Any:
        return ollama.Client(host=base(server), headers={"Authorization": f"Bearer {KEY}"})

    def test_a_chat(self, ollama: Any, server: Serving) -> None:
        client = self.client(ollama, server)
        reply = client.chat(model="tiny", messages=HELLO, options={"num_ctx": 8192}, think=True)
        assert reply.message.content == "One two three."
        assert reply.message.thinking == "Hm."
        assert (reply.done, reply.done_reason, reply.eval_count) == (True, "stop", 3)
        pieces = list(client.chat(model="tiny", messages=HELLO, stream=True))
        assert "".join(piece.message.content for piece in pieces) == "One two three."
        assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]

    async def test_a_stream_of_the_other_client(self, ollama: Any, server: Serving) -> None:
        client = ollama.AsyncClient(host=base(server), headers={"Authorization": f"Bearer {KEY}"})
        stream = await client.chat(model="tiny", messages=HELLO, stream=True)
        text = "".join([piece.message.content async for piece in stream])
        assert text == "One two three."

    def test_a_tool(self, ollama: Any, caller: Serving) -> None:
        client = self.client(ollama, caller)
        reply = client.chat(model="tiny", messages=HELLO, tools=[WEATHER])
        (call,) = reply.message.tool_calls
        assert (call.function.name, call.function.arguments) == ("weather", {"city": "Köln"})
        turns = [*HELLO, reply.message, {"role": "tool", "tool_name": "weather", "content": "rain"}]
        assert client.chat(model="tiny", messages=turns).message.content == "It rains in Köln."

    def test_a_generation(self, ollama: Any, server: Serving) -> None:
        client = self.client(ollama, server)
        reply = client.generate(model="tiny", prompt="Hello", system="Be brief.")
        assert reply.response == "One two three."
        raw = client.generate(model="tiny", prompt="Once", raw=True)
        assert raw.response == ANSWER
        assert client.generate(model="tiny", prompt="").done_reason == "load"

    def test_a_format(self, ollama: Any) -> None:
        engine = Able('{"a": 1}')
        with serving(engine) as here:
            client = ollama.Client(host=base(here))
            client.chat(model="tiny", messages=HELLO, format="json")
            client.chat(model="tiny", messages=HELLO, format={"type": "object"})
        assert all(asked.grammar for asked in engine.asked)

    def test_vectors(self, ollama: Any, server: Serving) -> None:
        client = self.client(ollama, server)
        found = client.embed(model="tiny", input=["ab", "ab"]).embeddings
        assert np.dot(found[0], found[1]) == pytest.approx(1, abs=1e-6)
        assert client.embeddings(model="tiny", prompt="ab").embedding == found[0]

    def test_what_there_is(self, ollama: Any, server: Serving) -> None:
        client = self.client(ollama, server)
        (model,) = client.list().models
        assert model.model == "tiny:F32"
        assert client.ps().models == []
        client.chat(model="tiny", messages=HELLO, keep_alive="5m")
        (loaded,) = client.ps().models
        assert loaded.context_length == 2048
        assert 0 < (loaded.expires_at.timestamp() - time.time()) <= 300


def test_litellm(server: Serving) -> None:
    litellm = pytest.importorskip("litellm")
    named = {"api_base": f"{base(server)}/v1", "api_key": KEY}
    reply = litellm.completion(model="openai/tiny", messages=HELLO, temperature=0.5, **named)
    assert reply.choices[0].message.content == "One two three."
    stream = litellm.completion(model="openai/tiny", messages=HELLO, stream=True, **named)
    assert "".join(c.choices[0].delta.content or "" for c in stream) == "One two three."
    ollama = litellm.completion(
        model="ollama_chat/tiny", messages=HELLO, api_base=base(server), api_key=KEY
    )
    assert ollama.choices[0].message.content == "One two three."


def test_langchain(server: Serving, caller: Serving) -> None:
    langchain = pytest.importorskip("langchain_openai")
    named = {"model": "tiny", "api_key": KEY}
    model = langchain.ChatOpenAI(base_url=f"{base(server)}/v1", **named)
    assert model.invoke("Hello").content == "One two three."
    assert "".join(piece.text for piece in model.stream("Hello")) == "One two three."
    tools = langchain.ChatOpenAI(base_url=f"{base(caller)}/v1", **named).bind_tools([WEATHER])
    (call,) = tools.invoke("Hello").tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Köln"})
    vectors = langchain.OpenAIEmbeddings(
        base_url=f"{base(server)}/v1", check_embedding_ctx_length=False, **named
    )
    assert np.linalg.norm(vectors.embed_query("ab")) == pytest.approx(1, abs=1e-6)


def test_llm(server: Serving) -> None:
    pytest.importorskip("llm")
    from llm.default_plugins import openai_models

    chat: Any = openai_models.Chat
    model = chat("tiny", model_name="tiny", api_base=f"{base(server)}/v1")
    assert model.prompt("Hello", key=KEY, stream=False).text() == "One two three."
    assert "".join(model.prompt("Hello", key=KEY, stream=True)) == "One two three."


def test_a_script_is_an_engine_without_tools() -> None:
    """The other tests would say nothing if every scripted engine knew tools."""
    assert Scripted().info.template_names == ()
