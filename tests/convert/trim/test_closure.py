"""A part of a vocabulary is closed, and makes the tokens that the whole one makes.

What tokenizes is the tokenizers library, on both sides.
"""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.convert.trim.choice import MULTIPLE, choose
from tests.convert.trim.helpers import KINDS, both
from tests.small_tokenizers import TEXTS

WORDS = sorted(set(" ".join(TEXTS).split()))
LETTERS = "abcdeéüß ▁\n\t0129.,!?日本語🚀яЖ"
ROUND_TRIPS = 10_000


@st.composite
def chosen(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Draw a kind of tokenizer, and tokens that texts would need."""
    kind = draw(st.sampled_from(KINDS))
    ids = sorted(both(kind).pieces.texts)
    return kind, draw(st.lists(st.sampled_from(ids), unique=True))


@given(chosen())
def test_what_is_kept_is_closed(drawn: tuple[str, list[int]]) -> None:
    """Every token that is kept is made by the part as by the whole, and of kept ones only."""
    kind, used = drawn
    of = both(kind)
    kept = choose(of.pieces, used, "", ())
    assert set(used) <= set(kept)
    assert all(of.pieces.parts(token) <= set(kept) for token in kept)
    part = of.cut(kept)
    for token in used:
        text = of.pieces.texts[token]
        whole_model, cut_model = of.whole.model, part.model
        before = [of.whole.id_to_token(t.id) for t in whole_model.tokenize(text)]
        after = [part.id_to_token(t.id) for t in cut_model.tokenize(text)]
        assert after == before or before != [text]  # bytes, and special ones, are made otherwise


@given(
    chosen(),
    st.lists(st.one_of(st.sampled_from(WORDS), st.text(LETTERS, max_size=6)), max_size=20),
    st.sampled_from(["", " ", "\n"]),
)
def test_a_text_whose_tokens_are_kept_is_tokenized_as_before(
    drawn: tuple[str, list[int]], words: list[str], between: str
) -> None:
    kind, used = drawn
    of, text = both(kind), between.join(words)
    before = of.whole.encode(text).ids
    kept = choose(of.pieces, [*used, *before], "", ())
    after = of.cut(kept).encode(text).ids
    assert [kept[i] for i in after] == before


@given(chosen(), st.lists(st.sampled_from(WORDS), max_size=30))
def test_a_text_that_happens_to_be_kept_is_tokenized_as_before(
    drawn: tuple[str, list[int]], words: list[str]
) -> None:
    kind, used = drawn
    of, text = both(kind), " ".join(words)
    kept = choose(of.pieces, used, "", ())
    before = of.whole.encode(text).ids
    if set(before) <= set(kept):
        assert [kept[i] for i in of.cut(kept).encode(text).ids] == before


@cache
def random_texts() -> list[str]:
    """Return random strings of all of Unicode, and of the letters that tokens are made of."""
    rng = random.Random(0)
    planes = (*range(0x20, 0x250), *range(0x370, 0x600), *range(0x4E00, 0x4F00), 0x1F680, 0x10FFFF)
    letters = [*LETTERS, *map(chr, planes)]
    return ["".join(rng.choices(letters, k=rng.randrange(24))) for _ in range(ROUND_TRIPS)]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_random_strings_come_back_as_from_the_whole_vocabulary(kind: str) -> None:
    of = both(kind)
    used = of.whole.encode("The quick brown fox costs 100 dollars.").ids
    kept = choose(of.pieces, used, "", ())
    assert len(kept) < len(of.pieces.texts)
    part = of.cut(kept)
    texts = random_texts()
    before = [made.ids for made in of.whole.encode_batch(texts)]
    after = [made.ids for made in part.encode_batch(texts)]
    assert part.decode_batch(after) == of.whole.decode_batch(before)
    if kind == "smollm":  # which neither normalises nor puts a space
        assert part.decode_batch(after) == texts


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_a_multiple_of_rows_where_there_are_enough(kind: str) -> None:
    of = both(kind)
    kept = choose(of.pieces, (), "", ())
    full = len(of.pieces.texts.keys() - of.pieces.marked) + len(of.pieces.marked)
    assert len(kept) % MULTIPLE == 0 or len(kept) > full - MULTIPLE
