"""Answers that follow a grammar, whatever a model of random weights would rather say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pitool.engine import worker
from pitool.engine.base import Engine, Sampling, Settings, Token
from pitool.engine.llamacpp import LlamaCpp
from pitool.engine.llamacpp.grammar import Grammar
from pitool.errors import UsageError
from pitool.grammar import grammar_of_schema

pytestmark = pytest.mark.engine

SUITE = Path(__file__).parents[1] / "grammar" / "suite"

SETTINGS = Settings(
    context=512, decode_threads=1, prefill_threads=1, outputs=8, kv_type="f32",
    flash_attention="off",
)  # fmt: skip


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path) -> Iterator[Engine]:
    with worker.start("gguf", tiny_gguf, SETTINGS) as started:
        yield started


def answer(engine: Engine, **sampling: Any) -> list[Token]:
    return list(engine.stream("The quick", Sampling(**{"max_tokens": 400, "seed": 1, **sampling})))


def text(tokens: list[Token]) -> str:
    return "".join(token.text for token in tokens)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_an_answer_is_one_of_the_grammars_and_ends_there(
    engine: Engine, temperature: float
) -> None:
    grammar = 'root ::= "yes, " [a-c]{3} | "näin"'
    for seed in range(4):
        tokens = answer(engine, grammar=grammar, temperature=temperature, seed=seed)
        assert tokens[-1].finish == "stop"
        said = text(tokens)
        assert said == "näin" or (
            said[:5] == "yes, " and len(said) == 8 and set(said[5:]) <= {*"abc"}
        )


def test_the_free_choice_is_kept_where_the_grammar_has_it(engine: Engine) -> None:
    letters = tuple((engine.tokenize(letter)[-1], 100.0) for letter in "abcdefgh")
    free = answer(engine, temperature=1.0, max_tokens=12, logit_bias=letters)
    held = answer(
        engine, temperature=1.0, max_tokens=12, logit_bias=letters, grammar="root ::= [a-z]*"
    )
    assert text(held) == text(free)
    assert len(text(free)) == 12


def test_a_value_of_a_schema_parses(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 6},
            "age": {"type": "integer", "minimum": 3, "maximum": 40},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        },
        "required": ["name", "age"],
    }
    for seed in range(3):
        tokens = answer(engine, grammar=grammar_of_schema(schema), temperature=1.0, seed=seed)
        assert tokens[-1].finish == "stop"
        value = json.loads(text(tokens))
        assert len(value["name"]) <= 6
        assert 3 <= value["age"] <= 40
        assert set(value.get("tags", [])) <= {"a", "b"}


def test_llama_cpp_admits_no_invalid_instance_of_the_test_suite(tiny_gguf: Path) -> None:
    admitted = Counter[bool]()
    with closing(LlamaCpp(tiny_gguf, SETTINGS)) as engine:
        for path in sorted(SUITE.glob("*.json")):
            for group in json.loads(path.read_text()):
                try:
                    grammar = grammar_of_schema(group["schema"])
                except UsageError:
                    continue
                for test in group["tests"]:
                    found = admits(engine, grammar, json.dumps(test["data"], ensure_ascii=False))
                    admitted[found] += test["valid"]
                    assert test["valid"] or not found, (group["description"], test)
    assert admitted[True] > admitted[False] > 0


def admits(engine: LlamaCpp, grammar: str, text: str) -> bool:
    """Tell whether an answer that follows a grammar may be this text, and end there."""
    vocabulary = engine._vocabulary
    with closing(Grammar(Sampling(grammar=grammar), vocabulary)) as held:
        for token in engine.tokenize(text):
            if not held.allows(token):
                return False
            held.accept(token)
        return held.allows(next(iter(vocabulary.end_ids)))


def test_a_grammar_begins_with_its_word(engine: Engine) -> None:
    (x,) = engine.tokenize("x")[-1:]
    tokens = answer(
        engine,
        grammar='root ::= "x" "yz"',
        triggers=("x",),
        logit_bias=((x, 1000.0),),
        temperature=0.0,
    )
    assert (text(tokens), tokens[-1].finish) == ("xyz", "stop")


def test_a_word_that_never_comes_leaves_the_answer_free(engine: Engine) -> None:
    free = answer(engine, temperature=0.0, max_tokens=20)
    held = answer(
        engine, temperature=0.0, max_tokens=20, grammar='root ::= "x"', triggers=("never said",)
    )
    assert text(held) == text(free)


def test_a_word_that_comes_with_more_than_the_grammar_knows_leaves_it_free(engine: Engine) -> None:
    (x,) = engine.tokenize("x")[-1:]
    bias = ((x, 1000.0),)
    tokens = answer(
        engine, grammar='root ::= "xy"', triggers=("xx",), logit_bias=bias, temperature=0.0,
        max_tokens=5,
    )  # fmt: skip
    assert text(tokens) == "xxxxx"


@pytest.mark.parametrize("grammar", ["root ::= (", 'other ::= "a"', 'root ::= root "a" | root'])
def test_a_grammar_that_is_none_is_refused_and_the_worker_lives(
    engine: Engine, grammar: str
) -> None:
    with pytest.raises(UsageError, match="grammar"):
        answer(engine, grammar=grammar)
    assert answer(engine, max_tokens=2)[-1].finish == "length"


def test_a_bias_decides_and_a_foreign_token_is_refused(engine: Engine) -> None:
    (x,) = engine.tokenize("x")[-1:]
    assert text(answer(engine, logit_bias=((x, 1000.0),), max_tokens=3)) == "xxx"
    size = engine.info.vocabulary
    with pytest.raises(UsageError, match=str(size)):
        answer(engine, logit_bias=((size, 1.0),))


def test_log_probabilities_are_those_of_the_logits_before_any_sampling(engine: Engine) -> None:
    prompt = engine.tokenize("The quick")
    sampling = Sampling(
        temperature=2.0, repeat_penalty=1.5, presence_penalty=1.0, seed=4, max_tokens=5,
        top_logprobs=3,
    )  # fmt: skip
    tokens = [token for token in engine.stream(prompt, sampling) if token.chosen]
    said = [token.id for token in tokens if token.id is not None]
    assert len(said) == 5
    rows = engine.logits([*prompt, *said])[len(prompt) - 1 : -1].astype(np.float64)
    expected = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    for token, row in zip(tokens, expected, strict=True):
        assert token.chosen is not None
        assert token.logprob == pytest.approx(row[token.chosen.id], abs=1e-4)
        assert [each.id for each in token.top] == np.argsort(-row)[:3].tolist()
        assert [e.logprob for e in token.top] == pytest.approx(np.sort(row)[:-4:-1], abs=1e-4)
        assert engine.detokenize([token.chosen.id]) == token.chosen.piece.decode(errors="replace")


def test_a_presence_penalty_forbids_what_was_said(engine: Engine) -> None:
    tokens = answer(engine, presence_penalty=1e6, temperature=0.0, max_tokens=40)
    ids = [token.id for token in tokens if token.id is not None]
    assert len(set(ids)) == len(ids)
