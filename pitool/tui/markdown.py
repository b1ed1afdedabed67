"""Markdown as lines of text: blocks that know how to lay themselves out at a width.

Parsing is markdown-it's, highlighting is Textual's. A block is no widget: an answer of any length
is a list of lines, of which only those in sight are drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode
from textual.content import Content, Span
from textual.highlight import highlight
from textual.style import Style

_DIM = "$foreground 30%"
_CODE = "on $surface"
_BULLETS = "•◦▪"
_HEADINGS = {"h1": "bold underline $text-primary", "h2": "bold $text-primary"}
_INLINE = {"em_open": "italic", "strong_open": "bold", "s_open": "strike"}
_INLINE_CODE = "$text-warning on $warning 10%"
_NOTHING = Content()
LEAST_COLUMN = 4
"""Cells that a column of a table has at least, however many there are."""


@dataclass(frozen=True, slots=True)
class Lead:
    """What stands left of a block: of its first line, of the others, of the empty line above.

    ``gap`` is None where no empty line is above.
    """

    first: Content = _NOTHING
    rest: Content = _NOTHING
    gap: Content | None = None

    def then(self, first: Content, rest: Content) -> Lead:
        """Return this lead with something more to its right."""
        return Lead(self.first + first, self.rest + rest, self.gap)


@dataclass(frozen=True, slots=True)
class Block:
    """A text that is wrapped; ``fill``: the style of its lines up to the right edge."""

    lead: Lead
    content: Content
    fill: str = ""

    def lines(self, width: int) -> Iterator[Content]:
        """Yield the lines, at most ``width`` cells wide where that is possible at all."""
        room = max(width - max(self.lead.first.cell_length, self.lead.rest.cell_length), 1)
        for number, line in enumerate(self.content.wrap(room)):
            if self.fill:
                line = line.pad_right(max(room - line.cell_length, 0)).stylize(self.fill)
            yield (self.lead.rest if number else self.lead.first) + line


@dataclass(frozen=True, slots=True)
class Rule:
    """A line from edge to edge."""

    lead: Lead

    def lines(self, width: int) -> Iterator[Content]:
        """Yield the line."""
        yield self.lead.first + Content.styled(
            "─" * max(width - self.lead.first.cell_length, 1), _DIM
        )


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, the first one the head; columns are as wide as they need and may be."""

    lead: Lead
    rows: tuple[tuple[Content, ...], ...]

    def lines(self, width: int) -> Iterator[Content]:
        """Yield the lines of every row, the cells wrapped where the width is too small."""
        between = Content.styled(" │ ", _DIM)
        columns = self._columns(width - self.lead.rest.cell_length)
        lead = self.lead.first
        for number, row in enumerate(self.rows):
            wrapped = [cell.wrap(column) for cell, column in zip(row, columns, strict=True)]
            for parts in zip_longest(*wrapped, fillvalue=_NOTHING):
                cells = [
                    part.pad_right(max(column - part.cell_length, 0))
                    for part, column in zip(parts, columns, strict=True)
                ]
                yield lead + between.join(cells)
                lead = self.lead.rest
            if number == 0:
                rule = "─┼─".join("─" * column for column in columns)
                yield lead + Content.styled(rule, _DIM)

    def _columns(self, width: int) -> list[int]:
        """Return the widths: what a column needs, the widest ones cut until all have room."""
        needed = [
            max(cell.cell_length for cell in column) for column in zip(*self.rows, strict=True)
        ]
        room = max(width - 3 * (len(needed) - 1), LEAST_COLUMN * len(needed))
        low, high = LEAST_COLUMN, max(needed, default=LEAST_COLUMN)
        while low < high:  # the widest column that lets all of them fit
            middle = (low + high + 1) // 2
            if sum(min(column, middle) for column in needed) <= room:
                low = middle
            else:
                high = middle - 1
        return [max(min(column, low), 1) for column in needed]


Laid = Block | Rule | Table


def blocks(text: str, *, apart: bool) -> list[Laid]:
    """Return the blocks of a Markdown text; ``apart``: an empty line is above the first one."""
    tree = SyntaxTreeNode(_parser().parse(text))
    return list(_all(tree.children, Lead(gap=_NOTHING if apart else None)))


def lines(laid: Sequence[Laid], width: int) -> Iterator[Content]:
    """Yield the lines of blocks with the empty lines between them."""
    for block in laid:
        if block.lead.gap is not None:
            yield block.lead.gap
        yield from block.lines(width)


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("gfm-like")


