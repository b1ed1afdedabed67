"""Guessed tokens: where they come from, what a pass costs, and how many are worth one."""
