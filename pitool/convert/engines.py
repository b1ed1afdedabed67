"""The engines that a conversion runs models with.

Owns their interfaces only. A conversion is handed its engines and never imports or starts one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pitool.quality.health import LogitsEngine


class InputSquares(Protocol):
    """Sums of a weight matrix's squared inputs, and the number of tokens that they sum over."""

    @property
    def sums(self) -> NDArray[np.float64]:
        """The sums, shape (experts, columns)."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """The tokens of each expert, shape (experts,)."""


class Calibrator(LogitsEngine, Protocol):
    """An engine that sums the squared inputs of every weight matrix as it runs."""

    def squares(self) -> Mapping[str, InputSquares]:
        """Return the sums so far, by the name of the matrix."""


OpenEngine = Callable[[Path, int], AbstractContextManager[LogitsEngine]]
"""Loads a GGUF file or an ONNX folder, with room for a number of tokens."""

OpenCalibrator = Callable[[Path], AbstractContextManager[Calibrator]]
"""Loads a GGUF as a calibrator, with room for a calibration window."""


@dataclass(frozen=True, slots=True)
class Loading:
    """What an artifact is loaded with: the paths of LoRAs, and how it is tokenized.

    ``tokenizer``: the folder whose tokenizer.json makes the tokens. ``exact``: the runtime rounds
    nothing to less than float32 that it need not, whatever that costs.
    """

    adapters: Sequence[Path] = ()
    ends: Sequence[int] = ()
    nfc: bool = False
    tokenizer: Path | None = None
    exact: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The same as the engines' ``Settings`` name it."""
        return {
            "adapters": tuple(map(str, self.adapters)),
            "ends": tuple(self.ends),
            "nfc": self.nfc,
            "tokenizer": str(self.tokenizer) if self.tokenizer else None,
        }


OpenWith = Callable[[Loading], OpenEngine]
"""Returns an ``OpenEngine`` that loads an artifact so."""

WriteText = Callable[[Path, int, Callable[[int], None]], list[list[int]]]
"""Has the model of a GGUF write about a number of tokens; returns its texts as token ids."""


@dataclass(frozen=True, slots=True)
class Engines:
    """Everything that a conversion runs models with."""

    open: OpenEngine
    open_calibrator: OpenCalibrator
    write_text: WriteText
    open_with: OpenWith
