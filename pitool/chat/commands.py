"""The slash commands as data: name, arguments, help, key; how a line is read and completed.

Help, completion and palette of every front end come from this table. A row's ``do_NAME`` is what
does it, in ``CommandHandlers`` or in the handlers of a front end; a command without a handler
does not exist in that front end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pitool.catalog.bundles import Bundle
from pitool.catalog.files import expand
from pitool.catalog.model_argument import find_runnable
from pitool.catalog.tables import nearest
from pitool.chat import parameters
from pitool.chat.library import write_export
from pitool.chat.session import Session
from pitool.chat.status import WhenFull, figures_table
from pitool.chat.text import Attachment, attach
from pitool.errors import PitoolError, UsageError
from pitool.store.export import file_name
from pitool.store.personas import Persona, Personas


@dataclass(frozen=True, slots=True)
class Command:
    """One command; ``arguments`` and ``key`` are how they are shown, the key does the same.

    ``choices``: ``choose_CHOICES`` of the handlers gives what its argument is completed to;
    ``needs``: it cannot be done without an argument.
    """

    name: str
    arguments: str
    help: str
    key: str = ""
    choices: str = ""
    needs: bool = False

    @property
    def usage(self) -> str:
        """The command as it is written: ``/save [FILE]``."""
        return f"/{self.name} {self.arguments}".rstrip()


COMMANDS: list[Command] = [
    Command("help", "", "list the commands", "F1"),
    Command("model", "[NAME [QUANT]]", "switch the model", "F2", "models"),
    Command("unload", "", "unload the model, free its memory", "F9"),
    Command("system", "[TEXT|off]", "set the system prompt"),
    Command("persona", "[NAME]", "use a named system prompt; save NAME keeps one", "", "personas"),
    Command(
        "set", "[NAME VALUE|PRESET]", "set sampling and what to do when full", "", "parameters"
    ),
    Command("again", "", "answer the last question again", "^R"),
    Command("edit", "", "edit an earlier question", "F4"),
    Command("variant", "[N]", "show another version of an answer or a question", "^B"),
    Command("continue", "", "continue an unfinished answer", "^G"),
    Command("stop", "", "stop the running answer", "Esc"),
    Command("copy", "[code [N]]", "copy the answer or a code block", "^Y", "copies"),
    Command("attach", "FILE", "send a text file with the question", "", "files", needs=True),
    Command("think", "", "show or hide the thinking", "^T"),
    Command("new", "", "start a new conversation", "^N"),
    Command("rename", "[TITLE]", "name the conversation"),
    Command("save", "[FILE]", "export as .md or .json"),
    Command("clear", "", "empty the conversation"),
    Command("delete", "", "put the conversation into the trash"),
    Command("stats", "", "show the statistics of the last answer"),
    Command("quit", "", "quit pitool", "^Q"),
]


def is_command(text: str) -> bool:
    """Tell a command from a question; a question that begins with ``//`` loses one of them."""
    return text.startswith("/") and not text.startswith("//")


def as_question(text: str) -> str:
    """Return what a line that is no command asks."""
    return text.removeprefix("/") if text.startswith("//") else text


def parse(text: str, table: Sequence[Command]) -> tuple[Command, str]:
    """Return the command of a line and its argument; UsageError for an unknown one."""
    name, _, argument = text[1:].partition(" ")
    for command in table:
        if command.name == name.strip():
            return command, argument.strip()
    hint = nearest(f"/{name}", [f"/{c.name}" for c in table], "use /help to list the commands")
    raise UsageError(f"unknown command /{name}", f"{hint} (start with // to send it as a question)")


@dataclass(frozen=True, slots=True)
class Completion:
    """A text that the line may become, and what it would do."""

    text: str
    help: str


Choices = Callable[[Command], Iterable[str]]
"""Returns what the argument of a command may be, nothing where anything may."""


def completions(text: str, table: Sequence[Command], choices: Choices) -> Sequence[Completion]:
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
                for choice in choices(command)
                if choice.casefold().startswith(wanted) and choice != argument
            ] or [Completion(text, f"{command.usage}  {command.help}")]
    return ()


