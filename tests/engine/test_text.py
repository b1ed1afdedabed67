"""Text that is shown while it is generated: whole characters, and stop texts never seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pitool.engine.text import TextStream


def feed_all(stream: TextStream, pieces: list[bytes]) -> list[str]:
    return [*(stream.feed(piece) for piece in pieces), stream.finish()]


@given(st.text(), st.lists(st.integers(1, 4)))
def test_any_split_of_the_bytes_gives_whole_characters(text: str, cuts: list[int]) -> None:
    data = text.encode()
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    parts = feed_all(TextStream(), [*pieces, data[at:]])
    assert "".join(parts) == text
    assert all("\ufffd" not in part for part in parts) or "\ufffd" in text


def test_an_incomplete_character_at_the_end_is_marked() -> None:
    assert feed_all(TextStream(), ["é".encode()[:1]]) == ["", "\ufffd"]


@given(
    st.text(alphabet="ab", max_size=40),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
)
def test_stop_texts_end_the_text_before_them(text: str, stop: list[str], step: int) -> None:
    stream = TextStream(stop)
    shown, fed = "", ""
    for at in range(0, len(text), step):
        shown += stream.feed(text[at : at + step].encode())
        fed += text[at : at + step]
        if stream.stopped:
            break
    shown += stream.finish()
    ends = [fed.find(s) for s in stop if s in fed]
    assert stream.stopped == bool(ends)
    assert shown == (fed[: min(ends)] if ends else fed)


def test_what_may_become_a_stop_text_is_held_back() -> None:
    stream = TextStream(["</s>"])
    assert stream.feed(b"done<") == "done"
    assert stream.feed(b"/") == ""
    assert stream.feed(b"b>") == "</b>"
