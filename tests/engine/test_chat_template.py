"""Chat templates: what transformers would render, and nothing that a download should not do."""

from __future__ import annotations

import pytest

from pitool.engine.base import ChatPrompt, Message
from pitool.engine.chat_template import ChatTemplate
from pitool.errors import BadInput

TURNS = ChatPrompt((Message("system", "Be brief."), Message("user", "Hi <b>")))


def test_blocks_are_trimmed_as_transformers_does() -> None:
    template = ChatTemplate(
        "{% for m in messages %}\n  {% if m.role == 'user' %}\n[{{ m.content }}]\n"
        "  {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}>{% endif %}"
    )
    assert template.render(TURNS) == "[Hi <b>]\n>"
    assert template.render(TURNS, answer=False) == "[Hi <b>]\n"


def test_the_helpers_of_transformers_are_there() -> None:
    template = ChatTemplate(
        "{{ bos_token }}{% generation %}{{ {'a': '<é>'} | tojson }}{% endgeneration %}"
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}"
        "{% endfor %}{{ strftime_now('%Y') | length }}",
        bos="<s>",
    )
    assert template.render(TURNS) == '<s>{"a": "<é>"}system4'


def test_a_template_that_refuses_is_one_sentence() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(BadInput, match="roles must alternate"):
        template.render(TURNS)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for x in range(10**9) %}{% endfor %}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
    ],
    ids=["subclasses", "mutation", "endless", "globals"],
)
def test_a_hostile_template_is_refused(source: str) -> None:
    with pytest.raises(BadInput):
        ChatTemplate(source).render(TURNS)


def test_a_broken_template_is_refused_at_once() -> None:
    with pytest.raises(BadInput, match="chat template"):
        ChatTemplate("{% if %}")
