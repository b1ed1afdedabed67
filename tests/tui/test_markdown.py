"""Markdown laid out as lines, and the widget that shows it while it grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Offset, Region
from textual.selection import Selection

from pitool.chat.text import MOST_CHARACTERS, PIECE_CHARACTERS
from pitool.tui import markdown
from pitool.tui.markdown import blocks
from pitool.tui.widgets.prose import Prose
from tests.chat.test_text import BLOCKS, words


def plain(text: str, width: int = 40) -> list[str]:
    """Return the lines of a text without the blanks at their ends."""
    return [line.plain.rstrip() for line in markdown.lines(blocks(text, apart=False), width)]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("One *two*\n`three`.", ["One two three."]),
        ("# Head\n\ntext\n\n---", ["Head", "", "text", "", "─" * 40]),
        ("text  \nbroken", ["text", "broken"]),
        ("- one\n- two\n  - nested\n", ["• one", "• two", "  ◦ nested"]),
        ("- one\n\n- two\n", ["• one", "", "• two"]),
        ("-", ["•"]),
        ("9. nine\n10. ten\n", [" 9. nine", "10. ten"]),
        ("> quoted\n>\n> - item\n", ["▌ quoted", "▌", "▌ • item"]),
        ("```python\ndef f():\n\n    return 1\n```", ["  def f():", "", "      return 1"]),
        ("<br>\n\nA <b>word</b>", ["<br>", "", "A <b>word</b>"]),
        ("![a cat](cat.png)", ["[a cat: cat.png]"]),
        (
            "| a | long |\n|---|---|\n| 1 | 22 |\n",
            ["a │ long", "──┼─────", "1 │ 22"],
        ),
    ],
)
def test_blocks(text: str, lines: list[str]) -> None:
    assert plain(text) == lines


def test_an_item_is_indented_below_its_sign() -> None:
    assert plain("1. " + "word " * 12, 20) == [
        "1. word word word",
        "   word word word",
        "   word word word",
        "   word word word",
    ]


def test_a_table_that_is_too_wide_wraps_its_widest_column() -> None:
    table = f"| name | text |\n|---|---|\n| x | {'word ' * 8}|\n"
    assert plain(table, 20) == [
        "name │ text",
        "─────┼──────────────",
        "x    │ word word",
        "     │ word word",
        "     │ word word",
        "     │ word word",
    ]


@given(st.lists(st.sampled_from(BLOCKS), max_size=8), st.integers(12, 100))
def test_lines_keep_all_words_within_the_width(parts: list[str], width: int) -> None:
    text = "".join(parts)
    found = list(markdown.lines(blocks(text, apart=False), width))
    assert all(line.cell_length <= width for line in found)
    shown = "".join("".join(line.plain for line in found).split())
    assert all(word.replace("*", "") in shown for word in words(text))


@given(st.text(max_size=400), st.integers(1, 60))
def test_any_text_has_lines(text: str, width: int) -> None:
    for line in markdown.lines(blocks(text, apart=True), width):
        assert "\n" not in line.plain


def test_styles_of_inline_text() -> None:
    (block,) = blocks("a **bold *both*** [link](http://x/'y')", apart=False)
    assert isinstance(block, markdown.Block)
    text = block.content
    found = {(text.plain[span.start : span.end], str(span.style)) for span in text.spans}
    assert ("bold both", "bold") in found
    assert ("both", "italic") in found
    metas = [getattr(span.style, "meta", {}) for span in text.spans]
    assert {"@click": "link(\"http://x/'y'\")"} in metas


class ProseApp(App[None]):
    """A text in a view that scrolls."""

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Prose()


ANSWER = "".join(BLOCKS) * 4


async def test_growing_ends_like_shown_at_once_also_after_a_resize() -> None:
    app = ProseApp()
    async with app.run_test(size=(60, 20)) as pilot:
        grown = app.query_one(Prose)
        for end in range(0, len(ANSWER), 7):
            grown.become(ANSWER[: end + 7])
            if end % 70 == 0:
                await pilot.pause()
        grown.settle()
        await pilot.pause()
        whole = Prose()
        await app.query_one(VerticalScroll).mount(whole)
        whole.become(ANSWER)
        for width in (60, 33, 80):
            await pilot.resize_terminal(width, 20)
            await pilot.pause()
            assert grown.size == whole.size
            for y in range(grown.size.height):
                assert grown.render_line(y).text == whole.render_line(y).text
        assert grown.source == ANSWER


@pytest.mark.thorough
async def test_a_text_that_grows_fast_is_laid_out_once_for_several_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    laid_out = 0
    refresh = Prose.refresh

    def counting(self: Prose, *regions: Region, layout: bool = False, **others: bool) -> Prose:
        nonlocal laid_out
        laid_out += layout
        return refresh(self, *regions, layout=layout, **others)

    app = ProseApp()
    async with app.run_test(size=(60, 20)) as pilot:
        prose = app.query_one(Prose)
        prose.become("A line.")
        await pilot.pause()
        monkeypatch.setattr(Prose, "refresh", counting)
        for number in range(31):
            prose.append(f"\n\nLine {number}.")
            await pilot.pause()
            strips = [prose.render_line(y).text.strip() for y in range(prose.size.height)]
            assert f"Line {number}." in strips, "what came is on the screen"
        assert laid_out < 12
        assert prose.size.height > 63
        prose.settle()
        await pilot.pause()
        assert prose.size.height == 63


@pytest.mark.thorough
@pytest.mark.parametrize(
    "text",
    [
        ANSWER * 60,
        "word " * 8000,
        "x" * 40000,
        "one line\n" * 5000,
        "```python\n" + "x = 1\n" * 6000,
        "- item\n" * 5000,
    ],
    ids=["blocks", "paragraph", "no blank", "lines", "code", "list"],
)
async def test_a_step_costs_the_same_however_long_the_text(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []

    def counted(piece: str, *, apart: bool) -> list[markdown.Laid]:
        parsed.append(len(piece))
        return blocks(piece, apart=apart)

    monkeypatch.setattr(markdown, "blocks", counted)
    app = ProseApp()
    async with app.run_test(size=(80, 24)) as pilot:
        shown = app.query_one(Prose)
        shown.become(text[:30000])
        await pilot.pause()
        widgets = len(app.query("*"))
        parsed.clear()
        for end in range(30000, 32000, 20):
            shown.become(text[:end])
        await pilot.pause()
        assert len(app.query("*")) == widgets
        assert len(parsed) <= 110
        assert max(parsed) <= MOST_CHARACTERS + PIECE_CHARACTERS


async def test_a_text_that_does_not_go_on_is_shown_anew() -> None:
    app = ProseApp()
    async with app.run_test(size=(60, 20)) as pilot:
        shown = app.query_one(Prose)
        shown.become("thinking of it")
        await pilot.pause()
        shown.become("The answer.")
        await pilot.pause()
        assert shown.size.height == 1
        assert shown.render_line(0).text.strip() == "The answer."


async def test_selection() -> None:
    app = ProseApp()
    async with app.run_test(size=(24, 10)) as pilot:
        shown = app.query_one(Prose)
        shown.become("one two three four five six\n\n- seven\n- eight")
        await pilot.pause()
        everything, _ = shown.get_selection(Selection(None, None))
        assert everything == "one two three four\nfive six\n\n• seven\n• eight"
        part, _ = shown.get_selection(Selection(Offset(5, 1), Offset(3, 3)))
        assert part == "six\n\n• s"
        await pilot.mouse_down(shown, offset=(6, 0))
        await pilot.hover(shown, offset=(9, 1))
        await pilot.mouse_up(shown, offset=(9, 1))
        assert app.screen.get_selected_text() == "two three four\nfive six"


async def test_links_are_said() -> None:
    said: list[str] = []

    class Listening(ProseApp):
        def on_prose_link(self, event: Prose.Link) -> None:
            said.append(event.target)

    app = Listening()
    async with app.run_test(size=(60, 10)) as pilot:
        app.query_one(Prose).become("Look [here](https://example.org/a'b).")
        await pilot.pause()
        await pilot.click(Prose, offset=(8, 0))
        await pilot.pause()
        assert said == ["https://example.org/a'b"]
