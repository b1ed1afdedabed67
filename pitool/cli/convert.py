"""``pitool convert``: converts a checkpoint to a bundle. Prints; the work is the library's."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitool.cli.kv_type import kv_type_option
from pitool.cli.name_lists import names_option
from pitool.cli.ranges import Finite, FiniteRange, WholeRange

if TYPE_CHECKING:
    from pitool.catalog.bundles import Bundle
    from pitool.checkpoint.source import Source
    from pitool.cli.convert_request import Request
    from pitool.convert.plan import ConvertPlan
    from pitool.planning.formats.base import ArtifactPlan
    from pitool.report.tables import Section


@click.command("convert")
@click.argument("model", required=False)
@click.option("--ram", required=True, metavar="TIER", help="RAM of the board, such as 8gb.")
@click.option(
    "--board", metavar="BOARD", help="Plan for one board with that RAM, such as pi5; or here."
)
@click.option(
    "--profile",
    metavar="NAME",
    help="Planning profile: conservative, balanced (default) or aggressive.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the bundle to write.")
@names_option("--quant", text="Quantisations, such as Q4_K_M or Q8_0,INT4 or gptq-int4; or auto.")
@click.option("--size", metavar="SIZE", help="Make a GGUF of at most this size, such as 1.9gb.")
@click.option("--fit", is_flag=True, help="Make the best GGUF that fits the board.")
@click.option(
    "--target-tps",
    type=FiniteRange(min=0, min_open=True),
    metavar="RATE",
    help="Make the best GGUF that decodes at RATE tokens/s or more (prediction).",
)
@click.option("--format", "format_", metavar="[gguf|onnx]", help="Make only this format.")
@click.option(
    "--calibration",
    default="self",
    show_default=True,
    metavar="FILE",
    help="Text or importance matrix; 'self': the model writes a text; or 'none'.",
)
@names_option(
    "--languages",
    metavar="CODES",
    text="Cut the vocabulary to what these languages need, such as en,de.",
)
@click.option(
    "--keep-text",
    type=Path,
    multiple=True,
    metavar="FILE",
    help="Cut the vocabulary, and keep the tokens of this text.",
)
@click.option(
    "--effort",
    default="fast",
    show_default=True,
    metavar="[fast|normal|best]",
    help="Time that rounding may take; more is closer to the checkpoint at the same size.",
)
@click.option(
    "--text",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Your text, to measure the quality on (default: a built-in one).",
)
@click.option("--context", type=WholeRange(min=256), help="Tokens of context to plan for.")
@kv_type_option
@click.option("--requantise", is_flag=True, help="Allow a GGUF that is already quantised.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit on the hub.")
@click.option("--lora", type=Path, multiple=True, metavar="DIR", help="PEFT adapter to merge.")
@click.option(
    "--lora-scale", type=Finite(), multiple=True, help="Scale of the adapter (default: 1)."
)
@click.option("--lora-separate", is_flag=True, help="Keep the adapter in a separate file.")
@click.option(
    "--max-kld",
    type=FiniteRange(min=0),
    metavar="NATS",
    help="Fail if the mean KL divergence is higher.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--dry-run", is_flag=True, help="Show the plan and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(**options: Any) -> None:
    """Convert a checkpoint to a bundle that fits a board.

    MODEL is a folder, a hub id, a recipe, a GGUF file, or 'sample'. Without it, the recipe for the
    RAM tier is used.

    \b
    Example:
      pitool convert sample --ram 1gb
      pitool convert Qwen/Qwen2.5-1.5B-Instruct --ram 2gb --quant Q4_K_M
      pitool convert ./model --ram 4gb --quant Q4_0 --effort best --calibration notes.txt
      pitool convert ./model --ram 4gb --quant gptq-int4 --calibration notes.txt
      pitool convert model-F16.gguf --ram 2gb --quant Q4_K_M,Q8_0
      pitool convert ./model --ram 4gb --size 1.9gb --calibration notes.txt
      pitool convert ./model --ram 4gb --board pi5 --fit --size 1.9gb --target-tps 6
      pitool convert ./model --languages en,de --ram 1gb
      pitool convert ./model --lora ./adapter --lora-scale 0.8 --ram 4gb
      pitool convert ./model --lora ./adapter --lora-separate --ram 4gb
    """
    from pitool.catalog import cache
    from pitool.catalog.staging import check_target
    from pitool.cli.convert_engines import open_engine
    from pitool.cli.convert_request import find_request
    from pitool.report.progress import talk

    request = find_request(options)
    if request.warning:
        talk(request.warning)
    if not options["dry_run"]:
        check_target(request.target, replace=options["force"])
    request = request.with_settings(talk)
    if note := request.tokenizer_note:
        talk(note)
    with cache.working("vocabulary") as scratch:
        _plan_and_convert(request.trimmed(scratch, open_engine, talk))


def _plan_and_convert(request: Request) -> None:
    """Show the plan, and convert unless only that was asked for."""
    from pitool.cli.show import show

    options, plan = request.options, request.plan()
    _show_plan(request.source, plan, request.target)
    click.echo(_time(request, plan), err=True)
    if options["dry_run"]:
        if options["as_json"]:
            click.echo(json.dumps(_plan_json(request.source, plan, request.target), indent=2))
        return
    bundle = _convert(request, plan)
    if options["as_json"]:
        click.echo(json.dumps(_bundle_json(bundle), indent=2))
    else:
        show(bundle)


def _show_plan(source: Source, plan: ConvertPlan, target: Path) -> None:
    """Say on stderr what will be made before it is made."""
    from pitool.planning import vocabulary
    from pitool.report.numbers import format_millions
    from pitool.report.tables import show

    weights = f"{format_millions(plan.model.parameters)} parameters"
    click.echo(f"{source.id}: {plan.model.architecture}, {weights}", err=True)
    if plan.reason:
        click.echo(plan.reason, err=True)
    if source.trim:
        for line in vocabulary.lines(source.trim.said):
            click.echo(line, err=True)
    show([_memory(plan)], sys.stderr)
    click.echo(f"quality: {verification(source, plan)}", err=True)
    click.echo(f"bundle: {target}", err=True)


def verification(source: Source, plan: ConvertPlan) -> str:
    """Return what the artifacts will be compared with, on how many tokens."""
    from pitool.checkpoint.config import GGUF
    from pitool.convert import token_counts
    from pitool.convert.download import read_settings
    from pitool.convert.forward import expected

    config = read_settings(source)
    if plan.model.encoder:
        return "vectors of texts are compared with the checkpoint's in float32"
    tokens = f"{token_counts.REFERENCE.find(plan.model.parameters):,} tokens"
    if config.model_type == GGUF:
        return f"compared with the GGUF on up to {tokens}"
    if whose := expected(config, plan.model.parameters):
        return f"compared with {whose} in float32 on up to {tokens}"
    return "not verified against the checkpoint, which needs: pip install 'pitool[export]'"


def _memory(plan: ConvertPlan) -> Section:
    """Return the table of what each artifact takes in memory, line by line, and on disk."""
    from pitool.report.numbers import NONE, compare_bytes, format_bytes
    from pitool.report.tables import Section

    parts = [{line.name: line.bytes for line in a.memory.lines} for a in plan.artifacts]
    rows = [
        [name, *(format_bytes(part[name]) if name in part else NONE for part in parts)]
        for name in dict.fromkeys(name for part in parts for name in part)
    ]
    totals = [artifact.memory.total for artifact in plan.artifacts]
    budget, *sums = compare_bytes(plan.budget, *totals)
    spare = [plan.budget - total for total in totals]
    free = [format_bytes(n) if n >= 0 else f"{format_bytes(-n)} short" for n in spare]
    sizes = [artifact.bytes for artifact in plan.artifacts]
    rows += [
        ["sum", *sums],
        [f"left of {budget}", *free],
        ["on disk", *map(format_bytes, sizes)],
    ]
    if plan.whole:
        rows += _savings(plan)
    return Section("", ["memory", *(a.quantisation.name for a in plan.artifacts)], rows)


def _time(request: Request, plan: ConvertPlan) -> str:
    """Return how long it will take."""
    from pitool.convert import minutes
    from pitool.convert.download import read_settings

    config = read_settings(request.source)
    calibration = request.options["calibration"]
    return minutes.describe(plan, config, request.effort, calibration, os.cpu_count() or 1)


def _savings(plan: ConvertPlan) -> list[list[str]]:
    """Return the rows of what the same artifacts take with the whole vocabulary."""
    from pitool.report.numbers import NONE, format_bytes

    before = [plan.whole.get(a.quantisation.name) for a in plan.artifacts]
    return [
        ["memory with all tokens", *(format_bytes(a.memory.total) if a else NONE for a in before)],
        ["on disk with all tokens", *(format_bytes(a.bytes) if a else NONE for a in before)],
    ]


def _convert(request: Request, plan: ConvertPlan) -> Bundle:
    from pitool.cli.convert_engines import engines
    from pitool.convert import pipeline
    from pitool.convert.conversion import Job
    from pitool.report.progress import Stages

    options = request.options
    job = Job(
        plan,
        request.target,
        options["force"],
        os.cpu_count() or 1,
        options["max_kld"],
        options["calibration"],
        request.effort,
    )
    with Stages() as progress:
        return pipeline.convert(request.source, job, engines(), progress)


def _plan_json(source: Source, plan: ConvertPlan, target: Path) -> dict[str, Any]:
    return {
        "source": source.id,
        "tier": plan.tier_name,
        "budget_bytes": plan.budget,
        "target": str(target),
        "reason": plan.reason,
        "parameters": plan.model.parameters,
        "verification": verification(source, plan),
        "vocabulary": asdict(source.trim.said) if source.trim else None,
        "artifacts": [
            {
                "format": a.format,
                "quantisation": a.quantisation.name,
                "bytes": a.bytes,
                "tensor_bytes": a.tensor_bytes,
                "bits_per_weight": a.bits_per_weight,
                "context": a.context,
                "memory": {line.name: line.bytes for line in a.memory.lines},
                "memory_bytes": a.memory.total,
                "with_all_tokens": _whole_json(plan, a),
                "speed": {s.board: {"prefill": s.prefill, "decode": s.decode} for s in a.speeds},
            }
            for a in plan.artifacts
        ],
    }


def _whole_json(plan: ConvertPlan, artifact: ArtifactPlan) -> dict[str, int] | None:
    before = plan.whole.get(artifact.quantisation.name)
    return {"bytes": before.bytes, "memory_bytes": before.memory.total} if before else None


def _bundle_json(bundle: Bundle) -> dict[str, Any]:
    from pitool.catalog.manifest import to_json

    return {"bundle": str(bundle.path), "manifest": to_json(bundle.manifest)}
