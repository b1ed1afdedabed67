"""``pitool cluster serve``: this machine as a board of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pitool.cli.ranges import WholeRange

if TYPE_CHECKING:
    from pitool.cluster.server import Place
    from pitool.cluster.tensor_cache import TensorCache

LOCAL = "127.0.0.1"


@click.command("serve")
@click.option("--host", metavar="ADDRESS", help="IPv4 address to listen on; 0.0.0.0 is all.")
@click.option("--port", default=50052, show_default=True, type=WholeRange(1, 65534),
              help="Port of the server; the next one tells how the board is.")  # fmt: skip
@click.option("--via", type=click.Choice(["ssh"]),
              help="Listen on the loopback interface, for OpenSSH only.")  # fmt: skip
@click.option("--threads", type=WholeRange(1, 512), metavar="N", help="CPU threads (all).")
@click.option("--cache/--no-cache", default=True, help="Keep large tensors on this disk (default).")
@click.option("--install", is_flag=True, help="Serve whenever this board is on (systemd).")
@click.option("--uninstall", is_flag=True, help="Remove that service.")
def command(
    host: str | None,
    port: int,
    via: str | None,
    threads: int | None,
    cache: bool,
    install: bool,
    uninstall: bool,
) -> None:
    """Let other machines compute layers of their models here.

    llama.cpp's RPC protocol trusts its network: whoever reaches the port can use this machine's
    memory and may crash the server. Without --host it listens on the loopback interface, and
    boards are added with --via ssh; use --host on a network of your own.

    \b
    Example:
      pitool cluster serve --via ssh
      pitool cluster serve --host 192.168.1.11
      pitool cluster serve --host 192.168.1.11 --install
    """
    from pitool.cluster.server import BoardServer, Place
    from pitool.device.detect import detect
    from pitool.device.settings import board_threads
    from pitool.errors import UsageError
    from pitool.report.progress import talk

    if via and host not in (None, LOCAL):
        raise UsageError("--via ssh listens on the loopback interface", "drop --host")
    if install and uninstall:
        raise UsageError("--install and --uninstall cannot be combined", "drop one of them")
    address = _address(host or LOCAL)
    if install or uninstall:
        _service(address, port, threads, cache=cache, install=install)
        return
    count = threads or board_threads(detect())[1]
    place = Place(address, port)
    server = BoardServer(place, count, _cache() if cache else None, talk)
    server.run(lambda: _say_ready(place, count))


def _say_ready(place: Place, threads: int) -> None:
    from pitool.report.numbers import format_count
    from pitool.report.progress import talk

    talk(f"serving {format_count(threads, 'thread')} at {place.address}")
    if place.host.startswith("127."):
        talk("reached through ssh: pitool cluster add USER@THIS-BOARD --via ssh")
    else:
        talk(
            "warning: whoever reaches this port can use this machine, for the protocol has no keys;"
            " use it on a network that you trust, or with --via ssh"
        )


def _address(host: str) -> str:
    """Return an address of this machine as IPv4 numbers, which is all that llama.cpp takes."""
    import socket

    from pitool.errors import UsageError, reason

    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise UsageError(
            f"{host} is not an IPv4 address ({reason(error)})", "use one, such as 192.168.1.11"
        ) from None


def _cache() -> TensorCache | None:
    from pitool.catalog import cache
    from pitool.cluster.tensor_cache import TensorCache
    from pitool.device import memory
    from pitool.report.progress import talk

    kept = TensorCache(cache.folder("cluster-tensors"))
    if kept.has_room(memory.total() or 0):
        return kept
    talk("tensors are not kept: the disk has too little room, and models are sent at each load")
    return None


def _service(address: str, port: int, threads: int | None, *, cache: bool, install: bool) -> None:
    from pitool.deploy import service
    from pitool.device.detect import detect
    from pitool.report.progress import talk

    if not install:
        removed = service.uninstall(service.CLUSTER)
        talk("the service is removed" if removed else "there is no service of pitool cluster")
        return
    words = ["--host", address, "--port", str(port)]
    words += ["--threads", str(threads)] if threads else []
    words += [] if cache else ["--no-cache"]
    machine = detect()
    service.install(machine, service.CLUSTER, words)
    talk(f"pitool cluster serve is running at {address}:{port}")
    for note in service.notes(machine):
        talk(note)
