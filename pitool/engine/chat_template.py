"""Renders a conversation by the model's own chat template, with the helpers of transformers."""

from __future__ import annotations

import datetime
from typing import NoReturn

from pitool.engine.base import ChatPrompt
from pitool.errors import BadInput
from pitool.template import Template, TemplateFault


class ChatTemplate:
    """A compiled chat template; BadInput when it is not one."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        self._words = {"bos_token": bos, "eos_token": eos}
        helpers = {"raise_exception": _refuse, "strftime_now": _now}
        try:
            self._template = Template(source, helpers)
        except TemplateFault as fault:
            raise BadInput(
                f"the model's chat template is at fault ({fault})",
                "mend the template in the model's files, or use another model",
            ) from None

    def render(self, prompt: ChatPrompt, *, answer: bool = True) -> str:
        """Return the prompt; with ``answer`` it ends where the assistant's turn begins.

        BadInput when the template refuses the conversation, fails, or has no end.
        """
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        try:
            return self._template.render(
                messages=turns, add_generation_prompt=answer, tools=None, **self._words
            )
        except TemplateFault as fault:
            raise BadInput(
                f"the model's chat template cannot render this conversation ({fault})",
                "use pitool run --raw, or change the order of the turns",
            ) from None


def _refuse(message: str) -> NoReturn:
    raise TemplateFault(message)


def _now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)
