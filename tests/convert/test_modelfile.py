"""The Modelfile: its Go template against the model's own, rendered by the rules of both."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import pytest

from pitool.convert.gguf.modelfile import modelfile, take_apart
from tests.tiny import TEMPLATE

TALKS = [
    [("user", "Hello"), ("assistant", "Hi!"), ("user", " two\nlines ")],
    [("system", "Be brief."), ("user", "Hello")],
    [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c")],
]
# What Go's text/template means by the few actions that are written, said in Jinja.
GO = {
    "{{ range .Messages }}": "{% for m in messages %}",
    '{{ if eq .Role "system" }}': "{% if m.role == 'system' %}",
    '{{ else if eq .Role "user" }}': "{% elif m.role == 'user' %}",
    "{{ else }}": "{% else %}",
    "{{ end }}{{ end }}": "{% endif %}{% endfor %}",
    "{{ .Content }}": "{{ m.content }}",
}


def field(text: str, name: str) -> str:
    _, found, rest = text.partition(f'\n{name} """')
    return rest.partition('"""')[0] if found else ""


def as_ollama(text: str, talk: list[tuple[str, str]]) -> str:
    template = field(text, "TEMPLATE")
    for go, jinja in GO.items():
        assert go in template
        template = template.replace(go, jinja)
    messages = [{"role": role, "content": content} for role, content in talk]
    if (default := field(text, "SYSTEM")) and talk[0][0] != "system":
        messages = [{"role": "system", "content": default}, *messages]
    environment = jinja2.Environment(keep_trailing_newline=True, autoescape=False)
    return environment.from_string(template).render(messages=messages)


@pytest.mark.parametrize("name", ["qwen2.5", "smollm2-135m-instruct", "tinyllama-chat"])
def test_real_templates(shared_data: Path, name: str) -> None:
    (path,) = (shared_data / "tokenizers").glob(f"{name}/tokenizer_config.json")
    settings = json.loads(path.read_text())
    end = settings["eos_token"]
    end = end["content"] if isinstance(end, dict) else end
    text = modelfile("m.gguf", 2048, settings["chat_template"], end)
    assert text.startswith("FROM ./m.gguf\nPARAMETER num_ctx 2048\n")
    assert f'PARAMETER stop "{end}"\n' in text
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    own = environment.from_string(settings["chat_template"])
    for talk in TALKS:
        messages = [{"role": role, "content": content} for role, content in talk]
        wanted = own.render(messages=messages, add_generation_prompt=True, eos_token=end)
        assert as_ollama(text, talk) == wanted


def test_the_whole_file() -> None:
    assert modelfile("tiny-F16.gguf", 512, TEMPLATE, "<|im_end|>") == (
        "FROM ./tiny-F16.gguf\n"
        "PARAMETER num_ctx 512\n"
        'TEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n'
        '{{ .Content }}<|im_end|>\n{{ else if eq .Role "user" }}<|im_start|>user\n'
        "{{ .Content }}<|im_end|>\n{{ else }}<|im_start|>assistant\n"
        '{{ .Content }}<|im_end|>\n{{ end }}{{ end }}<|im_start|>assistant\n"""\n'
        'PARAMETER stop "<|im_end|>"\n'
    )


def test_everything_that_ends_an_answer_is_a_stop() -> None:
    """The template's own end first, each once; what cannot stand in quotation marks is left out."""
    ends = ["<|endoftext|>", "<|im_end|>", "two words", '"', ""]
    text = modelfile("m.gguf", 256, TEMPLATE, "<|im_end|>", stops=ends)
    stops = [line for line in text.splitlines() if line.startswith("PARAMETER stop")]
    assert stops == ['PARAMETER stop "<|im_end|>"', 'PARAMETER stop "<|endoftext|>"']
    text = modelfile("m.gguf", 256, None, "", stops=ends)
    assert text.endswith('PARAMETER stop "<|endoftext|>"\nPARAMETER stop "<|im_end|>"\n')


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{{ raise_exception('no') }}",
        "{% for",
        "{{ messages | length }}",
        "{% for m in messages %}[{{ loop.index }}]{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content | upper | trim }}\n{% endfor %}x",
        '{% for m in messages %}{{ \'"""\' }}{{ m.content }}{% endfor %}',
        "{% for m in messages %}{{ '{{' }}{{ m.content }}{% endfor %}",
    ],
)
def test_a_template_that_cannot_be_said_in_go_is_left_to_ollama(template: str | None) -> None:
    assert template is None or take_apart(template, "</s>") is None
    assert modelfile("m.gguf", 256, template, "</s>") == "FROM ./m.gguf\nPARAMETER num_ctx 256\n"
