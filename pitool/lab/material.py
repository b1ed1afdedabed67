"""What every technique is measured on and calibrated with: token windows and prompts.

A text is split into two halves that share no token: its beginning is measured on, what follows
calibrates. Where there is no text to calibrate with, the model writes one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pitool.checkpoint.source import Checkpoint
from pitool.convert.verify import TEXT, tokens_to_compare
from pitool.engine.base import Engine, Message, Prompt, Sampling
from pitool.errors import BadInput
from pitool.quality import windows

CALIBRATION_WINDOWS = 16
# A text with fewer tokens is not worth splitting.
LEAST_TOKENS = 128
BUILT_IN, SELF = "built-in", "written by the model"
MOST_WRITTEN = 4096
PROMPTS = (
    "What is a Raspberry Pi?",
    "How much RAM does the Pi 5 have?",
    "What does Q4_K_M mean?",
    "Why is my model so slow?",
    "What is the capital of France?",
    "How do I see how much memory is free?",
    "Does an 8B model fit into 8 GB?",
    "Which boards do you know?",
)


@dataclass(frozen=True, slots=True)
class Material:
    """Windows of token ids: ``measured`` and ``calibration``; the names say where from."""

    measured: list[list[int]]
    calibration: list[list[int]]
    measured_from: str
    calibration_from: str

    @property
    def scored(self) -> int:
        """How many predictions count."""
        return sum(len(w) - 1 - windows.unscored(w) for w in self.measured)


def read_prompts(path: Path | None) -> tuple[str, ...]:
    """Return the prompts of a file, one a line; the built-in ones without a file."""
    if path is None:
        return PROMPTS
    prompts = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not prompts:
        raise BadInput(f"{path} holds no prompt", "write one a line")
    return prompts


def read_text(path: Path) -> str:
    """Return a text file; BadInput when it cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist", "check the path") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error})", "give a text in UTF-8") from None


def gather(
    checkpoint: Checkpoint,
    engine: Engine,
    text_file: Path | None,
    parameters: int,
    on_token: Callable[[int], None] = lambda _: None,
) -> Material:
    """Return the material for a model; ``engine`` runs it in float.

    ``text_file`` None takes the checkpoint's held-out text. An empty text calibrates nothing.
    """
    wanted = tokens_to_compare(parameters)
    path = text_file or checkpoint.source.text
    if path is None:
        measured = cut(engine, engine.tokenize(TEXT)[:wanted])
        written = write_text(engine, MOST_WRITTEN, on_token)
        return Material(measured, written, BUILT_IN, SELF)
    ids = engine.tokenize(read_text(path)[: 8 * (wanted + CALIBRATION_WINDOWS * windows.WINDOW)])
    if len(ids) < LEAST_TOKENS:
        measured = cut(engine, engine.tokenize(TEXT)[:wanted])
        return Material(measured, [], BUILT_IN, f"{path.name}, which has {len(ids)} tokens")
    first = min(wanted, len(ids) // 2)
    rest = cut(engine, ids[first:])[:CALIBRATION_WINDOWS]
    return Material(cut(engine, ids[:first]), rest, path.name, path.name)


def cut(engine: Engine, ids: Sequence[int]) -> list[list[int]]:
    """Return whole windows that begin as the tokenizer begins a text."""
    begin = engine.tokenize("") if len(ids) >= windows.WINDOW else ()
    return windows.cut(ids, begin)


def write_text(engine: Engine, tokens: int, on_token: Callable[[int], None]) -> list[list[int]]:
    """Let the model answer the built-in prompts, drawn at temperature 1, until there is enough."""
    texts: list[int] = []
    seed = 0
    while len(texts) < tokens and seed < 4 * len(PROMPTS):
        prompt = ask(engine, PROMPTS[seed % len(PROMPTS)])
        texts += engine.tokenize(prompt)
        engine.clear()
        sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed,
                            max_tokens=windows.WINDOW // 2)  # fmt: skip
        texts += [token.id for token in engine.stream(prompt, sampling) if token.id is not None]
        on_token(1)
        seed += 1
    return [texts[i : i + windows.WINDOW] for i in range(0, len(texts), windows.WINDOW)]


def ask(engine: Engine, prompt: str) -> Prompt:
    """Return a prompt as the model takes it: a conversation where it has a chat template."""
    return [Message("user", prompt)] if engine.info.chat_template else prompt
