"""``pitool plan``: what fits, how fast it will be, and what to do where it does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.command("plan")
@click.argument("model", required=False)
@click.option("--ram", metavar="TIER", help="RAM of the board, such as 8gb; every tier without it.")
@click.option("--board", metavar="BOARD", help="Such as pi5; 'here' is this machine.")
@click.option("--context", type=click.IntRange(min=1), help="Tokens of context to plan for.")
@click.option("--kv-type", type=click.Choice(["f32", "f16", "q8_0", "q4_0"]), help="KV cache type.")
@click.option("--profile", default="balanced", metavar="NAME", help="conservative, balanced, ...")
@click.option("--quant", metavar="NAMES", help="Such as Q4_K_M or F16,Q8_0; auto picks one.")
@click.option("--lora", metavar="DIR|RANK", help="An adapter kept apart: its folder, or its rank.")
@click.option("--format", type=click.Choice(["gguf", "onnx"]), help="One of both alone.")
@click.option("--buy", is_flag=True, help="Compare boards to buy.")
@click.option("--rent", is_flag=True, help="Compare boards with rented GPUs.")
@click.option("--price", multiple=True, metavar="BOARD=USD", help="Your price: pi5-8gb=160.")
@click.option(
    "--electricity", type=click.FloatRange(min=0), default=0.30, metavar="USD", help="For a kWh."
)
@click.option(
    "--target-tps",
    type=click.FloatRange(min=0, min_open=True),
    metavar="RATE",
    help="List what decodes at RATE tokens/s or more.",
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw an SVG.")
@click.option("--markdown", is_flag=True, help="Print Markdown tables, for pasting.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(**options: Any) -> None:
    """Say what of a model fits where, line by line, and what would.

    MODEL is a folder, a hub id, a recipe, a bundle, a GGUF file, or a size such as 14B. Nothing
    but settings is read or downloaded.

    \b
    Example:
      pitool plan 14B --ram 16gb
      pitool plan Qwen/Qwen2.5-1.5B-Instruct --board pi5 --context 8192
      pitool plan 7B --buy --rent --price pi5-8gb=160
      pitool plan 3B --target-tps 5
    """
    from pitool.cli import plan_onnx, plan_plot, plan_report
    from pitool.cli.plan_request import Options, Report, read_request
    from pitool.report import tables as sections

    asked = Options(**options)
    report = read_request(asked)
    if asked.onnx:
        plan_onnx.check(report)
    if asked.plot:
        plan_plot.write(report, asked.plot)
    made = plan_onnx if asked.onnx else plan_report
    if asked.as_json:
        click.echo(json.dumps(made.document(report), indent=2))
    else:
        render = sections.to_markdown if asked.markdown else sections.to_text
        click.echo(render(made.sections(report)))
    (plan_onnx.require if asked.onnx else Report.require)(report)
