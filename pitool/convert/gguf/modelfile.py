"""The Modelfile of a GGUF, for ``ollama create NAME -f FILE``.

Follows Ollama's Modelfile reference. Ollama uses Go templates, so the model's Jinja template is
rendered with markers and split at them; the parts are used only if they reproduce what the Jinja
template renders. Otherwise no TEMPLATE is written, and Ollama looks for one that it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pitool.template import Template, TemplateFault

Message = dict[str, str]
_S, _U, _R, _V = "\ue001", "\ue002", "\ue003", "\ue004"
_TALK = [
    {"role": "system", "content": _S},
    {"role": "user", "content": _U},
    {"role": "assistant", "content": _R},
    {"role": "user", "content": _V},
]


@dataclass(frozen=True, slots=True)
class Turns:
    """The text before and after each role's message; ``default``: the default system message."""

    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    default: str

    def render(self, messages: list[Message]) -> str:
        """Return a conversation up to the start of the answer."""
        if self.default and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.default}, *messages]
        sides = {"system": self.system, "user": self.user, "assistant": self.assistant}
        turns = (sides[m["role"]][0] + m["content"] + sides[m["role"]][1] for m in messages)
        return "".join(turns) + self.assistant[0]

    def go_template(self) -> str:
        """Return the same as a Go template, on one line except for line breaks in the parts."""
        one = "{{ .Content }}".join
        return (
            f'{{{{ range .Messages }}}}{{{{ if eq .Role "system" }}}}{one(self.system)}'
            f'{{{{ else if eq .Role "user" }}}}{one(self.user)}'
            f"{{{{ else }}}}{one(self.assistant)}{{{{ end }}}}{{{{ end }}}}{self.assistant[0]}"
        )


def modelfile(
    file: str,
    context: int,
    template: str | None,
    end: str,
    adapters: Sequence[str] = (),
    stops: Sequence[str] = (),
) -> str:
    """Return the Modelfile of a GGUF; ``end``: its end-of-sequence token as text.

    ``adapters``: the names of the LoRA files next to it; ``stops``: the texts of all tokens that
    end an answer.
    """
    lines = [f"FROM ./{file}", *(f"ADAPTER ./{name}" for name in adapters)]
    lines.append(f"PARAMETER num_ctx {context}")
    turns = take_apart(template, end) if template else None
    if turns:
        lines.append(f'TEMPLATE """{turns.go_template()}"""')
        if turns.default:
            lines.append(f'SYSTEM """{turns.default}"""')
        stops = (turns.assistant[1].strip(), *stops)
    lines += [f'PARAMETER stop "{stop}"' for stop in dict.fromkeys(stops) if _is_stop(stop)]
    return "\n".join(lines) + "\n"


def _is_stop(text: str) -> bool:
    """Tell whether a text can stand in quotation marks as a stop."""
    return bool(text) and not any(c.isspace() or c == '"' for c in text)


def take_apart(template: str, end: str) -> Turns | None:
    """Return the parts of a Jinja chat template, None when it does more than join parts."""
    try:
        compiled = Template(template)

        def render(messages: list[Message], *, answer: bool = True) -> str:
            # Ollama adds the beginning-of-sequence token itself.
            values: dict[str, Any] = {"bos_token": "", "eos_token": end}
            return compiled.render(messages=messages, add_generation_prompt=answer, **values)

        turns = _parts(render)
        talks = [_TALK, _TALK[:2], _TALK[1:], _TALK[1:2]]
        same = all(turns.render(talk) == render(talk) for talk in talks)
    except (TemplateFault, ValueError):
        return None
    foreign = any(sign in turns.go_template() for sign in (_S, _U, _R, _V, '"""'))
    literal = "".join((*turns.system, *turns.user, *turns.assistant, turns.default))
    return None if not same or foreign or "{{" in literal or '"""' in literal else turns


def _parts(render: Callable[..., str]) -> Turns:
    """Return the parts, from what each turn appends; ValueError if one changes earlier text."""
    text, sides = "", []
    for i, message in enumerate(_TALK[:3]):
        longer = render(_TALK[: i + 1], answer=False)
        if not longer.startswith(text):
            raise ValueError
        sides.append(_split(longer[len(text) :], message["content"]))
        text = longer
    system, user, assistant = sides
    bare, _ = _split(render(_TALK[1:2], answer=False), _U)
    default = bare.removeprefix(system[0]).removesuffix(system[1] + user[0])
    return Turns(system, user, assistant, default if bare != user[0] else "")


def _split(text: str, mark: str) -> tuple[str, str]:
    before, found, after = text.partition(mark)
    if not found:
        raise ValueError
    return before, after
