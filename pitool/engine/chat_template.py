"""Renders a conversation by the model's own chat template, with the helpers of transformers."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from pitool.catalog import reading
from pitool.chat_format import format_of
from pitool.chat_format.events import short_id
from pitool.engine.base import ChatPrompt, Message
from pitool.errors import BadInput, UsageError
from pitool.template import Template, TemplateFault

_OWN = frozenset(("messages", "tools", "add_generation_prompt", "bos_token", "eos_token"))
_HERE = "\ue000the answer goes on here\ue001"
"""Stands at the end of a message that is continued, to see where the template puts its end."""


class ChatTemplate:
    """A compiled chat template; BadInput when it is not one.

    ``with_tools``: the one that the model has for conversations with tools, where it has another.
    ``format``: how the model writes reasoning and calls, see ``pitool.chat_format``; ``names``:
    what the templates read.
    """

    def __init__(
        self, source: str, *, bos: str = "", eos: str = "", with_tools: str | None = None
    ) -> None:
        self._words = {"bos_token": bos, "eos_token": eos}
        self._template = _compile(source)
        self._with_tools = _compile(with_tools) if with_tools else self._template
        self.format = format_of(with_tools or source)
        self.names = tuple(sorted(self._template.names | self._with_tools.names))

    def render(self, prompt: ChatPrompt, *, answer: bool = True) -> str:
        """Return the prompt; with ``answer`` it ends where the assistant's turn begins.

        UsageError for tools and options that the template has no place for; BadInput when it
        refuses the conversation, fails, or has no end.
        """
        self._check(prompt)
        template = self._with_tools if prompt.tools else self._template
        values = {
            **prompt.options,
            **self._words,
            "tools": list(map(dict, prompt.tools)) or None,
            "add_generation_prompt": answer and not prompt.continue_last,
        }
        first: TemplateFault | None = None
        for turns in _turns(prompt):
            try:
                text = template.render(messages=turns, **values)
            except TemplateFault as fault:
                first = first or fault
            else:
                return _cut(text) if prompt.continue_last else text
        raise BadInput(
            f"the model's chat template cannot render this conversation ({first})",
            "use pitool run --raw, or change the order of the turns",
        ) from None

    def _check(self, prompt: ChatPrompt) -> None:
        if prompt.tools and "tools" not in self.names:
            raise UsageError(
                "the model's chat template does not support tools",
                "use a model that supports tools",
            )
        for name in prompt.options:
            if name in _OWN or name not in self.names:
                raise UsageError(f"the model's chat template has no option {name!r}", "drop it")
        last = prompt.messages[-1] if prompt.messages else None
        if prompt.continue_last and (last is None or last.role != "assistant" or last.calls):
            raise UsageError(
                "only an assistant's last message can be continued, and none that calls a tool",
                "let an assistant's message be the last one",
            )


def _compile(source: str) -> Template:
    try:
        return Template(source, {"raise_exception": _refuse, "strftime_now": _now})
    except TemplateFault as fault:
        raise BadInput(
            f"the model's chat template has an error ({fault})",
            "correct the template in the model's files, or use another model",
        ) from None


# -- a conversation as templates know it -------------------------------------------------------


def _turns(prompt: ChatPrompt) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Yield the messages as a template may want them, as most do first.

    Some take arguments as text, and Mistral's an id of its own form only.
    """
    messages = list(prompt.messages)
    if prompt.continue_last:
        last = messages.pop()
        messages.append(Message(last.role, last.content + _HERE, reasoning=last.reasoning))
    names = {call.id: call.name for message in messages for call in message.calls}
    has_calls = any(message.calls or message.call_id for message in messages)
    for as_text, short in ((False, False), (False, True), (True, False), (True, True)):
        yield [_turn(message, names, as_text=as_text, short=short) for message in messages]
        if not has_calls:
            return


def _turn(
    message: Message, names: Mapping[str, str], *, as_text: bool, short: bool
) -> dict[str, Any]:
    def number(text: str) -> str:
        return short_id(text) if short else text

    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        turn["reasoning_content"] = message.reasoning
    if message.calls:
        turn["tool_calls"] = [
            {
                "id": number(call.id),
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": call.arguments if as_text else _arguments(call.arguments),
                },
            }
            for call in message.calls
        ]
    if message.call_id:
        turn["tool_call_id"] = number(message.call_id)
    if name := message.name or (names.get(message.call_id, "") if message.role == "tool" else ""):
        turn["name"] = name
    return turn


def _arguments(text: str) -> Any:
    """Return arguments as an object, or the text that a model wrote in place of one."""
    try:
        value = reading.parse_json(text or "{}")
    except ValueError:
        return text
    return value if isinstance(value, dict) else text


def _cut(text: str) -> str:
    """Return a rendered conversation up to where its last message ends."""
    place = text.rfind(_HERE)
    if place < 0:
        raise BadInput(
            "the model's chat template does not show the assistant's last message",
            "continue another conversation, or ask again",
        )
    return text[:place]


def _refuse(message: str) -> NoReturn:
    raise TemplateFault(message)


def _now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)
