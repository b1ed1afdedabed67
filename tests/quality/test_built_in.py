"""Of the built-in texts a vocabulary gets the languages that it knows."""

from __future__ import annotations

from pitool.quality import texts


def words(text: str) -> list[int]:
    return [len(word) for word in text.split()]


def test_every_language_takes_its_turn() -> None:
    everything = texts.built_in(words, 10**9)
    paragraphs = everything.split("\n\n")
    assert len(paragraphs) == len(set(paragraphs)) == sum(map(len, texts.languages().values()))
    first = paragraphs[: 3 + 2 + len(texts.languages()) - 2]
    assert {name for name, own in texts.languages().items() if set(own) & set(first)} == set(
        texts.languages()
    )


def test_no_more_than_is_asked_for() -> None:
    found = words(texts.built_in(words, 500))
    longest = max(len(p.split()) for own in texts.languages().values() for p in own)
    assert 500 <= len(found) < 500 + longest


def test_a_language_that_is_spelled_in_pieces_is_left_out() -> None:
    """UTF-8 bytes as tokens: one a letter in English, three in Chinese."""
    found = texts.built_in(lambda text: list(text.encode()), 10**9)
    assert set(texts.languages()["en"]) <= set(found.split("\n\n"))
    assert not set(texts.languages()["zh"]) & set(found.split("\n\n"))


def test_a_vocabulary_that_knows_no_language_gets_the_nearest() -> None:
    found = texts.built_in(lambda text: [0] * (3 * len(text.encode())), 10**9)
    assert found
    assert "你" not in found
