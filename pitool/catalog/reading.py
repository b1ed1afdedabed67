"""Reads files that others wrote: in bounded memory, and refused with a reason.

The one place where bytes become JSON, TOML or text. What comes out is nested no deeper than
``DEEPEST`` and holds Unicode only, so that everything that walks or prints it comes to an end.
Knows nothing of what a file means.
"""

from __future__ import annotations

import codecs
import json
import stat
import tomllib
from pathlib import Path
from typing import Any

from pitool.catalog.contents import AGAIN, BEGINNING, check_file, other_content, unreadable
from pitool.catalog.unicode import well_formed
from pitool.errors import BadInput, reason

# Settings of any kind are some kilobytes; a parsed document takes up to thirty times its size.
LARGEST = 16 << 20
# Tokenizers and the indexes of weights: the largest known are 33 MB.
LARGEST_TABLE = 128 << 20
DEEPEST = 100


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """Return a plain file of at most ``most`` bytes; OSError, or ValueError that says what it is.

    A pipe or device in a folder of files is refused: reading it could take for ever.
    """
    known = path.stat()
    if not stat.S_ISREG(known.st_mode) and not stat.S_ISDIR(known.st_mode):  # which open refuses
        raise ValueError("it is not a plain file")
    with path.open("rb") as file:
        # Room is made for all that is asked for, even where there is less.
        data = file.read(min(known.st_size, most) + 1)
    if len(data) > most:
        raise ValueError(f"it is larger than {most >> 20} MiB")
    return data


def read_json(
    path: Path, do: str = AGAIN, *, most: int = LARGEST, missing: BadInput | None = None
) -> Any:
    """Return the value of a JSON file; BadInput with the remedy ``do`` where there is none.

    What is something else, such as a pointer of Git LFS, is said to be that. ``missing``: the
    error for a file that does not exist, where another sentence is truer.
    """
    check_file(path, do, missing)
    try:
        data = read_bytes(path, most)
        if wrong := other_content(path, data[:BEGINNING]):
            raise wrong
        return parse_json(data)
    except (OSError, ValueError) as error:
        raise unreadable(path, error, do) from None


def read_object(
    path: Path, do: str = AGAIN, *, most: int = LARGEST, missing: BadInput | None = None
) -> dict[str, Any]:
    """Return the object of a JSON file; BadInput as ``read_json``, and for any other value."""
    value = read_json(path, do, most=most, missing=missing)
    if not isinstance(value, dict):
        raise BadInput(f"{path} is not a JSON object", do)
    return value


def parse_json(data: bytes | str, *, unique: bool = False) -> Any:
    """Return the value of a JSON document; ValueError for none, or one that is nested too deeply.

    Half a character, as in ``"\\ud800"``, becomes U+FFFD: no output could show it. ``unique``:
    an object that uses a name twice is refused as well, as readers differ on which of both counts.
    """
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    try:
        value = json.loads(text, object_pairs_hook=_unique if unique else None)  # noqa: TID251 - the one place
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_depth(value)
    return _whole(value) if "\\ud" in text or "\\uD" in text else value


def parse_toml(data: bytes) -> dict[str, Any]:
    """Return the tables of a TOML document; ValueError for none, or one nested too deeply."""
    try:
        value = tomllib.loads(data.decode())  # noqa: TID251 - the one place
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_depth(value)
    return value


def read_text(path: Path, most: int = LARGEST) -> str:
    """Return the first ``most`` bytes of a text that a user names, be it a file or a pipe.

    BadInput where it cannot be read, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most)
        return codecs.getincrementaldecoder("utf-8")().decode(data, final=len(data) < most)
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist", "check the path") from None
    except OSError as error:
        raise BadInput(f"cannot read {path} ({reason(error)})", "use a UTF-8 text file") from None
    except ValueError as error:
        raise BadInput(f"cannot read {path} ({error})", "use a UTF-8 text file") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is used twice")
    return made


def _check_depth(value: Any) -> None:
    """Raise ValueError for what is nested too deeply; level by level, so never too deep itself."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _whole(value: Any) -> Any:
    """Return a value with what is no Unicode replaced."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(inner) for key, inner in value.items()}
    return value
