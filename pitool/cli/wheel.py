"""``pitool wheel``: cross-compiles llama.cpp for every 64-bit Raspberry Pi."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pitool.deploy.wheel import Wheel


@click.command("wheel")
@click.option(
    "--compiler", type=click.Choice(["gcc", "zig"]), help="Compiler (default: the first one found)."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to copy the wheel to."
)
@click.option("--force", is_flag=True, help="Build even if it is in the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(compiler: str | None, out: Path | None, force: bool, as_json: bool) -> None:
    """Build the llama-cpp-python wheel for every 64-bit Raspberry Pi.

    The wheel has kernels for CPUs with and without dotprod; the engine picks the right ones. The
    build takes two or three minutes; afterwards the wheel comes from the cache.

    \b
    Example:
      pitool wheel --out wheels
    """
    import shutil

    from pitool.catalog.outputs import output
    from pitool.report.numbers import format_bytes

    wheel = _build(compiler, force=force)
    path = wheel.path
    if out is not None:
        path = out / wheel.path.name
        out.mkdir(parents=True, exist_ok=True)
        with output(path) as target, wheel.path.open("rb") as source:
            shutil.copyfileobj(source, target)
    if as_json:
        click.echo(json.dumps(asdict(wheel) | {"path": str(path)}))
    else:
        click.echo(path)
        origin = "from the cache" if wheel.cached else f"built with {wheel.toolchain}"
        click.echo(f"{format_bytes(wheel.bytes)}, {origin}, sha256 {wheel.sha256}", err=True)


def _build(compiler: str | None, *, force: bool) -> Wheel:
    """Build, with a progress bar on a terminal and a line elsewhere."""
    from pitool.deploy.wheel import build
    from pitool.report.progress import Stages, stage_of

    with Stages() as progress:
        step = stage_of(progress, "compiling llama.cpp")
        return build(compiler, force=force, progress=step)
