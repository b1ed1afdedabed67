"""Published chat templates: tools as transformers renders them, and calls read back as written.

The templates lie in llama.cpp's sources. What one writes for a call of a conversation is what its
model was trained to write, and the reader here has never seen it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pitool.chat_format import CallArguments, CallBegun, Content
from pitool.chat_format.forcing import forced_calls
from pitool.engine.base import ChatPrompt, Message, ToolCall
from pitool.engine.chat_template import ChatTemplate
from pitool.errors import UsageError
from tests.chat_format.reading import CLOCK, TOOLS, WEATHER, read

pytestmark = pytest.mark.oracle

ARGUMENTS = {"city": "Köln", "days": 3, "where": {"lat": 50.5}, "units": ["a"], "brief": True}
CALL = ToolCall("abcdEF123", "get_weather", json.dumps(ARGUMENTS, ensure_ascii=False))
QUESTION = Message("user", "Will it rain?")
RESULT = Message("tool", "Sunny", call_id=CALL.id)
MANY = (CALL, ToolCall("ghijKL456", "clock", "{}"))

# Of a template: the name of its format, and whether it writes the calls of a conversation.
TEMPLATES = {
    "Qwen-Qwen2.5-7B-Instruct": ("hermes", True),
    "Qwen-Qwen3-0.6B": ("hermes/think", True),
    "Qwen-QwQ-32B": ("hermes/think", True),
    "Qwen3-Coder": ("qwen", True),
    "Qwen3.5-4B": ("qwen/think", True),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("hermes", True),
    "HuggingFaceTB-SmolLM3-3B": ("/think", False),
    "LFM2-8B-A1B": ("lfm2", False),
    "LFM2.5-8B-A1B": ("lfm2/think", True),
    "LFM2.5-Instruct": ("lfm2/think", False),
    "Mistral-Small-3.2-24B-Instruct-2506": ("mistral", True),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("mistral/mistral", True),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistral list", True),
    "google-gemma-2-2b-it": ("", False),
    "google-gemma-4-31B-it": ("gemma4/channel", True),
    "ibm-granite-granite-3.3-2B-Instruct": ("granite/think", False),
    "ibm-granite-granite-4.0": ("hermes", True),
    "ibm-granite-granite-4.1": ("hermes", True),
    "meta-llama-Llama-3.1-8B-Instruct": ("llama", True),
    "meta-llama-Llama-3.2-3B-Instruct": ("llama", True),
    "meta-llama-Llama-3.3-70B-Instruct": ("llama", True),
    "microsoft-Phi-3.5-mini-instruct": ("", False),
    "openbmb-MiniCPM5-1B": ("minicpm/think", True),
    "ByteDance-Seed-OSS": ("seed/seed", True),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": ("/think", False),
}
NO_TOOLS = {"google-gemma-2-2b-it", "microsoft-Phi-3.5-mini-instruct", "HuggingFaceTB-SmolLM3-3B"}
WRITING = [name for name, (_, writes) in TEMPLATES.items() if writes]
ONE_CALL = {name for name in WRITING if name.startswith("meta-llama")}


@pytest.fixture(scope="module")
def sources(llama_cpp_source: Path) -> dict[str, str]:
    folder = llama_cpp_source / "models" / "templates"
    return {name: (folder / f"{name}.jinja").read_text() for name in TEMPLATES}


def template(sources: dict[str, str], name: str) -> ChatTemplate:
    return ChatTemplate(sources[name], bos="<s>", eos="</s>")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_format_is_known_by_its_template(sources: dict[str, str], name: str) -> None:
    assert template(sources, name).format == TEMPLATES[name][0]


@pytest.mark.parametrize("name", TEMPLATES)
def test_tools_are_shown_to_the_model_or_refused(sources: dict[str, str], name: str) -> None:
    prompt = ChatPrompt((QUESTION,), TOOLS)
    if name in NO_TOOLS or name.startswith("deepseek"):
        with pytest.raises(UsageError, match="tools"):
            template(sources, name).render(prompt)
    else:
        assert "get_weather" in template(sources, name).render(prompt)


def plain(message: Message) -> dict[str, Any]:
    """Return a message as transformers has it."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
            }
            for call in message.calls
        ]
    if message.call_id:
        turn |= {"tool_call_id": message.call_id, "name": CALL.name}
    return turn


@pytest.mark.parametrize("name", WRITING)
def test_a_conversation_with_a_call_is_rendered_as_in_transformers(
    sources: dict[str, str], name: str
) -> None:
    theirs = pytest.importorskip("transformers.utils.chat_template_utils")
    oracle = theirs._compile_jinja_template(sources[name])
    messages = (QUESTION, Message("assistant", "", (CALL,)), RESULT)
    expected = oracle.render(
        messages=[plain(message) for message in messages],
        tools=[WEATHER, CLOCK],
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
    )
    assert template(sources, name).render(ChatPrompt(messages, TOOLS)) == expected


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("count", [1, 2])
def test_calls_are_read_as_the_template_writes_them(
    sources: dict[str, str], name: str, count: int
) -> None:
    if name in ONE_CALL and count > 1:
        pytest.skip("its template writes one call only")
    ours, calls = template(sources, name), MANY[:count]
    before = ours.render(ChatPrompt((QUESTION,), TOOLS))
    whole = ours.render(
        ChatPrompt((QUESTION, Message("assistant", "", calls)), TOOLS), answer=False
    )
    shared = common(before, whole)
    if shared != before:  # the prompt would have it think first, and the conversation does not
        before = shared[: shared.rfind("\n") + 1]
    events = read(ours.format, whole[len(before) :], before=before)
    begun = [event for event in events if isinstance(event, CallBegun)]
    arguments = [event.text for event in events if isinstance(event, CallArguments)]
    assert [event.name for event in begun] == [call.name for call in calls]
    assert list(map(json.loads, arguments)) == [json.loads(call.arguments) for call in calls]
    rest = "".join(event.text for event in events if isinstance(event, Content))
    assert "get_weather" not in rest


def common(left: str, right: str) -> str:
    return next(
        (left[:i] for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), left
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_forced_call_can_be_expressed_in_each_format(sources: dict[str, str], name: str) -> None:
    ours = template(sources, name)
    for options in ({}, {"name": "clock"}, {"free": True}, {"parallel": False}):
        assert "root ::= " in forced_calls(ours.format, TOOLS, **options).grammar


@pytest.mark.parametrize("name", ["Qwen-Qwen3-0.6B", "Qwen3.5-4B", "google-gemma-4-31B-it"])
def test_thinking_is_an_option_of_the_template(sources: dict[str, str], name: str) -> None:
    ours = template(sources, name)
    texts = [
        ours.render(ChatPrompt((QUESTION,), options={"enable_thinking": value}))
        for value in (True, False)
    ]
    assert texts[0] != texts[1]


def test_an_option_that_a_template_does_not_know_is_refused(sources: dict[str, str]) -> None:
    ours = template(sources, "Qwen-Qwen2.5-7B-Instruct")
    for name in ("enable_thinking", "messages", "bos_token"):
        with pytest.raises(UsageError, match=name):
            ours.render(ChatPrompt((QUESTION,), options={name: True}))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_last_message_is_continued(sources: dict[str, str], name: str) -> None:
    ours = template(sources, name)
    tools = TOOLS if name.startswith("NousResearch") else ()
    messages = (QUESTION, Message("assistant", "It will "))
    text = ours.render(ChatPrompt(messages, tools, continue_last=True))
    assert text.endswith("It will ")
    assert "Will it rain?" in text
