"""``/api/pull``: a model is downloaded from the hub, as ``pitool pull`` does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import aclosing
from queue import SimpleQueue
from typing import Any

from starlette.requests import Request

from pitool.errors import Interrupted, UsageError
from pitool.serve.bodies import read_body
from pitool.serve.context import context_of
from pitool.serve.pump import Pump
from pitool.serve.replies import LINES, Pieces, Reply

# Bytes between two words about how far it is.
STEP = 1 << 22


async def endpoint(request: Request) -> Reply:
    """Download a model, with lines that say how far it is; who leaves ends it for now."""
    fields, context = await read_body(request), context_of(request)
    name, stream = fields.text("model") or fields.text("name"), fields.flag("stream")
    fields.ignore("insecure")
    fields.done()
    if not name:
        raise UsageError("'model' is missing", "name a model of pitool models, or OWNER/REPO:QUANT")
    if context.shelf.only:
        raise UsageError(
            "this server serves one model only",
            "start pitool serve without a bundle to pull others",
        )
    if stream is False:
        return Reply(_whole(name), None)
    return Reply(_lines(name), LINES)


async def _lines(name: str) -> Pieces:
    async with aclosing(Pump(lambda: download(name), lambda: None).items()) as lines:
        async for line in lines:
            yield line


async def _whole(name: str) -> Pieces:
    async with aclosing(_lines(name)) as lines:
        async for line in lines:
            last = line
    yield last


def download(name: str) -> Iterator[dict[str, Any]]:
    """Yield what is done, in Ollama's words; blocks."""
    # Imported here: a third of what a server imports, which few ask for.
    from pitool.catalog.profiles import BALANCED, find_profile
    from pitool.device.here import find_place
    from pitool.pull.bundle import already, pull
    from pitool.pull.choice import Choice
    from pitool.pull.hub import find_hub
    from pitool.pull.request import choose, find_request, target_of

    yield {"status": "pulling manifest"}
    request = find_request(name.removesuffix(":latest"))
    place, corrections = find_place(None, None)
    hub = find_hub()
    repository, variants = request.open(hub.repository)
    profile = find_profile(BALANCED)
    choice = Choice(hub, repository, variants, place, profile, request.context, corrections)
    candidate, _ = choose(request, choice)
    target = target_of(choice, candidate, None)
    if already(target, choice, candidate) is None:
        licence = request.licence or repository.licence
        yield from _told(
            lambda progress: pull(choice, candidate, target, progress, licence=licence)
        )
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    yield {"status": "success"}


def _told(work: Any) -> Iterator[dict[str, Any]]:
    """Yield how far a job is that runs in a thread of its own, until it has ended."""
    lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    progress = _Lines(lines)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work(progress)
        except BaseException as error:
            failed.append(error)
        lines.put(None)

    threading.Thread(target=run, name="pitool pull", daemon=True).start()
    try:
        while (line := lines.get()) is not None:
            yield line
    finally:
        progress.left.set()
    if failed:
        raise failed[0]


class _Lines:
    """A progress that says how far a download is, and ends it when nobody listens."""

    def __init__(self, lines: SimpleQueue[dict[str, Any] | None]) -> None:
        self._lines, self.left = lines, threading.Event()
        self._title, self._total, self._done, self._told = "", 0, 0, 0

    def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
        """Begin a stage."""
        del bytes_
        self._title, self._total, self._done, self._told = title, total, 0, 0
        self._tell()

    def advance(self, count: int) -> None:
        """Count what arrived."""
        if self.left.is_set():
            raise Interrupted("nobody waits for the download", "pull it again to go on")
        self._done += count
        if self._done - self._told >= STEP:
            self._tell()

    def close(self) -> None:
        """End the last stage."""
        self._tell()

    def _tell(self) -> None:
        self._told = self._done
        self._lines.put({"status": self._title, "total": self._total, "completed": self._done})
