"""Brings a file of the hub to this machine: resumed, checked by its hash, whole or not at all.

What has arrived lies under the name of its content with ``.part``, which is kept when a download
ends early, and loses that ending only when its hash is right.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pitool.catalog.files import sync
from pitool.errors import BadInput, PitoolError, UsageError, cannot_write
from pitool.pull import connection
from pitool.pull.connection import TRANSPORT_ERRORS, TRIES, Response
from pitool.pull.hub import SHA256, Hub, RemoteFile, Repository

CHUNK = 1 << 20
PART = ".part"

OnBytes = Callable[[int], None]


def key_of(repository: Repository, file: RemoteFile) -> str:
    """Return the name of a file's content: its hash, or what it is called at its commit."""
    place = f"{repository.id}@{repository.commit}/{file.path}"
    return file.sha256 or hashlib.sha256(place.encode()).hexdigest()


def missing_bytes(repository: Repository, file: RemoteFile, folder: Path) -> int:
    """Return the bytes that are still to be written into ``folder``."""
    key = key_of(repository, file)
    if (folder / key).is_file():
        return 0
    part = folder / f"{key}{PART}"
    return file.bytes - (min(part.stat().st_size, file.bytes) if part.is_file() else 0)


def download(
    hub: Hub, repository: Repository, file: RemoteFile, folder: Path, on_bytes: OnBytes
) -> Path:
    """Return a file of the hub in ``folder``, under the name of its content.

    ``on_bytes``: hears of bytes that are here, at once of those that were. UsageError where another
    process fetches it, BadInput where the hub does not give it whole.
    """
    whole = folder / key_of(repository, file)
    if whole.is_file() and whole.stat().st_size == file.bytes:
        on_bytes(file.bytes)
        return whole
    part = whole.with_name(f"{whole.name}{PART}")
    with _opened(part, file) as opened:
        transfer = _Transfer(hub, repository, file, opened, on_bytes)
        if file.local is None or not transfer.copy(file.local):
            transfer.fetch()
        opened.flush()
        os.fsync(opened.fileno())
        found, stated = transfer.hashes
        if stated not in (None, found):
            part.unlink()
            raise BadInput(
                f"{file.path} of {repository.id} arrived damaged: its hash is {found[:12]}…, and"
                f" the hub states {(stated or '')[:12]}…",
                "it was deleted: run the same command again",
            )
        part.replace(whole)
    sync(folder)
    return whole


@contextmanager
def _opened(part: Path, file: RemoteFile) -> Iterator[BinaryIO]:
    """Open what has arrived of a file, alone."""
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise cannot_write(part, error, "choose another --out") from None
    with os.fdopen(descriptor, "r+b") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{file.name} is being downloaded already", "wait for the other pitool"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield opened


class _Transfer:
    """Fills an open file with what the hub has, and hashes what has arrived."""

    def __init__(
        self,
        hub: Hub,
        repository: Repository,
        file: RemoteFile,
        opened: BinaryIO,
        on_bytes: OnBytes,
    ) -> None:
        self._hub, self._repository, self._file = hub, repository, file
        self._opened, self._on_bytes = opened, on_bytes
        self._stated = file.sha256
        self._restart(keep=True)

    @property
    def hashes(self) -> tuple[str, str | None]:
        """The hash of what has arrived in hexadecimal, and the one that the hub states."""
        if self._stated is None and self._file.blob:
            return self._blob.hexdigest(), self._file.blob
        return self._digest.hexdigest(), self._stated

    def copy(self, source: Path) -> bool:
        """Copy a file from another client's cache; False where its content is another one."""
        self._restart()
        with source.open("rb") as opened:
            while chunk := opened.read(CHUNK):
                self._keep(chunk)
        found, stated = self.hashes
        if stated in (None, found):
            return True
        self._on_bytes(-self._have)
        self._restart()
        return False

    def fetch(self) -> None:
        """Go on with what has arrived until all is here."""
        self._resume()
        fruitless = 0
        while self._have < self._file.bytes:
            before, error = self._have, self._once()
            fruitless = 0 if self._have > before else fruitless + 1
            if self._have < self._file.bytes:
                if fruitless == TRIES:
                    raise self._cut(error)
                connection.sleep(connection.PAUSE * 2**fruitless)

    def _resume(self) -> None:
        """Read what has arrived of it; start anew where that is longer than the file."""
        self._restart(keep=os.fstat(self._opened.fileno()).st_size <= self._file.bytes)
        while chunk := self._opened.read(CHUNK):
            self._hash(chunk)
        # At once, so that it says nothing about the speed of the line.
        self._on_bytes(self._have)

    def _restart(self, *, keep: bool = False) -> None:
        self._digest, self._have = hashlib.sha256(), 0
        # What git calls a content: a name that is no secret, not a signature.
        self._blob = hashlib.sha1(b"blob %d\0" % self._file.bytes, usedforsecurity=False)
        self._opened.seek(0)
        if not keep:
            self._opened.truncate()

    def _once(self) -> Exception | None:
        """Fetch until the end, or until the line is cut; return what cut it, if known."""
        response = self._hub.open(self._repository, self._file, self._have)
        try:
            return self._read(response)
        finally:
            response.close()

    def _read(self, response: Response) -> Exception | None:
        etag = response.headers.get("ETag", "").strip('"')
        if self._stated is None and SHA256.fullmatch(etag):
            self._stated = etag
        # A server that does not know ranges sends all of the file: what is here is passed over.
        skip = self._have if response.status == 200 else 0
        if response.status == 206:
            self._check_range(response)
        while self._have < self._file.bytes:
            try:
                chunk = response.read(min(CHUNK, skip or self._file.bytes - self._have))
            except TRANSPORT_ERRORS as error:
                return error
            if not chunk:
                return None
            if skip:
                skip -= len(chunk)
            else:
                self._keep(chunk)
        return None

    def _check_range(self, response: Response) -> None:
        said = response.headers.get("Content-Range", "")
        if said not in (f"bytes {self._have}-{self._file.bytes - 1}/{self._file.bytes}", ""):
            raise BadInput(
                f"the hub sent another part of {self._file.path} than was asked for ({said})",
                "run the same command again",
            )

    def _keep(self, chunk: bytes) -> None:
        try:
            self._opened.write(chunk)
        except OSError as error:
            raise cannot_write(self._file.name, error, "choose another --out") from None
        self._note(chunk)

    def _note(self, chunk: bytes) -> None:
        self._hash(chunk)
        self._on_bytes(len(chunk))

    def _hash(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        if self._file.blob:
            self._blob.update(chunk)
        self._have += len(chunk)

    def _cut(self, error: Exception | None) -> PitoolError:
        why = self._hub.connection.unreachable(error or EOFError("the line was cut")).what
        return BadInput(
            f"the download of {self._file.name} was interrupted again and again: {why}",
            "what arrived is kept: run the same command again to go on",
        )
