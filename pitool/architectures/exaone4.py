"""EXAONE 4: norms after attention and MLP, and on queries and keys.

Where there are windows, layers without one are not rotated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Description
from pitool.architectures.llama import LlamaFile
from pitool.architectures.olmo2 import LAYOUT
from pitool.architectures.settings import FULL, SLIDING, Settings


def describe(settings: Settings) -> Description:
    """Return what the settings mean; a missing window is 4096 tokens, null is none."""
    settings.default(sliding_window=4096, sliding_window_pattern=4)
    layers = settings.count("num_hidden_layers")
    windowed = settings.value("sliding_window") is not None
    every = _pattern(settings) if windowed else 0
    settings.note("sliding_window_pattern")
    types = settings.layer_types(
        [SLIDING if every and (i + 1) % every else FULL for i in range(layers)]
    )
    windows = settings.windows(types) if windowed else (0,) * layers
    still = {i for i, window in enumerate(windows) if windowed and not window}
    return read_decoder(
        settings,
        epsilon=1e-5,
        layout=LAYOUT,
        head_norm="head",
        windows=windows,
        unrotated=frozenset(still),
    )


def _pattern(settings: Settings) -> int:
    """Return every which layer sees all, 0 for none; some settings spell it as letters."""
    named = settings.value("sliding_window_pattern")
    if isinstance(named, str):  # transformers takes the kinds of the layers instead
        return len(named) if set(named[:-1]) == {"L"} and named[-1:] == "G" else 0
    return settings.count("sliding_window_pattern")


# llama.cpp has windows in a model of so many layers (32B), and in no other.
WINDOWED = 64


class Exaone4File(LlamaFile):
    """llama.cpp has windows in a model of 64 layers, where others are not rotated."""

    architecture = "exaone4"
    own_heads = False
    more_biases = False

    def rotation(self, _model: Description) -> None:  # type: ignore[override]
        """Return no reordering."""

    def special(self, model: Description) -> dict[str, Any]:
        """Return the vocabulary, and the windows."""
        keys: dict[str, Any] = {"vocab_size": model.sizes.vocabulary}
        if any(model.windows):
            keys["attention.sliding_window"] = max(model.windows)
            keys["attention.sliding_window_pattern"] = [window > 0 for window in model.windows]
        return keys

    def computed(self, model: Description) -> Iterator[Wanted]:
        """Yield the frequency divisors of Llama 3."""
        yield from super().computed(model)

    def check_windows(self, model: Description) -> None:
        """Refuse windows where llama.cpp has none, none where it has some, and lone full layers."""
        still = {i for i, window in enumerate(model.windows) if not window}
        if model.sizes.layers != WINDOWED:
            super().check_windows(model)
            if model.unrotated:
                raise model.error(
                    "layers without positions are not supported",
                    "convert a checkpoint whose 'sliding_window' is null",
                )
        elif model.unrotated != still or len(still) == WINDOWED:
            raise model.error(
                f"a model of {WINDOWED} layers without a sliding window is not supported",
                "convert a checkpoint with 'sliding_window' and 'layer_types'",
            )

    def windows(self, model: Description) -> tuple[int, ...]:
        """Return the windows."""
        return model.windows if any(model.windows) else ()


ARCHITECTURE = Architecture("EXAONE 4", describe, Exaone4File())