Bundles = Callable[[], tuple[list[Bundle], list[PitoolError]]]
"""Lists the bundles of this machine, and why the rest cannot be read."""

Handler = Callable[[str], object]
"""Does a command with what was written after its name."""


class CommandHandlers:
    """Does what can be done without a screen; a front end adds to it and shows what is said."""

    def __init__(
        self, session: Session, bundles: Bundles, table: Sequence[Command] = COMMANDS
    ) -> None:
        self.session, self.bundles = session, bundles
        self.personas = Personas()
        self.attached: Attachment | None = None
        self.table = tuple(command for command in table if self.handler(command))

    def handler(self, command: Command) -> Handler | None:
        """Return what does a command, None where nothing does it here."""
        found: Handler | None = getattr(self, f"do_{command.name}", None)
        return found

    def do(self, line: str) -> None:
        """Do what a line says; PitoolError where that cannot be."""
        command, argument = parse(line, self.table)
        handler = self.handler(command)
        assert handler is not None  # else it is not in the table
        handler(argument)

    def choices(self, command: Command) -> Iterable[str]:
        """Return what the argument of a command is completed to."""
        choose = getattr(self, f"choose_{command.choices}", None)
        return choose() if choose is not None else ()

    # What a front end does in its own way.

    def say(self, text: str) -> None:
        """Show a short message."""
        raise NotImplementedError

    def show_table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Show aligned pairs of words under a title."""
        raise NotImplementedError

    # The commands.

    def do_help(self, _: str) -> None:
        """List the commands."""
        rows = [(c.usage, f"{c.help}{self._key(c)}") for c in self.table]
        self.show_table("Commands (Tab completes)", rows)

    def _key(self, command: Command) -> str:
        return f" [{command.key}]" if command.key else ""

    def do_model(self, words: str) -> None:
        """Load another model."""
        if not words:
            known = ", ".join(self.choose_models()) or "a GGUF file or a bundle"
            raise UsageError("/model needs a name", f"use /model NAME [QUANT]; available: {known}")
        name, _, quantisation = words.rpartition(" ")
        if not name:
            name, quantisation = words, ""
        self.session.load(find_runnable(expand(name), quantisation or None))

    def choose_models(self) -> Iterator[str]:
        """Return the artifacts of this machine, by bundle and quantisation."""
        for bundle in self.bundles()[0]:
            for artifact in bundle.manifest.artifacts:
                yield f"{bundle.path.name} {artifact.quantisation}"

    def do_unload(self, _: str) -> None:
        """End the worker."""
        self.session.unload()

    def do_system(self, text: str) -> None:
        """Change the system prompt."""
        self.set_system("" if text == parameters.NONE else text)

    def set_system(self, text: str) -> None:
        """Change the system prompt, and say so."""
        self.session.set_system(text)
        self.say("Used from the next answer on." if text else "No system prompt is set.")

    def do_persona(self, words: str) -> None:
        """Use a persona, list them, keep what is set as one, or delete one."""
        verb, _, name = words.partition(" ")
        conversation = self.session.conversation
        if not words:
            known = self.personas.all().items()
            rows = [(name, _first_line(each.system)) for name, each in known]
            rows = rows or [("none yet", "")]
            rows += [("", ""), ("/persona NAME", "use one")]
            rows += [("/persona save NAME", "keep the present system prompt and sampling as one")]
            self.show_table("Personas", rows)
        elif verb == "save" and name:
            self.personas.save(name, Persona(conversation.system, conversation.sampling))
            self.say(f"Saved as {name}: /persona {name} uses it.")
        elif verb == "delete" and name:
            self.personas.delete(name)
            self.say(f"Deleted the persona {name}.")
        else:
            self.use_persona(words)

    def use_persona(self, name: str) -> None:
        """Take system prompt and sampling from a persona, and say so."""
        found = self.personas.find(name)
        self.session.set_system(found.system)
        self.session.set_sampling(found.sampling)
        self.say(f"From the next answer on: {name}.")

    def choose_personas(self) -> list[str]:
        """Return what ``/persona`` takes."""
        return [*self.personas.all(), "save ", "delete "]

    def do_set(self, words: str) -> None:
        """Change how answers are sampled, or what happens when the context is full."""
        session = self.session
        sampling = session.conversation.sampling
        name, _, value = words.partition(" ")
        if not name:
            preset = parameters.preset_of(sampling)
            rows = [(f"{name} {value}", what) for name, value, what in parameters.shown(sampling)]
            rows.append((f"full {session.status.when_full}", "drop the oldest turns, or stop"))
            rows += [("", ""), ("presets", ", ".join(parameters.PRESETS))]
            rows.append(("current", preset or "custom"))
            self.show_table("Sampling: /set NAME VALUE, or /set PRESET", rows)
        elif name == "full":
            policies: dict[str, WhenFull] = {"drop": "drop", "stop": "stop"}
            if value not in policies:
                raise UsageError(
                    "/set full needs drop or stop", "use /set full drop, or /set full stop"
                )
            session.set_when_full(policies[value])
        else:
            session.set_sampling(parameters.change(sampling, name, value.strip()))
            self.say(f"Set: {words}")

    def choose_parameters(self) -> list[str]:
        """Return what ``/set`` takes."""
        return [*parameters.names(), "full drop", "full stop"]

    def do_again(self, _: str) -> None:
        """Answer the last question once more."""
        if not self.session.again():
            self.cannot("There is no question to answer again.")

    def do_variant(self, words: str) -> None:
        """Go on with another version of the newest row that has several, the next or by number."""
        row = self.session.conversation.last_varied()
        found = self.session.conversation.variant(row) if row is not None else None
        if row is None or found is None:
            self.cannot("There is one version only: /again and /edit make others.")
            return
        place, count = found
        if words and not (words.isdecimal() and 0 < int(words) <= count):
            raise UsageError(f"there is no version {words}", f"use a number from 1 to {count}")
        if not self.session.turn(row, int(words) - place if words else 1):
            self.cannot("")

    def do_continue(self, _: str) -> None:
        """Go on with an answer that was cut."""
        if not self.session.resume():
            self.cannot("The last answer is already complete.")

    def cannot(self, why: str) -> None:
        """Say why something cannot be done now."""
        busy = self.session.status.busy
        self.say("Still running: press Esc to stop it, then try again." if busy else why)

    def do_attach(self, name: str) -> None:
        """Have a text file sent with the next question."""
        if not name:
            raise UsageError("/attach needs a file", "use /attach FILE")
        self.attached = attach(expand(name))

    def choose_files(self) -> Iterable[str]:
        """Return the files of the folder in which pitool was started."""
        try:
            return sorted(path.name for path in Path().iterdir() if path.is_file())[:200]
        except OSError:
            return ()

    def with_attachment(self, question: str) -> str:
        """Return the question with the file that was attached before it."""
        return self.attached.before(question) if self.attached else question

    def do_new(self, _: str) -> None:
        """Begin a new conversation."""
        self.session.new()

    def do_save(self, name: str) -> None:
        """Export the conversation to a new file."""
        self.export(self.export_path(name))

    def export_path(self, name: str) -> Path:
        """Return where the conversation is to be exported to; UsageError if it is empty."""
        conversation = self.session.conversation
        if not conversation.rows:
            raise UsageError("there is nothing to save yet", "ask something first")
        return expand(name or file_name(conversation))

    def export(self, path: Path, *, replace: bool = False) -> None:
        """Write the conversation to a file, and say so."""
        write_export(self.session.conversation, path, replace=replace)
        self.say(f"Written to {path}")

    def do_clear(self, _: str) -> None:
        """Empty the conversation."""
        if not self.session.clear():
            self.say("Still running: press Esc to stop it, then try again.")

    def do_stats(self, _: str) -> None:
        """Show the figures of the last answer."""
        self.show_table("The last answer", figures_table(self.session.status))


def _first_line(text: str) -> str:
    """Return the beginning of a system prompt, for a list."""
    line = text.partition("\n")[0]
    return line if line == text else f"{line} …"
