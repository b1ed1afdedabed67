"""The formats: the marks of each, who reads what follows them, and by what a template shows it."""

from __future__ import annotations

from dataclasses import dataclass

from pitool.chat_format import calls
from pitool.chat_format.calls import Read


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How a family writes tool calls.

    ``readers``: who reads what follows each mark; ``bare``: an answer may also be nothing but a
    call without a mark; ``inner``: special tokens within a call.
    """

    readers: dict[str, Read]
    bare: bool = False
    inner: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Thinking:
    """The marks around reasoning."""

    open: str
    close: str


THINKING = {
    "think": Thinking("<think>", "</think>"),
    "seed": Thinking("<seed:think>", "</seed:think>"),
    "mistral": Thinking("[THINK]", "[/THINK]"),
    "channel": Thinking("<|channel>thought", "<channel|>"),
}

_TAGGED = '<|"|>'
CALLS = {
    "hermes": CallFormat(
        {"<tool_call>": calls.json_calls("</tool_call>")}, closes=("</tool_call>",)
    ),
    "qwen": CallFormat(
        {"<tool_call>": calls.json_calls("</tool_call>"), "<function=": calls.function()},
        closes=("</tool_call>",),
    ),
    "seed": CallFormat(
        {"<seed:tool_call>": calls.tagged_function("</seed:tool_call>")},
        closes=("</seed:tool_call>",),
    ),
    "minicpm": CallFormat({'<function name="': calls.function(tags=calls.QUOTES)}),
    "llama": CallFormat({"<|python_tag|>": calls.python_tag}, bare=True),
    "mistral": CallFormat({"[TOOL_CALLS]": calls.named_json}, inner=("[ARGS]", "[CALL_ID]")),
    "mistral list": CallFormat({"[TOOL_CALLS]": calls.named_json}),
    "lfm2": CallFormat(
        {"<|tool_call_start|>": calls.python_list("<|tool_call_end|>")},
        closes=("<|tool_call_end|>",),
    ),
    "granite": CallFormat(
        {"<|tool_call|>": calls.json_calls(), "<tool_call>": calls.json_calls("</tool_call>")}
    ),
    "phi": CallFormat(
        {"<|tool_call|>": calls.json_calls("<|/tool_call|>")}, closes=("<|/tool_call|>",)
    ),
    "gemma3": CallFormat({"```tool_code\n": calls.python_list("```")}, closes=("```",)),
    "functiongemma": CallFormat(
        {"<start_function_call>": calls.tagged_call("<end_function_call>", "<escape>")},
        inner=("<escape>",),
        closes=("<end_function_call>",),
    ),
    "gemma4": CallFormat(
        {"<|tool_call>": calls.tagged_call("<tool_call|>", _TAGGED)},
        inner=(_TAGGED,),
        closes=("<tool_call|>",),
    ),
}

# What of a template shows how its model writes calls: all words of a row; the first row that does.
_SHOWN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("gemma4", ("<|tool_call>",)),
    ("functiongemma", ("<start_function_call>",)),
    ("lfm2", ("<|tool_call_start|>",)),
    ("lfm2", ("<|tool_list_start|>",)),
    ("lfm2", ("List of tools: [",)),
    ("mistral list", ("[TOOL_CALLS][",)),
    ("mistral list", ("[TOOL_CALLS] [",)),
    ("mistral", ("[TOOL_CALLS]",)),
    ("seed", ("<seed:tool_call>",)),
    ("minicpm", ('<function name="',)),
    ("qwen", ("<function=", "<parameter=")),
    ("phi", ("<|/tool_call|>",)),
    ("phi", ("<|/tool|>",)),
    ("granite", ("<|tool_call|>",)),
    ("llama", ("<|python_tag|>",)),
    ("llama", ("<|start_header_id|>", '"parameters": ')),
    ("gemma3", ("```tool_code",)),
    ("hermes", ("<tool_call>",)),
)


def format_of(template: str) -> str:
    """Return the name of a template's format: how calls are written, then how reasoning is.

    Either part may be missing: a template without a place for tools, a model that does not think.
    """
    found = [next((name for name, words in _SHOWN if all(w in template for w in words)), "")]
    found += [name for name, marks in THINKING.items() if marks.close in template][:1]
    return "/".join(found)


def calls_of(chat_format: str) -> CallFormat:
    """Return how calls are read; as Hermes writes them where the template does not say."""
    return CALLS.get(chat_format.partition("/")[0], CALLS["hermes"])


def thinking_of(chat_format: str) -> Thinking | None:
    """Return the marks of reasoning, None where the template knows none."""
    return THINKING.get(chat_format.partition("/")[2])


def marks_of(chat_format: str) -> frozenset[str]:
    """Return the special tokens that carry a format, whose text is to come through."""
    form, thinking = calls_of(chat_format), thinking_of(chat_format)
    found = {*form.readers, *form.inner, *form.closes}
    if thinking is not None:
        # The channel's name is a text after its token.
        found |= {thinking.open, thinking.close, thinking.open.removesuffix("thought")}
    return frozenset(found)
