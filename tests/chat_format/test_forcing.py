"""What a grammar forces is what the reader finds: random answers, read back and validated."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pitool.chat_format import CallArguments, CallBegun, CallEnded, Content, Reasoning
from pitool.chat_format.forcing import forced_answer, forced_calls
from pitool.chat_format.formats import CALLS
from pitool.errors import UsageError
from pitool.grammar import grammar_of_schema
from tests.chat_format.reading import TOOLS, read
from tests.grammar.texts import Grammar

LIGHT: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "set_light",
        "parameters": {
            "type": "object",
            "properties": {
                "room": {"type": "string", "enum": ["kitchen", 'the "hall"']},
                "level": {"type": "integer", "minimum": 0, "maximum": 100},
                "warm": {"type": "boolean"},
                "note": {"type": "string"},
                "steps": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["level", "room"],
        },
    },
}
BY_NAME = {tool["function"]["name"]: tool["function"] for tool in (*TOOLS, LIGHT)}
THINKING = ["", "think"]


def answers(grammar: str, count: int = 40) -> list[str]:
    source, made = random.Random(3), Grammar(grammar)
    return [made.answer(source) for _ in range(count)]


@pytest.mark.parametrize("thinking", THINKING)
@pytest.mark.parametrize("calls", CALLS)
def test_forced_calls_are_read_back_and_follow_their_schemas(calls: str, thinking: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tools = (*TOOLS, LIGHT)
    chat_format = f"{calls}/{thinking}" if thinking else calls
    seen = set()
    for text in answers(forced_calls(chat_format, tools).grammar):
        events = read(chat_format, [text], tools=tools)
        begun = [event for event in events if isinstance(event, CallBegun)]
        arguments = {e.index: e.text for e in events if isinstance(e, CallArguments)}
        assert begun, text
        assert len(begun) == sum(isinstance(event, CallEnded) for event in events)
        assert not any(isinstance(event, Content) and event.text.strip() for event in events), text
        for call in begun:
            value = json.loads(arguments[call.index])
            schema = BY_NAME[call.name]["parameters"]
            assert not list(jsonschema.Draft202012Validator(schema).iter_errors(value)), text
            seen.add(call.name)
    assert seen == {"get_weather", "clock", "set_light"}


@pytest.mark.parametrize("calls", CALLS)
def test_one_call_and_a_named_one(calls: str) -> None:
    for text in answers(forced_calls(calls, TOOLS, name="clock", parallel=False).grammar):
        names = [e.name for e in read(calls, [text]) if isinstance(e, CallBegun)]
        assert names == ["clock"]


def test_a_free_answer_waits_for_the_mark_of_a_call() -> None:
    for calls, form in CALLS.items():
        grammar, triggers = forced_calls(f"{calls}/think", TOOLS, free=True)
        assert triggers == tuple(form.readers)[:1]
        assert all(text.startswith(triggers[0]) for text in answers(grammar, 5)) or calls == "llama"


def test_what_is_thought_before_is_free_and_ends_before_the_answer() -> None:
    schema = {"enum": ["yes"]}
    begun = forced_answer("hermes/think", schema, before="...<think>\n").grammar
    for text in answers(begun):
        events = read("hermes/think", [text], before="<think>\n")
        assert [e for e in events if isinstance(e, Content)] == [Content('"yes"')]
    texts = answers(forced_answer("hermes/think", schema).grammar)
    kinds = {isinstance(read("hermes/think", [text])[0], Reasoning) for text in texts}
    assert kinds <= {True, False}
    assert {'"yes"'} == set(answers(forced_answer("hermes", schema).grammar))
    assert forced_answer("hermes", schema).grammar == grammar_of_schema(schema)


def test_an_unknown_name_and_a_strict_schema_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="other"):
        forced_calls("hermes", TOOLS, name="other")
    odd = {"type": "object", "not": {}}
    loose = {"function": {"name": "odd", "parameters": odd}}
    assert answers(forced_calls("hermes", [loose]).grammar, 3)
    with pytest.raises(UsageError, match="'not'"):
        forced_calls("hermes", [{"function": {**loose["function"], "strict": True}}])
