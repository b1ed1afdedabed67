"""``pitool plan``: what fits, how fast it runs, and what helps when it does not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitool.cli.kv_type import kv_type_option
from pitool.cli.name_lists import names_option
from pitool.cli.ranges import FiniteRange, WholeRange

if TYPE_CHECKING:
    from pitool.checkpoint.source import Source
    from pitool.device.here import ThisMachine
    from pitool.planning.formats.base import PlannedModel
    from pitool.planning.places import Place
    from pitool.planning.report import Options


@click.command("plan")
@click.argument("model", required=False)
@click.option("--ram", metavar="TIER", help="RAM of the board, such as 8gb (default: all).")
@click.option("--board", metavar="BOARD", help="Board, such as pi5; 'here' is this machine.")
@click.option("--context", type=WholeRange(min=1), help="Tokens of context to plan for.")
@click.option("--prompt", type=WholeRange(min=1), metavar="TOKENS",
              help="Say how long a prompt of so many tokens waits.")  # fmt: skip
@click.option(
    "--parallel",
    default=1,
    metavar="N",
    type=WholeRange(1, 64),
    help="Answers at once, each with this context (GGUF).",
)
@kv_type_option
@click.option(
    "--profile",
    default="balanced",
    metavar="NAME",
    help="Planning profile: conservative, balanced (default) or aggressive.",
)
@names_option("--quant", text="Quantisations, such as Q4_K_M or F16,Q8_0; or auto.")
@names_option(
    "--languages",
    metavar="CODES",
    text="Plan with a vocabulary cut to these languages, such as en,de.",
)
@click.option(
    "--keep-text",
    type=Path,
    multiple=True,
    metavar="FILE",
    help="Plan with a vocabulary cut to this text.",
)
@click.option("--lora", metavar="DIR|RANK", help="Separate LoRA adapter: its folder or rank.")
@click.option("--format", metavar="[gguf|onnx]", help="Only this format.")
@click.option(
    "--boards", metavar="LIST", help="Split it over these boards, such as pi5-8gb,pi5-8gb,pi4-4gb."
)
@click.option(
    "--network",
    type=FiniteRange(min=0, min_open=True),
    metavar="MBIT",
    help="Rate of the network between them (default: their Ethernet).",
)
@click.option("--buy", is_flag=True, help="Compare boards to buy.")
@click.option("--rent", is_flag=True, help="Compare boards with rented GPUs.")
@click.option(
    "--from",
    "from_card",
    metavar="CARD",
    help="GPU that you rent now: what changing saves (with --rent).",
)
@click.option(
    "--price",
    multiple=True,
    metavar="BOARD=USD",
    help="Price to use for a board, such as pi5-8gb=160.",
)
@click.option(
    "--electricity",
    type=FiniteRange(min=0),
    default=0.30,
    metavar="USD",
    help="Price of electricity per kWh.",
)
@click.option(
    "--target-tps",
    type=FiniteRange(min=0, min_open=True),
    metavar="RATE",
    help="List boards that decode at RATE tokens/s or more.",
)
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Plot to an SVG file."
)
@click.option("--details", is_flag=True, help="Show the tables: memory, verdicts, speeds.")
@click.option("--markdown", is_flag=True, help="Print Markdown tables, for pasting.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    model: str | None,
    plot: Path | None,
    boards: str | None,
    network: float | None,
    details: bool,
    markdown: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Say what fits where, and how fast it runs; --details shows the tables.

    MODEL is a folder, a hub id, a recipe, a bundle, a GGUF file, or a size such as 14B. Only
    settings are read or downloaded, never weights.

    \b
    Example:
      pitool plan 14B --ram 16gb
      pitool plan 3B --board pi5 --details
      pitool plan Qwen/Qwen2.5-1.5B-Instruct --board pi5 --context 8192
      pitool plan 3B --board pi5 --prompt 20000
      pitool plan 7B --buy --rent --price pi5-8gb=160
      pitool plan 14B --rent --from ADA_80_PRO
      pitool plan 3B --target-tps 5
      pitool plan 32B --boards pi5-16gb,pi5-16gb,pi4-4gb
      pitool plan sample --languages en
    """
    from pitool.cli import plan_show
    from pitool.planning.answer import answer
    from pitool.planning.report import Options, find_places, make_report
    from pitool.report import tables

    cut = {"languages": asked.pop("languages"), "keep_text": asked.pop("keep_text")}
    options = Options(**asked | {"rent": asked["rent"] or asked["from_card"] is not None})
    _check(options, plot)
    if boards is not None:
        from pitool.cli import plan_boards

        _check_boards(options, plot)
        found = _find_model(model, options, find_places(None, None), cut)
        plan_boards.show(options, found, boards, network, as_json=as_json)
        return
    here = _find_here(options)
    places = [here.place] if here else find_places(options.ram, options.board)
    planned = _find_model(model, options, places, cut)
    report = make_report(
        options,
        planned,
        places,
        corrections=here.corrections if here else None,
        notes=here.notes if here else (),
        small=_find_drafts(model, planned) if details or markdown or as_json else (),
    )
    if plot:
        _write(plot, plan_show.chart(report))
    if as_json:
        click.echo(json.dumps(report.to_json() | {"answer": answer(report)}, indent=2))
    else:
        sections = plan_show.sections(report, details=details or markdown)
        if markdown:
            click.echo(tables.to_markdown(sections))
        else:
            tables.show(sections)
    report.require()


