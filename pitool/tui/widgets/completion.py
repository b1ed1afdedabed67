"""The list above the prompt: the completions of a slash command."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from pitool.chat.commands import Completion

LINES = 6


class CompletionList(Static):
    """Shows a few completions, the one that Tab takes marked."""

    DEFAULT_CSS = """
    CompletionList {
        height: auto; margin: 0 1; padding: 0 1; background: $surface; display: none;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._found: Sequence[Completion] = ()
        self._place = 0

    def show(self, found: Sequence[Completion]) -> None:
        """Show other completions, the first one marked."""
        self._found, self._place = found, 0
        self.display = bool(found)
        self._draw()

    def move(self, step: int) -> None:
        """Mark another one."""
        self._place = (self._place + step) % max(len(self._found), 1)
        self._draw()

    @property
    def marked(self) -> Completion | None:
        """The completion that is marked."""
        return self._found[self._place] if self._found else None

    def _draw(self) -> None:
        if not self._found:
            return
        first = min(max(self._place - LINES + 1, 0), max(len(self._found) - LINES, 0))
        part = self._found[first : first + LINES]
        width = max(len(one.text) for one in self._found) + 2
        lines = [
            Content.assemble(
                ("› " if one is self.marked else "  ", "$primary"),
                (one.text.ljust(width), "bold" if one is self.marked else ""),
                (one.help, "$foreground 60%"),
            )
            for one in part
        ]
        if (more := len(self._found) - len(part)) > 0:
            lines.append(
                Content.styled(
                    f"  {more} more: Up and Down to move, Tab to complete", "$foreground 60%"
                )
            )
        self.update(Content("\n").join(lines))
