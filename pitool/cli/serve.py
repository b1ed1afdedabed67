"""``pitool serve``: serves models over HTTP, as OpenAI and Ollama do."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitool.cli.guess_options import guess_options
from pitool.cli.kv_type import kv_type_option, parse
from pitool.cli.names import cluster_option
from pitool.cli.ranges import WholeRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from pitool.engine.base import Engine
    from pitool.serve.shelf import Shelf

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
@click.option("--port", default=8080, show_default=True, type=WholeRange(0, 65535),
              help="Port to listen on; 0 for any free one.")  # fmt: skip
@click.option("--context", type=WholeRange(min=256), help="Context size in tokens.")
@click.option("--waiting", default=4, show_default=True, type=WholeRange(min=0),
              help="Requests that may wait for a model.")  # fmt: skip
@click.option("--parallel", type=WholeRange(1, 64), metavar="N",
              help="Answers at once; by default as many as fit, up to 4.")  # fmt: skip
@click.option("--prefill", type=click.Path(path_type=Path), metavar="FILE",
              help="System prompt (text, or JSON with tools) to read at the start.")  # fmt: skip
@click.option("--keep-alive", default="-1", metavar="TIME",
              help="Unload a model unused for so long, such as 5m.")  # fmt: skip
@click.option("--origin", "origins", multiple=True, metavar="URL",
              help="Allow web pages of this site, such as https://chat.example.")  # fmt: skip
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate for HTTPS, in PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key.")
@cluster_option
@guess_options
@kv_type_option
@click.option("--force", is_flag=True, help="Load even if the memory seems too small.")
def command(
    bundle: Path | None,
    quant: str | None,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    **options: Any,
) -> None:
    """Serve models over HTTP, with the APIs of OpenAI and Ollama.

    Without BUNDLE, all bundles are served: a request names the one to load. OpenAI clients use
    http://HOST:PORT/v1 as their base URL, Ollama clients http://HOST:PORT, browsers the same. If
    PITOOL_API_KEY is set in the environment, clients must send it as their API key.

    \b
    Example:
      pitool serve sample-1gb
      PITOOL_API_KEY=secret pitool serve --host 0.0.0.0
    """
    from pitool.catalog.fault_log import keep_warnings
    from pitool.cli.guess_options import find_draft
    from pitool.cli.loading import loading_words
    from pitool.device.settings import MOST_SEQUENCES
    from pitool.report.progress import talk
    from pitool.serve.context import Context
    from pitool.serve.loading import WorkerLoader
    from pitool.serve.models import Models
    from pitool.serve.run import run
    from pitool.serve.times import parse_time

    keep_warnings()
    key = os.environ.get(KEY) or None
    shelf = _shelf(bundle, quant)
    first = shelf.find(None)
    parallel = options["parallel"]
    speculate = options["speculate"]
    loader = WorkerLoader(
        options["context"],
        parallel,
        options["force"],
        strict=shelf.only,
        cluster=options["cluster"],
        say=talk,
        draft=find_draft(options["draft"], speculate=speculate),
        speculate=speculate,
        cache=parse(options["kv_type"]),
    )
    if shelf.only:
        loader.check(first, [])
    models = Models(
        loader,
        waiting=options["waiting"],
        places=parallel or MOST_SEQUENCES,
        keep=parse_time(options["keep_alive"]),
        prepare=_prepare(options["prefill"]),
    )
    origins = tuple(origin.rstrip("/") for origin in options["origins"])
    context = Context(shelf, models, key, origins, talk)
    certificate = _certificate(tls_cert, tls_key)
    listening = _listen(host, port)
    talk(f"loading {first.name} ({first.quantisation})")
    if words := loading_words(first.open(), options["context"]):
        talk(words)
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if certificate else "http"
    address = f"{scheme}://{shown}:{listening.getsockname()[1]}"

    def ready() -> None:
        what = first.id if shelf.only else f"{len(shelf.offers())} models"
        talk(f"serving {what} at {address}/v1 (a chat in the browser: {address})")
        if key is None and host not in LOCAL:
            talk(f"warning: anyone on this network can use this server; set {KEY} to require a key")

    run(context, listening, first, ready, certificate)


def _prepare(path: Path | None) -> Callable[[Engine], object]:
    """Return what a model does when it is loaded: read what conversations begin with."""
    from pitool.serve.prefill import prefill, read_prefill

    if path is None:
        return lambda _: None
    beginning = read_prefill(path)
    return lambda engine: prefill(engine, beginning)


def _shelf(bundle: Path | None, quant: str | None) -> Shelf:
    from pitool.catalog.bundles import newest
    from pitool.catalog.model_argument import find_runnable
    from pitool.serve.shelf import AllBundles, OneModel

    if bundle is not None or quant is not None:
        return OneModel(find_runnable(bundle, quant))
    newest()  # says what to do where there is none
    return AllBundles()


def _listen(host: str, port: int) -> socket.socket:
    from pitool.errors import UsageError
    from pitool.serve.server import listen

    if not host:  # which would be all networks to the socket
        raise UsageError("--host is empty", f"use {LOCAL[0]}, or 0.0.0.0 for all networks")
    try:
        return listen(host, port)
    except OSError as error:
        foreign = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        raise UsageError(
            f"cannot listen on {host} port {port} ({error.strerror or error})",
            "set --host to an address of this machine"
            if foreign
            else "stop the program that uses it, or choose another --port",
        ) from None


def _certificate(cert: Path | None, key: Path | None) -> tuple[str, str] | None:
    """Return the files for HTTPS, checked to belong together."""
    from pitool.errors import BadInput, UsageError, reason

    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("HTTPS needs a certificate and its key", "use --tls-cert and --tls-key")
    import ssl

    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key, password=lambda: "")  # nobody is there to be asked
    except (OSError, ssl.SSLError) as error:
        what = f"cannot use {cert} with {key} ({reason(error)})"
        raise BadInput(what, "use a certificate and its key in PEM, without a password") from None
    return str(cert), str(key)
