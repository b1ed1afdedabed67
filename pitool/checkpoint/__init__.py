"""Reads checkpoints: where a model comes from, its settings and its tensors.

On the host only. Never loads a whole model into memory and never unpickles.
"""
