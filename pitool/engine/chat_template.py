"""Renders a conversation by the model's own chat template, in a sandbox.

The template is code from a download: it runs in Jinja's immutable sandbox with the few helpers
that transformers gives it (``apply_chat_template`` in its chat template documentation).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pitool.engine.base import Message
from pitool.errors import BadInput


class _GenerationBlock(Extension):
    """``{% generation %}`` marks text for training; when chatting it is just its content."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's interface

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the nodes between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """A compiled chat template; BadInput when it is not one."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        self._words = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise _bad(error) from None

    def render(self, messages: Sequence[Message], *, answer: bool = True) -> str:
        """Return the prompt; with ``answer`` it ends where the assistant's turn begins."""
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return self._template.render(
                messages=turns, add_generation_prompt=answer, tools=None, **self._words
            )
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise _bad(error) from None


def _bad(error: Exception) -> BadInput:
    return BadInput(
        f"the model's chat template cannot render this conversation ({error})",
        "use pitool run --raw, or change the order of the turns",
    )


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    # Jinja's own filter escapes for HTML, which a prompt must not be.
    return json.dumps(value, ensure_ascii=False, indent=indent)
