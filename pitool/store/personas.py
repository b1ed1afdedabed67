"""Personas: named system prompts with their sampling, in one JSON file of the user's own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pitool.catalog import reading, tables
from pitool.catalog.bundles import home
from pitool.catalog.files import make_private
from pitool.catalog.outputs import write_output
from pitool.engine.base import Sampling
from pitool.errors import BadInput, UsageError, cannot_write

FILE_NAME = "personas.json"
LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Persona:
    """A system prompt and how its answers are sampled."""

    system: str
    sampling: Sampling = field(default_factory=Sampling)


class Personas:
    """The personas of a file, which is read at every use: another pitool may have changed it."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """Where they are kept."""
        return self._path or home() / FILE_NAME

    def all(self) -> dict[str, Persona]:
        """Return every persona by its name; BadInput where the file is damaged."""
        if not self.path.exists():
            return {}
        do = "correct the file, or delete it"
        found = reading.read_object(self.path, do)
        try:
            return {name: tables.build(Persona, value, name) for name, value in found.items()}
        except BadInput as error:
            raise BadInput(f"{self.path}: {error.what}", do) from None

    def find(self, name: str) -> Persona:
        """Return a persona; UsageError names the nearest."""
        known = self.all()
        if not known:
            raise UsageError(
                "there are no personas yet",
                "set a system prompt with /system in the chat, then use /persona save NAME",
            )
        return tables.lookup(known, name, "persona", UsageError)

    def save(self, name: str, persona: Persona) -> None:
        """Keep a persona under a name, in place of one that had it."""
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or name.split() != [name]:
            raise UsageError(
                f"{name!r} is not a valid name for a persona", "use one word, such as translator"
            )
        self._write(self.all() | {name: persona})

    def delete(self, name: str) -> None:
        """Delete a persona."""
        self.find(name)
        self._write({key: value for key, value in self.all().items() if key != name})

    def _write(self, personas: dict[str, Persona]) -> None:
        values: dict[str, Any] = {name: asdict(each) for name, each in personas.items()}
        text = json.dumps(values, indent=2, ensure_ascii=False)
        try:
            make_private(self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from None
        write_output(self.path, f"{text}\n".encode())
