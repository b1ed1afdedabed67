"""Writes the parts of docs/reference that follow from the code and from recipes/.

A page has such a part between ``<!-- generated: NAME -->`` and ``<!-- end of generated -->``; the
rest of it is written by hand. A test checks that every part is as the code is now.

    python -m scripts.reference          # rewrites them
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.reference import commands, families, http, quantisations, recipes, sampling

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
# What makes the lines of a part, by its name.
PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "accelerators": recipes.accelerators,
    "boards": recipes.boards,
    "commands": commands.lines,
    "families": families.lines,
    "gguf": quantisations.gguf,
    "http": http.lines,
    "models": recipes.models,
    "onnx": quantisations.onnx,
    "parameters": sampling.parameters,
    "presets": sampling.presets,
    "profiles": recipes.profiles,
    "rented": recipes.rented,
    "sizes": recipes.sizes,
    "storage": recipes.storage,
    "techniques": quantisations.techniques,
    "tiers": recipes.tiers,
}
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end of generated -->\n)", re.DOTALL)


def updated(text: str) -> str:
    """Return a page with its parts as they should be."""

    def part(found: re.Match[str]) -> str:
        lines = "\n".join(PARTS[found[2]]())
        return f"{found[1]}\n{lines}\n\n{found[3]}"

    return PART.sub(part, text)


def pages() -> list[Path]:
    """Return the pages that have such a part."""
    found = sorted(FOLDER.glob("*.md"))
    return [page for page in found if PART.search(page.read_text(encoding="utf-8"))]
