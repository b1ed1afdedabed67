"""Mistral 7B and its kin: Llama's graph.

llama.cpp attends to everything where the first Mistral 7B looks 4096 tokens back; nothing differs
up to there.
"""

from __future__ import annotations

from pitool.convert.gguf.families.llama import Llama


class Mistral(Llama):
    """``model_type`` mistral."""


FAMILY = Mistral()
