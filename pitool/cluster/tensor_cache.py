"""The tensors that llama.cpp's server keeps on a board, so that they are sent once.

llama.cpp names a file by the hash of what it should hold, writes it in place, and never looks
whether it is whole: half a tensor, left by a power cut or a full disk, would be loaded as it is and
answer nonsense. So this lists what is whole, deletes everything else before a server starts, and
keeps the cache below its limit.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from pitool.catalog import reading
from pitool.catalog.files import sync, write_atomically
from pitool.errors import BadInput

LIST = "whole.json"
LIMIT_BYTES = 32 * 1000**3
# What stays free on the disk beside all that one model may write.
SPARE_BYTES = 1000**3
_TENSOR = re.compile(r"[0-9a-f]{16}")


class TensorCache:
    """A folder of tensors; at most ``limit`` bytes stay there, those used last."""

    def __init__(self, folder: Path, limit: int = LIMIT_BYTES) -> None:
        self.folder, self._limit = folder, limit

    @property
    def bytes(self) -> int:
        """How much is there."""
        return sum(size for size, _ in self._files().values())

    def has_room(self, model_bytes: int) -> bool:
        """Tell whether the disk holds a model of so many bytes more, with some left free."""
        return shutil.disk_usage(self.folder).free >= model_bytes + SPARE_BYTES

    def prepare(self) -> None:
        """Make the folder, and delete every tensor that is not known to be whole."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        whole = self._whole()
        for name, (size, _) in self._files().items():
            if whole.get(name) != size:
                (self.folder / name).unlink(missing_ok=True)
        self._note({name: size for name, (size, _) in self._files().items()})

    def settle(self, until: int) -> None:
        """Flush and list the tensors last written before ``until``, then make room.

        ``until``: nanoseconds since 1970, when a client had left: what is younger another one may
        be writing.
        """
        whole = self._whole()
        for name, (size, written) in self._files().items():
            if written <= until and whole.get(name) != size:
                sync(self.folder / name)
                whole[name] = size
        self._note(self._trimmed(whole))

    def _trimmed(self, whole: dict[str, int]) -> dict[str, int]:
        """Delete the tensors unused for the longest beyond the limit; return what stays."""
        kept, total = {}, 0
        for name in sorted(whole, key=self._used, reverse=True):
            total += whole[name]
            if total > self._limit:
                (self.folder / name).unlink(missing_ok=True)
            elif (self.folder / name).exists():
                kept[name] = whole[name]
        return kept

    def _used(self, name: str) -> int:
        try:
            stat = (self.folder / name).stat()
        except OSError:
            return 0
        return max(stat.st_atime_ns, stat.st_mtime_ns)

    def _files(self) -> dict[str, tuple[int, int]]:
        """Return size and time of each tensor."""
        found = {}
        for path in self.folder.glob("*"):
            if _TENSOR.fullmatch(path.name):
                stat = path.stat()
                found[path.name] = stat.st_size, stat.st_mtime_ns
        return found

    def _whole(self) -> dict[str, int]:
        try:
            value = reading.read_object(self.folder / LIST)
        except BadInput:
            return {}
        return {name: size for name, size in value.items() if isinstance(size, int)}

    def _note(self, whole: dict[str, int]) -> None:
        write_atomically(self.folder / LIST, json.dumps(whole).encode())
