"""What a slash command is: its words, how a line is read and completed. The table is a screen's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pitool.catalog.tables import nearest
from pitool.errors import UsageError

Target = TypeVar("Target")


def _nothing(_: object) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Command(Generic[Target]):
    """One command: ``run`` does it to a target with what was written after the name.

    ``arguments``: how they are shown in the help; ``choices`` are those to complete; ``key``: the
    key that does the same.
    """

    name: str
    arguments: str
    help: str
    run: Callable[[Target, str], None]
    choices: Callable[[Target], Iterable[str]] = _nothing
    key: str = ""

    @property
    def usage(self) -> str:
        """The command as it is written: ``/save [FILE]``."""
        return f"/{self.name} {self.arguments}".rstrip()


def is_command(text: str) -> bool:
    """Tell a command from a question; a question that begins with ``//`` loses one of them."""
    return text.startswith("/") and not text.startswith("//")


def parse(text: str, table: Sequence[Command[Target]]) -> tuple[Command[Target], str]:
    """Return the command of a line and its argument; UsageError for an unknown one."""
    name, _, argument = text[1:].partition(" ")
    for command in table:
        if command.name == name.strip():
            return command, argument.strip()
    hint = nearest(name, [command.name for command in table]) if name else "/help lists them"
    raise UsageError(f"there is no command /{name}", f"{hint} (// sends it as a question)")


@dataclass(frozen=True, slots=True)
class Completion:
    """A text that the line may become, and what it would do."""

    text: str
    help: str


def completions(
    text: str, table: Sequence[Command[Target]], target: Target
) -> Sequence[Completion]:
    """Return what a line may become: commands, after a whole name its arguments."""
    if not is_command(text) or "\n" in text:
        return ()
    name, space, argument = text[1:].partition(" ")
    if not space:
        found = [command for command in table if command.name.startswith(name)]
        return [Completion(f"/{c.name}{' ' if c.arguments else ''}", c.help) for c in found]
    for command in table:
        if command.name == name:
            wanted = argument.casefold()
            return [
                Completion(f"/{name} {choice}", "")
                for choice in command.choices(target)
                if choice.casefold().startswith(wanted) and choice != argument
            ] or [Completion(text, f"{command.usage}  {command.help}")]
    return ()
