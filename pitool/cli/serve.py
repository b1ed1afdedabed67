"""``pitool serve``: serves a model over HTTP, with OpenAI's API."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import click

KEY = "PITOOL_API_KEY"
LOCAL = ("127.0.0.1", "localhost", "::1")


@click.command("serve")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--quant", metavar="NAME", help="Artifact of the bundle, such as Q4_K_M.")
@click.option(
    "--host",
    default=LOCAL[0],
    show_default=True,
    help="Address to listen on; 0.0.0.0 is all networks.",
)
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535),
              help="Port to listen on; 0 for any free one.")  # fmt: skip
@click.option("--context", type=click.IntRange(min=256), help="Context size in tokens.")
@click.option("--waiting", default=4, show_default=True, type=click.IntRange(min=0),
              help="Requests that may wait while one is answered.")  # fmt: skip
@click.option("--force", is_flag=True, help="Load even if the memory seems too small.")
def command(
    bundle: Path | None,
    quant: str | None,
    host: str,
    port: int,
    context: int | None,
    waiting: int,
    force: bool,
) -> None:
    """Serve a model with an OpenAI-compatible HTTP API.

    OpenAI clients use http://HOST:PORT/v1 as their base URL. If PITOOL_API_KEY is set in the
    environment, they must send it as their API key.

    \b
    Example:
      pitool serve sample-1gb
      PITOOL_API_KEY=secret pitool serve --host 0.0.0.0
    """
    from pitool.catalog.fault_log import keep_warnings
    from pitool.catalog.model_argument import find_runnable
    from pitool.cli.loading import loading_words
    from pitool.device.settings import check_memory, settings_for
    from pitool.engine import worker
    from pitool.errors import UsageError
    from pitool.report.progress import talk
    from pitool.serve.model import Model
    from pitool.serve.server import Server

    keep_warnings()
    key = os.environ.get(KEY) or None
    runnable = find_runnable(bundle, quant)
    settings = settings_for(runnable, context)
    if not force:
        check_memory(runnable, settings)
    say = talk
    say(f"loading {runnable.name} ({runnable.quantisation})")
    if words := loading_words(runnable, context):
        say(words)

    def load() -> Model:
        return Model(lambda: worker.start(runnable.format, runnable.entry, settings), waiting)

    try:
        server = Server((host, port), load, runnable.name, key, say)
    except OSError as error:
        foreign = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        raise UsageError(
            f"cannot listen on {host} port {port} ({error.strerror or error})",
            "set --host to an address of this machine"
            if foreign
            else "stop the program that uses it, or choose another --port",
        ) from None
    with server:
        shown = f"[{host}]" if ":" in host else host
        say(f"serving {runnable.name} at http://{shown}:{server.server_address[1]}/v1")
        if key is None and host not in LOCAL:
            say(f"warning: anyone on this network can use this server; set {KEY} to require a key")
        server.serve_forever()
