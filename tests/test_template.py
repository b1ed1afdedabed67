"""Chat templates are code from strangers: what transformers renders, and an end to everything."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pitool.template import SOURCE_CHARACTERS, Template, TemplateFault

TURNS = [
    {"role": "system", "content": "Be brief.\n"},
    {"role": "user", "content": "Hi <b> 'é' 😀\n\n  {{ x }} "},
    {"role": "assistant", "content": "  Hello.  "},
    {"role": "user", "content": "And?"},
]
SHORT = TURNS[1:2]
ENOUGH = "more than .* (steps|seconds)"

# What multiplies itself, in some way that nobody thought of when Jinja's sandbox was made.
MULTIPLIES = [
    "{% set ns=namespace(s='a'*1000000000) %}{{ ns.s ~ ns.s ~ ns.s }}",
    "{{ [1] * 1000000000 }}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ 'a' | center(10 ** 9) }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ '7'.zfill(1000000000) }}",
    "{{ '\\t'.expandtabs(1000000000) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000s' | format('a') }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ '{x:1000000000}'.format_map({'x': 1}) }}",
    "{{ 'a' | indent(1000000000, true) }}",
    "{{ messages | tojson(indent=1000000000) }}",
    "{{ [1] | batch(1000000000, 0) | list }}",
    "{{ 1 | round(1000000000, 'ceil') }}",
    "{{ 1.to_bytes(1000000000, 'big') }}",
    "{% autoescape 'a' | center(1000000000) %}{% endautoescape %}",
    "{% set b = 'a' * 9999 %}{{ range(9999) | map(attribute='q', default=b) | join }}",
    "{% set b = 'a' * 9999 %}{{ range(9999) | map(attribute='q', default=b) | list }}",
    "{% set b = 'a' * 9999 %}{{ b.join(range(9999) | map('string')) }}",
    "{% set b = 'a' * 9999 %}{{ b | replace('a', b) }}",
    "{% set b = 'a' * 9999 %}{{ b.translate({97: b}) }}",
]
GROWS = "{{% set ns = namespace(x={0}) %}}{{% for i in range(60) %}}{1}{{% endfor %}}{{{{ ns.x }}}}"
DOUBLES = [
    ("'ab'", "ns.x ~ ns.x"),
    ("'ab'", "ns.x + ns.x"),
    ("'ab'", "ns.x | replace('a', 'aaab')"),
    ("'ab'", "[ns.x, ns.x] | join"),
    ("[1]", "[ns.x, ns.x]"),
    ("[1]", "(ns.x, ns.x)"),
    ("[1]", "{'a': ns.x, 'b': ns.x}"),
    ("[1]", "dict(a=ns.x, b=ns.x)"),
    ("1", "namespace(a=ns.x, b=ns.x)"),
    ("1", "[1] | batch(100, ns.x) | list"),
]
LOOPS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}x",
    (
        "{% set l = range(99999) | list %}{% for i in l %}{% for j in l if false %}{% endfor %}"
        "{% endfor %}"
    ),
    "{% set l = range(99999) | list %}{% for i in l %}{{ l | select('none') | list }}{% endfor %}",
    "{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
    "{% set x %}{% for i in range(99999) %}{{ 'y' * 999 }}{% endfor %}{% endset %}{{ x }}",
    (
        "{% macro a(n) %}{% for i in range(99) %}{{ a(n - 1) if n else '' }}{% endfor %}"
        "{% endmacro %}{{ a(9) }}"
    ),
]
FAULTS = {
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}": "nested too deeply",
    "{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}": "nested too deeply",
    "{{ " + "+".join("1" * 5000) + " }}": "nested too deeply",
    "{% if 1 %}" * 200 + "{% endif %}" * 200: "too many levels",
    "{{ 1/0 }}": "division by zero",
    "{% break %}": "outside loop",
    "{% if %}": "Expected an expression",
    "{{ messages | xmlattr }}": "items",
    "{{ 'x'.encode('nope') }}": "unknown encoding",
    "{{ 'x' | replace(1) }}": "missing 1 required",
    "{{ 'x' | wordwrap(0) }}": "invalid width",
    "{{ messages | nope }}": "No filter named 'nope'",
    "{{ " + "9" * 5000 + " }}": "4300 digits",
    "{% include 'x' %}": "no loader",
    "{{ messages.append(1) }}": "unsafe",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "unsafe",
    "{% for x in range(10**9) %}{% endfor %}": "Range too big",
    "x" * (SOURCE_CHARACTERS + 1): "longer than",
}


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grant little work, so that the tests have little too."""
    monkeypatch.setattr("pitool.template.LEAST_WORK", 100_000)


def fault(source: str) -> str:
    with pytest.raises(TemplateFault) as caught:
        Template(source).render(messages=SHORT)
    return str(caught.value)


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("source", MULTIPLIES)
def test_what_multiplies_is_refused_before_it_is_made(source: str) -> None:
    tracemalloc.start()
    try:
        said = fault(source)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "steps" in said
    assert peak < 10_000_000


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize(("begin", "step"), DOUBLES)
def test_what_doubles_itself_has_an_end(begin: str, step: str) -> None:
    assert "steps" in fault(GROWS.format(begin, f"{{% set ns.x = {step} %}}"))


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("source", LOOPS)
def test_loops_have_an_end(source: str) -> None:
    assert "steps" in fault(source)


def test_the_clock_ends_what_is_slow_for_another_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pitool.template.SECONDS", -1.0)
    assert fault("{% for m in messages %}{% endfor %}") == "it takes more than -1 seconds"


@pytest.mark.parametrize(("source", "words"), FAULTS.items(), ids=[s[:40] for s in FAULTS])
def test_whatever_goes_wrong_is_a_few_words(source: str, words: str) -> None:
    said = fault(source)
    assert words in said
    assert "\n" not in said and len(said) < 250


