"""``pitool pack``: packs a bundle and everything a board needs into one file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pitool.cli.name_lists import names_option
from pitool.cli.names import BundlePath

if TYPE_CHECKING:
    from pitool.catalog.bundles import Bundle


@click.command("pack")
@click.argument("bundle", required=False, type=BundlePath())
@click.option("--board", "board_id", metavar="ID", help="Board, such as pi5. Required.")
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="File to write (default: NAME.pi).",
)  # fmt: skip
@names_option("--quant", text="Pack only these artifacts, such as Q4_K_M,INT4.")
@click.option(
    "--prefill",
    "prompts",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read this prompt now, so that the board need not; repeatable.",
)
@click.option("--compact", is_flag=True, help="Save what was read in q8_0: about half of f16.")
@click.option("--runtime-only", is_flag=True, help="Pack pitool without a model.")
@click.option("--model-only", is_flag=True, help="Pack the model without pitool.")
@click.option(
    "--compiler", type=click.Choice(["gcc", "zig"]), help="Compiler for the llama.cpp wheel."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundle: Path | None,
    board_id: str | None,
    out: Path | None,
    quant: str | None,
    prompts: tuple[Path, ...],
    compact: bool,
    runtime_only: bool,
    model_only: bool,
    compiler: str | None,
    as_json: bool,
) -> None:
    """Pack a bundle, pitool, its wheels and an installer into one file.

    The file installs without a network, with 'pitool push' or on the board itself:

    \b
      mkdir sample && tar -xf sample.pi -C sample && sample/install.sh

    \b
    Example:
      pitool pack sample-1gb --board pi5 -o sample.pi
      pitool pack sample-1gb --board pi5 --prefill system.txt
    """
    from pitool.catalog.boards import boards, find_board
    from pitool.catalog.bundles import find_bundle, newest
    from pitool.catalog.tables import names_in
    from pitool.deploy.pack import choose, pack
    from pitool.errors import UsageError
    from pitool.report.numbers import format_bytes

    if runtime_only and (model_only or bundle or quant or prompts):
        raise UsageError(
            "--runtime-only cannot be combined with a bundle, --quant, --prefill or --model-only",
            "drop one or the other",
        )
    if board_id is None:
        raise UsageError("--board is required", f"choose one of: {', '.join(boards())}")
    board, names = find_board(board_id), tuple(names_in(quant or ""))
    found = None if runtime_only else find_bundle(bundle) if bundle else newest()
    target = out or Path(f"{found.path.name if found else 'pitool'}.pi")
    click.echo(f"packing {found.path.name if found else 'the runtime'} for {board.name}", err=True)
    if found is not None and prompts:
        _read(found, [a.quantisation for a in choose(found, board, names)], prompts, compact)
    packed = pack(
        found, board_id, board, target,
        runtime=not model_only, quantisations=names, compiler=compiler,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(asdict(packed) | {"path": str(packed.path)}))
        return
    click.echo(packed.path)
    parts = (
        f"runtime {format_bytes(packed.runtime_bytes)}, model {format_bytes(packed.model_bytes)}"
    )
    click.echo(f"{format_bytes(packed.bytes)}: {parts}", err=True)


def _read(bundle: Bundle, quants: list[str], prompts: tuple[Path, ...], compact: bool) -> None:
    """Read prompts with the artifacts that are packed, with the settings of a new board."""
    from pitool.catalog import bundles
    from pitool.cli.loading import loader
    from pitool.cli.prefill import line, read_for

    runnables = [bundles.choose(bundle, quant) for quant in quants]
    for prompt in prompts:
        for made in read_for(runnables, prompt, loader(tuned=False), compact=compact):
            click.echo(line(made), err=True)