def _all(nodes: Sequence[SyntaxTreeNode], lead: Lead, *, tight: bool = False) -> Iterator[Laid]:
    """Yield the blocks of nodes that follow each other."""
    for node in nodes:
        yield from _blocks(node, lead)
        lead = Lead(lead.rest, lead.rest, None if tight else lead.rest)


def _blocks(node: SyntaxTreeNode, lead: Lead) -> Iterator[Laid]:
    match node.type:
        case "bullet_list" | "ordered_list":
            yield from _list(node, lead)
        case "blockquote":
            bar = Content.styled("▌ ", "$text-primary")
            yield from _all(node.children, lead.then(bar, bar))
        case "fence" | "code_block":
            yield _code(node, lead)
        case "hr":
            yield Rule(lead)
        case "table":
            rows = [row for part in node.children for row in part.children]
            head, *body = (tuple(_inline(cell) for cell in row.children) for row in rows)
            yield Table(lead, (tuple(cell.stylize("bold") for cell in head), *body))
        case "heading":
            yield Block(lead, _inline(node).stylize(_HEADINGS.get(node.tag, "bold")))
        case "paragraph":
            yield Block(lead, _inline(node))
        case _:  # HTML, which is shown as it was written
            yield Block(lead, Content(node.content.rstrip("\n")))


def _list(node: SyntaxTreeNode, lead: Lead) -> Iterator[Laid]:
    """Yield the blocks of a list: a sign before each item, everything else below its text."""
    tight = any(part.hidden for item in node.children for part in item.children)
    start = int(node.attrs.get("start", 1))
    level = sum(part.type == "bullet_list" for part in _ancestors(node))
    bullet = f"{_BULLETS[min(level, len(_BULLETS) - 1)]} "
    numbers = [f"{start + place}. " for place in range(len(node.children))]
    signs = [bullet] * len(numbers) if node.type == "bullet_list" else numbers
    width = max(map(len, signs))
    for sign, item in zip(signs, node.children, strict=True):
        marked = lead.then(Content.styled(sign.rjust(width), "$text-primary"), Content(" " * width))
        # An item that has nothing yet shows its sign all the same.
        yield from (
            _all(item.children, marked, tight=tight)
            if item.children
            else iter([Block(marked, _NOTHING)])
        )
        lead = Lead(lead.rest, lead.rest, None if tight else lead.rest)


def _ancestors(node: SyntaxTreeNode) -> Iterator[SyntaxTreeNode]:
    while (parent := node.parent) is not None:
        yield parent
        node = parent


def _code(node: SyntaxTreeNode, lead: Lead) -> Block:
    """Return a code block: highlighted, indented, on a ground of its own."""
    language = node.info.split()[0] if node.info.strip() else "text"
    indent = Content.styled("  ", _CODE)
    text = highlight(node.content.rstrip("\n"), language=language)
    return Block(lead.then(indent, indent), text, fill=_CODE)


def _inline(node: SyntaxTreeNode) -> Content:
    """Return the text below a node: emphasis, code, links that can be clicked."""
    text, spans = "", []
    opened: list[tuple[int, str | Style]] = []
    tokens = [token for child in node.children for token in _inline_tokens(child)]
    for token in tokens:
        start = len(text)
        if token.nesting > 0:
            opened.append((start, _opening(token)))
        elif token.nesting < 0:
            begun, style = opened.pop()
            spans.append(Span(begun, start, style))
        elif token.type == "code_inline":
            text += token.content
            spans.append(Span(start, len(text), _INLINE_CODE))
        else:
            text += _plain(token)
    return Content(text, spans)


def _inline_tokens(node: SyntaxTreeNode) -> Sequence[Token]:
    return (node.token.children or []) if node.type == "inline" and node.token else []


def _opening(token: Token) -> str | Style:
    if token.type == "link_open":
        return Style.from_meta({"@click": f"link({token.attrs.get('href', '')!r})"})
    return _INLINE.get(token.type, "")


def _plain(token: Token) -> str:
    """Return the text of a token that marks nothing."""
    match token.type:
        case "softbreak":
            return " "
        case "hardbreak":
            return "\n"
        case "image":
            return f"[{token.content or 'image'}: {token.attrs.get('src', '')}]"
        case _:
            return re.sub(r"\s+", " ", token.content)
