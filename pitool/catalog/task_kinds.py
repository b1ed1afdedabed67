"""Kinds of text that speculation is measured on (``recipes/speculation.toml``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pitool.catalog import tables


@dataclass(frozen=True, slots=True)
class TaskKind:
    """What is asked of a model, in ``prompts``.

    ``tokens``: by the tokens of a pass, how many of an answer came of one, least and most over
    prompts, as measured with the model that the file names.
    """

    summary: str
    prompts: tuple[str, ...]
    tokens: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError("it has no prompts")


def load_task_kinds(path: Path | None = None) -> dict[str, TaskKind]:
    """Return every kind by its name."""
    path = path or tables.recipes_folder() / "speculation.toml"
    return {
        key: tables.build(TaskKind, table, f"{path.name}: {key}")
        for key, table in tables.read_toml(path).items()
    }


@cache
def task_kinds() -> dict[str, TaskKind]:
    """Return the kinds of the installed recipes."""
    return load_task_kinds()
