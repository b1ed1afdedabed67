"""Reasoning, text and tool calls, in each format, however the answer is cut into pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pitool.chat_format import (
    CallArguments,
    CallBegun,
    CallEnded,
    Content,
    Event,
    Reasoning,
    marks_of,
)
from pitool.chat_format.events import new_id, short_id
from pitool.chat_format.formats import CALLS, THINKING
from tests.chat_format.reading import read


def call(index: int, arguments: str, name: str = "get_weather", number: str = "") -> list[Event]:
    begun = CallBegun(index, number or f"id{index}", name)
    return [begun, CallArguments(index, arguments), CallEnded(index)]


CITY = '{"city": "Köln"}'
ANSWERS: list[tuple[str, str, list[Event]]] = [
    ("hermes", "Just text.\n", [Content("Just text.\n")]),
    (
        "hermes/think",
        (
            "<think>\nRain?\n</think>\n\nI look.\n<tool_call>\n"
            '{"name": "get_weather", "arguments": {"city": "a}\\"]"}}\n</tool_call>\n'
            '<tool_call>\n{"arguments": {"city": "Köln"}, "name": "get_weather"}\n</tool_call>'
        ),
        [Reasoning("Rain?"), Content("I look."), *call(0, '{"city": "a}\\"]"}'), *call(1, CITY)],
    ),
    ("hermes", '<tool_call>{"name": "clock"}</tool_call>', call(0, "{}", "clock")),
    (
        "hermes",
        '<tool_call>{"name": "clock", "arguments": null}</tool_call> Done.',
        [*call(0, "{}", "clock"), Content(" Done.")],
    ),
    (
        "hermes",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "K',
        [CallBegun(0, "id0", "get_weather"), CallArguments(0, '{"city": "K')],
    ),
    ("hermes", "A <tool_call> is {no call", [Content("A <tool_call> is {no call")]),
    (
        "hermes",
        '<tool_call>{oops}</tool_call><tool_call>{"name": "clock"}</tool_call>',
        [Content("<tool_call>{oops}</tool_call>"), *call(0, "{}", "clock")],
    ),
    (
        "hermes",
        (
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nKöln\n</parameter>\n</function>\n"
            "</tool_call>"
        ),
        call(0, CITY),
    ),
    (
        "qwen/think",
        (
            "<tool_call>\n<function=get_weather>\n<parameter=city>\n3\n</parameter>\n"
            '<parameter=days>\n3\n</parameter>\n<parameter=where>\n{"lat": 50.9}\n</parameter>\n'
            "<parameter=brief>\nTrue\n</parameter>\n</function>\n</tool_call>"
        ),
        call(0, '{"city": "3", "days": 3, "where": {"lat": 50.9}, "brief": true}'),
    ),
    (
        "qwen",
        "<function=get_weather><parameter=city>a\nb</parameter></function> ok",
        [*call(0, '{"city": "a\\nb"}'), Content(" ok")],
    ),
    (
        "seed/seed",
        (
            "<seed:think>x</seed:think><seed:tool_call>\n<function=clock>\n</function>\n"
            "</seed:tool_call>"
        ),
        [Reasoning("x"), *call(0, "{}", "clock")],
    ),
    (
        "minicpm/think",
        '<function name="get_weather"><param name="city"><![CDATA[a<b\n]]></param></function>',
        call(0, '{"city": "a<b\\n"}'),
    ),
    ("llama", '\n{"name": "get_weather", "parameters": {"city": "Köln"}}', call(0, CITY)),
    (
        "llama",
        '{"type": "function", "name": "clock", "parameters": {}}',
        call(0, "{}", "clock"),
    ),
    ("llama", '{"name": "Ada", "parameters": 3}', [Content('{"name": "Ada", "parameters": 3}')]),
    (
        "llama",
        '<|python_tag|>{"name": "clock"}; {"name": "get_weather", "parameters": {"city": "Köln"}}',
        [*call(0, "{}", "clock"), *call(1, CITY)],
    ),
    ("llama", '<|python_tag|>get_weather.call(city="Köln")', call(0, CITY)),
    (
        "mistral/mistral",
        (
            "[THINK]hm[/THINK]Well[TOOL_CALLS]get_weather[ARGS]"
            '{"city": "Köln"}[TOOL_CALLS]clock[CALL_ID]abcdefghi[ARGS]{}'
        ),
        [Reasoning("hm"), Content("Well"), *call(0, CITY), *call(1, "{}", "clock", "abcdefghi")],
    ),
    (
        "mistral list",
        (
            '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Köln"},'
            ' "id": "abcdefghi"}, {"id": "abcdefghi", "name": "clock", "arguments": {}}]'
        ),
        [*call(0, CITY), *call(1, "{}", "clock", "abcdefghi")],
    ),
    (
        "lfm2/think",
        (
            "I look.<|tool_call_start|>[get_weather(city='Köln', days=-3, units=['a', 'b'],"
            " where={'lat': 1.5}, brief=false), clock()]<|tool_call_end|>Wait."
        ),
        [
            Content("I look."),
            *call(
                0,
                '{"city": "Köln", "days": -3, "units": ["a", "b"], "where": {"lat": 1.5},'
                ' "brief": false}',
            ),
            *call(1, "{}", "clock"),
            Content("Wait."),
        ],
    ),
    ("lfm2", '<|tool_call_start|>[get_weather("Köln")]<|tool_call_end|>', call(0, CITY)),
    (
        "lfm2",
        '<|tool_call_start|>[{"name": "get_weather", "arguments": {"city": "Köln"}}]',
        call(0, CITY),
    ),
    (
        "lfm2",
        "<|tool_call_start|>[__import__('os')]<|tool_call_end|>",
        [Content("<|tool_call_start|>[__import__('os')]<|tool_call_end|>")],
    ),
    (
        "lfm2",
        "<|tool_call_start|>[f(a=open('x'))]<|tool_call_end|>",
        [Content("<|tool_call_start|>[f(a=open('x'))]<|tool_call_end|>")],
    ),
    (
        "granite",
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Köln"}}]',
        call(0, CITY),
    ),
    (
        "phi",
        '<|tool_call|>[{"name": "clock", "arguments": {}}]<|/tool_call|>',
        call(0, "{}", "clock"),
    ),
    ("gemma3", '```tool_code\n[get_weather(city="Köln")]\n```', call(0, CITY)),
    (
        "functiongemma",
        "<start_function_call>call:get_weather{city:<escape>Köln<escape>}<end_function_call>",
        call(0, CITY),
    ),
    (
        "gemma4/channel",
        (
            '<|channel>thought\nhm\n<channel|><|tool_call>call:get_weather{city:<|"|>K"<|"|>,days:3,'
            'where:{lat:-1.5},units:[<|"|>a<|"|>],brief:true}<tool_call|><|tool_call>call:clock{}'
            "<tool_call|>"
        ),
        [
            Reasoning("hm"),
            *call(
                0,
                '{"city": "K\\"", "days": 3, "where": {"lat": -1.5}, "units": ["a"],'
                ' "brief": true}',
            ),
            *call(1, "{}", "clock"),
        ],
    ),
    (
        "gemma4/channel",
        "<|tool_call>call:get_weather{city:<tool_call|>",
        [Content("<|tool_call>call:get_weather{city:<tool_call|>")],
    ),
]


@pytest.mark.parametrize(("chat_format", "text", "expected"), ANSWERS)
def test_an_answer_is_read(chat_format: str, text: str, expected: list[Event]) -> None:
    assert read(chat_format, [text]) == expected
    assert read(chat_format, text) == expected  # a character at a time


def cut(text: str, places: list[int]) -> list[str]:
    ends = [*sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 10_000), max_size=12))
def test_it_does_not_matter_where_an_answer_is_cut(
    answer: tuple[str, str, list[Event]], places: list[int]
) -> None:
    chat_format, text, expected = answer
    assert read(chat_format, cut(text, places)) == expected


WORDS = [
    *(mark for name in CALLS for mark in sorted(marks_of(name))),
    *(mark for marks in THINKING.values() for mark in (marks.open, marks.close)),
    '{"name": "get_weather", "arguments": ', '{"city": "x"}', "}", "]", "[", "call:clock{", "clock",
    "</function>", "<parameter=city>", "</parameter>", '"', "\\", "\n", " ", "a", "ü", "(", ")",
]  # fmt: skip
PARTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=14)
FORMATS = [f"{calls}/{thinking}" for calls in CALLS for thinking in ("", *THINKING)]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FORMATS), PARTS, st.lists(st.integers(0, 10_000), max_size=8), st.booleans())
def test_no_text_has_it_otherwise_in_pieces(
    chat_format: str, parts: list[str], places: list[int], opened: bool
) -> None:
    text = "".join(parts)
    before = "<think>\n" if opened else ""
    whole = read(chat_format, [text], before=before)
    assert read(chat_format, cut(text, places), before=before) == whole
    assert read(chat_format, text, before=before) == whole


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMATS), PARTS)
def test_without_tools_nothing_is_lost_but_the_marks_of_reasoning(
    chat_format: str, parts: list[str]
) -> None:
    text = "".join(parts)
    events = read(chat_format, [text], tools=())
    left = "".join(event.text for event in events if isinstance(event, Reasoning | Content))
    for marks in THINKING.values():
        left, text = (t.replace(marks.open, "").replace(marks.close, "") for t in (left, text))
    assert "".join(left.split()) == "".join(text.split())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMATS), PARTS)
def test_calls_are_well_formed_whatever_is_read(chat_format: str, parts: list[str]) -> None:
    open_call, count = -1, 0
    for event in read(chat_format, ["".join(parts)]):
        if isinstance(event, CallBegun):
            assert event.name
            assert event.index == count
            open_call, count = event.index, count + 1
        elif isinstance(event, CallArguments | CallEnded):
            assert event.index == open_call


def test_reasoning_that_the_prompt_began_is_known_from_its_end() -> None:
    assert read("hermes/think", ["Hm.\n</think>\nHi"], before="...\n<think>\n") == [
        Reasoning("Hm."),
        Content("Hi"),
    ]
    closed = "<think>\n\n</think>\n\n"
    assert read("hermes/think", ["Hi"], before=closed) == [Content("Hi")]
    assert read("hermes/think", ["Hm, no end"], before="<think>") == [Reasoning("Hm, no end")]


def test_a_word_for_a_mark_within_the_text_is_text() -> None:
    assert read("hermes/think", ["Write <think> first."]) == [Content("Write <think> first.")]


def test_ids_have_the_form_that_every_template_takes() -> None:
    assert len(new_id()) == 9
    assert new_id().isalnum()
    assert new_id() != new_id()
    assert short_id("abcDEF123") == "abcDEF123"
    assert short_id("call_1") == short_id("call_1") != short_id("call_2")
    assert len(short_id("call_1")) == 9
    assert json.dumps(short_id("ü" * 9)).isascii()
