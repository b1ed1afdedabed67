"""A conversation that is to be answered, whichever interface it came by, as an engine takes it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pitool.chat_format import AnswerParser, forced_answer, forced_calls
from pitool.chat_format.forcing import Forced
from pitool.chat_format.formats import thinking_of
from pitool.engine.base import ChatPrompt, Engine, Message, ModelInfo, Prompt, Sampling
from pitool.errors import UsageError
from pitool.serve.shapes import Shape

# How a template is told to think or not to, by the name that it reads.
SWITCHES = ("enable_thinking", "thinking")
EFFORT = "reasoning_effort"
# The tokens of a prompt's end in which reasoning may begin.
LAST_TOKENS = 16


class Use(enum.Enum):
    """Whether tools are called."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether tools are called: ``name``: one of them, None for any; ``parallel``: several."""

    use: Use = Use.AUTO
    name: str | None = None
    parallel: bool = True


AUTO = Choice()


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is said, and how it is to be answered.

    ``options``: what the chat template is told by its own names. ``effort``: of reasoning, ``none``
    for none at all, nothing for the model's own way. ``shape``: what the answer may be.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    tools: tuple[Mapping[str, Any], ...] = ()
    choice: Choice = AUTO
    options: Mapping[str, Any] = field(default_factory=dict)
    effort: str = ""
    shape: Shape = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt, and what reads the answer to it."""

    prompt: Prompt
    sampling: Sampling
    chat_format: str
    before: str
    tools: tuple[Mapping[str, Any], ...]

    def parser(self) -> AnswerParser:
        """Return a new reader of an answer."""
        return AnswerParser(self.chat_format, before=self.before, tools=self.tools)


def prepare(engine: Engine, asked: Conversation) -> Prepared:
    """Return a conversation as the engine takes it; UsageError where the model cannot do it.

    Blocks.
    """
    info = engine.info
    if not info.chat_template:
        raise UsageError("the model has no chat template", "use /v1/completions")
    tools = asked.tools if asked.choice.use is not Use.NONE else ()
    if tools and "tools" not in info.template_names:
        raise UsageError("the model's chat template does not support tools", "drop 'tools'")
    last = asked.messages[-1]
    continued = last.role == "assistant" and not last.calls
    options = {**asked.options, **effort_options(asked.effort, info)}
    prompt: Prompt = ChatPrompt(asked.messages, tools, options, continued)
    before = ""
    if thinking_of(info.chat_format):  # which the prompt may have begun
        prompt = engine.tokenize(prompt)
        before = engine.detokenize(prompt[-LAST_TOKENS:])
    forced = _forced(asked, info.chat_format, tools, before)
    sampling = replace(asked.sampling, grammar=forced.grammar, triggers=forced.triggers)
    return Prepared(prompt, sampling, info.chat_format, before, tools)


def _forced(
    asked: Conversation, chat_format: str, tools: Sequence[Mapping[str, Any]], before: str
) -> Forced:
    """Return the grammar of what the answer has to be: of a shape, or a call of a tool."""
    if asked.shape is not None:
        if tools:
            what = "tools and a format of the answer are not supported together"
            raise UsageError(what, "drop one of them, or send tool_choice: none")
        if isinstance(asked.shape, str):
            return Forced(asked.shape)
        return forced_answer(chat_format, asked.shape, before=before)
    choice = asked.choice
    if choice.use is not Use.REQUIRED and not (tools and not choice.parallel):
        return Forced("")
    return forced_calls(
        chat_format,
        tools,
        before=before,
        name=choice.name or "",
        free=choice.use is not Use.REQUIRED,
        parallel=choice.parallel,
    )


def effort_options(effort: str, info: ModelInfo) -> Mapping[str, Any]:
    """Return what a chat template is told of an effort; UsageError where it knows none."""
    if not effort:
        return {}
    made: dict[str, Any] = {
        name: effort != "none" for name in SWITCHES if name in info.template_names
    }
    if EFFORT in info.template_names and effort not in ("none", "default"):
        made[EFFORT] = effort
    if not made and effort != "none":
        raise UsageError("the model's reasoning cannot be set", "drop the field that sets it")
    return made