def test_the_cases_of_others(shared_data: Path) -> None:
    sources = sorted((shared_data.parent / "cases" / "files" / "templates").glob("*.jinja"))
    assert len(sources) >= 8
    for source in sources:
        assert fault(source.read_text())


# -- what is right stays right -------------------------------------------------------------

FINE = [
    (
        "{{ bos_token }}{% for m in messages %}\n  {% if loop.first and m.role == 'system' %}\n"
        "[{{ m['content'] | trim }}]\n  {% else %}{{ loop.index0 ~ m.role ~ loop.last }}"
        "{% endif %}\n{% endfor %}\n{%- if add_generation_prompt %}>{% endif %}"
    ),
    (
        "{% for m in messages if m.role != 'system' %}{{ m.content.split('e')[-1].strip() }}"
        "{{ loop.length }}{% else %}none{% endfor %}"
    ),
    (
        "{% set ns = namespace(found=false, n=0) %}{% for m in messages[::-1] %}"
        "{% if not ns.found and m.role == 'user' %}{% set ns.found = true %}{% endif %}"
        "{% set ns.n = ns.n + loop.index %}{% if ns.n > 4 %}{% break %}{% endif %}"
        "{% endfor %}{{ ns.n }}"
    ),
    (
        "{{ messages | map(attribute='role') | join(', ') }}{{ messages | length }}"
        "{{ messages | selectattr('role', 'equalto', 'user') | list | count }}{{ messages[0] }}"
    ),
    "{{ '-'.join(messages | map(attribute='role')) }}{{ messages | map(attribute='role') | list }}",
    (
        "{{ [1, 2] | sum }}{{ [[1], [2]] | sum(start=[]) }}{{ '%s-%3d' | format('a', 3) }}"
        "{{ 2 ** 10 }}"
    ),
    (
        "{{ '{} {x:>5}'.format(1, x=2) }}{{ '%s' % 'a' }}{{ 'ab' * 3 }}"
        "{{ 'a' | center(9) }}|{{ 7 // 2 }}"
    ),
    (
        "{% macro turn(m, n=1) %}<{{ m.role }}{{ n }}>{{ caller() if caller else '' }}"
        "{% endmacro %}{% for m in messages %}{{ turn(m) }}"
        "{% call turn(m, 2) %}in{% endcall %}{% endfor %}"
    ),
    (
        "{% set a, b = 1, (2, 3) %}{{ a ~ b }}{% for k, v in messages[0].items() %}{{ k }}={{ v }}"
        "{% endfor %}{{ {'q': [1, none, true]} }}{{ nothing }}{{ nothing | default('d') }}"
    ),
    (
        "{% filter upper %}{% for m in messages %}{{ m.content | indent(2) }}"
        "{% endfor %}{% endfilter %}"
    ),
    "{% for x in [[1, [2]], [3]] recursive %}{{ loop(x) if x is iterable else x }},{% endfor %}",
    (
        "{{ 'x' if messages is defined and messages | first is mapping }}{{ range(3) | list }}"
        "{{ 'abc'[1:] }}{{ 'a,b' | replace(',', ';') }}{{ messages | groupby('role') | length }}"
    ),
]


@pytest.mark.parametrize("turns", [TURNS, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("source", FINE)
def test_the_meter_changes_nothing(source: str, turns: list[dict[str, str]]) -> None:
    plain = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    ).from_string(source)
    values: dict[str, Any] = {"messages": turns, "bos_token": "<s>", "add_generation_prompt": True}
    assert Template(source).render(**values) == plain.render(**values)


def test_a_long_conversation_is_no_fault() -> None:
    turns = [{"role": "user", "content": f"{n} é\n" * 200} for n in range(1000)]
    source = (
        "{% for m in messages %}{% if m.role not in ('user', 'x') %}{% endif %}"
        "{{ '<' ~ m.role ~ '>' + (m.content | trim | replace('\\n', ' \\n ')) }}"
        "{{ loop.index | string }}"
        "{{ messages | length if loop.last and messages[loop.index0 - 1:] | list }}{% endfor %}"
    )
    text = Template(source).render(messages=turns)
    assert text.endswith("1000")
    assert len(text) > 600_000


@pytest.mark.oracle
@pytest.mark.parametrize("answer", [True, False])
def test_real_templates_render_as_in_transformers(shared_data: Path, *, answer: bool) -> None:
    transformers = pytest.importorskip("transformers")
    folders = sorted(p.parent for p in shared_data.glob("tokenizers/*/tokenizer_config.json"))
    assert len(folders) >= 3
    talks = [TURNS, TURNS[1:], SHORT, TURNS[1:3], [TURNS[0], SHORT[0]]]
    for folder in folders:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        oracle = transformers.AutoTokenizer.from_pretrained(folder)
        ours = Template(config["chat_template"])
        words = {"bos_token": oracle.bos_token or "", "eos_token": oracle.eos_token or ""}
        for talk in talks:
            expected = oracle.apply_chat_template(
                talk, tokenize=False, add_generation_prompt=answer
            )
            assert expected == ours.render(
                messages=talk, add_generation_prompt=answer, tools=None, **words
            )


@pytest.mark.oracle
@pytest.mark.parametrize("options", ["", "indent=2", "separators=(',', ':')", "sort_keys=true"])
def test_json_is_written_as_in_transformers(options: str) -> None:
    theirs = pytest.importorskip("transformers.utils.chat_template_utils")
    source = f"{{{{ {{'b': ['<é>', none, 1.5, true], 'a': {{}}}} | tojson({options}) }}}}"
    assert Template(source).render() == theirs._compile_jinja_template(source).render()
