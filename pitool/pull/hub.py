"""The hub: what a repository holds, by the hub's API, or by the cache of earlier downloads.

Environment as other clients of the hub have it: ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME``,
``HF_HUB_CACHE``, ``HF_HUB_OFFLINE``. Every file is named by a commit, so that what was listed is
what is fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from pitool.catalog import reading
from pitool.catalog.files import expand, path_kind
from pitool.errors import BadInput, UsageError, readable
from pitool.pull.connection import Connection, Refused, Response, Unavailable
from pitool.report.progress import talk

ENDPOINT = "https://huggingface.co"
LARGEST_ANSWER = 16 << 20
MOST_PAGES = 100
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_ON = {"1", "on", "yes", "true"}


class RevisionGone(Unavailable):
    """A repository has no such branch, tag or commit."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository; ``sha256``: of its content, where the hub states it.

    ``path``: with slashes; ``local``: where it lies on this machine already; ``blob``: the hash by
    which git knows the content of a small file.
    """

    path: str
    bytes: int
    sha256: str | None = None
    local: Path | None = None
    blob: str | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at a commit; ``licence`` as its owner says it, None for nothing."""

    id: str
    commit: str
    files: tuple[RemoteFile, ...]
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub as this user reaches it; ``cache``: the folder of other clients' downloads."""

    connection: Connection
    offline: bool
    cache: Path

    def repository(self, name: str, revision: str = "main") -> Repository:
        """Return what a repository holds; BadInput where it is none, is gated or unreachable."""
        if self.offline:
            return self._cached(name, revision)
        info = self._json(f"/api/models/{name}/revision/{quote(revision, safe='')}", name, revision)
        commit = info.get("sha")
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise BadInput(f"the hub names no commit for {name}", "check HF_ENDPOINT")
        # A repository that was renamed answers under its new name.
        said = info.get("id") or info.get("modelId")
        name = said if isinstance(said, str) and is_id(said) else name
        here = self._snapshot(name, commit)
        files = tuple(_with_local(file, here) for file in self._tree(name, commit))
        return Repository(name, commit, files, _licence(info))

    def open(
        self, repository: Repository, file: RemoteFile, begin: int = 0, end: int | None = None
    ) -> Response:
        """Return the bytes of a file from ``begin`` on; a server may send all of them instead."""
        path = f"/{repository.id}/resolve/{repository.commit}/{quote(file.path)}"
        return self._open(path, repository.id, repository.commit, begin, end)

    def _open(
        self, address: str, name: str, revision: str, begin: int = 0, end: int | None = None
    ) -> Response:
        try:
            return self.connection.open(address, begin=begin, end=end)
        except Refused as refused:
            raise _error_of(refused, name, revision, self.connection) from None

    def _json(self, address: str, name: str, revision: str) -> dict[str, Any]:
        value, _ = self._page(address, name, revision)
        if not isinstance(value, dict):
            raise self._no_hub(address)
        return value

    def _page(self, address: str, name: str, revision: str) -> tuple[Any, str | None]:
        """Return the value of a JSON answer, and the address of the next page, if any."""
        response = self._open(address, name, revision)
        try:
            data = response.read(LARGEST_ANSWER + 1)
        except OSError as error:
            raise self.connection.unreachable(error) from None
        finally:
            response.close()
        if len(data) > LARGEST_ANSWER:
            raise self._no_hub(address)
        try:
            value = reading.parse_json(data)
        except ValueError:
            raise self._no_hub(address) from None
        following = re.search(r'<([^<>]+)>;\s*rel="next"', response.headers.get("Link", ""))
        return value, following[1] if following else None

    def _no_hub(self, address: str) -> BadInput:
        return BadInput(
            f"{self.connection.endpoint} does not answer as a model hub does"
            f" ({address.partition('?')[0]})",
            "check HF_ENDPOINT",
        )

    def _tree(self, name: str, commit: str) -> Iterator[RemoteFile]:
        address: str | None = f"/api/models/{name}/tree/{commit}?recursive=true"
        for _ in range(MOST_PAGES):
            if address is None:
                return
            entries, address = self._page(address, name, commit)
            for entry in entries if isinstance(entries, list) else ():
                if file := _remote_file(entry):
                    yield file

    def _cached(self, name: str, revision: str) -> Repository:
        """Return what the cache holds of a repository."""
        ref = _cache_of(self.cache, name) / "refs" / revision
        try:
            commit = ref.read_text(encoding="ascii").strip() if ref.is_file() else revision
        except (OSError, ValueError):
            commit = revision
        folder = self._snapshot(name, commit)
        if folder is None:
            raise BadInput(
                f"{name} is not in the cache {self.cache}, and HF_HUB_OFFLINE forbids asking"
                " the hub",
                "unset HF_HUB_OFFLINE when online",
            )
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        files = tuple(
            RemoteFile(
                path.relative_to(folder).as_posix(), path.stat().st_size, stated_sha256(path), path
            )
            for path in found
        )
        return Repository(name, commit, files)

    def _snapshot(self, name: str, commit: str) -> Path | None:
        """Return the cache's folder of a commit, if it has one."""
        folder = _cache_of(self.cache, name) / "snapshots" / commit
        inside = "/" not in commit and commit not in ("", ".", "..")
        return folder if inside and path_kind(folder) == "folder" else None


