"""Turns a checkpoint into a bundle. On the host only; never runs a model itself."""
