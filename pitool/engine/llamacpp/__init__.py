"""Runs GGUF files on llama.cpp, through the low-level API of llama-cpp-python."""

from pitool.engine.llamacpp.engine import LlamaCpp

__all__ = ["LlamaCpp"]
