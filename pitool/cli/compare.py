"""``pitool compare``: every quantisation technique on one model, measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pitool.cli.name_lists import names_option

if TYPE_CHECKING:
    from pitool.lab.result import Comparison

FORMS = ("as_json", "as_csv", "as_markdown")


@click.command("compare")
@click.argument("model", required=False)
@names_option("--techniques", text="Techniques, such as q4_k_m,gptq-int4 (default: all).")
@click.option("--list", "list_only", is_flag=True, help="List the techniques and exit.")
@click.option("--prompts", type=click.Path(path_type=Path), help="Prompts to answer, one per line.")
@click.option("--text", type=click.Path(path_type=Path), help="Text for measuring and calibration.")
@click.option(
    "--save", type=click.Path(path_type=Path), help="Save the artifacts as bundles in this folder."
)
@click.option("--ram", metavar="TIER", help="Mark the rows that fit this RAM, such as 8gb.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the report as an HTML page.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a Markdown table.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a hub id.")
@click.option("--resume/--no-resume", default=True, help="Reuse finished rows (default).")
def command(
    model: str | None,
    techniques: str | None,
    list_only: bool,
    prompts: Path | None,
    text: Path | None,
    save: Path | None,
    ram: str | None,
    html: Path | None,
    as_json: bool,
    as_csv: bool,
    as_markdown: bool,
    revision: str | None,
    resume: bool,
) -> None:
    """Measure what each quantisation technique costs and gains.

    MODEL is a folder, a hub id, a recipe, or 'sample'. Techniques that no runtime has a kernel for
    are evaluated with dequantised weights and have no speeds. Rows are stored: a second run
    continues where the first one stopped.

    \b
    Example:
      pitool compare sample --ram 1gb --html report.html
      pitool compare ./model --techniques q4_k_m,gptq-int4 --text wiki.txt
    """
    from pitool.catalog.outputs import check_output, write_output
    from pitool.errors import UsageError
    from pitool.lab.page import to_html
    from pitool.report.progress import talk

    if sum((as_json, as_csv, as_markdown)) > 1:
        raise UsageError("--json, --csv and --markdown cannot be combined", "choose one of them")
    if list_only:
        _list(techniques, as_json=as_json)
        return
    if model is None:
        raise UsageError("no model given", "give a folder, a hub id, a recipe, or sample")
    if html:
        check_output(html, "--html")
    comparison = _compare(model, revision, techniques, prompts, text, save, ram, resume=resume)
    if html:
        write_output(html, to_html(comparison).encode())
        talk(f"report: {html}")
    if save:
        talk(f"bundles: {save}")
    _print(comparison, as_json=as_json, as_csv=as_csv, as_markdown=as_markdown)


def _compare(
    model: str,
    revision: str | None,
    techniques: str | None,
    prompts: Path | None,
    text: Path | None,
    save: Path | None,
    ram: str | None,
    *,
    resume: bool,
) -> Comparison:
    from pitool.catalog.tiers import find_tier
    from pitool.checkpoint.source import find_source, with_revision
    from pitool.convert.techniques import find_techniques
    from pitool.lab.compare import CompareOptions, compare
    from pitool.lab.material import read_prompts
    from pitool.report.progress import Stages

    tier = find_tier(ram) if ram else None
    options = CompareOptions(
        find_techniques(techniques),
        read_prompts(prompts),
        text,
        save,
        (tier[0], tier[1].model_bytes) if tier else None,
        resume,
    )
    source = with_revision(find_source(model, tier[0] if tier else ""), revision)
    with Stages() as progress:
        return compare(source, options, progress)


def _print(comparison: Comparison, *, as_json: bool, as_csv: bool, as_markdown: bool) -> None:
    from pitool.lab import output
    from pitool.report.tables import show

    if as_json:
        click.echo(json.dumps(output.to_json(comparison), indent=2, ensure_ascii=False))
    elif as_csv:
        click.echo(output.to_csv(comparison), nl=False)
    elif as_markdown:
        click.echo(output.to_markdown(comparison), nl=False)
    else:
        show(output.to_sections(comparison))


def _list(names: str | None, *, as_json: bool) -> None:
    from pitool.convert.techniques import find_techniques
    from pitool.report.tables import Section, show

    found = find_techniques(names)
    if as_json:
        keys = ("name", "title", "effect", "source", "bits", "kernel", "note")
        rows = [{key: getattr(t, key) for key in keys} for t in found]
        for row, technique in zip(rows, found, strict=True):
            row["needs"] = sorted(technique.needs)
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    lines = []
    for technique in found:
        kernel = f"runs on {technique.kernel}" if technique.kernel else "no kernel"
        needs = f"; needs {', '.join(sorted(technique.needs))}" if technique.needs else ""
        source = f"Source: {technique.source}"
        lines.append(f"{technique.name}: {technique.effect} {source}; {kernel}{needs}.")
    show([Section("", notes=lines)])