def _check(options: Options, plot: Path | None) -> None:
    """Raise UsageError for what only some formats have, and for a chart that is no SVG."""
    from pitool.catalog.outputs import is_written_through
    from pitool.errors import UsageError

    wanted = {
        "--buy": options.buy,
        "--rent": options.rent,
        "--target-tps": options.target_tps,
        "--plot": plot,
    }
    asked = [flag for flag, value in wanted.items() if value]
    if asked and not options.form.by_bits:
        raise UsageError(
            f"{asked[0]} cannot be used with {options.form.title}",
            f"drop --format {options.form.name} and its quantisations",
        )
    if plot and plot.suffix.lower() != ".svg" and not is_written_through(plot):
        raise UsageError(
            f"--plot writes SVG, not {plot.name}", "choose a file name that ends in .svg"
        )


def _check_boards(options: Options, plot: Path | None) -> None:
    """Raise UsageError for what is asked of one board only."""
    from pitool.errors import UsageError

    single: dict[str, object] = {
        "--board": options.board,
        "--ram": options.ram,
        "--lora": options.lora,
        "--buy": options.buy,
        "--rent": options.rent,
        "--target-tps": options.target_tps,
        "--plot": plot,
    }
    if asked := [flag for flag, value in single.items() if value]:
        raise UsageError(f"{asked[0]} and --boards cannot be combined", "drop one of them")


def _find_here(options: Options) -> ThisMachine | None:
    """Return this machine where it is asked for, or where it is a board and none is named."""
    from pitool.planning.places import HERE

    if options.ram is not None or options.board not in (None, HERE):
        return None
    from pitool.device.detect import detect
    from pitool.device.here import this_machine

    machine = detect()
    return this_machine(machine) if options.board == HERE or machine.board_id else None


def _find_model(
    model: str | None, options: Options, places: Sequence[Place], cut: dict[str, Any]
) -> PlannedModel:
    """Return the model; None asks the recipe of the place, or of the largest tier that has one.

    ``cut``: the options by which its vocabulary is cut.
    """
    from pitool.catalog.model_argument import CHECKPOINTS, resolve
    from pitool.planning.models import PLANNED, planned_model

    if any(cut.values()):
        return _find_trimmed(model, options, places, cut)
    if model is not None:
        found = resolve(model, (*CHECKPOINTS, *PLANNED))
        if found.kind in PLANNED:
            return planned_model(found)
    from pitool.convert.download import planned_checkpoint

    return planned_checkpoint(_find_checkpoint(model, options, places))


def _find_drafts(model: str | None, planned: PlannedModel) -> list[PlannedModel]:
    """Return what may guess for a model: the bundles with its vocabulary, else its known family."""
    from pitool.catalog.model_argument import CHECKPOINTS, resolve
    from pitool.planning.drafts import known_drafts
    from pitool.planning.models import PLANNED, local_drafts

    if planned.vocabulary is not None:  # it is cut, and no other model's with it
        return []
    found = resolve(model, (*CHECKPOINTS, *PLANNED)) if model else None
    return (list(local_drafts(found)) if found else []) or known_drafts(planned)


def _find_trimmed(
    model: str | None, options: Options, places: Sequence[Place], cut: dict[str, Any]
) -> PlannedModel:
    """Return a model whose vocabulary is cut."""
    from pitool.catalog import cache
    from pitool.cli.convert_engines import open_engine
    from pitool.convert.download import planned_trimmed
    from pitool.convert.trim.source import trim
    from pitool.convert.trim.texts import find_texts

    texts = find_texts(cut["languages"], cut["keep_text"])
    assert texts
    source = _find_checkpoint(model, options, places)
    with cache.working("vocabulary") as scratch:
        return planned_trimmed(trim(source, texts, scratch, open_engine))


def _find_checkpoint(model: str | None, options: Options, places: Sequence[Place]) -> Source:
    """Return the checkpoint or the GGUF, with the settings of one on the hub."""
    from pitool.catalog.recipes import default_tiers
    from pitool.checkpoint import hub
    from pitool.checkpoint.source import find_source
    from pitool.planning.places import HERE
    from pitool.report.progress import talk

    named = options.ram or options.board not in (None, HERE)
    tier = places[-1].tier if named else default_tiers()[-1]
    source = find_source(model, tier, gguf_too=True)
    if source.folder is None:
        talk(f"reading the settings of {source.id} from the hub")
        source = hub.fetch_settings(source)
    return source


def _write(path: Path, drawing: str) -> None:
    from pitool.catalog.outputs import write_output

    write_output(path, drawing.encode())