def stated_sha256(path: Path) -> str | None:
    """Return the hash that the cache states for a file, whose content is named by it."""
    name = path.resolve().name
    return name if path.is_symlink() and SHA256.fullmatch(name) else None


def find_hub(say: Callable[[str], object] = talk) -> Hub:
    """Return the hub by the environment; UsageError for an endpoint or token that is none."""
    endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(
            f"HF_ENDPOINT={endpoint!r} is not an address", "write it as https://hub.example.org"
        )
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    cache = expand(chosen, "HF_HUB_CACHE") if chosen else _home() / "hub"
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in _ON
    return Hub(Connection(endpoint, _token(), say), offline, cache)


def _home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expand(os.environ.get("HF_HOME") or f"{cache}/huggingface", "HF_HOME")


def _token() -> str | None:
    """Return the user's token, None for none; UsageError for one that no header could hold."""
    named = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if named is None:
        path = expand(os.environ.get("HF_TOKEN_PATH") or str(_home() / "token"), "HF_TOKEN_PATH")
        try:
            named = reading.read_bytes(path, 1 << 16).decode()
        except (OSError, ValueError):
            return None
    token = named.strip()
    if not re.fullmatch(r"[!-~]*", token):
        raise UsageError("HF_TOKEN is not a token of the hub", "copy it again, without spaces")
    return token or None


def is_id(text: str) -> bool:
    """Tell whether a text can be the name of a repository."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text, re.ASCII)) and ".." not in text


def _cache_of(cache: Path, name: str) -> Path:
    return cache / f"models--{name.replace('/', '--')}"


def _with_local(file: RemoteFile, folder: Path | None) -> RemoteFile:
    """Return a file with its place in the cache, where a file of its size is there."""
    path = folder / file.path if folder else None
    if path is None or not path.is_file() or path.stat().st_size != file.bytes:
        return file
    return replace(file, sha256=file.sha256 or stated_sha256(path), local=path)


def _remote_file(entry: Any) -> RemoteFile | None:
    """Return the file of an entry of the tree; None for a folder and for what is no entry.

    A path that would leave a folder is none either.
    """
    if not isinstance(entry, Mapping) or entry.get("type") != "file":
        return None
    path, size, lfs = entry.get("path"), entry.get("size"), entry.get("lfs")
    if not isinstance(path, str) or type(size) is not int or size < 0:
        return None
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or path.startswith("/") or "\\" in path or not path.isprintable():
        return None
    said = lfs.get("oid") if isinstance(lfs, Mapping) else None
    known = isinstance(said, str) and SHA256.fullmatch(said.removeprefix("sha256:"))
    blob = entry.get("oid")
    return RemoteFile(
        path,
        size,
        str(said).removeprefix("sha256:") if known else None,
        blob=blob if lfs is None and isinstance(blob, str) and COMMIT.fullmatch(blob) else None,
    )


def _licence(info: Mapping[str, Any]) -> str | None:
    """Return the licence that a repository's card states, its own name where it is no usual one."""
    card = info.get("cardData")
    card = card if isinstance(card, Mapping) else {}
    said = card.get("license")
    if said == "other":
        said = card.get("license_name") or said
    if isinstance(said, list):
        said = ", ".join(str(each) for each in said)
    if not said:
        tags = info.get("tags")
        marked = (t for t in tags if isinstance(t, str)) if isinstance(tags, list) else ()
        said = next((t.removeprefix("license:") for t in marked if t.startswith("license:")), None)
    return readable(said)[:80] if isinstance(said, str) and said else None


def _error_of(refused: Refused, name: str, revision: str, connection: Connection) -> BadInput:
    """Return the sentence for a refusal of the hub's, of a request for a repository."""
    named = "your token is not allowed to read it" if connection.token else "there is no token"
    match refused.code, refused.word:
        case _, "RevisionNotFound":
            return RevisionGone(f"{name} has no revision {revision!r}", "use --revision main")
        case _, "GatedRepo":
            return Unavailable(
                f"{name} is a gated model, and {named}",
                f"accept its licence at {connection.endpoint}/{name}, then set HF_TOKEN to your"
                " token",
            )
        case ((401 | 403 | 404), "RepoNotFound"):
            return _unknown(name, private=not connection.token)
        case 401, _ if refused.message.startswith("Invalid credentials"):
            return Unavailable("the hub does not know the token", "set HF_TOKEN to a valid one")
        case 401, _:
            return _unknown(name, private=not connection.token)
        case 403, _:
            return Unavailable(
                f"the hub refuses access to {name}"
                + (f" ({refused.message[:100]})" if refused.message else ""),
                f"look at {connection.endpoint}/{name}",
            )
        case 404, "EntryNotFound":
            return BadInput(f"a file of {name} is gone", "run the same command again")
        case 404, _:
            return _unknown(name, private=not connection.token)
        case 429, _:
            return Unavailable(
                "the hub allows no more requests for a while",
                "try again in some minutes, with a token in HF_TOKEN for a higher limit",
            )
        case _:
            return Unavailable(f"the hub answers with error {refused.code}", "try again later")


def _unknown(name: str, *, private: bool) -> Unavailable:
    also = ", or set HF_TOKEN if it is private" if private else ""
    return Unavailable(f"there is no model {name} on the hub", f"check the name{also}")
