"""The slash commands of the chat: the one table of help, completion and palette."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pitool.catalog.bundles import find_runnable
from pitool.chat import figures, parameters
from pitool.chat.attachment import attach
from pitool.chat.commands import Command
from pitool.chat.shelf import write_export
from pitool.chat.status import WhenFull
from pitool.chat.thinking import split
from pitool.errors import PitoolError, UsageError
from pitool.report.numbers import format_count
from pitool.store.export import code_blocks, file_name
from pitool.tui.screens.dialogs import AskLines, AskText, Confirm, Page

if TYPE_CHECKING:
    from pitool.chat.shelf import Shelf
    from pitool.tui.screens.chat import ChatScreen


def _model(chat: ChatScreen, words: str) -> None:
    if not words:
        chat.app.action_models()
        return
    name, _, quantisation = words.rpartition(" ")
    if not name:
        name, quantisation = words, ""
    chat.session.load(find_runnable(Path(name).expanduser(), quantisation or None))


def _models(chat: ChatScreen) -> Iterator[str]:
    for bundle in chat.app.bundles()[0]:
        for artifact in bundle.manifest.artifacts:
            yield f"{bundle.path.name} {artifact.quantisation}"


def _system(chat: ChatScreen, text: str) -> None:
    def change(new: str | None) -> None:
        if new is not None:
            chat.session.set_system(new)
            chat.say("The next answer follows it." if new else "There is no system prompt.")

    if text:
        change("" if text == parameters.NONE else text)
    else:
        question = "The system prompt, which every question is sent with:"
        chat.app.push_screen(AskLines(question, chat.session.conversation.system), change)


def _set(chat: ChatScreen, words: str) -> None:
    session = chat.session
    sampling = session.conversation.sampling
    name, _, value = words.partition(" ")
    if not name:
        preset = parameters.preset_of(sampling)
        rows = [(f"{name} {value}", range_) for name, value, range_ in parameters.shown(sampling)]
        rows.append((f"full {session.status.when_full}", "drop the oldest turns, or stop"))
        rows += [("", ""), ("presets", ", ".join(parameters.PRESETS)), ("present", preset or "own")]
        chat.app.push_screen(Page("Sampling: /set NAME VALUE, or /set PRESET", rows))
    elif name == "full":
        policies: dict[str, WhenFull] = {"drop": "drop", "stop": "stop"}
        if value not in policies:
            raise UsageError("full needs drop or stop", "drop leaves out the oldest turns")
        session.set_when_full(policies[value])
    else:
        session.set_sampling(parameters.change(sampling, name, value.strip()))
        chat.say(f"Set: {words}")


def _parameters(_: ChatScreen) -> list[str]:
    return [*parameters.names(), "full drop", "full stop"]


def _clear(chat: ChatScreen, _: str) -> None:
    def clear(yes: bool | None) -> None:
        if yes and not chat.session.clear():
            chat.say("Esc stops what is running; then it can be cleared.")

    question = "Remove all questions and answers of this conversation? /new would keep them."
    chat.app.push_screen(Confirm(question, "Clear"), clear)


def _save(chat: ChatScreen, name: str) -> None:
    conversation = chat.session.conversation
    if not conversation.rows:
        raise UsageError("there is nothing to save yet", "ask something first")
    path = Path(name or file_name(conversation)).expanduser()

    def write(yes: bool | None) -> None:
        if yes:
            chat.tell_errors(lambda: write_export(conversation, path))
            if path.exists():
                chat.say(f"Written to {path}")

    if path.exists():
        chat.app.push_screen(Confirm(f"{path} exists. Replace it?", "Replace"), write)
    else:
        write(True)


def _shelf(chat: ChatScreen) -> Shelf:
    if (shelf := chat.app.shelf) is None:
        raise PitoolError("conversations are not kept here", "/save writes this one to a file")
    return shelf


def _rename(chat: ChatScreen, title: str) -> None:
    shelf, conversation = _shelf(chat), chat.session.conversation

    def rename(new: str | None) -> None:
        if new is not None:
            chat.tell_errors(lambda: shelf.rename(conversation.key, new))
            chat.show_title()

    if title:
        rename(title)
    else:
        chat.app.push_screen(AskText("A new name for it:", conversation.name), rename)


def _delete(chat: ChatScreen, _: str) -> None:
    shelf, conversation = _shelf(chat), chat.session.conversation

    def delete(yes: bool | None) -> None:
        if yes:
            chat.tell_errors(lambda: shelf.delete(conversation.key))

    name = conversation.name or "this conversation"
    chat.app.push_screen(Confirm(f"Delete “{name}”?", "Delete"), delete)


def _copy(chat: ChatScreen, words: str) -> None:
    answer = chat.session.conversation.last_answer()
    if answer is None or not answer.text:
        raise UsageError("there is no answer to copy yet", "ask something first")
    kind, _, number = words.partition(" ")
    text, what = split(answer.text).answer, "The answer"
    if kind == "code":
        blocks = code_blocks(text)
        place = int(number) if number.strip().isdecimal() else len(blocks)
        if not 1 <= place <= len(blocks):
            has = format_count(len(blocks), "code block")
            raise UsageError(f"the answer has {has}", "/copy takes all of it")
        text, what = blocks[place - 1], f"Code block {place}"
    elif kind:
        raise UsageError(f"/copy cannot take {kind!r}", "/copy, /copy code or /copy code 2")
    chat.app.copy_to_clipboard(text)
    chat.say(f"{what} is on the clipboard of your terminal, if it knows OSC 52.")


def _attach(chat: ChatScreen, name: str) -> None:
    if not name:
        raise UsageError("/attach needs a file", "/attach notes.txt")
    chat.attach(attach(Path(name).expanduser()))


def _files(_: ChatScreen) -> Iterable[str]:
    try:
        return sorted(path.name for path in Path().iterdir() if path.is_file())[:200]
    except OSError:
        return ()


def _stats(chat: ChatScreen, _: str) -> None:
    chat.app.push_screen(Page("The last answer", figures.table(chat.session.status)))


def _help(chat: ChatScreen, _: str) -> None:
    rows = [(c.usage, f"{c.help}{f'  [{c.key}]' if c.key else ''}") for c in TABLE]
    chat.app.push_screen(Page("Commands (Tab completes)", rows))


def _screen(name: str) -> Command[ChatScreen]:
    """Return the command of another screen, which the app opens."""

    def show(chat: ChatScreen, _: str) -> None:
        if (action := getattr(chat.app, f"action_{name}", None)) is None:
            raise PitoolError(f"there is no {name} screen here", f"pitool {name} does it")
        action()

    return Command(name, "", _SCREENS[name], show, key=_SCREEN_KEYS.get(name, ""))


_SCREENS = {
    "bench": "measure prefill and decode",
    "device": "sensors, memory and the doctor's findings",
    "compare": "the same prompt on two artifacts",
    "models": "load, verify and delete models",
}

_SCREEN_KEYS = {"bench": "F5", "device": "F8"}

TABLE: tuple[Command[ChatScreen], ...] = (
    Command("help", "", "this list", _help, key="F1"),
    Command("model", "[NAME [QUANT]]", "switch the model", _model, _models, "F2"),
    Command(
        "unload", "", "end the worker, free its memory", lambda c, _: c.action_unload(), key="^U"
    ),
    Command("system", "[TEXT|off]", "the system prompt", _system),
    Command("set", "[NAME VALUE|PRESET]", "sampling, presets, full context", _set, _parameters),
    Command("again", "", "answer the last question anew", lambda c, _: c.action_again(), key="^R"),
    Command("edit", "", "edit an earlier question", lambda c, _: c.action_edit(), key="F4"),
    Command("continue", "", "go on with a cut answer", lambda c, _: c.action_continue(), key="^G"),
    Command("stop", "", "end the running answer", lambda c, _: c.action_stop(), key="Esc"),
    Command(
        "copy", "[code [N]]", "copy the answer or a code block", _copy, lambda _: ("code",), "^Y"
    ),
    Command("attach", "FILE", "send a text file with the question", _attach, _files),
    Command("think", "", "unfold or fold the thinking", lambda c, _: c.action_think(), key="^T"),
    Command("new", "", "begin a new conversation", lambda c, _: c.action_new(), key="^N"),
    Command(
        "chats", "[WORDS]", "search the conversations", lambda c, w: c.app.show_chats(w), key="F3"
    ),
    Command("rename", "[TITLE]", "name the conversation", _rename),
    Command("save", "[FILE]", "export as .md or .json", _save),
    Command("clear", "", "empty the conversation", _clear),
    Command("delete", "", "delete the conversation", _delete),
    Command("stats", "", "the figures of the last answer", _stats),
    *(_screen(name) for name in _SCREENS),
    Command("quit", "", "end pitool", lambda c, _: c.app.exit(), key="^Q"),
)
