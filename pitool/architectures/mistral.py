"""Mistral 7B and its kin: Llama's graph, with a window in the first.

llama.cpp attends to everything where the first Mistral 7B looks 4096 tokens back; nothing differs
up to there, which is the context of its GGUF.
"""

from __future__ import annotations

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_decoder
from pitool.architectures.description import Description
from pitool.architectures.llama import LlamaFile
from pitool.architectures.settings import Settings


def describe(settings: Settings) -> Description:
    """Return what the settings mean; a missing window is 4096 tokens, null is none."""
    settings.default(sliding_window=4096)
    layers = settings.count("num_hidden_layers")
    window = 0 if settings.value("sliding_window") is None else settings.count("sliding_window")
    return read_decoder(settings, windows=(window,) * layers)


class MistralFile(LlamaFile):
    """Llama's, windows or not."""

    def check_windows(self, model: Description) -> None:
        """Accept a window; see the module."""


ARCHITECTURE = Architecture("Mistral", describe, MistralFile())
