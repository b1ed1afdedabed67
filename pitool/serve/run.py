"""The whole of ``pitool serve``: a socket, a first model, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from pitool.errors import PitoolError
from pitool.serve.app import application
from pitool.serve.context import Context
from pitool.serve.failures import StoppingError
from pitool.serve.server import Server, quiet
from pitool.serve.shelf import Offer


def run(
    context: Context,
    listening: socket.socket,
    first: Offer | None,
    ready: Callable[[], object],
    certificate: tuple[str, str] | None = None,
) -> None:
    """Serve until a signal, which ends in KeyboardInterrupt.

    ``first`` is loaded at once: where that fails its error is raised if it is the only model, and
    said else. ``ready`` is called when it is there; requests that come before wait.
    """
    quiet()
    with listening:
        interrupted = asyncio.run(_serve(context, listening, first, ready, certificate))
    if interrupted:
        raise KeyboardInterrupt


async def _serve(
    context: Context,
    listening: socket.socket,
    first: Offer | None,
    ready: Callable[[], object],
    certificate: tuple[str, str] | None,
) -> bool:
    models = context.models
    server = Server(application(context), listening, models.stop, certificate)
    loading = asyncio.create_task(_load_first(context, first, ready, server))
    try:
        await server.serve(sockets=[listening])
    finally:
        loading.cancel()
        await models.close()
    if loading.done() and not loading.cancelled() and (error := loading.exception()):
        raise error
    return server.interrupted


async def _load_first(
    context: Context, first: Offer | None, ready: Callable[[], object], server: Server
) -> None:
    try:
        if first is not None:
            async with context.models.turn(first):
                pass
    except StoppingError:
        return
    except PitoolError as error:
        if context.shelf.only:
            server.should_exit = True
            raise
        context.log(f"warning: {error.sentence}")
    ready()
