"""Checkpoints: where a model comes from, its settings, its tensors, its adapters.

On the host only. Never loads a whole model into memory, and never unpickles anything.
"""
