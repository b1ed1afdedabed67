"""Screens: each lays out widgets, binds keys and hands what the user does to the session.

``SCREENS`` is the one table of those that open from everywhere: keys, footer, command palette,
slash commands and help come from it. Each is made with the ``Context`` and the words after its
slash command, and imported when it is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pitool.chat.commands import Command

if TYPE_CHECKING:
    from textual.screen import Screen


@dataclass(frozen=True, slots=True)
class ScreenEntry:
    """A screen: ``name`` is its slash command, ``opens`` the ``module:Class`` of it.

    ``keys`` as Textual writes them; ``footer``: whether every screen shows the key.
    """

    name: str
    opens: str
    title: str
    help: str
    keys: str = ""
    footer: bool = False
    arguments: str = ""

    @property
    def action(self) -> str:
        """What opens it, as an action of the app."""
        return f"open_screen({self.name!r})"

    @property
    def command(self) -> Command:
        """The slash command that opens it."""
        key = self.keys.partition(",")[0]
        shown = f"^{key[-1].upper()}" if key.startswith("ctrl+") else key.upper()
        return Command(self.name, self.arguments, self.help, shown)

    def load(self) -> Callable[..., Screen[Any]]:
        """Import the class."""
        module, _, name = self.opens.partition(":")
        found: Callable[..., Screen[Any]] = getattr(importlib.import_module(module), name)
        return found


SCREENS: tuple[ScreenEntry, ...] = (
    ScreenEntry(
        "models", "pitool.tui.screens.models:ModelsScreen", "Models",
        "load, verify and delete models", "f2,ctrl+l",
    ),
    ScreenEntry(
        "pull", "pitool.tui.screens.pull:PullScreen", "Get a model",
        "download a ready model that fits this machine",
    ),
    ScreenEntry(
        "chats", "pitool.tui.screens.chats:ChatsScreen", "Conversations",
        "search the conversations", "f3,ctrl+o", arguments="[WORDS]",
    ),
    ScreenEntry(
        "bench", "pitool.tui.screens.bench:BenchScreen", "Bench",
        "measure prefill and decode", "f5", footer=True,
    ),
    ScreenEntry(
        "device", "pitool.tui.screens.device:DeviceScreen", "Device",
        "sensors, memory and the doctor's findings", "f8", footer=True,  # f6, f7: a text area's
    ),
    ScreenEntry(
        "compare", "pitool.tui.screens.compare:CompareScreen", "Compare",
        "the same prompt on two artifacts",
    ),
)  # fmt: skip
