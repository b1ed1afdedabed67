"""What every technique is measured on and calibrated with: token windows and prompts.

A text is split into two halves that share no token: its beginning is measured on, what follows
calibrates. Where there is no text to calibrate with, the model writes one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pitool.checkpoint.source import Checkpoint
from pitool.convert.verify import TEXT, tokens_to_compare
from pitool.engine.base import Engine
from pitool.errors import BadInput
from pitool.quality.calibration import PROMPTS, write_text
from pitool.quality.divergence import WINDOW, unscored
from pitool.quality.health import windows_of

CALIBRATION_WINDOWS = 16
# A text with fewer tokens is not worth splitting.
LEAST_TOKENS = 128
BUILT_IN, SELF = "the built-in text", "what the model wrote"
MOST_WRITTEN = 4096


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
        return sum(len(w) - 1 - unscored(w) for w in self.measured)


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
        measured = windows_of(engine, engine.tokenize(TEXT)[:wanted])
        written = write_text(engine, MOST_WRITTEN, on_token)
        return Material(measured, written, BUILT_IN, SELF)
    ids = engine.tokenize(read_text(path)[: 8 * (wanted + CALIBRATION_WINDOWS * WINDOW)])
    if len(ids) < LEAST_TOKENS:
        measured = windows_of(engine, engine.tokenize(TEXT)[:wanted])
        short = f"{path.name}, which has {len(ids)} tokens"
        return Material(measured, [], f"{BUILT_IN} instead of {short}", short)
    first = min(wanted, len(ids) // 2)
    rest = windows_of(engine, ids[first:])[:CALIBRATION_WINDOWS]
    return Material(windows_of(engine, ids[:first]), rest, path.name, path.name)
