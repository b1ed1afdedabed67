"""The footer of the keys: if the line is too short, the least important ones are hidden."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

_ANOTHER_SCREEN = "open_screen("
"""How the actions begin that all screens have."""


class Keys(Footer):
    """Shows the keys of the screen.

    Those that open another one go first, then the actions in ``least``, in this order, then the
    last ones; the help stays.
    """

    def __init__(self, *least: str) -> None:
        super().__init__(show_command_palette=False, compact=True)
        self._least = least
        self._composed: object = None

    async def recompose(self) -> None:
        """Compose again where something is different: meanwhile there is no footer."""
        bindings = self.screen.active_bindings.values()
        wanted = (self.app.size.width, [(each.binding, each.enabled) for each in bindings])
        if wanted != self._composed:
            self._composed = wanted
            await super().recompose()

    def compose(self) -> ComposeResult:
        """Give the keys that the width has room for; help and palette have them all."""
        shown: list[Widget] = list(super().compose())
        actions = [key.action for key in shown if isinstance(key, FooterKey)]
        others = [action for action in actions if action.startswith(_ANOTHER_SCREEN)]
        for action in (*reversed(others), *self._least):
            if sum(map(_width, shown)) <= self.app.size.width:
                break
            shown = [k for k in shown if not (isinstance(k, FooterKey) and k.action == action)]
        while len(shown) > 1 and sum(map(_width, shown)) > self.app.size.width:
            last = max(i for i, key in enumerate(shown) if not _is_help(key))
            del shown[last]
        yield from shown

    def on_resize(self, _: events.Resize) -> None:
        """Choose again for the new width."""
        self.refresh(recompose=True)

    def bindings_changed(self, screen: Screen[Any]) -> None:
        """Choose again among other keys.

        Always in this widget's own turn: Textual composes in the screen's, and where a resize
        comes in between, both remove the old keys first and then both mount a set of new ones.
        """
        self._bindings_ready = True
        if screen.app.app_focus and self.is_attached and screen is self.screen:
            self.call_after_refresh(self.refresh, recompose=True)


def _is_help(key: Widget) -> bool:
    return isinstance(key, FooterKey) and key.action == "help"


def _width(key: Widget) -> int:
    """Return the cells that a key takes: its name, its word, the spaces after both."""
    assert isinstance(key, FooterKey)
    return cell_len(key.key_display) + cell_len(key.description) + 2
