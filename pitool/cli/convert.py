"""``pitool convert``: from a checkpoint to a bundle."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitool.spec.recipes import FORMATS

if TYPE_CHECKING:
    from pitool.checkpoint.source import Source
    from pitool.convert.plan import ConvertPlan
    from pitool.convert.verify import LogitsEngine
    from pitool.spec.bundles import Bundle
    from pitool.spec.recipes import Recipe


@click.command("convert")
@click.argument("model", required=False)
@click.option("--ram", required=True, metavar="TIER", help="RAM of the board, such as 8gb.")
@click.option("--board", metavar="BOARD", help="Plan for one board of that RAM, such as pi5.")
@click.option("--profile", metavar="NAME", help="conservative, balanced (default), aggressive.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the bundle to write.")
@click.option("--quant", metavar="NAMES", help="Such as Q4_K_M or Q8_0,INT4; auto picks.")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Make only this format.")
@click.option("--context", type=click.IntRange(min=256), help="Tokens of context to plan for.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a hub id.")
@click.option("--lora", type=Path, multiple=True, metavar="DIR", help="PEFT adapter to merge.")
@click.option("--lora-scale", type=float, multiple=True, help="Its factor, 1 if not given.")
@click.option(
    "--max-kld", type=click.FloatRange(min=0), metavar="NATS", help="Fail if the mean KL is more."
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there already.")
@click.option("--dry-run", is_flag=True, help="Show the plan and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    model: str | None,
    ram: str,
    board: str | None,
    profile: str | None,
    out: Path | None,
    quant: str | None,
    format_: str | None,
    context: int | None,
    revision: str | None,
    lora: tuple[Path, ...],
    lora_scale: tuple[float, ...],
    max_kld: float | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Turn a checkpoint into a bundle that fits a board.

    MODEL is a folder, a hub id, a recipe, or 'sample'. Without it the recipe of the RAM tier
    decides.

    \b
    Example:
      pitool convert sample --ram 1gb
      pitool convert Qwen/Qwen2.5-1.5B-Instruct --ram 2gb --quant Q4_K_M
      pitool convert ./model --lora ./adapter --lora-scale 0.8 --ram 4gb
    """
    from pitool.checkpoint import hub
    from pitool.checkpoint.config import read_config
    from pitool.checkpoint.source import find_adapters, find_source, with_revision
    from pitool.cli import show
    from pitool.cli.plan_request import find_places
    from pitool.convert import pipeline
    from pitool.convert.plan import make_plan
    from pitool.convert.staging import check_target
    from pitool.convert.work import Job
    from pitool.spec.bundles import default_folder
    from pitool.spec.profiles import BALANCED, find_profile
    from pitool.spec.tiers import find_tier

    tier_name, tier = find_tier(ram)
    (place,) = find_places(tier_name, board)
    boldness = find_profile(profile or BALANCED)
    source = with_revision(find_source(model, tier_name), revision)
    source = replace(source, adapters=find_adapters(lora, lora_scale))
    name = f"{source.id.rpartition('/')[2]}-{tier_name}"
    target = out or default_folder() / name
    if not dry_run:
        check_target(target, replace=force)
    if source.folder is None:
        show.talk(f"reading the settings of {source.id} from the hub")
        source = hub.fetch_settings(source)
    assert source.folder
    # A profile that is named decides in the place of the recipe.
    recipe = None if profile else source.recipe
    gguf, onnx = _wanted(quant, format_, recipe)
    plan = make_plan(
        read_config(source.folder),
        tier_name,
        tier,
        gguf,
        context or (recipe.context if recipe else None),
        onnx=onnx,
        profile=boldness,
        place=place,
    )
    show.convert_plan(source, plan, target)
    if dry_run:
        if as_json:
            click.echo(json.dumps(_plan_json(source, plan, target), indent=2))
        return
    job = Job(plan, target, force, os.cpu_count() or 1, max_kld)
    with show.Progress() as progress:
        bundle = pipeline.convert(source, job, _open_engine, progress)
    if as_json:
        click.echo(json.dumps(_bundle_json(bundle), indent=2))
    else:
        show.bundle(bundle)


def _wanted(quant: str | None, format_: str | None, recipe: Recipe | None) -> tuple[str, str]:
    """Return the quantisations of GGUF and those of ONNX: names, ``auto`` or nothing."""
    from pitool.convert.plan import AUTO, split_formats
    from pitool.errors import UsageError

    if quant and quant.lower() != AUTO:
        gguf, onnx = split_formats(quant)
        if other := {"gguf": onnx, "onnx": gguf}.get(format_ or ""):
            raise UsageError(
                f"--format {format_} has no quantisation {other}", "leave out --format or the name"
            )
        return gguf, onnx
    formats = (format_,) if format_ else recipe.formats if recipe else FORMATS
    named = recipe.quantisation if recipe and not quant else AUTO
    return named if "gguf" in formats else "", AUTO if "onnx" in formats else ""


def _open_engine(path: Path, tokens: int) -> AbstractContextManager[LogitsEngine]:
    """Load a GGUF file or an ONNX folder in a worker, with room for so many tokens' logits."""
    from pitool.device.detect import detect
    from pitool.engine import worker
    from pitool.engine.base import Settings

    cores = detect().physical_cores
    batch = min(tokens, 128)
    context = -(-tokens // 256) * 256
    settings = Settings(context, cores, cores, micro_batch=batch, outputs=batch)
    return worker.start("onnx" if path.is_dir() else "gguf", path, settings)


def _plan_json(source: Source, plan: ConvertPlan, target: Path) -> dict[str, Any]:
    return {
        "source": source.id,
        "tier": plan.tier_name,
        "budget_bytes": plan.budget,
        "target": str(target),
        "reason": plan.reason,
        "parameters": plan.model.parameters,
        "artifacts": [
            {
                "format": a.format,
                "quantisation": a.quantisation.name,
                "bytes": a.bytes,
                "bits_per_weight": a.bits_per_weight,
                "context": a.context,
                "memory": {line.name: line.bytes for line in a.memory.lines},
                "memory_bytes": a.memory.total,
                "speed": {s.board: {"prefill": s.prefill, "decode": s.decode} for s in a.speeds},
            }
            for a in plan.artifacts
        ],
    }


def _bundle_json(bundle: Bundle) -> dict[str, Any]:
    from pitool.spec.manifest import to_json

    return {"bundle": str(bundle.path), "manifest": to_json(bundle.manifest)}
