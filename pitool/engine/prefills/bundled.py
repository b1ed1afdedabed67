"""Prompts that were read before and travel with a bundle: in its folder ``prefills``.

``NAME.txt`` or ``NAME.json`` is the prompt; ``NAME.QUANTISATION-KEY.CRC`` is a saved prefill of it,
see ``keys.portable_model_of`` for the key. A prompt is read once, on the machine that packs a
bundle or on the board, and from then on found by its tokens like any other saved prefill. The
manifest does not list these files: a bundle is whole without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pitool.catalog.files import make_private_folder, write_atomically
from pitool.engine.base import ChatPrompt, Engine, Message, Sampling
from pitool.engine.prefills.files import FOLDER_NAME, LEAST_TOKENS, Place, Prefills
from pitool.engine.prefills.keys import portable_model_of
from pitool.errors import DoesNotFit, UsageError, cannot_write

if TYPE_CHECKING:
    from pitool.catalog.bundles import Runnable
    from pitool.engine.base import Settings

PROMPT_SUFFIXES = (".txt", ".json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")


class Saver(Engine, Protocol):
    """An engine of a worker, which can also pack what it saved."""

    def compact_state(self, path: Path) -> None:
        """Pack what ``save_state`` wrote."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A prompt that was read for an artifact: its tokens, and the bytes of the saved prefill."""

    name: str
    quantisation: str
    tokens: int
    bytes: int
    seconds: float


def shared_beginning(engine: Engine, beginning: ChatPrompt) -> list[int]:
    """Return the tokens that all conversations with a beginning share, whatever the user asks."""
    first, second = (
        engine.tokenize(ChatPrompt((*beginning.messages, Message("user", word)), beginning.tools))
        for word in ("a", "1")
    )
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    return first[:same]


def place_of(runnable: Runnable, settings: Settings) -> Place | None:
    """Return where an artifact's bundle has what was read before; None where it has nothing."""
    folder = _folder(runnable.bundle)
    if folder is None or not folder.is_dir():
        return None
    return Place(str(folder), portable_model_of(runnable, settings), given=True)


def places_of(runnable: Runnable, settings: Settings) -> list[Place]:
    """Return ``place_of`` as ``worker.start`` takes places."""
    place = place_of(runnable, settings)
    return [place] if place else []


def prompts(bundle: Path | None) -> dict[str, Path]:
    """Return the prompts that a bundle has, by their names."""
    folder = _folder(bundle)
    found = sorted(folder.glob("[!.]*")) if folder and folder.is_dir() else []
    return {path.stem: path for path in found if path.suffix in PROMPT_SUFFIXES}


def states(bundle: Path, name: str, quantisation: str) -> list[Path]:
    """Return the saved prefills of a prompt for an artifact, for whatever settings."""
    return sorted((bundle / FOLDER_NAME).glob(f"{name}.{quantisation}-*.*"))


def is_read(runnable: Runnable, settings: Settings, name: str) -> bool:
    """Tell whether a prompt was read for an artifact as it is loaded here."""
    place = place_of(runnable, settings)
    return place is not None and Prefills(Path(place.folder)).has(_key(name, runnable, place.model))


def name_of(path: Path) -> str:
    """Return the name of a prompt's file; UsageError for one that makes no name."""
    if path.suffix.lower() not in PROMPT_SUFFIXES or not _NAME.fullmatch(path.stem):
        raise UsageError(
            f"{path.name} is not the name of a prompt",
            "use letters, digits, - and _, and end it with .txt or .json, such as system.txt",
        )
    return path.stem


def add_prompt(bundle: Path, path: Path) -> str:
    """Copy a prompt into a bundle and return its name; what was read of another one goes."""
    name, folder = name_of(path), bundle / FOLDER_NAME
    try:
        made, data = folder / f"{name}{path.suffix.lower()}", path.read_bytes()
        old = prompts(bundle).get(name)
        if old != made or made.read_bytes() != data:
            make_private_folder(folder)
            for left in (*([old] if old else []), *folder.glob(f"{name}.*-*.*")):
                left.unlink(missing_ok=True)
            write_atomically(made, data)
    except OSError as error:
        raise cannot_write(folder, error, "check its permissions") from None
    return name


def remove(bundle: Path, name: str) -> None:
    """Delete a prompt with all that was read of it."""
    folder = bundle / FOLDER_NAME
    try:
        for path in (prompts(bundle)[name], *folder.glob(f"{name}.*-*.*")):
            path.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise cannot_write(folder, error, "check its permissions") from None


def read(
    engine: Saver,
    runnable: Runnable,
    name: str,
    beginning: ChatPrompt,
    on_tokens: Callable[[int, int], object],
    *,
    compact: bool = False,
) -> Prefilled:
    """Have an engine read a prompt, and save its KV cache into the bundle.

    ``on_tokens`` is told how many tokens are read, and how many there are. ``compact``: in q8_0,
    whatever the type of the cache. DoesNotFit for one longer than the context, UsageError for one
    that is read again sooner than it is found.
    """
    assert runnable.bundle is not None
    ids = shared_beginning(engine, beginning)
    _check(ids, engine)
    seconds = 0.0
    for token in engine.stream(ids, Sampling(max_tokens=0)):
        on_tokens(token.timings.prefilled_tokens, len(ids))
        seconds = token.timings.prefill_seconds
    key = _key(name, runnable, portable_model_of(runnable, engine.info.settings))
    prefills = Prefills(runnable.bundle / FOLDER_NAME, None)

    def write(path: Path) -> None:
        engine.save_state(path)
        if compact:
            engine.compact_state(path)

    try:
        prefills.save(key, write)
        made = prefills.find(key)
        assert made is not None
        for path in states(runnable.bundle, name, runnable.quantisation):
            if path != made:
                path.unlink(missing_ok=True)
        size = made.stat().st_size
    except OSError as error:
        raise cannot_write(runnable.bundle, error, "use --compact") from None
    return Prefilled(name, runnable.quantisation, len(ids), size, seconds)


def words(runnable: Runnable, settings: Settings) -> str:
    """Say which prompts were read before, and which have to be read again; empty for none."""
    found = list(prompts(runnable.bundle))
    here = [name for name in found if is_read(runnable, settings, name)]
    missing = [name for name in found if name not in here]
    return "\n".join(_words(here, missing))


def _words(here: Sequence[str], missing: Sequence[str]) -> Iterator[str]:
    if here:
        yield f"read before: {', '.join(here)}"
    if missing:
        yield (
            f"not read yet with these settings and this engine: {', '.join(missing)}"
            " (pitool prefill reads it once)"
        )


def _check(ids: Sequence[int], engine: Engine) -> None:
    if len(ids) < LEAST_TOKENS:
        raise UsageError(
            f"the prompt has {len(ids)} tokens before a question, which are soon read",
            f"save a prompt of {LEAST_TOKENS} tokens or more",
        )
    if len(ids) >= engine.info.sequence_context:
        raise DoesNotFit(
            f"the prompt has {len(ids)} tokens, and the context has {engine.info.sequence_context}",
            "shorten it, or convert the model for a larger --context",
        )


def _folder(bundle: Path | None) -> Path | None:
    return bundle / FOLDER_NAME if bundle is not None else None


def _key(name: str, runnable: Runnable, model: str) -> str:
    return f"{name}.{runnable.quantisation}-{model}"
