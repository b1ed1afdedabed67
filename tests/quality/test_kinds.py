"""Chat, prose and code apart: which tokens are read of each, and figures by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.convert.reference import Reference
from pitool.engine.base import ChatPrompt, Message, Prompt
from pitool.errors import BadInput
from pitool.quality import compact, kinds, texts
from pitool.quality.comparison import compare, scored_rows
from pitool.quality.kinds import Kind


class Letters:
    """Its tokens are the letters of a text; a conversation is its turns after one another."""

    def __init__(self, logits: NDArray[np.float32] | None = None, *, chats: bool = True) -> None:
        self._logits, self._chats = logits, chats

    def tokenize(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return [ord(letter) for letter in prompt]
        if not self._chats:
            raise BadInput("the template is at fault", "mend it")
        assert not isinstance(prompt, ChatPrompt)
        turns = [turn for turn in prompt if isinstance(turn, Message)]
        return [ord(letter) for turn in turns for letter in f"<{turn.role}>{turn.content}"]

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        assert self._logits is not None
        return self._logits[: len(ids)]


def text_of(windows: Sequence[Sequence[int]]) -> str:
    return "".join(map(chr, (i for window in windows for i in window)))


def test_each_kind_is_its_own_text() -> None:
    found = kinds.kind_windows(Letters(), 1000, 250)
    assert list(found) == [kinds.CHAT, kinds.PROSE, kinds.CODE]
    for windows in found.values():
        assert [len(window) for window in windows] == [250] * 4
    assert text_of(found["chat"]).startswith("<user>My bread comes out flat")
    assert "<assistant>" in text_of(found["chat"])
    languages = texts.languages()
    assert text_of(found["prose"]).startswith(languages["en"][0][:200])
    assert text_of(found["code"]).startswith(languages["code"][0][:200])


def test_a_short_part_is_one_window() -> None:
    found = kinds.kind_windows(Letters(), 40, 512)
    assert {name: [len(w) for w in windows] for name, windows in found.items()} == {
        "chat": [40], "prose": [40], "code": [40],
    }  # fmt: skip


def test_a_template_at_fault_leaves_out_the_chat() -> None:
    assert list(kinds.kind_windows(Letters(chats=False), 100, 100)) == ["prose", "code"]


def test_talks_alternate_and_end_with_an_answer() -> None:
    assert len(texts.talks()) >= 10
    for talk in texts.talks():
        assert [role for role, _ in talk] == ["user", "assistant"] * (len(talk) // 2)
        assert all(text == text.strip() and text for _, text in talk)
    assert sum(len(text) for talk in texts.talks() for _, text in talk) > 6000


def test_the_figures_of_a_kind_are_those_of_its_own_rows() -> None:
    """Two tokens: p = (1/2, 1/2) against q = (3/4, 1/4) is ln(2 / sqrt 3) in each row."""
    even, uneven = np.log([[0.5, 0.5]] * 8), np.log([[0.75, 0.25]] * 8)
    base = even.astype(np.float32)
    ids = [0, 1] * 4
    reference = Reference(
        "text", [ids], [base[scored_rows(ids)]], compact.make([ids], [base]), "m", verified=True,
        kinds=(Kind("chat", [ids, ids], [base[scored_rows(ids)]] * 2),),
    )  # fmt: skip
    found = compare(Letters(uneven.astype(np.float32)), reference, "it")
    expected = np.log(2 / np.sqrt(3))
    (kind,) = found.kinds
    assert (kind.name, kind.tokens, kind.top1) == ("chat", 6, 1.0)
    assert (kind.mean_kl, kind.median_kl, kind.p99_kl) == pytest.approx((expected,) * 3, abs=1e-6)
    assert found.divergence.tokens == 3
