"""What a file is by its first bytes, where it is not what its name says.

Owns the sentences for a download that went wrong: a pointer of Git LFS, a web page, a pickle.
Never reads more than the beginning.
"""

from __future__ import annotations

import stat
from pathlib import Path

from pitool.errors import BadInput, reason

AGAIN = "download it again"
BEGINNING = 512
_PERMIT = "check its permissions"
_SAVE = "save it as safetensors: model.save_pretrained(folder, safe_serialization=True)"
_PICKLE = "a pickle, a format that can run code when it is opened"
# First bytes, what such a file is, and what to do.
_SIGNS = (
    (
        b"version https://git-lfs.github.com/",
        "a pointer of Git LFS, not the file itself",
        "run 'git lfs pull' in its folder, or download it with: hf download",
    ),
    (b"PK\x03\x04", f"a ZIP archive, or a PyTorch checkpoint and thus {_PICKLE}", _SAVE),
    (b"GGUF", "a GGUF file", "convert it by its own name, which ends in .gguf"),
    (b"\x1f\x8b", "a compressed archive", "unpack it"),
    (b"\xfd7zXZ", "a compressed archive", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "a compressed archive", "unpack it"),
    (b"7z\xbc\xaf", "a compressed archive", "unpack it"),
    (b"\x89HDF", "an HDF5 file of Keras", "convert the model's PyTorch checkpoint"),
)  # fmt: skip


def check_file(path: Path, do: str = AGAIN, missing: BadInput | None = None) -> None:
    """Raise BadInput for what is no file that can be read: nothing, a folder, a pipe, a dead link.

    An empty file is none either. ``do``: the remedy; ``missing``: the error where there is nothing.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise BadInput(f"{path} is a link to a file that does not exist", do) from None
        raise missing or BadInput(f"{path} does not exist", do) from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error, do) from None
    if stat.S_ISDIR(found.st_mode):
        raise BadInput(f"{path} is a folder, not a file", do)
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"{path} is a device or a pipe, not a file", do)
    if not found.st_size:
        raise BadInput(f"{path} is empty", do)


def unreadable(path: Path, error: OSError | ValueError, do: str = AGAIN) -> BadInput:
    """Return the error of a file that the system does not give, or that says nothing."""
    denied = isinstance(error, PermissionError)
    return BadInput(f"cannot read {path} ({reason(error)})", _PERMIT if denied else do)


def check_content(path: Path) -> None:
    """Raise BadInput for a file that is none, or whose beginning is that of something else."""
    check_file(path)
    try:
        with path.open("rb") as file:
            beginning = file.read(BEGINNING)
    except OSError as error:
        raise unreadable(path, error) from None
    if wrong := other_content(path, beginning):
        raise wrong


def other_content(path: Path, beginning: bytes) -> BadInput | None:
    """Return the error of a file that begins as something else does, None where it does not."""
    for sign, what, do in _SIGNS:
        if beginning.startswith(sign):
            return BadInput(f"{path} is {what}", do)
    # The header of safetensors may begin with the same two bytes, but goes on with a brace.
    if beginning[:1] == b"\x80" and beginning[1:2] in b"\2\3\4\5" and beginning[8:9] != b"{":
        return BadInput(f"{path} is {_PICKLE}", _SAVE)
    text = beginning.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        return BadInput(f"{path} is a web page, not the file itself", f"{AGAIN}, with: hf download")
    return None


def text_instead(path: Path, beginning: bytes) -> BadInput | None:
    """Return the error of a text in place of binary data, such as a server's message."""
    line = beginning.lstrip().split(b"\n")[0][:60]
    if len(line) < 4 or not line.isascii() or not line.decode("ascii").strip().isprintable():
        return None
    return BadInput(
        f"{path} is a text file that begins with {line.decode('ascii').strip()!r}", AGAIN
    )
