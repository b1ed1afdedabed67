"""The colours: raspberry and leaf, on dark and on light."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="pitool-dark",
    primary="#e0457b",
    secondary="#8fbf5a",
    accent="#8fbf5a",
    success="#7fb950",
    warning="#e5a445",
    error="#e5534b",
    foreground="#e4e2e6",
    background="#141217",
    surface="#1c1920",
    panel="#28242e",
    dark=True,
)

LIGHT = Theme(
    name="pitool-light",
    primary="#b0174c",
    secondary="#4f7f1f",
    accent="#4f7f1f",
    success="#3f7a1d",
    warning="#9a6200",
    error="#b3261e",
    foreground="#221f26",
    background="#fbf9fb",
    surface="#f3f0f4",
    panel="#e8e3ea",
    dark=False,
)
